"""The values that travel between packages: frozen, without I/O, parsed once at the door.

Everything else is private to a package. Units are in the names: `_ms`, `_tokens`, `_bytes`; instants are
milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Role = Literal["system", "user", "assistant", "tool"]
MemorySource = Literal["memory", "sessions"]
"""What memory is made of, and can be searched: notes and conversations."""
LearnedSource = Literal["skills", "traces", "policies", "worlds"]
"""What was learned: recalled for a turn, never found by a search of memory."""
Source = Literal[MemorySource, LearnedSource]
Provenance = Literal["owner", "agent", "untrusted", "system"]
"""Whose words a text holds: its owner's, the agent's, a stranger's (or nobody knows whose), a program's of the owner's.
Only the first two may become lasting memory."""

TRUSTED: frozenset[Provenance] = frozenset({"owner", "agent"})
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
TurnState = Literal["accepted", "queued", "running", "answered", "failed", "dropped", "expired", "cancelled"]
"""`accepted` when it found its session idle, else `queued`; the last five are ends."""
Delivery = Literal["followup", "steer", "collect", "interrupt"]
"""How a message reaches a session that is busy: as a turn of its own, within the running turn, together with others
that wait, or in the running turn's place."""

JsonObject = dict[str, Any]
"""A parsed JSON object that passes through us unread (tool schemas, sampling parameters of a client)."""


_BY_TRUST: tuple[Provenance, ...] = ("untrusted", "system", "agent", "owner")


def least_trusted(provenances: Iterable[Provenance], default: Provenance = "owner") -> Provenance:
    """Whose words a text holds that is made of others: those of the least trusted part; `default` for no part."""
    held = set(provenances)
    for each in _BY_TRUST:
        if each in held:
            return each
    return default


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The routing bucket of a conversation. `value` is the whole key, `agent` whose workspace and memory it uses."""

    agent: str
    value: str

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to run a function. `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image of a user message, as the URL (usually `data:`) that the client sent."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation.

    `tool_call_id` is set on role `tool`; `tool_calls` on role `assistant`. `name` is the speaker's or the tool's.
    """

    role: Role
    text: str
    images: tuple[ImagePart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several model calls, as the model's server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came in, and how it is to reach a busy session.

    `source` is who sent it, as far as the client says: messages of one source keep their order, and sources share a
    session fairly. `message_key` is the client's key for this very message: sent again, it is the same turn.
    `client_model` is the caller's word for the model. A turn that has not begun by `deadline_at_ms` expires. `waits`
    is true while a caller waits for it on a connection: nobody is quiet yet, so it is not held back by a debounce.
    """

    source: str = ""
    message_key: str | None = None
    delivery: Delivery = "followup"
    deadline_at_ms: int | None = None
    client_model: str = ""
    waits: bool = True


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks for, parsed and validated: one turn of one session.

    `messages` are the conversation entries the client sent (user, assistant, tool), in order; the last one, or the
    trailing run of tool results, is the new input. `instructions` is the text of its system and developer messages.
    `sampling` passes through to the model (temperature, stop, response_format, …). `client_tools` are the client's
    own functions in OpenAI's format, passed through as they are.
    """

    turn_id: str
    session: SessionKey
    messages: tuple[Message, ...]
    instructions: str = ""
    stream: bool = False
    model_override: str | None = None
    client_tools: tuple[JsonObject, ...] = ()
    tool_choice: str | JsonObject | None = None
    sampling: JsonObject = field(default_factory=dict[str, Any])
    arrival: Arrival = field(default_factory=Arrival)


@dataclass(frozen=True, slots=True)
class Turn:
    """A durable turn: the request as accepted, and where it stands. `carries` are the turns collected with it."""

    id: str
    session_id: str
    request: TurnRequest
    state: TurnState
    accepted_at_ms: int
    carries: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: lines are 1-based and inclusive, `heading` is the path of headings above it."""

    start_line: int
    end_line: int
    text: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A place in memory that answers a query.

    `path` is workspace-relative for files and `sessions/<session id>` for transcripts, whose lines are message
    numbers. What was learned stands at `skills/<name>/SKILL.md` or `learned/<id>`; lines of the latter are message
    numbers of its session, where it has one. `score` is 0..1, `parts` says what each signal gave, `when` is the date of
    the memory in words or ISO where known.
    """

    source: Source
    path: str
    start_line: int
    end_line: int
    text: str
    score: float
    parts: dict[str, float] = field(default_factory=dict[str, float])
    reason: str = ""
    when: str = ""
    speaker: str = ""
    session_id: str | None = None
    provenance: Provenance = "owner"

    @property
    def citation(self) -> str:
        """Where it stands, as `path#L3` or `path#L3-L7`."""
        lines = f"L{self.start_line}" if self.start_line == self.end_line else f"L{self.start_line}-L{self.end_line}"
        return f"{self.path}#{lines}"


@dataclass(frozen=True, slots=True)
class PromptPiece:
    """A part of the prompt and where it came from, for example `fragment:MEMORY.md` or `recall`.

    A piece that is `joined` is sent as one message with the next piece: many chat templates allow a single system
    message, and a user message must not be followed by another.
    """

    origin: str
    message: Message
    estimated_tokens: int
    joined: bool = False


ProjectionMode = Literal["per_turn", "thread_bootstrap"]
"""How an engine's view reaches a native thread: with every turn, or once for each thread."""


@dataclass(frozen=True, slots=True)
class Projection:
    """How a view of a conversation is to be shown to a runtime that keeps threads of its own.

    `thread_bootstrap`: once for each thread. `epoch` names what the thread was told, so that another one means telling
    it anew; without an epoch it is `per_turn`. `fingerprint` may tell two views of one epoch apart.
    """

    mode: ProjectionMode = "per_turn"
    epoch: str = ""
    fingerprint: str = ""


TAIL_ORIGINS = frozenset({"recall", "note", "message"})
"""What stands at the end of a prompt, and in no later one as it stands there."""


@dataclass(frozen=True, slots=True)
class PromptContext:
    """The assembled view of a conversation for one model call.

    `pieces` in the order sent; the first `stable_pieces` of them are the prefix that stays byte-identical until
    `epoch` changes. `fingerprints` name the parts of the prefix; `epoch_reason` says why it last changed.
    `history_start` is the first transcript number still in view. `recalled` are the memories quoted at the tail.
    `engine` is the id of the context engine whose view it shows, `projection` what that one says of it. `session_id`
    is the session it is for.
    """

    pieces: tuple[PromptPiece, ...]
    stable_pieces: int
    fingerprints: dict[str, str]
    epoch: int
    epoch_reason: str
    history_start: int
    budget_tokens: int
    estimated_tokens: int
    recalled: tuple[SearchHit, ...] = ()
    engine: str = "builtin"
    projection: Projection = field(default_factory=Projection)
    session_id: str = ""

    def messages(self) -> tuple[Message, ...]:
        """What is sent to the model: joined pieces become one message, with the images of all of them."""
        sent: list[Message] = []
        parts: list[Message] = []
        for piece in self.pieces:
            parts.append(piece.message)
            if not piece.joined:
                sent.append(as_one(parts))
                parts = []
        return tuple(sent)

    def lasting_messages(self) -> int:
        """How many of the messages that are sent the next turn's prompt begins with, too: all before the tail."""
        lasting = 0
        for piece in self.pieces:
            if piece.origin.split(":", maxsplit=1)[0] in TAIL_ORIGINS:
                break
            lasting += not piece.joined
        return lasting


def as_one(parts: Sequence[Message]) -> Message:
    """Several messages as one: their texts as paragraphs, their images, and what else the last one is."""
    if len(parts) == 1:
        return parts[0]
    images = tuple(image for part in parts for image in part.images)
    return replace(parts[-1], text="\n\n".join(part.text for part in parts), images=images)


ThreadState = Literal["pending", "active"]
"""`pending` until the first turn on the thread was accepted: what a pending thread has been told is not known."""
ThreadScope = Literal["session", "supervision"]
"""A thread of scope `supervision` is watched by somebody: it is never replaced."""
TokenSource = Literal["last", "total"]
"""Of which figure of a thread's usage: of its last model call, or of all of them together."""


@dataclass(frozen=True, slots=True)
class ThreadProjection:
    """What a native thread was bootstrapped with. `epoch` is never blank."""

    epoch: str
    fingerprint: str | None = None
    mode: Literal["thread_bootstrap"] = "thread_bootstrap"
    schema_version: int = 1


@dataclass(frozen=True, slots=True)
class ThreadEngine:
    """The context engine of a native thread; without a projection its view is sent with every turn."""

    engine_id: str
    policy_fingerprint: str
    projection: ThreadProjection | None = None
    schema_version: int = 1


@dataclass(frozen=True, slots=True)
class ThreadFingerprints:
    """What a native thread was started with, as digests. None: not known, or not looked at in this turn."""

    tools: str | None = None
    tools_deferred: bool | None = None
    runtime: str | None = None
    web_search: str | None = None
    user_mcp: str | None = None
    environment: str | None = None
    mcp_servers: str | None = None
    network: str | None = None
    plugin_apps: str | None = None


@dataclass(frozen=True, slots=True)
class ThreadSettings:
    """What was sent with the last turn and may differ in the next one: none of it makes a thread another one."""

    model: str | None = None
    model_provider: str | None = None
    cwd: str | None = None
    approval_policy: str | None = None
    sandbox: str | None = None
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class ThreadTokens:
    """How full a native thread is, as it was last told. `window` is what `model` reads at once, where it was told."""

    tokens: int
    source: TokenSource = "last"
    window: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class ThreadBinding:
    """The native thread that a session goes on with, and what the thread knows.

    `parts` are what its bootstrap said, part by part, as digests. Of the transcript it has seen everything up to
    `covered_through`; None when that is not known. `rotate` says that a person wants another thread. `fence` counts
    the holders that the binding has had. Nothing in it is a secret: an account is the name of its profile.
    """

    thread_id: str
    session_id: str
    state: ThreadState = "active"
    runtime: str = "codex"
    scope: ThreadScope = "session"
    engine: ThreadEngine | None = None
    parts: dict[str, str] = field(default_factory=dict[str, str])
    fingerprints: ThreadFingerprints = field(default_factory=ThreadFingerprints)
    covered_through: int | None = None
    settings: ThreadSettings = field(default_factory=ThreadSettings)
    auth_profile: str | None = None
    tokens: ThreadTokens | None = None
    rotate: bool = False
    fence: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A transcript entry as the index reads it: `position` counts over all sessions, `seq` within one.

    `provenance` is as `state.db` has it now, which is what counts: an index may be older. One that is `forgotten` says
    nothing any more; by its `fingerprint` it is known again, where that was asked for.
    """

    position: int
    session_id: str
    agent: str
    seq: int
    role: Role
    text: str
    speaker: str
    said_on: str
    created_at_ms: int
    origin: Literal["live", "import"]
    provenance: Provenance
    forgotten: bool = False
    fingerprint: bytes = b""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A current figure for `/metrics`: `reverie_<name>`, with one value for each set of labels."""

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
