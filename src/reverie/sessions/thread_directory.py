"""Looking at native threads, and asking for another one: what the command line and `/v1/threads` show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from reverie.errors import NoThreadError

if TYPE_CHECKING:
    from reverie.sessions.bindings import BindingStore, BoundSession
    from reverie.sessions.directory import SessionDirectory
    from reverie.sessions.thread_log import Churn, ThreadEvent, ThreadLog
    from reverie.types import JsonObject, ThreadFingerprints

DIGEST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class ThreadDecisionRecord:
    """A decision as it is shown: `reasons` are all of them, each with the names of what differed.

    `data` are tokens and limits, sizes in characters, and what a thread's beginning consisted of.
    """

    id: int
    at_ms: int
    turn_id: str | None
    thread_id: str | None
    action: str
    project: str
    reason: str
    warm: bool
    rotated: bool
    alarm: str
    data: JsonObject


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A session's native thread as it is shown. `thread_id` None: it has none now, and `cleared_for` may tell why.

    `asked` says that a person wants another one; `held` that a turn runs on it now.
    """

    session_key: str
    session_id: str
    agent: str
    runtime: str
    thread_id: str | None
    state: str
    scope: str
    engine: str | None
    epoch: str | None
    model: str | None
    tokens: int | None
    token_source: str | None
    window: int | None
    covered_through: int | None
    asked: bool
    held: bool
    cleared_for: str | None
    ignored: str
    created_at_ms: int | None
    updated_at_ms: int
    last: ThreadDecisionRecord | None


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """Threads, those used last first. `more` is true when there are others after them."""

    threads: tuple[ThreadRecord, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class ThreadExplanation:
    """A session's thread, what it was told and started with as digests, its last decisions, and what flaps."""

    thread: ThreadRecord | None
    session_key: str
    session_id: str
    parts: dict[str, str]
    fingerprints: dict[str, str]
    decisions: tuple[ThreadDecisionRecord, ...]
    churn: Churn | None


class ThreadDirectory:
    """The native threads of one home."""

    def __init__(self, sessions: SessionDirectory, bindings: BindingStore, log: ThreadLog) -> None:
        self._sessions = sessions
        self._bindings = bindings
        self._log = log

    async def page(self, limit: int = 50, after: str | None = None) -> ThreadPage:
        """The threads used last, or those after a session's; at most 200.

        Raises:
            UnknownSessionError: no session `after` has or had a thread.
        """
        page = await self._bindings.page(limit, after)
        numbers = [each.last_event for each in page.sessions if each.last_event is not None]
        events = await self._log.find(numbers) if numbers else {}
        shown = tuple(_record(each, events.get(each.last_event or 0)) for each in page.sessions)
        return ThreadPage(shown, page.more)

    async def explain(self, name: str, limit: int = 10) -> ThreadExplanation:
        """Why a session's last turns ran in the threads they ran in.

        Raises:
            UnknownSessionError: there is no such session.
        """
        session = await self._sessions.find(name)
        bound = await self._bindings.find(session.id)
        events = await self._log.events(session.key, limit)
        binding = None if bound is None else bound.binding
        return ThreadExplanation(
            thread=None if bound is None else _record(bound, events[0] if events else None),
            session_key=session.key,
            session_id=session.id,
            parts={} if binding is None else {name: _short(value) for name, value in binding.parts.items()},
            fingerprints={} if binding is None else _prints(binding.fingerprints),
            decisions=tuple(_decision(event) for event in events),
            churn=await self._log.churning(session.key),
        )

    async def rotate(self, name: str) -> ThreadRecord:
        """Have the next turn of a session begin another thread, which is told everything.

        Raises:
            UnknownSessionError: there is no such session.
            NoThreadError: it has no thread, or one that is watched and stays.
        """
        session = await self._sessions.find(name)
        asked = await self._bindings.ask_for_rotation(session.id)
        bound = await self._bindings.find(session.id)
        if not asked or bound is None:
            raise NoThreadError(
                f"The session '{session.key[:200]}' has no native thread that may be replaced: its next turn begins "
                "one, where its agent's runtime has them. `reverie threads list` shows all."
            )
        return _record(bound, None)


def _record(bound: BoundSession, event: ThreadEvent | None) -> ThreadRecord:
    binding = bound.binding
    tokens = None if binding is None else binding.tokens
    engine = None if binding is None else binding.engine
    projection = None if engine is None else engine.projection
    return ThreadRecord(
        session_key=bound.session_key,
        session_id=bound.session_id,
        agent=bound.agent,
        runtime="" if binding is None else binding.runtime,
        thread_id=None if binding is None else binding.thread_id,
        state="cleared" if binding is None else binding.state,
        scope="session" if binding is None else binding.scope,
        engine=None if engine is None else engine.engine_id,
        epoch=None if projection is None else _short(projection.epoch),
        model=None if binding is None else binding.settings.model,
        tokens=None if tokens is None else tokens.tokens,
        token_source=None if tokens is None else tokens.source,
        window=None if tokens is None else tokens.window,
        covered_through=None if binding is None else binding.covered_through,
        asked=binding is not None and binding.rotate,
        held=bound.held,
        cleared_for=bound.cleared_for,
        ignored=bound.ignored,
        created_at_ms=None if binding is None else binding.created_at_ms,
        updated_at_ms=bound.updated_at_ms,
        last=None if event is None else _decision(event),
    )


def _decision(event: ThreadEvent) -> ThreadDecisionRecord:
    return ThreadDecisionRecord(
        id=event.id,
        at_ms=event.at_ms,
        turn_id=event.turn_id,
        thread_id=event.thread_id,
        action=event.action,
        project=event.project,
        reason=event.reason,
        warm=event.warm,
        rotated=event.rotated,
        alarm=event.alarm,
        data=event.data,
    )


def _prints(prints: ThreadFingerprints) -> dict[str, str]:
    shown = {name: value for name, value in asdict(prints).items() if value is not None}
    return {name: _short(value) if isinstance(value, str) else str(value).lower() for name, value in shown.items()}


def _short(digest: str) -> str:
    return digest if len(digest) <= DIGEST_SHOWN else f"{digest[:DIGEST_SHOWN]}…"
