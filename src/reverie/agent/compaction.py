"""Compaction that nobody waits for: summaries are prepared behind the conversation and adopted between its turns.

    turn ends ── triggers ── stretch ── extract into memory ── summary ── audit ──► ready, adopted by the next turn
                 (one row)              (durable, by rule)     (a model, background)

One summary is prepared at a time. Its steps are states of a row (`sessions.compactions`), so a restart goes on where
it stopped. A try that fails leaves the history as it is; after the third the compaction has failed, and the session
is left alone for a while.

`Compactor.rescue` is the one thing a turn may call: where a prompt does not fit, the beginning of the conversation is
extracted and summarised by rule, without a model, and the turn goes on with that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from reverie.clock import utc_date
from reverie.context.compaction.audit import Audit, audit
from reverie.context.compaction.budget import CompactionBudget, Load, compaction_budget, due
from reverie.context.compaction.cut import (
    SpanMessage,
    choose_cut,
    chunk_tokens,
    chunks,
    duplicates,
    hidden_repeats,
)
from reverie.context.compaction.estimate import ARGUMENTS_CHARS, IMAGE_TOKENS, MESSAGE_TOKENS, RESULT_CHARS, TEXT_CHARS
from reverie.context.compaction.extract import extract, latest_ask, memory_note
from reverie.context.compaction.identifiers import identifiers
from reverie.context.compaction.summary import (
    PROMPT_ID,
    composed,
    mended,
    summary_by_rule,
    summary_messages,
)
from reverie.errors import NothingToCompactError, ReverieError, UpstreamMalformedError, UpstreamTimeoutError
from reverie.llm.client import ModelRequest, TextDelta
from reverie.memory.append import append_note
from reverie.plugins.events import CompactionStep, CompactionText
from reverie.sessions.compactions import SPAN_MESSAGES_MAX, Compaction, Planned, SpanRow
from reverie.types import Gauge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import CompactionConfig
    from reverie.context.contract import Compacted, CompactRequest
    from reverie.llm.client import Model
    from reverie.memory.origins import NoteOrigins
    from reverie.sessions.compactions import CompactionCause, Compactions, SessionLoad, StandingSummary
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

SESSIONS_NOTED_MAX = 1_024
"""Sessions whose turns ended and were not looked at yet. Beyond it the oldest give way: their next turn is noted."""
CHUNKS_MAX = 12
"""Calls of the model for one summary. What is older than that is summarised by rule."""
SUMMARY_CHARS_READ_MAX = 64_000
"""An answer longer than this is cut: no summary may be a quarter as long."""
RETRY_S = (5.0, 30.0)
"""Before the second and the third try."""
NOTHING_TO_KEEP = ""
"""In place of a path: the stretch holds nothing but tool results, so no extract was written."""
FUTILE_MAX = 1_024
FUTILE_MESSAGES = 8
"""A session that was due and had nothing to cut is looked at again after so many more messages."""
BACK_OFF_MS = 10 * 60 * 1_000
"""How long a session is left alone after a compaction of it has failed."""


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """What of the configuration a compactor needs. `window` is the model's, `messages_max` that of a view."""

    config: CompactionConfig
    window: int
    messages_max: int
    file_bytes_max: int


class Compactor:
    """Prepares summaries. `model` None: all of them are made by rule.

    `owned` names the agents whose context engine owns compaction: their sessions are compacted only when somebody asks.
    """

    def __init__(
        self,
        *,
        record: Compactions,
        model: Model | None,
        workspace: Callable[[str], Path],
        clock: Clock,
        settings: CompactionSettings,
        origins: NoteOrigins,
        wake: Callable[[], None],
        told: Callable[[CompactionStep], None] = lambda _: None,
        owned: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._record = record
        self._model = model
        self._workspace = workspace
        self._clock = clock
        self._settings = settings
        self._origins = origins
        self._wake = wake
        self._told = told
        self._owned = owned
        self._window = settings.window
        self._noted: OrderedDict[str, None] = OrderedDict()
        self._native: OrderedDict[str, None] = OrderedDict()
        self._adopted: deque[str] = deque(maxlen=SESSIONS_NOTED_MAX)
        self._futile: OrderedDict[str, int] = OrderedDict()
        self._resume: list[str] | None = None
        self._retries: dict[str, float] = {}
        self._extracting = asyncio.Lock()
        self._prepared = self._failed = self._rescued = 0

    @asynccontextmanager
    async def without_extracts(self) -> AsyncGenerator[None]:
        """While the block runs no extract of a conversation is written into a note; summaries may be prepared."""
        async with self._extracting:
            yield

    @property
    def enabled(self) -> bool:
        """False when conversations are never compacted by themselves."""
        return self._settings.config.enabled

    @property
    def budget(self) -> CompactionBudget:
        """The figures for the model's window, as far as it is known."""
        return compaction_budget(self._window, self._settings.config)

    def gauges(self) -> list[Gauge]:
        """What compaction did since the start, for metrics."""
        return [
            Gauge("compactions_prepared", "Summaries prepared in the background.", self._prepared),
            Gauge("compactions_failed", "Summaries that could not be prepared.", self._failed),
            Gauge("compactions_rescued", "Turns that needed a summary by rule at once.", self._rescued),
            Gauge("compactions_noted", "Sessions that are to be looked at.", len(self._noted)),
        ]

    def learn_window(self, tokens: int) -> None:
        """The model's server said how much it takes; less than configured is believed."""
        self._window = min(self._window, tokens)

    # -- what a turn calls ---------------------------------------------------------------------------------------

    def turn_ended(self, session_id: str, load: Load) -> None:
        """Have a session looked at, in the background, unless its last turn shows that there is nothing to see."""
        if not self.enabled or self._is_far_from_due(load):
            return
        self._noted[session_id] = None
        self._noted.move_to_end(session_id)
        while len(self._noted) > SESSIONS_NOTED_MAX:
            self._noted.popitem(last=False)
        self._wake()

    def is_due(self, load: Load) -> bool:
        """Whether a session as full as this is to be compacted."""
        config = self._settings.config
        bytes_max, messages_max = config.transcript_bytes_max, self._settings.messages_max
        return due(load, self.budget, bytes_max=bytes_max, messages_max=messages_max) is not None

    def _is_far_from_due(self, load: Load) -> bool:
        """True for a session below half of what makes a compaction due: most turns need no look at the disk."""
        doubled = Load(2 * load.prompt_tokens, load.transcript_bytes, 2 * load.messages_in_view)
        bytes_max = self._settings.config.transcript_bytes_max
        return (
            not bytes_max and due(doubled, self.budget, bytes_max=0, messages_max=self._settings.messages_max) is None
        )

    def thread_compacted(self, session_id: str) -> None:
        """A runtime compacted a thread of its own, so that it may not know word for word any more what was said.

        That is written into memory, as before every compaction of ours, in the background.
        """
        self._native[session_id] = None
        while len(self._native) > SESSIONS_NOTED_MAX:
            self._native.popitem(last=False)
        self._wake()

    def adopted(self, compaction_id: str) -> None:
        """A session goes on with a summary: whoever wants to know is told, in the background."""
        self._adopted.append(compaction_id)
        self._wake()

    async def rescue(
        self, session_id: str, base: StandingSummary | None, last_seq: int, cause: Literal["preflight", "overflow"]
    ) -> StandingSummary | None:
        """Let a session go on without its messages up to `last_seq` in the prompt: a summary by rule stands for them.

        A summary that is ready is taken instead. No model is called; what is read is bounded. None when that changes
        nothing: compaction is off, there is nothing to summarise, or memory cannot be written, which is logged. The
        transcript is whole in any case.
        """
        if not self.enabled:
            return None
        waiting = await self._record.adopt_waiting(session_id)
        if waiting is not None:
            self.adopted(waiting.id)
            return waiting
        load = await self._record.load(session_id)
        first_seq = 1 if base is None else base.last_seq + 1
        if load is None or last_seq < first_seq or load.compaction_id != (base.id if base else None):
            return None
        messages = _span(await self._record.span(session_id, first_seq, last_seq))
        if not messages:
            return None
        planned = Planned(session_id, cause, load.compaction_id, first_seq, last_seq, load.prompt_tokens)
        try:
            path = await self._flush(load.key, load.agent, session_id, messages, self._clock.now_ms())
        except ReverieError as error:
            log.warning("what leaves the prompt could not be written into memory; the transcript has it",
                        action="compaction_unflushed", session=session_id, cause=str(error))  # fmt: skip
            return None
        previous = base.text if base is not None else ""
        summary, found = await asyncio.to_thread(self._by_rule, messages, previous)
        facts = self._facts(found, messages, first_seq)
        tokens_after = self._tokens_after(load.prompt_tokens, messages, summary, previous)
        adopted = await self._record.adopt_now(
            planned, summary, audit=facts, flushed_to=path, tokens_after=tokens_after
        )
        if adopted is not None:
            self._rescued += 1
            self.adopted(adopted.id)
        return adopted

    async def standing(self, session_id: str) -> StandingSummary | None:
        """The summary that a session stands on now."""
        return await self._record.standing(session_id)

    async def take_over(self, request: CompactRequest, done: Compacted, engine: str) -> bool:
        """Record a summary that a context engine made; False when it is of no use, or memory cannot be written.

        What it stands for is extracted into memory before, as for every summary. A turn that waits for it goes on with
        it at once; else the session's next turn does, because one may run just now.

        Raises:
            StorageError: the record could not be read or written.
        """
        session_id = request.session.id
        load, base = await self._record.load(session_id), await self._record.standing(session_id)
        first_seq, last_seq = 1 if base is None else base.last_seq + 1, (done.first_kept or 1) - 1
        if load is None or last_seq < first_seq:
            return False
        messages = _span(await self._record.span(session_id, first_seq, last_seq))
        try:
            path = await self._flush(load.key, load.agent, session_id, messages, self._clock.now_ms())
        except ReverieError as error:
            log.warning("what a context engine summarised could not be written into memory, so it stays in the prompt",
                        action="compaction_unflushed", session=session_id, cause=str(error))  # fmt: skip
            return False
        tokens = done.tokens_before or load.prompt_tokens
        planned = Planned(
            session_id, request.cause, load.compaction_id, first_seq, last_seq, tokens, request.instructions
        )
        if request.cause in {"preflight", "overflow"}:
            adopted = await self._record.adopt_now(
                planned, done.summary, audit={"by": engine}, flushed_to=path, tokens_after=done.tokens_after
            )
            if adopted is not None:
                self.adopted(adopted.id)
            return adopted is not None
        compaction_id, new = await self._record.ask(planned)
        if not new:
            return False
        await self._record.flushed(compaction_id, path)
        return await self._record.ready(
            compaction_id, done.summary, audit={"by": engine}, tokens_after=done.tokens_after
        )

    # -- what a person calls -------------------------------------------------------------------------------------

    async def request(self, key: str, focus: str = "") -> Compaction:
        """Ask for a compaction of the session a key leads to, down to its last turn; the one under way, if any.

        Raises:
            NothingToCompactError: there is no such session, or nothing before its last turn.
        """
        session_id = await self._record.current_session(key)
        load = await self._record.load(session_id) if session_id is not None else None
        if load is None:
            raise NothingToCompactError(f"There is no conversation {key!r} yet, so there is nothing to compact.")
        held = await self._record.under_way(load.session_id)
        if held is not None:
            return held
        planned = await self._plan(load, "manual", focus)
        if planned is None:
            raise NothingToCompactError("Nothing stands before the last turn of this conversation that is not in a "
                                        "summary already.")  # fmt: skip
        compaction_id, new = await self._record.ask(planned)
        asked = await self._record.find(compaction_id)
        assert asked is not None, "what was asked for is on record"
        if new:
            self._tell(asked, "started")
        self._retries[compaction_id] = self._clock.monotonic_s()
        self._wake()
        return asked

    # -- the background ------------------------------------------------------------------------------------------

    async def work(self) -> float | None:
        """Do what is to be done now; the seconds until something is due again, None when nothing is.

        Raises:
            StorageError: the record could not be read or written.
        """
        if self._resume is None:
            self._resume = await self._record.unprepared()
            now_s = self._clock.monotonic_s()
            self._retries.update(dict.fromkeys(self._resume, now_s))
        while self._noted or self._adopted or self._native or self._due():
            if self._native:
                await self._checkpoint(self._native.popitem(last=False)[0])
            while self._adopted:
                finished = await self._record.find(self._adopted.popleft())
                if finished is not None:
                    self._tell(finished, "finished")
            for compaction_id in self._due():
                del self._retries[compaction_id]
                await self._try(compaction_id)
            if self._noted:
                session_id, _ = self._noted.popitem(last=False)
                asked = await self._look(session_id)
                if asked is not None:
                    await self._try(asked)
        return min(self._retries.values()) - self._clock.monotonic_s() if self._retries else None

    async def _checkpoint(self, session_id: str) -> None:
        """Write what was said since the last one into memory, and mark the place."""
        load = await self._record.load(session_id)
        if load is None:
            return
        base = await self._record.standing(session_id)
        marked = await self._record.native_boundary(load.key, session_id)
        first_seq = max(marked, 0 if base is None else base.last_seq) + 1
        messages = _span(await self._record.span(session_id, first_seq, load.message_count))
        try:
            path = (
                await self._flush(load.key, load.agent, session_id, messages, self._clock.now_ms()) if messages else ""
            )
        except ReverieError as error:
            log.warning("what a native thread may have forgotten could not be written into memory; the transcript has "
                        "it", action="checkpoint_unflushed", session=session_id, cause=str(error))  # fmt: skip
            return
        await self._record.mark_native_boundary(session_id, first_seq, load.message_count, path)

    def _due(self) -> list[str]:
        now_s = self._clock.monotonic_s()
        return [compaction_id for compaction_id, at_s in self._retries.items() if at_s <= now_s]

    async def _look(self, session_id: str) -> str | None:
        """Ask for a compaction if the session is due; its id if it is new."""
        load = await self._record.load(session_id)
        if load is None or load.ended or self._owned(load.agent):
            return None
        config = self._settings.config
        known = Load(
            prompt_tokens=(load.prompt_tokens or 0) + load.bytes_since // TEXT_CHARS,
            transcript_bytes=load.transcript_bytes,
            messages_in_view=load.message_count - load.history_start + 1,
        )
        cause = due(known, self.budget, bytes_max=config.transcript_bytes_max, messages_max=self._settings.messages_max)
        if cause is None or load.message_count < self._futile.get(session_id, -FUTILE_MESSAGES) + FUTILE_MESSAGES:
            return None
        newest = await self._record.newest(session_id)
        if newest is not None and (
            newest.state in {"preparing", "flushed", "ready"}
            or (newest.state == "failed" and self._clock.now_ms() < newest.created_at_ms + BACK_OFF_MS)
        ):
            return None
        planned = await self._plan(load, cause)
        if planned is None:
            self._futile[session_id] = load.message_count
            while len(self._futile) > FUTILE_MAX:
                self._futile.popitem(last=False)
            return None
        self._futile.pop(session_id, None)
        compaction_id, new = await self._record.ask(planned)
        if not new:
            return None
        asked = await self._record.find(compaction_id)
        assert asked is not None, "what was asked for is on record"
        self._tell(asked, "started")
        return compaction_id

    async def _plan(self, load: SessionLoad, cause: CompactionCause, focus: str = "") -> Planned | None:
        """The stretch to be summarised; None when there is too little of it. A person's wish is a hard checkpoint."""
        base = await self._record.find(load.compaction_id) if load.compaction_id is not None else None
        first_seq = 1 if base is None else base.last_seq + 1
        messages = _span(await self._record.span(load.session_id, first_seq, load.message_count))
        budget = self.budget
        keep, span_min = (0, 0) if cause == "manual" else (budget.keep, budget.span_min)
        cut = choose_cut(messages, keep=keep, span_min=span_min)
        if cut is None:
            return None
        tokens = load.prompt_tokens or cut.span_tokens + cut.tail_tokens
        return Planned(load.session_id, cause, load.compaction_id, first_seq, cut.last_seq, tokens, focus)

    async def _try(self, compaction_id: str) -> None:
        """One try of preparing a compaction; a failure is recorded and tried again later, at most three times."""
        compaction = await self._record.find(compaction_id)
        if compaction is None or compaction.state not in {"preparing", "flushed"}:
            return
        load = await self._record.load(compaction.session_id)
        taken_over = compaction.cause != "manual" and self._owned(compaction.agent)
        if load is None or load.ended or load.compaction_id != compaction.base_id or taken_over:
            await self._record.outdate(compaction.session_id)
            return
        try:
            async with asyncio.timeout(self._settings.config.timeout_s):
                prepared = await self._prepare(compaction)
        except TimeoutError:
            message = f"no summary within {self._settings.config.timeout_s:g} s (compaction.timeout_s)"
            await self._missed(compaction, UpstreamTimeoutError(message))
        except ReverieError as error:
            await self._missed(compaction, error)
        else:
            if not prepared:
                return
            self._prepared += 1
            log.info("a summary is ready", action="compaction_ready", compaction=compaction.id, cause=compaction.cause)

    async def _missed(self, compaction: Compaction, error: ReverieError) -> None:
        state = await self._record.fail(compaction.id, str(error))
        log.warning("a summary could not be made; the history is as it was", action="compaction_failed",
                    compaction=compaction.id, attempt=compaction.attempts + 1, cause=str(error))  # fmt: skip
        if state == "failed":
            self._failed += 1
            self._tell(compaction, "failed")
        elif state is not None:
            wait_s = RETRY_S[min(compaction.attempts, len(RETRY_S) - 1)]
            self._retries[compaction.id] = self._clock.monotonic_s() + wait_s

    async def _prepare(self, compaction: Compaction) -> bool:
        """Extract, flush, summarise, audit: each step's result is durable before the next begins.

        False when it is of no use any more: what it is of was forgotten meanwhile, or its session ended.

        Raises:
            ReverieError: memory could not be written, or the model did not answer.
        """
        record = self._record
        stretch = _span(await record.span(compaction.session_id, compaction.first_seq, compaction.last_seq))
        messages = [message for message in stretch if message.seq not in duplicates(stretch)]
        if compaction.state == "preparing":
            async with self._extracting:
                now = await record.find(compaction.id)
                if now is None or now.state != "preparing":
                    return False
                path = await self._flush(
                    compaction.key, compaction.agent, compaction.session_id, messages, compaction.created_at_ms
                )
                await record.flushed(compaction.id, path)
        base = await record.find(compaction.base_id) if compaction.base_id is not None else None
        previous = base.summary if base is not None else ""
        summary, found, how = await self._summarise(messages, previous, compaction.focus)
        load = await record.load(compaction.session_id)
        tail = _span(
            await record.span(compaction.session_id, compaction.last_seq + 1, load.message_count if load else 0)
        )
        facts = {**self._facts(found, stretch, compaction.first_seq), **how, "hidden": sorted(hidden_repeats(tail))}
        after = self._tokens_after(compaction.tokens_before, stretch, summary, previous)
        return await record.ready(compaction.id, summary, audit=facts, tokens_after=after)

    async def _flush(
        self, key: str, agent: str, session_id: str, messages: Sequence[SpanMessage], asked_at_ms: int
    ) -> str:
        """Write the stretch's extract into the day's memory file; its path once it is on disk, empty if it is blank.

        The day is that of asking, so that a try after midnight finds what the first one wrote. It counts as the words
        of the least trusted who speaks in it, which is kept before it is written.

        Raises:
            StorageError, HomeError, MemoryPathError: it could not be written.
        """
        workspace = self._workspace(agent)
        date = utc_date(asked_at_ms)

        picked = await asyncio.to_thread(extract, messages)
        if not picked.lines and not picked.identifiers:
            return NOTHING_TO_KEEP
        note, marker = memory_note(picked, session_key=key)
        await self._origins.register(agent, note, picked.provenance, session_id)

        def write() -> str:
            return append_note(workspace, note, date, marker=marker, file_bytes_max=self._settings.file_bytes_max).path

        return await asyncio.to_thread(write)

    def _tell(self, compaction: Compaction, state: Literal["started", "finished", "failed"]) -> None:
        self._told(
            CompactionStep(
                compaction_id=compaction.id,
                session_id=compaction.session_id,
                agent=compaction.agent,
                at_ms=self._clock.now_ms(),
                state=state,
                cause=compaction.cause,
                first_seq=compaction.first_seq,
                last_seq=compaction.last_seq,
                tokens_before=compaction.tokens_before,
                tokens_after=compaction.tokens_after,
                window_tokens=self._window,
                conversation=CompactionText(compaction.key, compaction.focus, compaction.summary),
            )
        )

    # -- summaries -----------------------------------------------------------------------------------------------

    async def _summarise(
        self, messages: Sequence[SpanMessage], previous: str, focus: str
    ) -> tuple[str, Audit, JsonObject]:
        """The summary of a stretch, its audit, and how it came about.

        Raises:
            UpstreamError: the model did not answer, or with nothing.
        """
        if self._model is None or not any(message.text.strip() for message in messages):
            text, found = await asyncio.to_thread(self._by_rule, messages, previous)
            return text, found, {"by": "rule"}
        config = self._settings.config
        pieces = chunks(messages, chunk_tokens(self._window, messages))
        skipped = [message for piece in pieces[:-CHUNKS_MAX] for message in piece]
        if skipped:
            previous, _ = await asyncio.to_thread(self._by_rule, skipped, previous)
        *earlier, last = pieces[-CHUNKS_MAX:]
        for piece in earlier:
            previous = await self._ask(piece, previous, focus)
        wanted = identifiers(m.text for m in messages if m.role != "tool") if config.identifiers == "strict" else ()
        ask = latest_ask(messages)
        best, found, calls = "", Audit(), len(earlier)
        while not best or (not found.passed and calls < len(earlier) + 1 + config.quality_retries):
            text = await self._ask(last, previous, focus, wanted, found.reasons() if best else ())
            looked = audit(text, identifiers=wanted, ask=ask)
            calls += 1
            if not best or looked.faults < found.faults:
                best, found = text, looked
        picked = await asyncio.to_thread(extract, messages)
        whole = composed(
            mended(best, found, picked, ask), messages, window=self._window, recent=config.recent_turns_kept
        )
        return whole, found, {"by": self._model.name, "prompt": PROMPT_ID, "calls": calls}

    async def _ask(
        self,
        messages: Sequence[SpanMessage],
        previous: str,
        focus: str,
        wanted: Sequence[str] = (),
        faults: Sequence[str] = (),
    ) -> str:
        """One call of the model.

        Raises:
            UpstreamError: it did not answer, or with nothing.
        """
        assert self._model is not None
        asked = await asyncio.to_thread(
            lambda: summary_messages(
                messages, window=self._window, previous=previous, focus=focus, identifiers=wanted, faults=faults
            )
        )
        request = ModelRequest(asked, stream=False, model_override=self._settings.config.model, lane="background")
        parts: list[str] = []
        read = 0
        async for event in self._model.respond(request):
            if isinstance(event, TextDelta) and read < SUMMARY_CHARS_READ_MAX:
                parts.append(event.text)
                read += len(event.text)
        text = "".join(parts)[:SUMMARY_CHARS_READ_MAX].strip()
        if not text:
            raise UpstreamMalformedError("the model wrote no summary: its answer was empty")
        return text

    def _by_rule(self, messages: Sequence[SpanMessage], previous: str) -> tuple[str, Audit]:
        recent = self._settings.config.recent_turns_kept
        return summary_by_rule(messages, window=self._window, previous=previous, recent=recent)

    def _facts(self, found: Audit, stretch: Sequence[SpanMessage], first_seq: int) -> JsonObject:
        """What is kept about a summary: its audit, who wrote it, how much of its stretch was too far back to read."""
        unread = stretch[0].seq - first_seq if len(stretch) >= SPAN_MESSAGES_MAX else 0
        return {**found.facts(), "by": "rule", "unread_messages": unread}

    def _tokens_after(
        self, before: int | None, messages: Sequence[SpanMessage], summary: str, previous: str
    ) -> int | None:
        if before is None:
            return None
        saved = sum(message.tokens for message in messages) - (len(summary) - len(previous)) // TEXT_CHARS
        return max(1, before - max(0, saved))


def _span(rows: Sequence[SpanRow]) -> list[SpanMessage]:
    return [
        SpanMessage(
            seq=row.seq,
            role=row.role,
            text=row.text,
            tokens=row.size_bytes // (RESULT_CHARS if row.role == "tool" else TEXT_CHARS)
            + row.argument_chars // ARGUMENTS_CHARS
            + row.images * IMAGE_TOKENS
            + MESSAGE_TOKENS,
            said_at_ms=row.said_at_ms,
            remember=row.remember,
            images=row.images,
            calls=row.calls,
            provenance=row.provenance,
        )
        for row in rows
    ]
