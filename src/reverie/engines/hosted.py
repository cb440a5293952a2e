"""An engine of somebody else's: asked in order, within its deadlines, and not again after it failed.

    a session's turn        its next turn waits for               nobody waits for
    bootstrap (once)        after_turn, or ingest_batch/ingest    maintain (background)
    assemble                maintain (foreground)                 compact at a threshold (`owns_compaction`)
    compact (too large)

What follows a turn is a line of its own for each session, so that a session's operations keep their order and sessions
do not wait for one another. What fails quarantines the engine; what was given up by its caller does not.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from reverie.context.contract import (
    BootstrapRequest,
    CompactRequest,
    IngestBatchRequest,
    IngestRequest,
    MaintainRequest,
)
from reverie.engines.answers import InvalidAnswerError, checked_compacted, checked_view
from reverie.engines.isolation import BusyError, LateError, RaisedError
from reverie.errors import EngineError, EngineQuarantinedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from reverie.context.compaction.budget import Load
    from reverie.context.contract import (
        AfterTurnRequest,
        Assembled,
        AssembleRequest,
        Compacted,
        EngineInfo,
        EngineMessage,
        EngineSession,
        MaintainedAfter,
    )
    from reverie.engines.engine import Engine
    from reverie.engines.found import MadeEngine
    from reverie.engines.isolation import Isolated
    from reverie.llm.tokens import TokenEstimator
    from reverie.tasks import OwnedTasks

log = structlog.get_logger(__name__)

SESSIONS_KNOWN_MAX = 1_024
"""Sessions that an engine has been bootstrapped for, as far as is remembered; the oldest are bootstrapped again."""
DISPOSE_S_MAX = 5.0
SETTLE_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an engine may take: while a turn waits, and while nobody does (or a prompt has to be made smaller)."""

    turn_ms: int
    background_ms: int


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What an engine's host needs of the rest: all of it is Reverie's own.

    `built_in` compacts where the engine does not; `window_only` never does. `due` says whether a session is full, and
    `keep_tokens` what a compaction is to leave of it. `adopt` records a summary of the engine's. `failed` hears of
    the failure that quarantined the engine, with the session in which it happened.
    """

    built_in: Engine
    window_only: Engine
    estimator: TokenEstimator
    due: Callable[[Load], bool]
    keep_tokens: Callable[[], int]
    adopt: Callable[[CompactRequest, Compacted, str], Awaitable[bool]]
    failed: Callable[[str, str, EngineSession | None], None]


class EngineRequest(Protocol):
    """What every question to an engine says."""

    @property
    def session(self) -> EngineSession:
        """The conversation it is about."""
        ...


class HostedEngine:
    """One engine of others, for all sessions of the agents that have chosen it."""

    def __init__(
        self,
        engine: MadeEngine,
        isolated: Isolated,
        deadlines: Deadlines,
        tasks: OwnedTasks,
        neighbours: Neighbours,
    ) -> None:
        self._operations = engine.operations
        self._info = engine.info
        self._isolated = isolated
        self._deadlines = deadlines
        self._tasks = tasks
        self._near = neighbours
        self._handed: OrderedDict[str, int] = OrderedDict()
        self._lines: dict[str, asyncio.Task[None]] = {}
        self._behind: dict[str, asyncio.Task[None]] = {}
        self._disposed = False
        self.quarantined = ""
        self.calls = 0

    @property
    def info(self) -> EngineInfo:
        """Who it is, as it said when it was made."""
        return self._info

    @property
    def fallback(self) -> Engine:
        """The built-in engine; while this one is in service and owns compaction, without its compaction."""
        owns = self._info.owns_compaction and not self.quarantined
        return self._near.window_only if owns else self._near.built_in

    # -- while a turn waits --------------------------------------------------------------------------------------

    async def assemble(self, request: AssembleRequest) -> Assembled:
        """As `Engine.assemble`; before it, what the session's last turn left to do, and its bootstrap."""
        await self._line_done(request.session.id)
        await self._bootstrap(request)
        answer = await self._call("assemble", request, self._deadlines.turn_ms)
        try:
            return self._counted(checked_view(answer, request), request)
        except InvalidAnswerError as error:
            raise self._quarantine("assemble", str(error), request.session) from None

    async def compact(self, request: CompactRequest) -> Compacted:
        """As `Engine.compact`. What the engine raises comes through here, after it was quarantined."""
        done = await self._compact(request)
        if done.compacted:
            self._start_behind(request.session, lambda: self._maintain(request.session, "compaction"))
        return done

    async def _compact(self, request: CompactRequest) -> Compacted:
        abort = threading.Event()
        asked = replace(request, abort=abort)
        try:
            done = checked_compacted(await self._call("compact", asked, self._deadlines.background_ms), request)
        except InvalidAnswerError as error:
            raise self._quarantine("compact", str(error), request.session) from None
        finally:
            abort.set()
        if not done.ok:
            log.warning("a context engine did not compact", action="engine_not_compacted", engine=self._info.id,
                        session=request.session.id)  # fmt: skip
            return replace(done, compacted=False)
        if done.compacted and done.summary.strip() and done.first_kept is not None:
            return replace(done, compacted=await self._near.adopt(request, done, self._info.id))
        return done

    # -- after a turn --------------------------------------------------------------------------------------------

    def turn_ended(self, ended: AfterTurnRequest, load: Load) -> None:
        """As `Engine.turn_ended`."""
        if not self._info.owns_compaction or self.quarantined:
            self._near.built_in.turn_ended(ended, load)
        if self.quarantined or self._disposed:
            return
        session_id = ended.session.id
        before = self._lines.get(session_id)
        line = self._tasks.start(self._follow(ended, load, before), name=f"engine {self._info.id} {session_id}")
        self._lines[session_id] = line
        line.add_done_callback(lambda task: self._line_ended(session_id, task))

    async def settle(self) -> None:
        """Wait until everything that follows turns is done."""
        while self._lines or self._behind:  # noqa: ASYNC110 (only tests and the end wait for this)
            await asyncio.sleep(SETTLE_POLL_S)

    async def dispose(self) -> None:
        """Let the engine end what it has begun, within `DISPOSE_S_MAX` seconds."""
        self._disposed = True
        if "dispose" not in self._operations:
            return
        try:
            await self._isolated.call(self._operations["dispose"], within_ms=int(DISPOSE_S_MAX * 1000))
        except (LateError, BusyError, RaisedError) as error:
            log.warning("a context engine did not end well", action="engine_not_disposed", engine=self._info.id,
                        cause=str(error))  # fmt: skip

    async def _follow(self, ended: AfterTurnRequest, load: Load, before: asyncio.Task[None] | None) -> None:
        """Hand a turn over; then what is to be done now and then."""
        if before is not None:
            await asyncio.wait([before])
        session = ended.session
        try:
            await self._hand_over(ended)
            if self._info.turn_maintenance == "foreground" and "maintain" in self._operations:
                await self._call("maintain", MaintainRequest(session, "turn"), self._deadlines.turn_ms)
        except EngineError:
            return  # it is said already where people look
        if self._info.owns_compaction and self._near.due(load):
            self._start_behind(session, lambda: self._compact_at_threshold(ended, load))
        elif self._info.turn_maintenance == "background":
            self._start_behind(session, lambda: self._maintain(session, "turn"))

    async def _hand_over(self, ended: AfterTurnRequest) -> None:
        """The messages that the engine does not have yet, by the best of the three operations that it has.

        However many they are, all of them have one deadline: the session's next turn waits.
        """
        session = ended.session
        through = self._handed.get(session.id, 0)
        new = tuple(each for each in ended.messages if each.seq is not None and each.seq > through)
        until_s = asyncio.get_running_loop().time() + self._deadlines.turn_ms / 1000
        if "after_turn" in self._operations:
            await self._call("after_turn", replace(ended, messages=new), self._deadlines.turn_ms)
        elif "ingest_batch" in self._operations:
            await self._call("ingest_batch", IngestBatchRequest(session, new), self._deadlines.turn_ms)
        else:
            for each in new:
                left_ms = int(1000 * (until_s - asyncio.get_running_loop().time()))
                await self._call("ingest", IngestRequest(session, each), max(1, left_ms))
        self._remember(session.id, _last_seq(new, through))

    async def _compact_at_threshold(self, ended: AfterTurnRequest, load: Load) -> None:
        request = CompactRequest(
            session=ended.session,
            messages=ended.history,
            token_budget=self._near.keep_tokens(),
            cause="threshold",
            tokens=load.prompt_tokens,
            target="threshold",
        )
        try:
            done = await self._compact(request)
        except EngineError:
            return  # it is said already where people look
        except StorageError as error:
            log.warning("a compaction could not be recorded", action="engine_not_compacted", engine=self._info.id,
                        session=ended.session.id, cause=str(error))  # fmt: skip
            return
        if done.compacted:
            await self._maintain(ended.session, "compaction")

    async def _maintain(self, session: EngineSession, after: MaintainedAfter) -> None:
        if "maintain" not in self._operations:
            return
        try:
            await self._call("maintain", MaintainRequest(session, after), self._deadlines.background_ms)
        except EngineError:
            return

    def _start_behind(self, session: EngineSession, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Work that no turn waits for, one piece a session at a time. While one goes on a further one is left out.

        The next turn asks for it again.
        """
        if session.id in self._behind or self._disposed:
            return
        task = self._tasks.start(work(), name=f"engine {self._info.id} behind {session.id}")
        self._behind[session.id] = task
        task.add_done_callback(lambda _: self._behind.pop(session.id, None))

    def _line_ended(self, session_id: str, task: asyncio.Task[None]) -> None:
        if self._lines.get(session_id) is task:
            del self._lines[session_id]

    # -- one call ------------------------------------------------------------------------------------------------

    async def _line_done(self, session_id: str) -> None:
        """Wait for what the session's last turn left to do; its parts have deadlines of their own."""
        line = self._lines.get(session_id)
        if line is not None:
            await asyncio.wait([line])

    async def _bootstrap(self, request: AssembleRequest) -> None:
        session = request.session
        if session.id in self._handed:
            self._handed.move_to_end(session.id)
            return
        if request.messages and "bootstrap" in self._operations:
            begun = BootstrapRequest(session, request.messages)
            await self._call("bootstrap", begun, self._deadlines.turn_ms)
            self._start_behind(session, lambda: self._maintain(session, "bootstrap"))
        self._remember(session.id, _last_seq(request.messages, 0))

    def _remember(self, session_id: str, through: int) -> None:
        self._handed[session_id] = through
        self._handed.move_to_end(session_id)
        while len(self._handed) > SESSIONS_KNOWN_MAX:
            self._handed.popitem(last=False)

    async def _call(self, operation: str, request: EngineRequest, within_ms: int) -> object:
        """What an operation answered.

        Raises:
            EngineQuarantinedError: it raised or was late, now or before.
            EngineError: it could not be asked, or said that it was cancelled.
        """
        if self.quarantined:
            raise EngineQuarantinedError(self.quarantined)
        self.calls += 1
        try:
            return await self._isolated.call(self._operations[operation], request, within_ms=within_ms)
        except RaisedError as error:
            if error.gave_up:
                raise EngineError(f"the context engine {self._info.id} gave up {operation}") from None
            raise self._quarantine(operation, str(error), request.session) from None
        except LateError as error:
            raise self._quarantine(operation, str(error), request.session) from None
        except BusyError as error:
            log.warning("a context engine is asked too much at once", action="engine_busy", engine=self._info.id,
                        operation=operation, cause=str(error))  # fmt: skip
            raise EngineError(f"the context engine {self._info.id} is busy: {error}") from None

    def _quarantine(self, operation: str, cause: str, session: EngineSession | None) -> EngineQuarantinedError:
        """From here on the engine is not asked any more."""
        if not self.quarantined:
            self.quarantined = f"{operation}: {cause}"
            self._near.failed(operation, cause, session)
        return EngineQuarantinedError(f"the context engine {self._info.id} failed in {self.quarantined}")

    def _counted(self, view: Assembled, request: AssembleRequest) -> Assembled:
        """The view with our counts: they are what the window is divided by."""
        known = {id(each) for each in request.messages}
        estimator = self._near.estimator
        messages = tuple(
            each if id(each) in known else replace(each, estimated_tokens=estimator.message(each.message))
            for each in view.messages
        )
        tokens = sum(each.estimated_tokens for each in messages) + estimator.text(view.system_prompt_addition)
        return replace(view, messages=messages, estimated_tokens=tokens)


def _last_seq(messages: Sequence[EngineMessage], least: int) -> int:
    return max((each.seq or 0 for each in messages), default=least) if messages else least
