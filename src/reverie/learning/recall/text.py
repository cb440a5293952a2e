"""What a model is shown of what was learned: short, without our ids, and harmless as a text.

No figure of ours (value, gain, η) is ever written into one, so none is looked for: `priority=10` is what somebody said.
Pure. The fence around it (`context/fence.py`) says that it is data, and whose words it holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from reverie.memory.text import collapse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.learning.records import Policy, Skill, Trace, WorldModel

SNIPPET_CHARS_MAX: Final = 640
GUIDE_CHARS_MAX: Final = 4_000
"""Of a skill that is shown whole."""
STEP_CHARS_MAX: Final = 110
STEPS_MAX: Final = 6
PART_CHARS_MAX: Final = 240
TOOL_CHARS_MAX: Final = 80
GUIDANCE_MAX: Final = 3
GUIDANCE_CHARS_MAX: Final = 100

_IDS = re.compile(r"\b(?:tr|ep|ta|po|wm|sk|fb|dr|cand)_[0-9a-hjkmnp-tv-z]{12}\b")
_LINKS = re.compile(r"!?\[([^\]\n]{0,200})\]\(\s*([^)\s]{1,2000})[^)\n]{0,200}\)")
_SAFE = re.compile(r"https?://", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")


def harmless(text: str) -> str:
    """The text without our ids; images, and links that do not lead to the web, are their words alone."""
    return _BLANK_LINES.sub("\n\n", _LINKS.sub(_downgraded, _IDS.sub("", text))).strip()


def shortened(text: str, chars_max: int) -> str:
    """The text, or its beginning and a mark; at most so many characters."""
    return text if len(text) <= chars_max else text[: chars_max - 1].rstrip() + "…"


def skill_path(skill: Skill) -> str:
    """Where the skill stands in its agent's workspace."""
    return f"skills/{skill.name}/SKILL.md"


def skill_text(skill: Skill, mode: Literal["summary", "full"], chars_max: int) -> str:
    """A skill: what it is for, and where its guide is read; in `full` the guide itself."""
    head = shortened(collapse(harmless(_titled(skill.title or skill.name, skill.description))), chars_max)
    if mode == "full":
        return shortened(f"Skill: {head}\n\n{harmless(skill.guide)}", GUIDE_CHARS_MAX)
    return f"Skill: {head}\nRead its guide before you use it: memory_get with path {skill_path(skill)}"


def trace_text(trace: Trace) -> str:
    """A step: what was asked, what was done and came of it, and what was learned."""
    parts = (
        ("Asked", trace.user_text),
        ("Done", "; ".join(_tools(trace))),
        ("Answered", "" if trace.tool_calls else trace.agent_text),
        ("In short", trace.summary),
        ("Learned", trace.reflection),
    )
    return _snippet(parts)


def episode_text(title: str, traces: Sequence[Trace]) -> str:
    """An episode: what it was about, and up to six of its steps in their order."""
    steps = sorted(traces, key=lambda trace: trace.at_ms)[:STEPS_MAX]
    lines = [f"- {shortened(_one_line(step), STEP_CHARS_MAX)}" for step in steps]
    head = shortened(collapse(harmless(title)), PART_CHARS_MAX)
    return shortened("\n".join([f"An earlier task: {head}" if head else "An earlier task", *lines]), SNIPPET_CHARS_MAX)


def policy_text(policy: Policy) -> str:
    """A policy: when, how, how to check, where it ends."""
    parts = (
        ("", policy.title),
        ("When", policy.trigger),
        ("Do", policy.procedure),
        ("Check", policy.verification),
        ("Not when", policy.boundary),
    )
    return _snippet(parts)


def world_text(world: WorldModel) -> str:
    """A world model: what holds in its domain."""
    body = harmless(world.body)
    return shortened(f"{collapse(harmless(world.title))}\n{body}".strip(), SNIPPET_CHARS_MAX)


def guidance_text(prefer: Iterable[str], avoid: Iterable[str]) -> str:
    """What to prefer and what to avoid, the first three of each; '' for nothing."""
    parts: list[str] = []
    for head, lines in (("Prefer:", prefer), ("Avoid:", avoid)):
        told = list(dict.fromkeys(filter(None, (collapse(harmless(line)) for line in lines))))[:GUIDANCE_MAX]
        if told:
            parts += [head, *(f"- {shortened(line, GUIDANCE_CHARS_MAX)}" for line in told)]
    return "\n".join(parts)


def _snippet(parts: Iterable[tuple[str, str]]) -> str:
    """Named parts, one a line; no part says what an earlier one said already."""
    told: dict[str, str] = {}
    for name, text in parts:
        line = shortened(collapse(harmless(text)), PART_CHARS_MAX)
        if line and line not in told.values():
            told[name] = line
    return shortened("\n".join(_titled(name, line) for name, line in told.items()), SNIPPET_CHARS_MAX)


def _titled(name: str, text: str) -> str:
    return f"{name}: {text}" if name and text else name or text


def _tools(trace: Trace) -> list[str]:
    """Each tool call of a step, with what came of it."""
    told: list[str] = []
    for call in trace.tool_calls:
        came = f"failed ({call.error_code})" if call.error_code else shortened(collapse(call.output), TOOL_CHARS_MAX)
        asked = f"{call.name} {shortened(collapse(call.input), TOOL_CHARS_MAX)}".strip()
        told.append(f"{asked} → {came}" if came else asked)
    return told


def _one_line(trace: Trace) -> str:
    text = trace.summary or "; ".join(_tools(trace)) or trace.agent_text or trace.user_text
    return collapse(harmless(text))


def _downgraded(link: re.Match[str]) -> str:
    words, target = link[1], link[2]
    return link[0] if _SAFE.match(target) and not link[0].startswith("!") else words
