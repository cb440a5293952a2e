"""What a context engine is: what it is asked, and what it answers.

A context engine decides which part of a conversation a prompt shows. The built-in one shows the history from a point
on that moves rarely, with a summary of what came before (`context/engine.py`, `agent/built_in_engine.py`). Another is
offered by an entry point of the group `reverie.context_engines` and chosen by `[context] engine`; both answer the same
questions with the same values. Around what an engine shows, Reverie puts what is its own: instructions, workspace
files, a standing summary and the client's instructions before it; recalled memories, notes and the new message after
it.

    per turn    bootstrap (once, if the session has a past) · assemble · (the model answers) · after_turn, or
                ingest_batch, or ingest · maintain
    when full   compact

Operations are written `def` or `async def`: neither runs on Reverie's event loop.

Which engine counts as *active*
-------------------------------
A runtime with threads of its own may hold a thread that was begun with a projection of an engine. Whether that engine
still stands behind it is decided here alone, by `is_active`:

- No engine: no.
- Another engine than the built-in one: yes. Whether it is the *same* one as the thread's is a question of its own
  (their ids are compared beside this).
- The built-in one (`builtin`, alias `legacy`): only for projections that it made itself. It has an epoch, too
  (`Projection`), so its own threads are kept warm by the same rules; of a thread that another engine began it knows
  nothing, and must not vouch for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reverie.types import Projection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from reverie.types import JsonObject, Message

GROUP = "reverie.context_engines"
BUILT_IN = "builtin"
ALIASES = MappingProxyType({"legacy": BUILT_IN})
"""OpenClaw's word for its own engine."""

Capability = Literal[
    "bootstrap",
    "assemble-before-prompt",
    "after-turn",
    "maintain",
    "compact",
    "runtime-llm-complete",
    "thread-bootstrap-projection",
]
"""What the runtime of an agent does for an engine."""
Operation = Literal["agent-run", "manual-compact", "subagent-spawn"]
"""What an engine may make demands for. Reverie spawns no subagents, so it never asks about the third."""
MaintainedAfter = Literal["bootstrap", "turn", "compaction"]
CompactionCause = Literal["threshold", "preflight", "overflow", "manual"]

REQUIRED_OPERATIONS = ("ingest", "assemble", "compact")
OPTIONAL_OPERATIONS = ("bootstrap", "maintain", "ingest_batch", "after_turn", "dispose")


def engine_id(name: str) -> str:
    """The id behind a name: aliases are resolved."""
    return ALIASES.get(name, name)


def is_active(engine: str | None, projected_by: str | None = None) -> bool:
    """Whether an engine, by its id, stands behind a projection that another, or itself, made (module docstring).

    `projected_by` None: nothing was projected yet.
    """
    if engine is None:
        return False
    if engine_id(engine) != BUILT_IN:
        return True
    return projected_by is None or engine_id(projected_by) == BUILT_IN


@dataclass(frozen=True, slots=True)
class HostRequirement:
    """What an operation needs of the runtime, and what a person is told where that is missing."""

    required_capabilities: frozenset[Capability]
    unsupported_message: str


def _no_requirements() -> Mapping[Operation, HostRequirement]:
    return {}


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who an engine is.

    `owns_compaction`: Reverie does not compact its sessions by itself; the engine's `compact` is called at the
    thresholds and when a prompt is too large. `turn_maintenance`: whether a session's next turn waits for `maintain`.
    """

    id: str
    name: str
    version: str = ""
    owns_compaction: bool = False
    turn_maintenance: Literal["foreground", "background"] = "foreground"
    host_requirements: Mapping[Operation, HostRequirement] = field(default_factory=_no_requirements)

    def missing(self, operation: Operation, offered: frozenset[Capability]) -> tuple[Capability, ...]:
        """What an operation needs and the runtime does not offer, in alphabetical order."""
        needed = self.host_requirements.get(operation)
        return () if needed is None else tuple(sorted(needed.required_capabilities - offered))


BUILT_IN_INFO = EngineInfo(BUILT_IN, "Reverie's own")


@dataclass(frozen=True, slots=True)
class EngineSession:
    """A conversation. `id` is random and of this one; `key` stays when one follows another, and may name a person."""

    id: str
    key: str
    agent: str


@dataclass(frozen=True, slots=True)
class EngineMessage:
    """A message with its number in the transcript; `seq` None: it stands in no transcript, the engine made it.

    One that is `joined` is sent as one message with the next. `estimated_tokens` are Reverie's; what an engine writes
    there is not used.
    """

    message: Message
    seq: int | None = None
    estimated_tokens: int = 0
    joined: bool = False


# -- what is asked, and what is answered -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """One message that is in the transcript now."""

    session: EngineSession
    message: EngineMessage


@dataclass(frozen=True, slots=True)
class IngestBatchRequest:
    """The messages that a turn brought, in order."""

    session: EngineSession
    messages: tuple[EngineMessage, ...]


@dataclass(frozen=True, slots=True)
class BootstrapRequest:
    """A session with a past, which the engine sees for the first time since it was made, or since it was long unused.

    `messages` are those in view, without the new input.
    """

    session: EngineSession
    messages: tuple[EngineMessage, ...]


@dataclass(frozen=True, slots=True)
class AssembleRequest:
    """What a prompt may show.

    `messages` is the history in view: images replaced by a note, what a standing summary covers left out, a message
    that failed and was said again once. `prompt` is the new input, which Reverie places itself. What is answered may
    take `token_budget` tokens, the addition to the system message included. `tools` are those offered to the model, in
    OpenAI's form. `history_start` is the first message number that is offered at all.
    """

    session: EngineSession
    messages: tuple[EngineMessage, ...]
    prompt: tuple[EngineMessage, ...]
    token_budget: int
    tools: tuple[JsonObject, ...] = ()
    citations: Literal["auto", "on", "off"] = "auto"
    model: str = ""
    history_start: int = 1


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a prompt shows of the conversation before the new input.

    `messages` are of the roles user, assistant and tool; each tool result follows its call. `estimated_tokens` is for
    the record: Reverie counts itself. `prompt_authority`: whether these messages alone decide if the prompt is too
    large, or the whole history as well. `system_prompt_addition` stands in the system message, as instructions.
    `history_start`: what stands before this message number is not offered again; None: as it was. `reason` says why it
    moved.
    """

    messages: tuple[EngineMessage, ...]
    estimated_tokens: int = 0
    prompt_authority: Literal["assembled", "preassembly_may_overflow"] = "assembled"
    system_prompt_addition: str = ""
    projection: Projection = field(default_factory=Projection)
    history_start: int | None = None
    reason: str = ""


class AbortSignal(Protocol):
    """Says whether the answer of an operation is still wanted: for functions that cannot be cancelled."""

    def is_set(self) -> bool:
        """True when nobody waits any more."""
        ...


class _NeverAborted:
    """Nobody gives up."""

    def is_set(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class CompactRequest:
    """Make a conversation smaller: what the next `assemble` gives may take `token_budget` tokens.

    `cause`: `threshold` (in the background, after a turn), `preflight` (the prompt does not fit), `overflow` (the
    model's server refused it as too large) or `manual` (a person asked, perhaps with `instructions`). `force`: also if
    the engine sees no need. `leaving_seq` is the last message number that must go by Reverie's own count; None where
    it did not count. `tokens` is what the prompt takes now, as far as known.
    """

    session: EngineSession
    messages: tuple[EngineMessage, ...]
    token_budget: int
    cause: CompactionCause
    force: bool = False
    tokens: int = 0
    target: Literal["budget", "threshold"] = "budget"
    instructions: str = ""
    leaving_seq: int | None = None
    abort: AbortSignal = field(default_factory=_NeverAborted, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What came of it. `ok` False: it failed, for `reason`.

    With a `summary` and `first_kept`, the number of the first message that stays word for word, Reverie records the
    summary: it takes the place of what came before in every later prompt, as if it were Reverie's own. Without, the
    engine keeps to itself what it did, and its next `assemble` shows less.
    """

    ok: bool
    compacted: bool
    reason: str = ""
    summary: str = ""
    first_kept: int | None = None
    tokens_before: int | None = None
    tokens_after: int | None = None


@dataclass(frozen=True, slots=True)
class MaintainRequest:
    """A moment to tidy up: after a bootstrap, a turn, or a compaction."""

    session: EngineSession
    after: MaintainedAfter


@dataclass(frozen=True, slots=True)
class AfterTurnRequest:
    """A turn is answered and on disk.

    `messages` are those that the engine was not handed yet: what this turn brought and what was answered, and before
    them what a failed turn left. `history` is all that is in view now, they included. `compacted`: a summary took the
    place of older messages in this turn. `prompt_tokens` and `cached_tokens` are the model server's counts for the
    last call.
    """

    session: EngineSession
    messages: tuple[EngineMessage, ...]
    history: tuple[EngineMessage, ...]
    token_budget: int
    model: str = ""
    compacted: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0


# -- the engine ------------------------------------------------------------------------------------------------------


class Complete(Protocol):
    """Asking the model that Reverie answers with."""

    async def __call__(self, messages: Sequence[Message], *, max_tokens: int = 1_024) -> str:
        """The model's answer to some messages, at the pace of background work. For `async def` operations.

        Raises:
            ReverieError: there is no model, or it did not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine has of Reverie. `settings` is `[context.settings.NAME]`; `complete` is None without a model."""

    name: str
    settings: Mapping[str, Any]
    complete: Complete | None = None


class ContextEngine(Protocol):
    """A context engine: `info` and three operations. What an entry point names is called with an `EngineContext`.

    An operation that raises, is late, or answers what it may not ends the engine's service for the life of the
    process: the built-in engine goes on, and it is said where people look.
    """

    @property
    def info(self) -> EngineInfo:
        """Who it is; best an attribute of the class, so that it is known without making one."""
        ...

    def ingest(self, request: IngestRequest) -> bool | Awaitable[bool]:
        """A message is in the transcript; whether the engine took it in."""
        ...

    def assemble(self, request: AssembleRequest) -> Assembled | Awaitable[Assembled]:
        """What the next prompt shows. The turn waits, at most `context.deadline_ms`."""
        ...

    def compact(self, request: CompactRequest) -> Compacted | Awaitable[Compacted]:
        """Make a conversation smaller."""
        ...


class OptionalOperations(Protocol):
    """What an engine may have as well. Each is found by its name; whoever lacks one is not asked."""

    bootstrap: Callable[[BootstrapRequest], object]
    maintain: Callable[[MaintainRequest], object]
    ingest_batch: Callable[[IngestBatchRequest], object]
    after_turn: Callable[[AfterTurnRequest], object]
    dispose: Callable[[], object]
