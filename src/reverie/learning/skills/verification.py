"""Whether a drafted skill rests on its evidence: without a model, before anything is written.

Two questions. Are the tools it names those that were used (*coverage*)? And does it speak of what happened in the
steps it was made of (*resonance*)?
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from reverie.learning.skills.evidence import whole_text
from reverie.learning.steps.tool_json import object_in
from reverie.memory.text import words_for_query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from reverie.learning.records import ToolUse, Trace

COVERAGE_MIN = 0.5
RESONANCE_MIN = 0.5
SHARED_WORDS_MIN = 2
COMMAND_CHARS_MAX = 4_000

_COMMAND_KEYS = ("command", "cmd", "script", "shell_command")
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"")
_BREAK = re.compile(r"&&|\|\||[;|&\n]")
_HEAD = re.compile(
    r"\s*(?:(?:sudo|env|time|nohup|exec|then|do|else)\s+|[A-Za-z_][A-Za-z0-9_]*=\S*\s+)*([A-Za-z0-9_./+-]+)"
)
_LETTER = re.compile(r"[A-Za-z]")
_SHELL_WORDS = frozenset(
    {"if", "then", "else", "fi", "for", "do", "done", "while", "case", "esac", "cd", "set", "export"}
)


def unfounded(claimed: Sequence[str], draft_text: Sequence[str], evidence: Sequence[Trace]) -> str:
    """Why a draft does not rest on its evidence, in words for a second try; '' when it does.

    `claimed` are the tools as the model named them, `draft_text` its title, summary and steps.
    """
    if not evidence:
        return "there is no evidence for it"
    seen = tools_seen(evidence)
    covered = coverage(claimed, seen)
    if covered < COVERAGE_MIN:
        return (
            f"only {covered:.0%} of its tools were used in the evidence; name only: {', '.join(sorted(seen)) or 'none'}"
        )
    heard = resonance(draft_text, evidence)
    if heard < RESONANCE_MIN:
        return f"it shares words with only {heard:.0%} of the evidence: describe what was done there"
    return ""


def coverage(claimed: Sequence[str], seen: frozenset[str]) -> float:
    """The share of named tools that were used; 1 when none is named."""
    return sum(tool_key(tool) in seen for tool in claimed) / len(claimed) if claimed else 1.0


def resonance(draft_text: Iterable[str], evidence: Sequence[Trace]) -> float:
    """The share of steps that have at least two words in common with a draft."""
    words = {word for piece in draft_text for word in words_for_query(piece)}
    near = sum(len(words.intersection(words_for_query(whole_text(trace)))) >= SHARED_WORDS_MIN for trace in evidence)
    return near / len(evidence) if evidence else 0.0


def tools_seen(traces: Iterable[Trace]) -> frozenset[str]:
    """Every tool of some steps, and every command that was given to a shell."""
    return frozenset(key for trace in traces for call in trace.tool_calls for key in keys_of(call))


def keys_of(call: ToolUse) -> tuple[str, ...]:
    """By what names a call is known: its tool's, then the commands in it, in order."""
    return (tool_key(call.name), *command_heads(call.input))


def tool_key(name: str) -> str:
    """A name of a tool as it is compared."""
    return name.strip().strip("`").lower()


def command_heads(arguments: str) -> tuple[str, ...]:
    """The programs that a shell was told to run: `cd app && FOO=1 uv run x | tee y` gives `uv` and `tee`.

    `arguments` is the JSON of a call. What is no shell's call has none.
    """
    heads: list[str] = []
    for command in _commands(arguments):
        for part in _BREAK.split(_QUOTED.sub("_", command[:COMMAND_CHARS_MAX])):
            found = _HEAD.match(part)
            head = found[1].rsplit("/", 1)[-1].lower() if found is not None else ""
            if _LETTER.search(head) and head not in _SHELL_WORDS:
                heads.append(head)
    return tuple(heads)


def _commands(arguments: str) -> Iterator[str]:
    held = object_in(arguments) or {}
    for command in (held.get(key) for key in _COMMAND_KEYS):
        if isinstance(command, str):
            yield command
        elif isinstance(command, list):
            yield " ".join(map(str, _without_shell(cast("list[Any]", command))))


def _without_shell(words: list[Any]) -> list[Any]:
    """`["bash", "-lc", "git status"]` without the shell that is only told to run something."""
    wraps = len(words) > 2 and str(words[1]).startswith("-") and "c" in str(words[1])  # noqa: PLR2004 (shell, flag, command)
    return words[2:] if wraps else words
