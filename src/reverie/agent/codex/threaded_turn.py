"""One turn on its way through a native thread: decided, opened, run, and what it leaves on record.

    acquire    the session's binding, and the right to change it
    decide     go on in the bound thread, or begin one: once, with every reason (`context/threads.py`)
    open       thread/resume or thread/start; a thread that cannot be resumed gives way to one that is told everything
    run        the turn, followed and steered (`native_turn.py`)
    accepted   the message is an item of the thread: from now on the binding says what the thread knows
    finish     the answer and what the thread has seen are one commit (`Reply.also`)

A thread that overflows its model's window is given up once, for a fresh one that is told everything. One that holds an
image which cannot be read is given up for good. Every decision is on record, whatever came of it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import structlog

from reverie.agent.codex.app_server import ThreadOptions, TurnOptions
from reverie.agent.codex.failures import too_long, turn_error
from reverie.agent.codex.home import MEMORY_SERVER, approval_policy, session_headers
from reverie.agent.codex.native_reply import NativeReply
from reverie.agent.codex.native_turn import STOP_S, NativeTurn
from reverie.agent.codex.protocol import (
    CompactionItem,
    ItemDone,
    ToolItem,
    ToolServerTold,
    TurnBegan,
    TurnEnded,
    says_active_elsewhere,
    text_input,
)
from reverie.agent.codex.steering import Steering
from reverie.context.contract import BUILT_IN
from reverie.context.epochs import epoch_of, epoch_parts
from reverie.context.fingerprints import EnginePolicy, config_fingerprint, mcp_fingerprint
from reverie.context.projection import project, projection_chars, sizes_of
from reverie.context.thread_guards import guards_of, projected_turn_tokens
from reverie.context.threads import (
    Capabilities,
    after_invalid_image,
    after_overflow,
    after_resume_failure,
    bound,
    decide,
    expected_of,
    logged,
    rebound,
)
from reverie.errors import (
    CodexDiedError,
    CodexError,
    CodexOverloadedError,
    CodexRefusedError,
    CodexTurnError,
    StorageError,
)
from reverie.sessions.bindings import RENEW_S, finished_on, released
from reverie.sessions.thread_log import ThreadSizes
from reverie.tasks import OwnedTasks
from reverie.types import ThreadFingerprints, ThreadSettings, ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from reverie.agent.codex.protocol import Event, Item, NativeThread
    from reverie.agent.runtimes.codex import CodexRuntime
    from reverie.agent.runtimes.runtime import ReadyTurn, Reply
    from reverie.config import CodexConfig
    from reverie.context.projection import Bootstrap, Projected
    from reverie.context.threads import Decision, Expected
    from reverie.sessions.bindings import Held
    from reverie.storage import Transaction
    from reverie.types import JsonObject, ThreadBinding, Turn

log = structlog.get_logger(__name__)

COMPACT_S = 180.0
ELSEWHERE_TRIES = 10
ELSEWHERE_S = 0.2
"""A child that was killed may hold its threads for a moment longer."""


class ThreadedTurn:
    """One turn on its way through a native thread."""

    def __init__(self, runtime: CodexRuntime, turn: ReadyTurn, bootstrap: Bootstrap, held: Held) -> None:
        self.held = held
        self._runtime = runtime
        self._settings = runtime.settings
        self._turn = turn
        self._session = turn.begun.session
        self._bootstrap = bootstrap
        self._sizes = ThreadSizes()
        self._thread: NativeThread | None = None
        self._keeps = False
        self._answer = NativeReply(turn.request.turn_id, lambda _: ())

    async def reply(self) -> Reply:
        """Run it, on a binding that is kept alive meanwhile; every decision is put on record."""
        async with self._renewing():
            expected = await self._expected()
            here = Capabilities(in_use_elsewhere=self.held.elsewhere)
            decision = decide(self.held.binding, expected, guards_of(self._settings.threads), here)
            try:
                return await self._attempt(decision, expected)
            except _GivenUpError as overflow:
                binding = self.held.binding
                again = None if binding is None else after_overflow(overflow.decision, binding, expected)
                if again is None:
                    raise too_long() from overflow
            try:
                return await self._attempt(again, expected)
            except _GivenUpError as overflow:
                raise too_long() from overflow

    # -- what is known -------------------------------------------------------------------------------------------

    async def _expected(self) -> Expected:
        """What the thread must be for this turn."""
        context, begun, config = self._turn.context, self._turn.begun, self._settings
        ours = context.engine == BUILT_IN
        parts = epoch_parts(context.fingerprints, self._turn.summary) if ours else {}
        before = [entry.seq for entry in begun.history if entry.seq < begun.input_seq]
        model = self._model()
        return expected_of(
            input_seq=begun.input_seq,
            last_seq=max(before, default=0),
            policy=EnginePolicy(
                context.engine,
                citations_mode=config.citations,
                context_token_budget=self._runtime.window_tokens,
                projection_max_chars=config.threads.projection_chars_max,
            ),
            mode="thread_bootstrap" if ours else context.projection.mode,
            epoch=None if ours else context.projection.epoch,
            projection_fingerprint=None if ours else context.projection.fingerprint or None,
            parts=parts,
            fingerprints=self._fingerprints(),
            auth_profile=_account(config.codex),
            model=model,
            window_tokens=config.threads.windows.get(model or "", config.codex.context_tokens),
            turn_tokens=projected_turn_tokens(len(self._bootstrap.prompt.text)),
            thread_bytes=await self._thread_bytes(),
        )

    def _fingerprints(self) -> ThreadFingerprints:
        """What a thread keeps from its start, and a turn cannot change: the tools that are registered, for example."""
        configured = self._settings.codex.settings.get("mcp_servers")
        theirs: JsonObject = configured if isinstance(configured, dict) else {}
        ours = {MEMORY_SERVER: {"tools": sorted(tool["function"]["name"] for tool in self._settings.tools)}}
        return ThreadFingerprints(
            user_mcp=mcp_fingerprint(theirs),
            mcp_servers=mcp_fingerprint(ours),
            web_search=config_fingerprint(self._settings.codex.settings.get("web_search", "disabled")),
        )

    async def _thread_bytes(self) -> int | None:
        """The size of the bound thread's file, where a guard wants to know; None when it cannot be told."""
        if not guards_of(self._settings.threads).looks_at_bytes or self.held.thread_id is None:
            return None
        try:
            found = await self._runtime.server.read_thread(self.held.thread_id)
        except CodexRefusedError:
            return None
        return None if found.path is None else await asyncio.to_thread(_size_of, found.path)

    def _model(self) -> str | None:
        return self._turn.request.model_override or self._settings.codex.model

    def _thread_settings(self) -> ThreadSettings:
        codex = self._settings.codex
        return ThreadSettings(
            model=self._model(),
            model_provider=None if codex.base_url is None else "reverie",
            cwd=str(self._settings.workspace),
            approval_policy=approval_policy(codex),
            sandbox=codex.sandbox,
        )

    # -- one attempt ---------------------------------------------------------------------------------------------

    async def _attempt(self, decision: Decision, expected: Expected) -> Reply:
        """Do what was decided. The decision that was really carried out is put on record, however it ended."""
        decided = decision
        self._thread = None
        self._answer = NativeReply(self._turn.request.turn_id, lambda _: ())
        try:
            decided = await self._opened(decision, expected)
            projected = await self._projected(decided)
            return await self._run(decided, expected, projected)
        finally:
            self._runtime.spent(self._answer)
            with anyio.CancelScope(shield=True):
                await self._log(decided)

    async def _opened(self, decision: Decision, expected: Expected) -> Decision:
        """Open the thread; the decision that came of it, where the thread could not be resumed."""
        options = self._options()
        await self._runtime.door_opened()
        if decision.thread_id is not None:
            resumed = await self._resumed(decision, expected, options)
            if resumed is None:
                return decision
            decision = resumed
        self._thread = await self._runtime.server.start_thread(options)
        await self._runtime.note_loaded(self._thread.id, expected.parts)
        if decision.persist:
            now = self._runtime.clock.now_ms()
            binding = bound(self._thread.id, self._session.id, expected, decision, self._thread_settings(), now)
            self._take(await self._runtime.stores.bindings.bind(self.held, binding))
            if decision.clear is not None:
                await self._runtime.let_go(decision.clear)
        return decision

    async def _resumed(self, decision: Decision, expected: Expected, options: ThreadOptions) -> Decision | None:
        """Resume the bound thread. None: done; else what is to be done in its place.

        Raises:
            CodexError: the app-server is gone; the binding stands.
        """
        assert decision.thread_id is not None
        binding = self.held.binding
        assert binding is not None, "only a bound thread is gone on with"
        try:
            self._thread = await self._resume(decision.thread_id, options)
        except CodexOverloadedError:
            raise
        except CodexRefusedError as error:
            log.info("a native thread could not be resumed", action="codex_resume_refused", session=self._session.id,
                     thread=decision.thread_id, cause=str(error))  # fmt: skip
            if says_active_elsewhere(str(error)):
                elsewhere = Capabilities(in_use_elsewhere=True)
                return decide(binding, expected, guards_of(self._settings.threads), elsewhere)
            again = after_resume_failure(decision, binding, expected, "refused")
            if again is None:
                raise
            return again
        await self._runtime.note_loaded(self._thread.id, expected.parts)
        self._keeps = decision.persist and not self.held.elsewhere
        return None

    async def _resume(self, thread_id: str, options: ThreadOptions) -> NativeThread:
        """Resume a thread; where another process holds it, wait a moment for that to end."""
        for _ in range(ELSEWHERE_TRIES):
            try:
                thread = await self._runtime.server.resume_thread(thread_id, options)
            except CodexRefusedError as error:
                if not says_active_elsewhere(str(error)):
                    raise
                await asyncio.sleep(ELSEWHERE_S)
            else:
                if thread.activity != "active":
                    return thread
                await self._runtime.server.kill("a thread is busy with a turn that nobody follows")
        return await self._runtime.server.resume_thread(thread_id, options)

    async def _projected(self, decision: Decision) -> Projected:
        """What the thread is told with this turn."""
        threads = self._settings.threads
        chars_max = projection_chars(
            self._runtime.window_tokens, reserve_tokens=threads.reserve_tokens, chars_max=threads.projection_chars_max
        )
        projected = await asyncio.to_thread(project, decision, self._bootstrap, chars_max=chars_max)
        self._sizes = sizes_of(self._bootstrap, projected, decision)
        return projected

    async def _run(self, decision: Decision, expected: Expected, projected: Projected) -> Reply:
        thread, request = self._thread, self._turn.request
        assert thread is not None
        model = self._model() or thread.model
        steering = Steering(
            self._turn.steered,
            self._give_back,
            self._runtime.clock,
            name=request.turn_id,
            quiet_ms=self._settings.codex.steer_quiet_ms,
        )
        answer = self._answer = NativeReply(request.turn_id, steering.consumed)

        async def hear(event: Event) -> None:
            before = answer.accepted
            for shown in answer.take(event, model):
                self._turn.emit(shown)
            if answer.accepted and not before:
                await self._accepted(decision, expected)
            self._watch(event)

        if decision.warm and self._runtime.takes_compaction(self._session.id):
            await self._compact(thread.id)
        images = tuple(image.url for image in self._bootstrap.prompt.images)
        native = NativeTurn(self._runtime.server, thread.id, hear, steering)
        ended = await native.run(text_input(projected.text, images), request.turn_id, self._turn_options())
        if ended.status == "completed":
            return await self._completed(answer.reply(model), decision)
        await self._failed(ended, decision)
        raise AssertionError("a turn that has failed raises")

    async def _compact(self, thread_id: str) -> None:
        """Have Codex compact the thread before the turn, because a person wants it. The turn goes on in any case."""
        try:
            async with asyncio.timeout(COMPACT_S):
                await self._compacted(thread_id)
        except CodexDiedError:
            raise
        except (CodexError, TimeoutError) as error:
            log.warning("Codex did not compact a thread", action="codex_uncompacted", session=self._session.id,
                        cause=str(error) or f"not within {COMPACT_S:g} s")  # fmt: skip

    async def _compacted(self, thread_id: str) -> None:
        server, turn_id = self._runtime.server, ""
        with server.subscribed(thread_id) as events:
            await server.compact(thread_id)
            try:
                while not isinstance(event := await events.next(), TurnEnded):
                    match event:
                        case TurnBegan(turn_id=turn_id):
                            pass
                        case ItemDone(item=CompactionItem()):
                            self._answer.compactions += 1
                        case _:
                            pass
            except asyncio.CancelledError:
                with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_S), suppress(CodexError):
                    await server.interrupt(thread_id, turn_id)
                raise

    def _watch(self, event: Event) -> None:
        """What is looked at beside the reply: tools that repeat themselves, memory that cannot be reached."""
        match event:
            case ItemDone(item=item) if (call := used_memory(item)) is not None:
                self._turn.guard.saw(*call)
            case ToolServerTold(name=name, status="failed", error=error):
                log.warning("Codex does not reach one of its tool servers", action="codex_tools_missing", server=name,
                            session=self._session.id, cause=error[:500])  # fmt: skip
            case _:
                pass

    # -- how it ended --------------------------------------------------------------------------------------------

    async def _accepted(self, decision: Decision, expected: Expected) -> None:
        """The message is part of the thread: what the thread knows from now on is on record."""
        binding = self.held.binding
        if not self._keeps or binding is None:
            return
        through = max(entry.seq for entry in self._turn.begun.history)
        now = self._runtime.clock.now_ms()
        known = rebound(binding, expected, decision, self._thread_settings(), through, now)
        self._take(await self._runtime.stores.bindings.accepted(self.held, known))

    async def _completed(self, reply: Reply, decision: Decision) -> Reply:
        """The reply, with what else belongs into its commit."""
        answer, store = self._answer, self._runtime.stores.bindings
        if answer.compactions:
            log.info("Codex compacted a thread", action="codex_compacted", session=self._session.id,
                     thread=None if self._thread is None else self._thread.id)  # fmt: skip
            self._runtime.thread_compacted(self._session.id)
            reloaded = self._as_loaded()
            if reloaded is not None:
                self._take(await store.accepted(self.held, reloaded))
        if not decision.persist or not self._keeps:
            await store.release(self.held)
            return reply
        held, tokens, clock = self.held, answer.tokens, self._runtime.clock

        def also(tx: Transaction, last_seq: int) -> None:
            finished_on(tx, held, last_seq, tokens, clock.now_ms())
            released(tx, held)

        return replace(reply, also=also)

    def _as_loaded(self) -> ThreadBinding | None:
        """The binding after Codex put its own summary in the place of the thread's beginning.

        The thread has the instructions again with which it was loaded, and may have lost what it was told of files that
        changed since: so it counts as told only of those, and is told of the others anew.
        """
        binding = self.held.binding
        parts = None if binding is None else self._runtime.loaded_with(binding.thread_id)
        if not self._keeps or binding is None or parts is None or parts == binding.parts:
            return None
        engine = binding.engine
        if engine is None or engine.projection is None or not parts:
            return None
        projection = replace(engine.projection, epoch=epoch_of(parts))
        return replace(binding, parts=parts, engine=replace(engine, projection=projection))

    async def _failed(self, ended: TurnEnded, decision: Decision) -> None:
        """Raise what came in the place of an answer."""
        failure = ended.failure
        if ended.status == "interrupted" or failure is None:
            raise CodexTurnError("Codex stopped the turn before its end; send the message again.", kind=ended.status)
        if failure.overflow and not self._answer.text:
            raise _GivenUpError(decision)
        if failure.invalid_image:
            await self._clear_for_image()
        raise turn_error(failure)

    async def _clear_for_image(self) -> None:
        """The thread holds an image that cannot be read, now and in each later turn: it is given up."""
        binding = self.held.binding
        thread_id = None if binding is None else after_invalid_image(binding, self.held.thread_id)
        if thread_id is not None and self._keeps:
            await self._runtime.stores.bindings.clear(self._session.id, thread_id, "invalid-image")

    async def _give_back(self, turns: Sequence[Turn]) -> None:
        await self._runtime.stores.turns.give_back(self._turn.begun.turn, turns)

    def _take(self, held: Held | None) -> None:
        """Go on with the binding as it is now; without it, where somebody else has it."""
        self._keeps = held is not None
        if held is None:
            log.warning("another process has the thread of a session by now", action="thread_lost",
                        session=self._session.id)  # fmt: skip
        else:
            self.held = held

    async def _log(self, decision: Decision) -> None:
        entry = logged(
            decision,
            session_id=self._session.id,
            turn_id=self._turn.request.turn_id,
            runtime="codex",
            thread_id=None if self._thread is None else self._thread.id,
            sizes=self._sizes,
            ignored=self.held.ignored,
        )
        try:
            await self._runtime.stores.log.record(entry)
        except StorageError as error:
            log.warning("a decision about a thread is not on record", action="thread_unlogged", cause=str(error))

    @asynccontextmanager
    async def _renewing(self) -> AsyncGenerator[None]:
        """Say within the block, again and again, that somebody is at work on the thread."""
        async with OwnedTasks() as tasks:
            tasks.start(self._renew(), name="thread-lease")
            yield

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            renewed = await self._runtime.stores.bindings.renew(self.held)
            if renewed is None:
                self._keeps = False
                return
            self.held = replace(self.held, leased_at_ms=renewed.leased_at_ms)

    # -- what is sent --------------------------------------------------------------------------------------------

    def _options(self) -> ThreadOptions:
        """How the thread is started or resumed.

        The instructions are the current ones each time. A thread that is read from the disk goes on with those that it
        began with, and takes these when it is compacted: without any, it would have none from then on. One that is
        loaded takes no notice of them.
        """
        codex = self._settings.codex
        config: JsonObject = {}
        if self._runtime.door is not None:
            config[f"mcp_servers.{MEMORY_SERVER}.http_headers"] = session_headers(
                self._settings.agent, self._session.key
            )
        return ThreadOptions(
            cwd=str(self._settings.workspace),
            approval_policy=approval_policy(codex),
            sandbox=codex.sandbox,
            model=self._model(),
            developer_instructions=self._bootstrap.instructions,
            config=config,
        )

    def _turn_options(self) -> TurnOptions:
        sampling = self._turn.request.sampling
        effort = sampling.get("reasoning_effort") or self._settings.codex.effort
        return TurnOptions(self._model(), effort, _output_schema(sampling))


class _GivenUpError(Exception):
    """The thread does not fit its model's window. `decision` is what was carried out."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


def _account(codex: CodexConfig) -> str:
    """The account that pays, by a name; never what opens it."""
    return "login" if codex.base_url is None else f"{codex.api_key_file or codex.api_key_env}"


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116 (Path.stat follows nothing only by a keyword)
    except OSError:
        return None


def used_memory(item: Item) -> tuple[ToolCall, str] | None:
    """A use of our memory's tools with its result; None for anything else."""
    if not isinstance(item, ToolItem) or item.server != MEMORY_SERVER:
        return None
    return ToolCall(item.id, item.tool, item.arguments), item.output or ""


def _output_schema(sampling: JsonObject) -> JsonObject | None:
    """The form that the client wants the answer in, as a schema; None when it does not say."""
    wanted: Any = sampling.get("response_format")
    if not isinstance(wanted, dict):
        return None
    schema: Any = cast("JsonObject", wanted).get("json_schema")
    found: Any = cast("JsonObject", schema).get("schema") if isinstance(schema, dict) else None
    return cast("JsonObject", found) if isinstance(found, dict) else None
