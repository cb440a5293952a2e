"""Every decision about native threads, on record: what was done, why, how large it was, and what flaps.

One row a decision, with one reason of a closed list for figures and every difference for a person who asks why.
Threads that are replaced again and again are warned of, with the thing that differs each time.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.sessions.codec import dump
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.clock import Clock
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

LISTED_MAX = 200
DOMINANT_KEPT = 5
NAMES_KEPT = 16
NAME_CHARS_MAX = 200
WARNINGS_KEPT = 8
LAST = 2**62
FIRST_REASON = "missing-thread-binding"
"""A session's first thread is no rotation."""


@dataclass(frozen=True, slots=True)
class ThreadSizes:
    """How large a turn was in characters: all that was sent, and of it the prompt, quoted conversation, files.

    `instructions` went along at the thread's beginning; `cut` of the conversation was left out. `dominant` are the
    largest parts of what a thread was told, largest first.
    """

    sent: int = 0
    prompt: int = 0
    context: int = 0
    files: int = 0
    instructions: int = 0
    cut: int = 0
    dominant: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """A decision as it is recorded. `differences` name what differs, and never hold it."""

    session_id: str
    turn_id: str | None
    runtime: str
    thread_id: str | None
    action: Literal["resume", "start", "transient", "fork"]
    project: Literal["none", "full", "delta"]
    reason: str
    projection_reason: str
    warm: bool
    rotated: bool
    differences: tuple[tuple[str, tuple[str, ...]], ...] = ()
    told: tuple[str, ...] = ()
    tokens: int | None = None
    token_source: str | None = None
    token_limit: int | None = None
    window: int | None = None
    thread_bytes: int | None = None
    sizes: ThreadSizes = field(default_factory=ThreadSizes)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Churn:
    """A session's thread was replaced so often within so many turns; `of` differs most often."""

    rotations: int
    turns: int
    of: str


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """A decision that was recorded. `data` has every difference, tokens and limits, sizes."""

    id: int
    at_ms: int
    session_key: str
    session_id: str
    agent: str
    turn_id: str | None
    runtime: str
    thread_id: str | None
    action: str
    project: str
    reason: str
    warm: bool
    rotated: bool
    alarm: str
    data: JsonObject


@dataclass(frozen=True, slots=True)
class ChurnRule:
    """How many new threads within how many turns are too many; 0: never."""

    rotations: int = 3
    turns: int = 10


def churn(events: Sequence[ThreadEvent], rule: ChurnRule, *, whole: bool) -> Churn | None:
    """Whether too many of a session's last decisions began a thread. `events` are newest first.

    `whole` tells that they begin with the session's first decision, whose thread had to begin.
    """
    recent = list(events[: rule.turns])
    if whole and recent and len(recent) == len(events) and recent[-1].reason == FIRST_REASON:
        recent.pop()
    cold = [event for event in recent if not event.warm]
    if not rule.rotations or len(cold) < rule.rotations:
        return None
    names = Counter(name for event in cold for name in _flapping(event))
    return Churn(len(cold), len(events[: rule.turns]), names.most_common(1)[0][0] if names else cold[0].reason)


def _flapping(event: ThreadEvent) -> list[str]:
    """What differed in a decision: the parts that are named, else the reasons."""
    named: list[str] = []
    for difference in event.data.get("differences", []):
        named += difference["of"] or [difference["reason"]]
    return list(dict.fromkeys(named))


class ThreadLog:
    """The record of decisions in `state.db`."""

    def __init__(self, database: Database, clock: Clock, rule: ChurnRule | None = None) -> None:
        self._database = database
        self._clock = clock
        self._rule = rule or ChurnRule()

    async def record(self, decision: LoggedDecision) -> Churn | None:
        """Keep a decision; what flaps, if it was one too many. That is told once, and again after as many turns.

        Raises:
            StorageError: it could not be written.
        """
        now = self._clock.now_ms()
        key, found = await self._database.write(lambda tx: self._record(tx, decision, now))
        tell = log.debug if decision.warm else log.info
        tell(
            "a turn runs in a native thread",
            action="thread_lifecycle",
            session=key,
            turn=decision.turn_id,
            decision=decision.action,
            projected=decision.project,
            reason=decision.reason,
            warm=decision.warm,
            sent_chars=decision.sizes.sent,
        )
        if found is not None:
            log.warning(
                "a session's native thread is replaced again and again",
                action="thread_churn",
                session=key,
                rotations=found.rotations,
                turns=found.turns,
                of=found.of,
            )
        return found

    def _record(self, tx: Transaction, decision: LoggedDecision, now: int) -> tuple[str, Churn | None]:
        session = tx.row("find_session", id=decision.session_id)
        if session is None:
            return "", None
        data = _data(decision)
        key: str = session["key"]
        found: Churn | None = None
        if not decision.warm and self._rule.rotations:
            rows = tx.rows("newest_thread_events", key=key, before=LAST, limit=self._rule.turns)
            before = [_event(row) for row in rows]
            this = ThreadEvent(
                LAST, now, key, decision.session_id, session["agent"], decision.turn_id, decision.runtime,
                decision.thread_id, decision.action, decision.project, decision.reason, decision.warm,
                decision.rotated, "", data,
            )  # fmt: skip
            told = any(event.alarm for event in before)
            found = None if told else churn([this, *before], self._rule, whole=len(before) < self._rule.turns)
        tx.execute(
            "add_thread_event",
            session_id=decision.session_id,
            turn_id=decision.turn_id,
            runtime=decision.runtime,
            thread_id=decision.thread_id,
            action=decision.action,
            project=decision.project,
            reason=decision.reason,
            warm=int(decision.warm),
            rotated=int(decision.rotated),
            alarm=found.of if found else "",
            data=dump(data),
            now=now,
        )
        return key, found

    async def events(self, key: str, limit: int = 20, before: int | None = None) -> list[ThreadEvent]:
        """The last decisions about the threads of a session key, newest first; at most `LISTED_MAX`."""
        limit = max(1, min(limit, LISTED_MAX))
        rows = await self._database.read(
            lambda tx: tx.rows("newest_thread_events", key=key, before=LAST if before is None else before, limit=limit)
        )
        return [_event(row) for row in rows]

    async def find(self, event_ids: Sequence[int]) -> dict[int, ThreadEvent]:
        """Decisions by their numbers, at most `LISTED_MAX` of them; those that gave way are left out."""

        def work(tx: Transaction) -> list[Row | None]:
            return [tx.row("find_thread_event", id=each) for each in event_ids[:LISTED_MAX]]

        rows = await self._database.read(work)
        return {row["id"]: _event(row) for row in rows if row is not None}

    async def churning(self, key: str) -> Churn | None:
        """What flaps in a session now."""
        turns = self._rule.turns
        events = await self.events(key, min(turns + 1, LISTED_MAX))
        return churn(events[:turns], self._rule, whole=len(events) <= turns)

    async def gauges(self) -> list[Gauge]:
        """How often each decision was made, and for which reason."""
        rows = await self._database.read(lambda tx: (tx.rows("count_thread_decisions"), tx.value("count_bindings")))
        decisions, bindings = rows
        return [
            Gauge("bound_threads", "Sessions with a row among the bindings of native threads.", float(bindings)),
            *(
                Gauge(
                    "thread_decisions",
                    "Decisions about native threads since the home was made.",
                    float(row["total"]),
                    tuple(zip(("action", "reason"), row["decision"].split(".", 1), strict=True)),
                )
                for row in decisions
            ),
        ]


def _data(decision: LoggedDecision) -> JsonObject:
    """What is kept of a decision besides what it is listed by; bounded."""
    sizes = decision.sizes
    differences = [
        {"reason": reason, "of": [name[:NAME_CHARS_MAX] for name in of[:NAMES_KEPT]]}
        for reason, of in decision.differences
    ]
    return {
        "projection_reason": decision.projection_reason,
        "differences": differences,
        "told": [name[:NAME_CHARS_MAX] for name in decision.told[:NAMES_KEPT]],
        "tokens": decision.tokens,
        "token_source": decision.token_source,
        "token_limit": decision.token_limit,
        "window": decision.window,
        "thread_bytes": decision.thread_bytes,
        "sent_chars": sizes.sent,
        "prompt_chars": sizes.prompt,
        "context_chars": sizes.context,
        "file_chars": sizes.files,
        "instruction_chars": sizes.instructions,
        "cut_chars": sizes.cut,
        "dominant": [[name[:NAME_CHARS_MAX], size] for name, size in sizes.dominant[:DOMINANT_KEPT]],
        "warnings": [text[:NAME_CHARS_MAX] for text in decision.warnings[:WARNINGS_KEPT]],
    }


def _event(row: Row) -> ThreadEvent:
    return ThreadEvent(
        id=row["id"],
        at_ms=row["at"],
        session_key=row["session_key"],
        session_id=row["session_id"],
        agent=row["agent"],
        turn_id=row["turn_id"],
        runtime=row["runtime"],
        thread_id=row["thread_id"],
        action=row["action"],
        project=row["project"],
        reason=row["reason"],
        warm=bool(row["warm"]),
        rotated=bool(row["rotated"]),
        alarm=row["alarm"],
        data=json.loads(row["data"]),
    )
