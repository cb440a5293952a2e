"""What the gateway needs of the application, and nothing more.

`reverie.app.App` fits these protocols as it is; tests give the gateway a small implementation of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.config import Config
    from reverie.dreaming.clockwork import Triggered
    from reverie.dreaming.forgetting import Forgetting, Options, Selection
    from reverie.dreaming.runs import Begun, DreamRun
    from reverie.learning.surfaces.pages import PageRequest
    from reverie.learning.surfaces.ports import GivenFeedback, Kind, Verb
    from reverie.memory.tool_contracts import Asker
    from reverie.readiness import Condition
    from reverie.sessions.compactions import Compaction, Expanded
    from reverie.sessions.directory import SessionPage, SessionRecord
    from reverie.sessions.events import TurnEvent
    from reverie.sessions.inbox import InboxEntry, Place, QueueSettings
    from reverie.sessions.rollover import RollOver
    from reverie.sessions.store import SessionEvent
    from reverie.sessions.thread_directory import ThreadExplanation, ThreadPage, ThreadRecord
    from reverie.sessions.tree import EntryPage
    from reverie.status import AppStatus
    from reverie.types import Gauge, JsonObject, SessionKey, TurnRequest


class Feed(Protocol):
    """An accepted turn: who it is, and what happens to it."""

    @property
    def turn_id(self) -> str:
        """The turn, which is also the `id` of the OpenAI answer."""
        ...

    @property
    def session_id(self) -> str:
        """The transcript the turn is recorded in."""
        ...

    @property
    def session_key(self) -> SessionKey:
        """The routing bucket of that transcript."""
        ...

    @property
    def place(self) -> Place:
        """Where the turn stood in its session when it was accepted."""
        ...

    @property
    def attached(self) -> bool:
        """True when the message had been accepted before, under the same key: this is that turn."""
        ...

    @property
    def ended(self) -> bool:
        """True once its terminal event is there."""
        ...

    async def begun(self, within_s: float) -> bool:
        """Wait until the turn runs or has ended, at most `within_s` seconds; False when it still waits then."""
        ...

    def follow(self) -> AsyncIterator[TurnEvent]:
        """Every event from the first to the terminal one. Leaving early does not stop the turn."""
        ...


class Watch(Protocol):
    """What happens in a session from now on.

    Bounded: a watcher that does not keep up loses live events, never recorded ones.
    """

    async def next(self, within_s: float) -> TurnEvent | Literal["recorded"] | None:
        """The next event; None after `within_s` seconds of silence.

        Live events have text or a tool; `recorded` says that there is more to read with `events_after`.
        """
        ...


class EmbedderIdentity(Protocol):
    """Which embedder it is."""

    @property
    def model(self) -> str:
        """Its model's name."""
        ...

    @property
    def dims(self) -> int:
        """The length of its vectors."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def identity(self) -> EmbedderIdentity:
        """Which embedder it is."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector a row.

        Raises:
            EmbedderError: a text could not be embedded.
        """
        ...


class MemoryToolset(Protocol):
    """The memory tools: `memory.tools.MemoryTools`."""

    def definitions(self) -> tuple[JsonObject, ...]:
        """The tools as functions in OpenAI's format."""
        ...

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """Run a tool by its name; what goes wrong is in the answer, as `error` and `action`."""
        ...

    async def search(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """`memory_search`: results, or the structured failure.

        Raises:
            RequestError: the arguments make no sense.
        """
        ...

    async def get(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """`memory_get`.

        Raises:
            RequestError: the arguments make no sense.
            MemoryPathError: the path is none of this memory.
            StorageError: a transcript could not be read.
        """
        ...

    async def append(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """`memory_append`; when it returns, the note can be found.

        Raises:
            RequestError: the arguments make no sense, or appending is switched off.
            MemoryPathError: notes may not go there.
            StorageError, HomeError: it could not be written.
        """
        ...

    def status(self, agent: str) -> JsonObject:
        """The state of the index, from memory."""
        ...

    async def sync(self, agent: str) -> JsonObject:
        """Compare the index with the files now; what that changed.

        Raises:
            StorageError: the index could not be written.
        """
        ...


class Readiness(Protocol):
    """Whether the application can take work."""

    @property
    def reasons(self) -> Collection[str]:
        """What is in the way, in words for machines; empty when nothing is. Read on every probe, from memory.

        `starting` and `draining` are known by these names; any other reason is shown as it is.
        """
        ...

    def conditions(self) -> Sequence[Condition]:
        """What readiness rests on, and advisory conditions beside it. From memory."""
        ...


class SessionDirectory(Protocol):
    """The sessions, for looking at them and ending them: `sessions.directory.SessionDirectory`."""

    async def page(self, limit: int, after: str | None) -> SessionPage:
        """The sessions used last, or those after one of them.

        Raises:
            UnknownSessionError: there is no session `after`.
        """
        ...

    async def find(self, name: str) -> SessionRecord:
        """A session by its key, the rest of a key, or its id.

        Raises:
            UnknownSessionError: there is none.
        """
        ...

    async def entries(self, session_id: str, before: int | None, limit: int) -> EntryPage:
        """A page of a transcript.

        Raises:
            UnknownSessionError: there is no such session.
        """
        ...

    def pieces(self, session_id: str, form: Literal["jsonl", "markdown"]) -> AsyncIterator[bytes]:
        """A whole session, piece by piece."""
        ...


class Dreaming(Protocol):
    """What begins sweeps over the memory: `dreaming.clockwork.Clockwork`."""

    async def trigger(self) -> Triggered:
        """Somebody's clock says that it is time. When this returns, a run is on record, or why there is none."""
        ...

    async def ask(self, at_ms: int | None = None) -> Begun:
        """Have a sweep run in the background, as if at an instant, whatever the mode; or the run under way.

        Raises:
            DreamingBlockedError: no agent has a workspace.
            StorageError, HomeError: it could not be put on record.
        """
        ...

    async def newest_runs(self, limit: int) -> Sequence[DreamRun]:
        """The runs that began last, the newest first.

        Raises:
            StorageError: they cannot be read.
        """
        ...


class ThreadDirectory(Protocol):
    """The native threads of sessions: `sessions.thread_directory.ThreadDirectory`."""

    async def page(self, limit: int, after: str | None) -> ThreadPage:
        """The threads used last, or those after a session's.

        Raises:
            UnknownSessionError: no session `after` has or had a thread.
        """
        ...

    async def explain(self, name: str, limit: int) -> ThreadExplanation:
        """What a session's thread knows, and its last decisions.

        Raises:
            UnknownSessionError: there is no such session.
        """
        ...

    async def rotate(self, name: str) -> ThreadRecord:
        """Have a session's next turn begin another thread.

        Raises:
            UnknownSessionError: there is no such session.
            NoThreadError: it has no thread that may be replaced.
        """
        ...


class Learning(Protocol):
    """What was learned: `learning.surfaces.LearningSurfaces`. Each answer is an object of the wire."""

    async def status(self) -> JsonObject:
        """Spend, queues, pauses, what runs, alarms, counts."""
        ...

    async def page(self, asked: PageRequest) -> JsonObject:
        """A page of one kind.

        Raises:
            RequestError: the request makes no sense.
            UnknownLearnedError: there is no row `after`.
        """
        ...

    async def show(self, kind: Kind, name: str, agent: str) -> JsonObject:
        """One thing, whole.

        Raises:
            UnknownLearnedError: there is none.
        """
        ...

    async def explain(self, kind: Kind, name: str, agent: str) -> JsonObject:
        """One thing, with everything on record around it.

        Raises:
            UnknownLearnedError: there is none.
        """
        ...

    async def edit(self, kind: Kind, name: str, changes: JsonObject, agent: str) -> JsonObject:
        """Change one thing.

        Raises:
            RequestError: the changes make no sense.
            UnknownLearnedError: there is no such thing.
            StorageError, HomeError: it could not be written.
        """
        ...

    async def act(self, kind: Kind, name: str, verb: Verb, agent: str) -> JsonObject:
        """Archive, unarchive, enable, disable, retry or cancel one thing.

        Raises:
            RequestError: that cannot be done to a thing of this kind.
            UnknownLearnedError: there is no such thing.
            LearnedStateError: a job is in no state for it.
            StorageError, HomeError: it could not be written.
        """
        ...

    async def delete(self, kind: Kind, name: str, agent: str) -> JsonObject:
        """Delete one thing.

        Raises:
            RequestError: a thing of this kind is not deleted.
            UnknownLearnedError: there is no such thing.
            StorageError, HomeError: it could not be written.
        """
        ...

    async def give_feedback(self, given: GivenFeedback) -> JsonObject:
        """Keep feedback; what follows from it happens in the background.

        Raises:
            UnknownFeedbackTargetError: what it is about does not exist.
            MessageKeyReusedError: its key stands for other feedback.
            StorageError: it could not be kept.
        """
        ...


class GatewayApp(Protocol):
    """The application, as the gateway sees it."""

    @property
    def config(self) -> Config:
        """All settings; the gateway reads its own and how sessions are told apart."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def embedder(self) -> Embedder | None:
        """What answers `/v1/embeddings`; None when embeddings are switched off."""
        ...

    @property
    def tools(self) -> MemoryToolset:
        """What answers `/v1/memory/…` and `/mcp`."""
        ...

    @property
    def directory(self) -> SessionDirectory:
        """What answers `/v1/sessions`."""
        ...

    @property
    def dreaming(self) -> Dreaming:
        """What begins sweeps over the memory."""
        ...

    @property
    def threads(self) -> ThreadDirectory:
        """What answers `/v1/threads`."""
        ...

    @property
    def learning(self) -> Learning:
        """What answers `/v1/learning/…` and takes `/v1/feedback`."""
        ...

    @property
    def readiness(self) -> Readiness:
        """What answers `/readyz`."""
        ...

    def agents(self) -> tuple[str, ...]:
        """The agents that can be addressed; the first is the default."""
        ...

    async def submit(self, request: TurnRequest, *, refuse_busy: bool = False) -> Feed:
        """Accept a turn; when this returns, it is durable. Sent again under the same key, it is the same turn.

        Raises:
            QueueFullError: nothing was accepted; the caller may try later.
            SessionBusyError: the session is busy, and `refuse_busy` was set; nothing was accepted.
            MessageKeyReusedError: the key stands for another message; nothing was accepted.
            StorageError: it could not be made durable; nothing was accepted.
        """
        ...

    async def reset_session(self, name: str) -> RollOver:
        """End the current session of a key now; a successor goes on.

        Raises:
            UnknownSessionError: there is no such session, or it has ended already.
        """
        ...

    def busy(self, key: SessionKey) -> bool:
        """True while a turn of this session runs, waits, or is prepared in any way."""
        ...

    async def queue_settings(self, key: SessionKey, channel: str) -> QueueSettings:
        """How this session treats messages that find it busy: its own settings, its channel's, or everybody's."""
        ...

    async def change_queue_settings(self, key: SessionKey, changes: JsonObject | None) -> None:
        """Give a session settings of its own (`mode`, `debounce_ms`, `cap`, `drop`, checked); None: everybody's."""
        ...

    async def inbox_entry(self, turn_id: str) -> InboxEntry | None:
        """A turn as the inbox has it; None for an unknown id."""
        ...

    def place_of(self, turn_id: str) -> Place:
        """Where a turn stands in its session's queue now; position 0 when it does not wait."""
        ...

    async def attach(self, turn_id: str) -> Feed | None:
        """The events of a turn, also of one that ended long ago (then its terminal event alone); None: unknown id."""
        ...

    async def queue_of(self, key: str, limit: int) -> list[InboxEntry]:
        """The turns of a session that run or wait, in the order in which they will run."""
        ...

    async def cancel(self, turn_id: str, reason: str) -> InboxEntry | None:
        """Stop a turn that has not ended. Returns it as it stands then; None for an unknown id."""
        ...

    async def events_after(self, key: str, after: int, limit: int) -> list[SessionEvent]:
        """What happened in a session after an event, oldest first."""
        ...

    async def oldest_event(self) -> int:
        """The lowest `seq` of all recorded events that are kept; 0 when there is none."""
        ...

    def watch(self, key: str) -> AbstractContextManager[Watch]:
        """What happens in a session from now on, as it happens."""
        ...

    async def request_compaction(self, key: str, focus: str = "") -> Compaction:
        """Have a session compacted in the background; what is asked for, or under way already.

        Raises:
            NothingToCompactError: nothing stands before its last turn.
        """
        ...

    async def compactions_of(self, key: str) -> list[Compaction]:
        """The compactions of a session key, the newest first; bounded."""
        ...

    async def find_compaction(self, compaction_id: str) -> Compaction | None:
        """A compaction by its id; None for an unknown one."""
        ...

    async def expand_compaction(self, compaction: Compaction, after_seq: int) -> Expanded:
        """A page of the messages that a summary stands for, after a number."""
        ...

    async def forget(self, agent: str, selection: Selection, options: Options, *, apply: bool) -> Forgetting:
        """Find what a person wants forgotten; with `apply`, remove it.

        Raises:
            RequestError: it makes no sense, there is no such session, one of it is busy, or the index is rebuilt.
            StorageError, HomeError: something could not be written; asking again goes on.
        """
        ...

    def ask_for_rebuild(self) -> bool:
        """Have the memory index built anew in the background; False when that is under way already."""
        ...

    async def gauges(self) -> Sequence[Gauge]:
        """Current figures for `/metrics`, those of a name in a row. Read at each scrape; costs two bounded queries."""
        ...

    async def status(self) -> AppStatus:
        """What runs and waits now, and how dreaming does. Costs two bounded queries."""
        ...
