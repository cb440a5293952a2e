"""One turn, from its durable request to its recorded answer.

begin        its input joins the transcript          (meanwhile memory is searched, and what was learned)
assemble     stable prefix, what the context engine shows of the history, recall, input
respond      the model, and our tools when it asks; a prompt that it refuses as too large is made smaller
finish       the answer joins the transcript, in one commit
follow up    the index and the engine are told; nobody waits for them
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from reverie.agent.exposure import TurnExposure, strange_texts
from reverie.agent.fitting import Asked, Fitting
from reverie.agent.learned import is_told_by, learned_among, within_share
from reverie.agent.loop_guard import LoopGuard
from reverie.agent.overflow import OverflowRecovery
from reverie.agent.runtimes.runtime import ReadyTurn
from reverie.context.budget import prompt_budget
from reverie.context.compaction.budget import Load
from reverie.context.contract import EngineMessage, EngineSession
from reverie.context.engine import Inputs, Limits
from reverie.errors import ReverieError
from reverie.memory.index import SearchQuery
from reverie.memory.tool_contracts import Asker
from reverie.plugins.events import TurnResult
from reverie.sessions.events import ContextAssembled, TurnFinished
from reverie.sessions.replay import input_start
from reverie.sessions.transcript import records_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path
    from typing import Literal

    from reverie.agent.compaction import Compactor
    from reverie.agent.learned import Learned
    from reverie.agent.runtimes.runtime import Fitted, Reply, Runtime
    from reverie.context.condensed import CondensedFragments
    from reverie.context.fragments import Fragment, FragmentReader
    from reverie.engines.runtime import Engines
    from reverie.llm.overflow import Overflow
    from reverie.llm.tokens import TokenEstimator
    from reverie.memory.index import MemoryIndex
    from reverie.memory.recall import RecallEvidence
    from reverie.memory.tool_contracts import ToolAnswer
    from reverie.memory.tools import MemoryTools
    from reverie.plugins.runtime import Plugins
    from reverie.sessions.events import TurnEvent
    from reverie.sessions.transcript import RecordedMessage
    from reverie.sessions.turns import BegunTurn, TurnStore
    from reverie.types import Message, PromptContext, Provenance, SearchHit, ToolCall, Turn, TurnRequest

log = structlog.get_logger(__name__)

QUERY_CHARACTERS_MAX = 4_000
RECALL_CANDIDATES = 50
"""Half of what a search asked for by a person or a tool looks through: each turn pays for it."""
FRAGMENTS_SHARE = 0.4
"""The part of the prompt that workspace files may take, however long they grow."""

WINDOW_TOKENS_MIN = 1_024
"""A smaller figure in a refusal is not the model's window."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """What of the configuration a turn needs."""

    window_tokens: int
    output_tokens: int
    recall_hits: int
    recall_score_min: float
    recall_tokens_max: int
    recall_ms_max: int
    history_messages_max: int
    citations: Literal["auto", "on", "off"] = "auto"
    learned_share: float = 0.5
    """The part of `recall_tokens_max` that what was learned may take."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found for a turn: in memory, and of what was learned."""

    memory: tuple[SearchHit, ...]
    learned: tuple[SearchHit, ...]


class TurnRunner:
    """Runs turns: what `TurnQueue` is given as `run_turn`. Without `learned` memory alone is recalled."""

    def __init__(
        self,
        *,
        turns: TurnStore,
        memory: MemoryIndex,
        evidence: RecallEvidence,
        tools: MemoryTools,
        fragments: FragmentReader,
        condensed: CondensedFragments,
        workspace: Callable[[str], Path],
        runtimes: Callable[[str], Runtime],
        estimator: TokenEstimator,
        settings: TurnSettings,
        follow_up: Callable[[], None],
        plugins: Plugins,
        compactor: Compactor,
        engines: Engines,
        learned: Learned | None = None,
    ) -> None:
        self._turns = turns
        self._learned = learned
        self._memory = memory
        self._evidence = evidence
        self._tools = tools
        self._fragments = fragments
        self._condensed = condensed
        self._workspace = workspace
        self._runtimes = runtimes
        self._estimator = estimator
        self._settings = settings
        self._follow_up = follow_up
        self._plugins = plugins
        self._compactor = compactor
        self._engines = engines
        self._window_tokens = settings.window_tokens

    async def run_turn(
        self, turn: Turn, emit: Callable[[TurnEvent], None], steered: Callable[[], Awaitable[Sequence[Turn]]]
    ) -> TurnFinished:
        """Run a turn and record its answer. `steered` gives the messages that enter it between two model calls.

        Raises:
            TurnEndedError: it was cancelled or has expired before it could begin.
            RequestError: it cannot be served, for example because it exceeds the model's window, or because the
                agent's context engine needs what its runtime does not have.
            UpstreamError: the model did not answer, or repeated one tool call without end.
            StorageError: its answer could not be recorded.
        """
        begun, found, fragments = await self._begin(turn)
        emit(begun.started())
        fitting = await self._fitting(begun, found, fragments)
        context = await fitting.assemble()
        emit(ContextAssembled(context))
        exposure = _exposure(begun, context, fitting)
        reply = await self._respond(begun, fitting, context, found, emit, steered, exposure)
        finished, answered = await self._finish(begun.turn, context, found, reply, exposure)
        fitting.turn_ended(answered, context, reply, _load(begun, context, reply))
        self._follow_up()
        return finished

    # -- begin ---------------------------------------------------------------------------------------------------

    async def _begin(self, turn: Turn) -> tuple[BegunTurn, _Found, tuple[Fragment, ...]]:
        """Append the input to the transcript; meanwhile look for it in memory and in what was learned, and at files."""
        self._engines.require(turn.request.session.agent, "agent-run")
        recall = asyncio.create_task(self._recall(turn))
        learned = asyncio.create_task(self._recall_learned(turn))
        reading = asyncio.create_task(self._fragments.read(self._workspace(turn.request.session.agent)))
        try:
            begun = await self._turns.begin(turn, history_max=self._settings.history_messages_max)
            if begun.rolled is not None:
                self._plugins.session_was_reset(begun.rolled)
            if begun.compacted and begun.summary is not None:
                self._compactor.adopted(begun.summary.id)
            return begun, _Found(_without_questions(await recall), await learned), await reading
        finally:
            recall.cancel()
            learned.cancel()
            reading.cancel()

    async def _recall(self, turn: Turn) -> tuple[SearchHit, ...]:
        """What memory holds for the new message. A search that fails or is late costs the turn its recall only."""
        text = _query_text(turn)
        if not text or not self._settings.recall_hits:
            return ()
        query = SearchQuery(
            text=text,
            agent=turn.request.session.agent,
            limit=self._settings.recall_hits * 2,
            min_score=self._settings.recall_score_min,
            exclude_echo=True,
            candidates=RECALL_CANDIDATES,
            deadline_ms=self._settings.recall_ms_max,
        )
        try:
            result = await self._memory.search(query)
        except Exception as error:  # a named border: the question is answered without memory, the defect is logged
            log.warning("a turn went on without recall", action="recall_failed", turn=turn.id, exc_info=error)
            return ()
        return result.hits

    async def _recall_learned(self, turn: Turn) -> tuple[SearchHit, ...]:
        """What was learned that bears on the new message. If that fails or is late, it costs the turn this only."""
        text = _query_text(turn)
        if self._learned is None or not text.strip():
            return ()
        try:
            async with asyncio.timeout(self._settings.recall_ms_max / 1_000):
                return await self._learned.recall(turn, text)
        except TimeoutError:
            log.info("a turn went on without what was learned", action="learned_late", turn=turn.id)
        except Exception as error:  # a named border, as in `_recall`
            message = "a turn went on without what was learned"
            log.warning(message, action="learned_failed", turn=turn.id, exc_info=error)
        return ()

    # -- assemble ------------------------------------------------------------------------------------------------

    async def _fitting(self, begun: BegunTurn, found: _Found, fragments: tuple[Fragment, ...]) -> Fitting:
        """What the prompt is made of."""
        request = begun.turn.request
        notes = await self._plugins.turn_starts(begun.turn, history_messages=begun.input_seq - 1)
        settings = self._settings
        runtime = self._runtimes(begun.session.agent)
        room = int(prompt_budget(self._window_of(runtime), settings.output_tokens) * FRAGMENTS_SHARE)
        fitted = await self._condensed.fit(fragments, room, begun.session.prefix_fingerprints)
        unseen = [hit for hit in found.memory if not _is_in_view(hit, begun, fitted.seen)]
        fresh = [hit for hit in found.learned if not _is_in_view(hit, begun, fitted.seen)]
        learned = within_share(fresh, int(settings.learned_share * settings.recall_tokens_max), self._estimator)
        unseen = [hit for hit in unseen if not is_told_by(hit, learned)]
        inputs = Inputs(
            fragments=fitted.seen,
            client_instructions=request.instructions,
            tools=(*runtime.offered_tools(request), *request.client_tools),
            history=begun.history,
            input_seq=begun.input_seq,
            recalled=(*learned, *unseen[: settings.recall_hits]),
            continuity=begun.continuity,
            notes=notes,
            summary=begun.summary,
        )

        def limits() -> Limits:
            output = _output_tokens(request, settings)
            return Limits(
                self._window_of(runtime), output, settings.recall_tokens_max, messages=settings.history_messages_max
            )

        session = EngineSession(begun.session.id, begun.session.key, begun.session.agent)
        return Fitting(
            begun.session,
            inputs,
            best_fragments=fitted.best,
            engine=self._engines.of(session),
            asked=Asked(settings.citations, request.model_override or runtime.model, begun.compacted),
            turns=self._turns,
            compactor=self._compactor,
            estimator=self._estimator,
            limits=limits,
            guard=LoopGuard(armed=begun.compacted),
        )

    def _window_of(self, runtime: Runtime) -> int:
        return self._window_tokens if runtime.window_tokens is None else runtime.window_tokens

    def _learn_window(self, tokens: int) -> None:
        """A server said how much its model takes: less than configured is believed until the next start."""
        if not WINDOW_TOKENS_MIN <= tokens < self._window_tokens:
            return
        log.warning("the model takes less than upstream.context_tokens says: set it", action="window_learned",
                    configured=self._settings.window_tokens, takes=tokens)  # fmt: skip
        self._window_tokens = tokens
        self._compactor.learn_window(tokens)

    # -- respond -------------------------------------------------------------------------------------------------

    async def _respond(
        self,
        begun: BegunTurn,
        fitting: Fitting,
        context: PromptContext,
        found: _Found,
        emit: Callable[[TurnEvent], None],
        steered: Callable[[], Awaitable[Sequence[Turn]]],
        exposure: TurnExposure,
    ) -> Reply:
        """The model's reply; a prompt that its server finds too large is made smaller and sent again.

        `exposure` is told of everything that enters the turn meanwhile.
        """
        recovery = OverflowRecovery(
            context, window=self._window_tokens, move=fitting.leave_out, learned=self._learn_window
        )

        async def shrink(over: Overflow, sent: tuple[Message, ...]) -> Fitted:
            fitted = await recovery(over, sent)
            exposure.prompted(fitted.context.recalled, ())
            return fitted

        async def heard() -> Sequence[Turn]:
            turns = await steered()
            for turn in turns:
                exposure.steered(records_of(turn.request, turn.request.messages[input_start(turn.request.messages) :]))
            return turns

        ready = ReadyTurn(
            begun=begun,
            context=context,
            summary=fitting.summary,
            found=found.memory,
            emit=emit,
            run_tool=self._tool_runner(begun.turn, begun, exposure),
            steered=heard,
            shrink=shrink,
            guard=fitting.guard,
        )
        reply = await self._runtimes(begun.session.agent).answer(ready)
        # What the server counted was not the assembled prompt then: nothing is learned from it.
        return replace(reply, prompt_tokens_first=0) if recovery.attempts else reply

    def _tool_runner(
        self, turn: Turn, begun: BegunTurn, exposure: TurnExposure
    ) -> Callable[[ToolCall], Awaitable[ToolAnswer]]:
        session = begun.session

        async def judge(note: str) -> Provenance:
            judgement = await exposure.judge(note)
            if not judgement.trusted:
                log.info("a note may rest on a stranger's words: it does not become lasting", action="note_untrusted",
                         turn=turn.id, whose=judgement.provenance, cause=judgement.reason)  # fmt: skip
            return judgement.provenance

        asker = Asker(session.agent, "tool", session.key, session.id, turn.id, judge)

        async def run(call: ToolCall) -> ToolAnswer:
            answer = await self._tools.call(call, asker)
            exposure.used(call, answer)
            return answer

        return run

    # -- finish --------------------------------------------------------------------------------------------------

    async def _finish(
        self,
        turn: Turn,
        context: PromptContext,
        found: _Found,
        reply: Reply,
        exposure: TurnExposure,
    ) -> tuple[TurnFinished, tuple[EngineMessage, ...]]:
        """Record the answer, whose words it is, what was found and shown; then learn how this model counts tokens.

        With what the caller is told come the answer's messages, with their numbers in the transcript.
        """
        exposure.answered(reply.records)
        records = [await _signed(record, exposure) for record in reply.records]
        finished = TurnFinished(turn.id, reply.text, reply.tool_calls, reply.finish_reason, reply.usage, reply.model)
        finish = self._turns.finish(
            turn, records, finished, prompt_tokens_last=reply.prompt_tokens_last, also=reply.also
        )
        recalled = self._record_recall(turn, found.memory)
        shown = self._record_shown(turn, learned_among(context.recalled))
        first_seq, *_ = await asyncio.gather(finish, recalled, shown)  # one commit holds all of it
        if reply.prompt_tokens_first:
            self._estimator.calibrate(context.estimated_tokens, reply.prompt_tokens_first)
        self._plugins.turn_ends(turn, _result(reply, context))
        answered = tuple(
            EngineMessage(record.message, seq, self._estimator.message(record.message), record.joined)
            for seq, record in enumerate(reply.records, start=first_seq)
        )
        return finished, answered

    async def _record_recall(self, turn: Turn, found: tuple[SearchHit, ...]) -> None:
        """Keep what the search for this turn returned as evidence. The answer does not depend on it."""
        if not found:
            return
        agent, query = turn.request.session.agent, _query_text(turn)
        hits = found[: self._settings.recall_hits]
        try:
            await self._evidence.record("turn", agent, query, hits, session_id=turn.session_id, turn_id=turn.id)
        except ReverieError as error:
            log.warning("what was recalled is not on record", action="evidence_lost", turn=turn.id, cause=str(error))

    async def _record_shown(self, turn: Turn, hits: tuple[SearchHit, ...]) -> None:
        """Say what of all that was learned stood in the prompt. The answer does not depend on it."""
        if self._learned is None or not hits:
            return
        try:
            await self._learned.shown(turn, hits)
        except ReverieError as error:
            log.warning("what was shown is not on record", action="exposure_lost", turn=turn.id, cause=str(error))


def _exposure(begun: BegunTurn, context: PromptContext, fitting: Fitting) -> TurnExposure:
    """What a turn has read before its model answers."""
    unsigned = [begun.summary.text] if begun.summary is not None else []
    exposure = TurnExposure(strange_texts(begun.history, begun.input_seq, [*unsigned, begun.continuity]))
    exposure.heard(begun.history, begun.input_seq)
    exposure.prompted(context.recalled, fitting.notes)
    return exposure


async def _signed(record: RecordedMessage, exposure: TurnExposure) -> RecordedMessage:
    """A message of the reply with whose words it is; those that others said, and results of tools, have it already."""
    if record.message.role != "assistant":
        return record
    return replace(record, provenance=(await exposure.judge(record.message.text)).provenance)


def _load(begun: BegunTurn, context: PromptContext, reply: Reply) -> Load:
    """How full the session is after its turn, as far as the turn knows."""
    prompt = max(context.estimated_tokens, reply.prompt_tokens_last)
    return Load(prompt + reply.usage.completion_tokens, 0, len(begun.history) + len(reply.records))


def _query_text(turn: Turn) -> str:
    """What to search memory for: the new user messages; nothing when the input is a tool's result."""
    inputs = [each.request.messages[input_start(each.request.messages)] for each in (*turn.carries, turn)]
    return "\n".join(message.text for message in inputs if message.role == "user")[-QUERY_CHARACTERS_MAX:]


def _result(reply: Reply, context: PromptContext) -> TurnResult:
    """The answer, as plugins are told of it."""
    return TurnResult(
        state="answered",
        reply=reply.text,
        tool_calls=reply.tool_calls,
        model=reply.model,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        recalled=len(context.recalled),
        steered=tuple(record.message for record in reply.records if record.message.role == "user"),
    )


def _output_tokens(request: TurnRequest, settings: TurnSettings) -> int:
    """The reply's share of the window: what the client asked for, within what is configured."""
    asked = request.sampling.get("max_completion_tokens") or request.sampling.get("max_tokens")
    return min(asked, settings.output_tokens) if isinstance(asked, int) else settings.output_tokens


def _without_questions(found: tuple[SearchHit, ...]) -> tuple[SearchHit, ...]:
    """What was asked before is no answer, and must not crowd one out; it stays only when there is nothing else."""
    told = tuple(hit for hit in found if not (hit.source == "sessions" and hit.text.rstrip().endswith(("?", "？"))))
    return told or found


def _is_in_view(hit: SearchHit, begun: BegunTurn, fragments: tuple[Fragment, ...]) -> bool:
    """What stands in this very prompt, in its history or its prefix, is not quoted a second time."""
    if hit.source == "memory":
        return any(fragment.name == hit.path and fragment.whole for fragment in fragments)
    return hit.session_id == begun.session.id and bool(begun.history) and hit.end_line >= begun.history[0].seq
