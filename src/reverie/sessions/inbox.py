"""The rules of the inbox, as pure decisions: what happens to a message that arrives, and which one is next.

A message belongs to a source. Within a source order of arrival is never changed. Between sources a session is shared
fairly: each waiting message gets a round, one higher than the round of the message before it from the same source,
and the lowest round runs next, the oldest first among equals. So nobody waits behind all that another has sent, and
with a single source the order is that of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.config import QUEUE_MODE_ALIASES
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.config import DropPolicy, QueueConfig, QueueMode
    from reverie.types import Delivery, JsonObject, Turn, TurnRequest, TurnState

DROP_LINE_CHARACTERS_MAX = 160
DEBOUNCES_MAX = 10
"""A queue that is never quiet is taken up after so many times its debounce."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a session treats messages that find it busy."""

    mode: QueueMode = "wait"
    wait_ms: int = 30_000
    debounce_ms: int = 500
    cap: int = 20
    drop: DropPolicy = "new"

    @classmethod
    def of(cls, config: QueueConfig, channel: str = "", session: JsonObject | None = None) -> QueueSettings:
        """Those of a session: its own, else its channel's, else everybody's."""
        everybody = cls(
            mode=config.by_channel.get(channel, config.mode),
            wait_ms=config.wait_ms,
            debounce_ms=config.debounce_ms,
            cap=config.cap,
            drop=config.drop,
        )
        return replace(everybody, **(session or {}))

    def delivery(self) -> Delivery:
        """How a message reaches the busy session in this mode."""
        match self.mode:
            case "wait" | "reject":
                return "followup"
            case mode:
                return mode


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn stands: `position` 0 runs or found its session idle, 1 is next; `depth` messages wait in all."""

    position: int
    depth: int


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A turn as the inbox has it.

    `error` is what a caller is told of a turn that ended without an answer: message, type, code, status.
    `carrier_id` is the turn that answers this one, where it was steered into another or collected with others.
    """

    turn_id: str
    session_key: str
    session_id: str
    state: TurnState
    source: str
    message_key: str | None
    delivery: Delivery
    accepted_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    deadline_at_ms: int | None
    carrier_id: str | None
    client_model: str
    error: JsonObject | None
    agent: str = "main"

    def session(self) -> SessionKey:
        """The session it belongs to."""
        return SessionKey(self.agent, self.session_key)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the rules need of a waiting message."""

    turn_id: str
    source: str
    delivery: Delivery
    round: int
    arrived: int


def next_round(waiting: Sequence[Waiting], source: str, current: int) -> int:
    """The round of a message that arrives: after its source's others, not before the round that runs."""
    return max((entry.round + 1 for entry in waiting if entry.source == source), default=current)


def order(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The waiting messages as they will run."""
    return sorted(waiting, key=lambda entry: (entry.round, entry.arrived))


def collected(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The messages that run together with the next one: those of its source that are to be collected, in a row."""
    head = order(waiting)[0]
    if head.delivery != "collect":
        return [head]
    together: list[Waiting] = []
    for entry in sorted((e for e in waiting if e.source == head.source), key=lambda entry: entry.arrived):
        if entry.delivery != "collect":
            break
        together.append(entry)
    return together


def steerable(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The messages that can enter the running turn now, in order of arrival.

    A message may not overtake an earlier one of its own source; what others have waiting does not hold it back.
    """
    blocked: set[str] = set()
    taken: list[Waiting] = []
    for entry in sorted(waiting, key=lambda entry: entry.arrived):
        if entry.delivery == "steer" and entry.source not in blocked:
            taken.append(entry)
        else:
            blocked.add(entry.source)
    return taken


def fits_together(one: TurnRequest, other: TurnRequest) -> bool:
    """True when one model call can serve both messages: same instructions, tools, model and sampling."""
    return (
        one.instructions == other.instructions
        and one.client_tools == other.client_tools
        and one.tool_choice == other.tool_choice
        and one.model_override == other.model_override
        and one.sampling == other.sampling
    )


def combined(turns: Sequence[Turn]) -> Turn:
    """Several turns as one: the last runs and carries those before it."""
    return replace(turns[-1], carries=tuple(turns[:-1]))


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a message may enter a queue, which waiting messages give way to it, and why."""

    accepted: bool
    dropped: tuple[str, ...]
    reason: str


def admit(waiting: Sequence[Waiting], settings: QueueSettings) -> Admission:
    """What happens when a message arrives at a session where others wait.

    At the cap, `new` refuses it; `old` and `summarize` drop the oldest of the source that has the most waiting, so
    that one source cannot push out another's messages.
    """
    if len(waiting) < settings.cap:
        return Admission(accepted=True, dropped=(), reason="there is room")
    if settings.drop == "new":
        return Admission(accepted=False, dropped=(), reason=f"{len(waiting)} messages wait; the cap is {settings.cap}")
    left = sorted(waiting, key=lambda entry: entry.arrived)
    dropped: list[str] = []
    while len(left) >= settings.cap:
        counts = {entry.source: 0 for entry in left}
        for entry in left:
            counts[entry.source] += 1
        busiest = max(counts.values())
        oldest = next(entry for entry in left if counts[entry.source] == busiest)
        dropped.append(oldest.turn_id)
        left.remove(oldest)
    return Admission(accepted=True, dropped=tuple(dropped), reason=f"the oldest gives way at the cap of {settings.cap}")


def drop_line(text: str) -> str:
    """One line of a dropped message, for the turn that comes next."""
    line = " ".join(text.split())
    return line if len(line) <= DROP_LINE_CHARACTERS_MAX else f"{line[: DROP_LINE_CHARACTERS_MAX - 1].rstrip()}…"


def overflow_note(dropped: int, lines: Sequence[str]) -> str:
    """What the model is told of dropped messages, in OpenClaw's words; empty when none were."""
    if not dropped:
        return ""
    head = f"[Queue overflow] Dropped {dropped} message{'s' if dropped != 1 else ''} due to cap."
    return "\n".join([head, *(["Summary:", *(f"- {line}" for line in lines)] if lines else [])])


COLLECT_TITLE = "[Queued messages while agent was busy]"


def collect_leads(sources: Sequence[str], overflow: str) -> list[str]:
    """What stands before each of several messages that are sent to the model as one; see `overflow_note`."""
    if len(sources) == 1:
        return [f"{overflow}\n\n" if overflow else ""]
    heads = [f"---\nQueued #{number}{_from(source)}\n" for number, source in enumerate(sources, start=1)]
    first = "\n\n".join(part for part in (COLLECT_TITLE, overflow, heads[0]) if part)
    return [first, *heads[1:]]


def _from(source: str) -> str:
    return f" (from {source})" if source else ""


def quiet_in_ms(now_ms: int, last_arrival_ms: int, first_arrival_ms: int, debounce_ms: int) -> int:
    """How long to wait until the queue counts as quiet; 0: take it up."""
    quiet_at = last_arrival_ms + debounce_ms
    latest = first_arrival_ms + debounce_ms * DEBOUNCES_MAX
    return max(0, min(quiet_at, latest) - now_ms)


def parse_mode(word: str) -> QueueMode | None:
    """A mode by any of its names; None when it is none."""
    word = word.strip().lower()
    known: dict[str, QueueMode] = {
        mode: mode for mode in ("wait", "followup", "collect", "steer", "interrupt", "reject")
    }
    return known.get(word) or QUEUE_MODE_ALIASES.get(word)
