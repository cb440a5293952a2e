"""Failure bursts: one tool fails for one purpose again and again within a few calls.

What is known of a session is what its last traces say. Nothing is kept beside them, so that a restart changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.steps.tool_json import object_in
from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.config import LearningConfig
    from reverie.learning.records import Trace
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

HASH_CHARS = 16
CONTEXT_CHARS_MAX = 64
_COMMANDS = ("command", "cmd", "script")
_PLACES = ("url", "uri")
_FILES = ("path", "file", "file_path", "filename")
_SETTING = re.compile(r"^\w+=\S*$")
_PREFIXES = frozenset({"sudo", "env", "time", "nohup", "exec"})


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How one call of a tool ended. `context` is what it was used for: a program, a host, a kind of file, or ''."""

    tool: str
    context: str
    failed: bool
    trace_id: str


@dataclass(frozen=True, slots=True)
class Burst:
    """So many failures of a tool for one purpose, the newest of them in `trace_id`."""

    tool: str
    context: str
    failures: int
    trace_id: str

    @property
    def context_hash(self) -> str:
        """The name of this tool and purpose."""
        return context_hash(self.tool, self.context)


def context_hash(tool: str, context: str) -> str:
    """The name of a tool and what it was used for: 16 hex digits."""
    said = f"{tool}\n{context}".encode("utf-8", "surrogatepass")
    return hashlib.sha1(said, usedforsecurity=False).hexdigest()[:HASH_CHARS]


def context_of(arguments: str) -> str:
    """What a tool is used for, by its arguments alone, so that it is the same whether it goes well or not.

    The program of a command, the host of an address, the kind of a file; '' when nothing of that is given.
    """
    named = object_in(arguments)
    if named is None:
        return ""
    found = _program(_text_of(named, _COMMANDS)) or _host(_text_of(named, _PLACES)) or _kind(_text_of(named, _FILES))
    return found[:CONTEXT_CHARS_MAX]


def outcomes_of(trace_id: str, calls: Iterable[JsonObject], *, failed: bool) -> tuple[ToolOutcome, ...]:
    """The outcomes of a step's calls. A step that failed without saying which of its calls did failed in the last."""
    listed = list(calls)
    blamed = failed and not any(call.get("error_code") for call in listed)
    return tuple(
        ToolOutcome(
            tool=call["name"],
            context=context_of(call.get("input", "")),
            failed=bool(call.get("error_code")) or (blamed and place == len(listed) - 1),
            trace_id=trace_id,
        )
        for place, call in enumerate(listed)
    )


def bursts(outcomes: Sequence[ToolOutcome], new: int, *, threshold: int, window: int) -> tuple[Burst, ...]:
    """The bursts that the last `new` outcomes complete, each tool and purpose once.

    A burst is `threshold` failures among the last `window` calls, and no success of the same among them.
    """
    found: dict[tuple[str, str], Burst] = {}
    for place in range(max(0, len(outcomes) - new), len(outcomes)):
        last = outcomes[place]
        key = (last.tool, last.context)
        seen = [each for each in outcomes[max(0, place - window + 1) : place + 1] if (each.tool, each.context) == key]
        if any(not each.failed for each in seen):
            found.pop(key, None)
        elif len(seen) >= threshold:
            found[key] = Burst(last.tool, last.context, len(seen), last.trace_id)
    return tuple(found.values())


class Bursts:
    """Looks for bursts among new steps, in the transaction that writes them, and asks for a repair."""

    def __init__(self, config: LearningConfig) -> None:
        self._config = config

    def note_outcomes(self, tx: Transaction, session_id: str, traces: Sequence[Trace], now_ms: int) -> tuple[str, ...]:
        """The keys of the repairs that were asked for after these new traces, which are written already."""
        config = self._config.feedback
        new = {trace.id for trace in traces if trace.tool_calls}
        if self._config.mode != "full" or not new:
            return ()
        rows = tx.rows("newest_tool_traces", session_id=session_id, limit=config.failure_window + len(new))
        outcomes = [outcome for row in reversed(rows) for outcome in _outcomes(row)]
        fresh = _fresh(outcomes, new)
        found = bursts(outcomes, fresh, threshold=config.failure_threshold, window=config.failure_window)
        owner = {trace.id: trace for trace in traces}
        asked = (self._ask(tx, burst, owner[burst.trace_id], now_ms) for burst in found)
        return tuple(key for key in asked if key)

    def _ask(self, tx: Transaction, burst: Burst, trace: Trace, now_ms: int) -> str:
        hashed = burst.context_hash
        detail: JsonObject = {"tool": burst.tool, "context": burst.context, "failures": burst.failures}
        rest_ends = rest_ends_ms(tx, trace.agent, hashed, self._config.feedback.cooldown_s)
        if now_ms < rest_ends:
            detail["rest_ends_at"] = rest_ends
            note(tx, now_ms, agent=trace.agent, stage="repair", outcome="skipped", reason="cooldown", ref=trace.id,
                 task_id=trace.task_id, episode_id=trace.episode_id, detail=detail)  # fmt: skip
            return ""
        agent, session_id = trace.agent, trace.session_id
        request = repair_request(agent, session_id, burst.tool, burst.context, trace.id, task_id=trace.task_id)
        return request.key if ask_for(tx, request, now_ms) else ""


def rest_ends_ms(tx: Transaction, agent: str, hashed: str, cooldown_s: float) -> int:
    """When another repair of the same may be asked for: a while after the last one was; 0 for at once."""
    last = tx.value("last_repair_asked", agent=agent, **_keys_of(hashed))
    return 0 if last is None else last + round(cooldown_s * 1_000)


def told_repair_waits(tx: Transaction, agent: str, hashed: str) -> bool:
    """Whether a repair of the same that an owner's word asked for is still to begin: it stands for another one, too."""
    return bool(tx.value("told_repair_waits", agent=agent, **_keys_of(hashed)))


def repair_request(
    agent: str,
    session_id: str,
    tool: str,
    context: str,
    cause: str,
    *,
    task_id: str | None = None,
    feedback_id: str | None = None,
    not_before_ms: int = 0,
) -> JobRequest:
    """The work of wording what to do about a tool. `cause` is what it is asked for after: a trace, or a feedback."""
    return JobRequest(
        kind="repair",
        key=f"repair:{context_hash(tool, context)}:{cause}",
        lane="background",
        payload={"session_id": session_id, "tool": tool, "context": context, "feedback_id": feedback_id},
        not_before_ms=not_before_ms,
        agent=agent,
        task_id=task_id,
    )


def _keys_of(hashed: str) -> dict[str, str]:
    """Between which keys those of the repairs of one tool and purpose stand."""
    return {"first": f"repair:{hashed}:", "end": f"repair:{hashed};"}


def _outcomes(row: Row) -> tuple[ToolOutcome, ...]:
    return outcomes_of(row["id"], json.loads(row["tool_calls"]), failed=bool(row["failed"]))


def _fresh(outcomes: Sequence[ToolOutcome], new: set[str]) -> int:
    """How many of the last outcomes are those of new traces."""
    first = next((place for place, each in enumerate(outcomes) if each.trace_id in new), len(outcomes))
    return len(outcomes) - first


def _text_of(given: dict[str, Any], names: Sequence[str]) -> str:
    for name in names:
        value = given.get(name)
        if isinstance(value, list):
            value = " ".join(str(each) for each in cast("list[Any]", value))
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _program(command: str) -> str:
    """The program that a command runs last: `cd work && FAST=1 pytest -q` runs pytest."""
    for part in reversed(re.split(r"&&|;|\n", command[:1_000])):
        words = [word for word in part.split() if not _SETTING.match(word) and word not in _PREFIXES]
        if words:
            return PurePosixPath(words[0]).name.casefold()
    return ""


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").casefold()
    except ValueError:
        return ""


def _kind(path: str) -> str:
    return PurePosixPath(path).suffix.casefold()
