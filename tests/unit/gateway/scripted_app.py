"""An application for the gateway that answers by script: each turn replays the steps a test wrote down."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio
import httpx2

from reverie.config import Config
from reverie.dreaming.clockwork import Triggered
from reverie.dreaming.forgetting import Forgetting
from reverie.dreaming.runs import Begun, DreamRun
from reverie.dreaming.traces import Traces
from reverie.errors import NoThreadError, SessionBusyError, UnknownLearnedError, UnknownSessionError
from reverie.gateway.server import create_gateway
from reverie.llm.circuit import UpstreamCircuit
from reverie.readiness import Condition
from reverie.sessions.compactions import Expanded
from reverie.sessions.directory import SessionPage, SessionRecord
from reverie.sessions.events import ContextAssembled, ReplyDelta, TurnFailed, TurnFinished, TurnStarted
from reverie.sessions.figures import InboxFigures
from reverie.sessions.inbox import InboxEntry, Place, QueueSettings
from reverie.sessions.rollover import RollOver
from reverie.sessions.thread_directory import ThreadExplanation, ThreadPage, ThreadRecord
from reverie.sessions.tree import Entry, EntryPage
from reverie.status import AppStatus
from reverie.testing import FakeClock, FakeEmbedder
from reverie.types import Gauge, Message, PromptContext, SessionKey, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence

    from reverie.dreaming.forgetting import Options, Selection
    from reverie.errors import ReverieError
    from reverie.learning.surfaces.pages import PageRequest
    from reverie.learning.surfaces.ports import GivenFeedback, Kind, Verb
    from reverie.memory.tool_contracts import Asker
    from reverie.sessions.compactions import Compaction
    from reverie.sessions.events import TurnEvent
    from reverie.sessions.store import SessionEvent
    from reverie.types import FinishReason, JsonObject, TurnRequest

TURN_ID = "chatcmpl_1"
STARTED = TurnStarted(TURN_ID)
ASSEMBLED = ContextAssembled(PromptContext((), 0, {}, 1, "first turn", 1, 1000, 10))


def finished(
    text: str = "",
    *calls: ToolCall,
    reason: FinishReason = "stop",
    usage: Usage = Usage(3, 2, 5),  # noqa: B008 (a frozen value)
) -> TurnFinished:
    """The end of a turn that was answered."""
    return TurnFinished(TURN_ID, text, calls, reason, usage, "some-model")


def failed(error: ReverieError) -> TurnFailed:
    """The end of a turn that was not."""
    return TurnFailed(TURN_ID, error)


def says(*deltas: str) -> tuple[TurnEvent, ...]:
    """A whole turn that says these pieces, one after the other."""
    return (STARTED, ASSEMBLED, *(ReplyDelta(delta) for delta in deltas), finished("".join(deltas)))


@dataclass
class ScriptedFeed:
    """Replays steps: an event is told, `anyio.Event` is waited for, an exception is raised."""

    turn_id: str
    session_id: str
    session_key: SessionKey
    steps: Sequence[TurnEvent | anyio.Event | Exception]
    left: anyio.Event = field(default_factory=anyio.Event)
    place: Place = field(default_factory=lambda: Place(0, 0))
    attached: bool = False
    begins: anyio.Event | None = None
    waited_s: list[float] = field(default_factory=list[float])

    @property
    def ended(self) -> bool:
        """True when the script is nothing but an end."""
        return len(self.steps) == 1 and isinstance(self.steps[0], TurnFinished | TurnFailed)

    async def begun(self, within_s: float) -> bool:
        """At once, or when the event `begins` says so."""
        self.waited_s.append(within_s)
        if self.begins is None:
            return True
        with anyio.move_on_after(within_s):
            await self.begins.wait()
        return self.begins.is_set()

    async def follow(self) -> AsyncIterator[TurnEvent]:
        """The events of the script; `left` is set when nobody follows any more."""
        try:
            for step in self.steps:
                if isinstance(step, anyio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.left.set()


async def no_gauges() -> list[Gauge]:
    """No figures of an application."""
    return []


@dataclass
class ScriptedReadiness:
    """What is in the way, as the test says."""

    reasons: set[str] = field(default_factory=set[str])

    def conditions(self) -> tuple[Condition, ...]:
        """One for each reason."""
        return tuple(Condition("Scripted", "False", "required", reason, "why") for reason in sorted(self.reasons))


@dataclass
class ScriptedTools:
    """Memory tools that give one answer, or raise one error. `calls` are what they were asked, and for whom."""

    given: JsonObject = field(default_factory=lambda: {"results": [{"path": "memory/grüße.md", "score": 0.5}]})
    refusal: Exception | None = None
    calls: list[tuple[str, JsonObject, Asker | str]] = field(
        default_factory=list["tuple[str, JsonObject, Asker | str]"]
    )

    def definitions(self) -> tuple[JsonObject, ...]:
        """None."""
        return ()

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """What the test says."""
        return self._give(name, arguments, asker)

    async def search(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """What the test says."""
        return self._give("search", arguments, asker)

    async def get(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """What the test says."""
        return self._give("get", arguments, asker)

    async def append(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """What the test says."""
        return self._give("append", arguments, asker)

    def status(self, agent: str) -> JsonObject:
        """What the test says."""
        return self._give("status", {}, agent)

    async def sync(self, agent: str) -> JsonObject:
        """What the test says."""
        return self._give("sync", {}, agent)

    def _give(self, name: str, arguments: JsonObject, asker: Asker | str) -> JsonObject:
        self.calls.append((name, arguments, asker))
        if self.refusal is not None:
            raise self.refusal
        return self.given


@dataclass
class ScriptedWatch:
    """Tells what a test puts into it; then silence."""

    happening: list[TurnEvent | Literal["recorded"]]

    async def next(self, within_s: float) -> TurnEvent | Literal["recorded"] | None:
        """The next of the script."""
        if self.happening:
            return self.happening.pop(0)
        await anyio.sleep(min(within_s, 0.01))
        return None


SESSION = SessionRecord("0001-a", "agent:main:main", "main", "live", "", 1_000, 2_000, None, None, None, 2, 10, 0, 1)
ENTRY = Entry(
    "0001-a/1", None, 1, "message", "user", "grüße", {}, "t1", "", "", visible=True, remember=True, created_at_ms=1_000
)


THREAD = ThreadRecord(
    "agent:main:main", "0001-a", "main", "codex", "thr_1", "active", "session", "reverie", "e1", "gpt-5", 86_000,
    "last", 258_400, 12, asked=False, held=False, cleared_for=None, ignored="", created_at_ms=1, updated_at_ms=2,
    last=None,
)  # fmt: skip


@dataclass
class ScriptedThreads:
    """One session's thread. `asked` is what was asked of it."""

    asked: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])

    async def page(self, limit: int, after: str | None) -> ThreadPage:
        """The one thread."""
        self.asked.append((limit, after))
        return ThreadPage((THREAD,), more=False)

    async def explain(self, name: str, limit: int) -> ThreadExplanation:
        """The one thread, without any decision."""
        self.asked.append((name, limit))
        if name not in {THREAD.session_key, "main"}:
            raise UnknownSessionError(f"There is no session '{name}'.")
        return ThreadExplanation(THREAD, THREAD.session_key, THREAD.session_id, {"client": "c"}, {}, (), None)

    async def rotate(self, name: str) -> ThreadRecord:
        """Only the one thread may be replaced."""
        self.asked.append(("rotate", name))
        if name != "main":
            raise NoThreadError("It has none.")
        return replace(THREAD, asked=True)


@dataclass
class ScriptedDirectory:
    """One session with one entry. `asked` are the pages that were asked for."""

    asked: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])

    async def page(self, limit: int, after: str | None) -> SessionPage:
        """The one session."""
        self.asked.append((limit, after))
        return SessionPage((SESSION,), more=True)

    async def find(self, name: str) -> SessionRecord:
        """The one session, by its key."""
        if name not in {SESSION.key, "main"}:
            raise UnknownSessionError(f"There is no session '{name}'.")
        return SESSION

    async def entries(self, session_id: str, before: int | None, limit: int) -> EntryPage:
        """Its entry."""
        self.asked.append((session_id, before, limit))
        return EntryPage((ENTRY,), more=False)

    async def reset(self, name: str) -> RollOver:
        """It goes on as another."""
        key = SessionKey("main", "agent:main:main")
        return RollOver((await self.find(name)).id, "0002-b", "manual", 2, key, "what was said")

    async def pieces(self, session_id: str, form: Literal["jsonl", "markdown"]) -> AsyncIterator[bytes]:
        """Two pieces."""
        for piece in (session_id, form):
            yield piece.encode()


RUN = DreamRun(
    "dream:x:2026-01-01T00:00:00.000Z", "manual", 1_767_225_600_000, "running", 1, 0, 1_767_225_600_000, None, {}, None
)


@dataclass
class ScriptedDreaming:
    """Sweeps that are begun as the test says. `asked` are the instants asked for, `triggers` how often it was time."""

    triggered: Triggered = field(default_factory=lambda: Triggered("begun"))
    begun: Begun = field(default_factory=lambda: Begun(RUN, fresh=True))
    refusal: Exception | None = None
    asked: list[int | None] = field(default_factory=list[int | None])
    triggers: int = 0

    async def trigger(self) -> Triggered:
        """What the test says."""
        self.triggers += 1
        return self.triggered

    async def ask(self, at_ms: int | None = None) -> Begun:
        """What the test says."""
        self.asked.append(at_ms)
        if self.refusal is not None:
            raise self.refusal
        return self.begun

    async def newest_runs(self, limit: int) -> list[DreamRun]:
        """The one run, as often as asked for."""
        return [RUN] * min(limit, 2)


LEARNED = {"object": "reverie.learning.policy", "id": "po_1", "title": "Grüße", "gain": 0.25}


@dataclass
class ScriptedLearning:
    """One policy, whatever is asked for. `asked` is what was asked of it."""

    asked: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    refusal: Exception | None = None

    def _give(self, *asked: object, answer: JsonObject = LEARNED) -> JsonObject:
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal
        if "nobody" in asked:
            raise UnknownLearnedError("There is no policy 'nobody'.", param="id")
        return answer

    async def status(self) -> JsonObject:
        """It does nothing."""
        return self._give("status", answer={"object": "reverie.learning.status", "mode": "full"})

    async def page(self, asked: PageRequest) -> JsonObject:
        """The one policy."""
        asked.check()
        page = {"object": "list", "data": [LEARNED], "has_more": False, "next_after": None}
        return self._give(asked, answer=page)

    async def show(self, kind: Kind, name: str, agent: str) -> JsonObject:
        """The one policy."""
        return self._give("show", kind, name, agent)

    async def explain(self, kind: Kind, name: str, agent: str) -> JsonObject:
        """The one policy, without anything around it."""
        explained = {"object": "reverie.learning.explanation", "kind": kind, "item": LEARNED}
        return self._give("explain", kind, name, agent, answer=explained)

    async def edit(self, kind: Kind, name: str, changes: JsonObject, agent: str) -> JsonObject:
        """The one policy with these changes."""
        return self._give("edit", kind, name, changes, agent, answer={**LEARNED, **changes})

    async def act(self, kind: Kind, name: str, verb: Verb, agent: str) -> JsonObject:
        """The one policy."""
        return self._give(verb, kind, name, agent)

    async def delete(self, kind: Kind, name: str, agent: str) -> JsonObject:
        """It is gone."""
        gone = {"object": "reverie.learning.policy.deleted", "id": name, "deleted": True}
        return self._give("delete", kind, name, agent, answer=gone)

    async def give_feedback(self, given: GivenFeedback) -> JsonObject:
        """It is taken."""
        return self._give(given, answer={"object": "reverie.feedback", "id": "fb_1", "polarity": "positive"})


@dataclass
class ScriptedApp:
    """A `GatewayApp`. `requests` are the turns it was given; `refusal`, when set, is raised instead of taking one.

    Its only session is busy when `is_busy`: a turn then stands at `place`, and begins when `begins` is set. A turn is
    `attached` when it was accepted before. `inbox` holds what `/v1/queue` knows, `recorded` the events of the session.
    """

    config: Config = field(default_factory=Config)
    clock: FakeClock = field(default_factory=FakeClock)
    embedder: FakeEmbedder | None = None
    tools: ScriptedTools = field(default_factory=ScriptedTools)
    directory: ScriptedDirectory = field(default_factory=ScriptedDirectory)
    dreaming: ScriptedDreaming = field(default_factory=ScriptedDreaming)
    threads: ScriptedThreads = field(default_factory=ScriptedThreads)
    learning: ScriptedLearning = field(default_factory=ScriptedLearning)
    readiness: ScriptedReadiness = field(default_factory=ScriptedReadiness)
    steps: Sequence[TurnEvent | anyio.Event | Exception] = field(default_factory=lambda: says("Hello", " there"))
    refusal: Exception | None = None
    requests: list[TurnRequest] = field(default_factory=list["TurnRequest"])
    feeds: list[ScriptedFeed] = field(default_factory=list[ScriptedFeed])
    rebuilds: int = 0
    forgotten: list[tuple[str, Selection, Options, bool]] = field(
        default_factory=list[tuple[str, "Selection", "Options", bool]]
    )
    figures: list[Gauge] = field(default_factory=list[Gauge])
    inbox_figures: InboxFigures = field(default_factory=lambda: InboxFigures({}, {}, ()))
    compactions: list[Compaction] = field(default_factory=list["Compaction"])
    compaction_asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    is_busy: bool = False
    place: Place = field(default_factory=lambda: Place(1, 1))
    begins: anyio.Event | None = None
    attached: bool = False
    settings: QueueSettings = field(default_factory=QueueSettings)
    changes: list[JsonObject | None] = field(default_factory=list["JsonObject | None"])
    channels: list[str] = field(default_factory=list[str])
    inbox: dict[str, InboxEntry] = field(default_factory=dict[str, InboxEntry])
    cancelled: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    recorded: list[SessionEvent] = field(default_factory=list["SessionEvent"])
    oldest: int = 1
    happening: list[TurnEvent | Literal["recorded"]] = field(default_factory=list["TurnEvent | Literal['recorded']"])

    def agents(self) -> tuple[str, ...]:
        """Those of the configuration."""
        return self.config.agent_names()

    async def submit(self, request: TurnRequest, *, refuse_busy: bool = False) -> ScriptedFeed:
        """Take a turn and replay the script for it."""
        if self.refusal is not None:
            raise self.refusal
        if refuse_busy and self.is_busy and not self.attached:
            raise SessionBusyError("The session is busy.", retry_after_s=3)
        self.requests.append(request)
        self.feeds.append(self._feed(request.session))
        return self.feeds[-1]

    async def request_compaction(self, key: str, focus: str = "") -> Compaction:
        """The first one of the test."""
        self.compaction_asked.append((key, focus))
        if self.refusal is not None:
            raise self.refusal
        return self.compactions[0]

    async def compactions_of(self, key: str) -> list[Compaction]:
        """Those of the test that belong to the key."""
        return [each for each in self.compactions if each.key == key]

    async def find_compaction(self, compaction_id: str) -> Compaction | None:
        """The one of the test with that id."""
        return next((each for each in self.compactions if each.id == compaction_id), None)

    async def expand_compaction(self, compaction: Compaction, after_seq: int) -> Expanded:
        """Two messages of which those after a number are given."""
        call = ToolCall("c1", "look", "{}")
        said = ((1, Message("user", "Where?"), 5), (2, Message("assistant", "", tool_calls=(call,)), 6))
        return Expanded(tuple(each for each in said if each[0] > after_seq), more=compaction.last_seq > len(said))

    def _feed(self, session: SessionKey) -> ScriptedFeed:
        place, begins = (self.place, self.begins) if self.is_busy else (Place(0, 0), None)
        return ScriptedFeed(
            TURN_ID, "session-1", session, self.steps, place=place, begins=begins, attached=self.attached
        )

    def busy(self, key: SessionKey) -> bool:
        """What the test says."""
        return self.is_busy

    async def queue_settings(self, key: SessionKey, channel: str) -> QueueSettings:
        """Those of the test, with the session's own changes."""
        self.channels.append(channel)
        settings = self.settings
        for changes in self.changes:
            settings = self.settings if changes is None else replace(settings, **changes)
        return settings

    async def change_queue_settings(self, key: SessionKey, changes: JsonObject | None) -> None:
        """Remember them."""
        self.changes.append(changes)

    async def inbox_entry(self, turn_id: str) -> InboxEntry | None:
        """What the test put there."""
        return self.inbox.get(turn_id)

    def place_of(self, turn_id: str) -> Place:
        """What the test says, for a message that waits."""
        entry = self.inbox.get(turn_id)
        return self.place if entry is not None and entry.state == "queued" else Place(0, 0)

    async def attach(self, turn_id: str) -> ScriptedFeed | None:
        """The script, for a message that is there."""
        if turn_id not in self.inbox:
            return None
        self.feeds.append(self._feed(SessionKey("main", self.inbox[turn_id].session_key)))
        return self.feeds[-1]

    async def queue_of(self, key: str, limit: int) -> list[InboxEntry]:
        """The messages of the session that have not ended."""
        live = {"accepted", "queued", "running"}
        return [entry for entry in self.inbox.values() if entry.session_key == key and entry.state in live][:limit]

    async def reset_session(self, name: str) -> RollOver:
        """The session of its directory ends."""
        return await self.directory.reset(name)

    async def cancel(self, turn_id: str, reason: str) -> InboxEntry | None:
        """The message is cancelled if it has not ended."""
        self.cancelled.append((turn_id, reason))
        entry = self.inbox.get(turn_id)
        if entry is not None and entry.state in {"accepted", "queued", "running"} and entry.carrier_id is None:
            self.inbox[turn_id] = entry = replace(entry, state="cancelled")
        return entry

    async def events_after(self, key: str, after: int, limit: int) -> list[SessionEvent]:
        """Those of the session."""
        return [event for event in self.recorded if event.session_key == key and event.seq > after][:limit]

    async def oldest_event(self) -> int:
        """What the test says."""
        return self.oldest

    @contextmanager
    def watch(self, key: str) -> Generator[ScriptedWatch]:
        """What the test lets happen."""
        yield ScriptedWatch(self.happening)

    async def forget(self, agent: str, selection: Selection, options: Options, *, apply: bool) -> Forgetting:
        """Two messages were said, or are forgotten now."""
        if self.refusal is not None:
            raise self.refusal
        self.forgotten.append((agent, selection, options, apply))
        return Forgetting(agent, selection, apply, Traces(Counter({"messages": 2})))

    def ask_for_rebuild(self) -> bool:
        """A rebuild starts when none runs."""
        self.rebuilds += 1
        return self.rebuilds == 1

    async def gauges(self) -> list[Gauge]:
        """The figures of the test."""
        return self.figures

    async def status(self) -> AppStatus:
        """An inbox as the test says, and a server that nobody has called."""
        return AppStatus(self.inbox_figures, UpstreamCircuit(self.clock).statistics())


@asynccontextmanager
async def client_of(
    app: ScriptedApp, *, token: str | None = None, address: str = "127.0.0.1", host: str = "gateway", **options: Any
) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client that speaks to the gateway of an application, from an address, under a name of the gateway's machine."""
    transport = httpx2.ASGITransport(create_gateway(app, token=token), client=(address, 50_000), **options)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


def config(**sections: Any) -> Config:
    """A configuration that differs from the defaults in these sections."""
    return Config.model_validate(sections)
