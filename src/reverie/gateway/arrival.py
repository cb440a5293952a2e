"""How a message comes in, as its headers say it, and what its caller gets when the session is busy.

`read_arrival` parses the headers once; `decide` is the rule, a pure decision with its reason. A message that finds its
session idle is answered as ever. One that finds it busy is durable first; then its caller

    waits      for its turn to begin, a bounded time, and gets the ordinary reply, or
    is told    that it is queued (the next-turn answer), at once or when that time has passed, or
    is refused, before anything was accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.config import QueueMode
from reverie.errors import RequestError
from reverie.sessions.inbox import parse_mode
from reverie.types import Arrival

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reverie.sessions.inbox import QueueSettings
    from reverie.types import Delivery

KEY_CHARACTERS_MAX = 255
WAIT_MS_MAX = 3_600_000
DEADLINE_MS_MAX = 31_536_000_000
"""A year."""

ON_BUSY = "x-reverie-on-busy"
WAIT_MS = "x-reverie-wait-ms"
DEADLINE_MS = "x-reverie-deadline-ms"
ON_DISCONNECT = "x-reverie-on-disconnect"
SOURCE = "x-reverie-source"
MESSAGE_ID = "x-reverie-message-id"
IDEMPOTENCY_KEY = "idempotency-key"

ON_BUSY_WORDS = ("queue", "wait", "reject", "interrupt", "steer", "followup", "collect")
PLAIN_CHANNEL = "webchat"

OnBusy = Literal["queue"] | QueueMode


@dataclass(frozen=True, slots=True)
class Asked:
    """What the headers of one request ask for; None where they leave it to the session's settings.

    `source` is who sent it, `message_key` the client's key for this very message, `deadline_ms` how long it may wait
    before it begins, `cancels` whether the turn ends when its caller hangs up.
    """

    source: str = ""
    message_key: str | None = None
    on_busy: OnBusy | None = None
    wait_ms: int | None = None
    deadline_ms: int | None = None
    cancels: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of a message, and why.

    `delivery` is how it reaches the session if that is busy. `wait_ms` is how long its caller waits for its turn to
    begin before the next-turn answer; None: until the reply, however long that takes. `refuse`: a busy session does
    not accept it.
    """

    delivery: Delivery
    wait_ms: int | None
    refuse: bool
    reason: str


def decide(asked: Asked, settings: QueueSettings, *, busy: bool) -> Choice:
    """What becomes of a message in a session with these settings."""
    if not busy:
        return Choice(_delivery(asked, settings), None, refuse=False, reason="the session is idle")
    mode = asked.on_busy or settings.mode
    whose = f"{ON_BUSY} is" if asked.on_busy else "the session's mode is"
    reason = f"{whose} {mode}"
    delivery = _delivery(asked, settings)
    match mode:
        case "reject":
            return Choice(delivery, 0, refuse=True, reason=reason)
        case "wait":
            wait_ms = settings.wait_ms if asked.wait_ms is None else asked.wait_ms
            return Choice(delivery, wait_ms, refuse=False, reason=reason)
        case "queue":
            return Choice(delivery, 0, refuse=False, reason=reason)
        case "followup" | "collect" | "steer" | "interrupt":
            return Choice(delivery, asked.wait_ms or 0, refuse=False, reason=reason)


def _delivery(asked: Asked, settings: QueueSettings) -> Delivery:
    """How the message reaches a busy session: as asked, else as the session is set."""
    match asked.on_busy:
        case None | "queue":
            return settings.delivery()
        case "wait" | "reject":
            return "followup"
        case mode:
            return mode


def arrival_of(asked: Asked, choice: Choice, *, client_model: str, waits: bool, now_ms: int, ttl_s: int) -> Arrival:
    """What the inbox keeps of how a message came in; without a deadline of its own it has the configuration's."""
    lives_ms = asked.deadline_ms if asked.deadline_ms is not None else ttl_s * 1000 or None
    return Arrival(
        source=asked.source,
        message_key=asked.message_key,
        delivery=choice.delivery,
        deadline_at_ms=None if lives_ms is None else now_ms + lives_ms,
        client_model=client_model,
        waits=waits,
    )


# -- headers ---------------------------------------------------------------------------------------------------------


def inbox_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that `read_arrival` reads, trimmed, without the blank ones; the first of a name wins."""
    found: dict[str, str] = {}
    for name, value in headers:
        word = name.decode("latin-1")
        if word in _READ and (text := value.decode("utf-8", "replace").strip()):
            found.setdefault(word, text)
    return found


def read_arrival(headers: Mapping[str, str], *, channel: str, user: str | None) -> Asked:
    """What the headers ask for. `channel` and `user` name the source where no header does.

    Raises:
        RequestError: a value is not one of those allowed; the message names header, value and what is allowed.
    """
    return Asked(
        source=_source(headers, channel, (user or "").strip()),
        message_key=_message_key(headers),
        on_busy=_on_busy(headers),
        wait_ms=_number(headers, WAIT_MS, 0, WAIT_MS_MAX),
        deadline_ms=_number(headers, DEADLINE_MS, 1, DEADLINE_MS_MAX),
        cancels=_cancels(headers),
    )


_READ = frozenset({ON_BUSY, WAIT_MS, DEADLINE_MS, ON_DISCONNECT, SOURCE, MESSAGE_ID, IDEMPOTENCY_KEY})


def _source(headers: Mapping[str, str], channel: str, user: str) -> str:
    given = headers.get(SOURCE)
    if given is not None:
        return _checked(SOURCE, given)
    if user:
        return "".join(c if c.isprintable() else "?" for c in f"{channel}:{user}")[:KEY_CHARACTERS_MAX]
    return "" if channel == PLAIN_CHANNEL else channel


def _message_key(headers: Mapping[str, str]) -> str | None:
    for name in (IDEMPOTENCY_KEY, MESSAGE_ID):
        if (given := headers.get(name)) is not None:
            return _checked(name, given)
    return None


def _checked(name: str, value: str) -> str:
    if len(value) > KEY_CHARACTERS_MAX or not value.isprintable():
        raise _refused(name, value, f"at most {KEY_CHARACTERS_MAX} printable characters")
    return value


def _on_busy(headers: Mapping[str, str]) -> OnBusy | None:
    given = headers.get(ON_BUSY)
    if given is None:
        return None
    mode: OnBusy | None = "queue" if given.lower() == "queue" else parse_mode(given)
    if mode is None:
        raise _refused(ON_BUSY, given, f"one of {', '.join(ON_BUSY_WORDS)}")
    return mode


def _number(headers: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    given = headers.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(high)) and low <= int(given) <= high):
        raise _refused(name, given, f"a whole number of milliseconds from {low} to {high}")
    return int(given)


def _cancels(headers: Mapping[str, str]) -> bool:
    given = headers.get(ON_DISCONNECT, "continue").lower()
    if given not in {"continue", "cancel"}:
        raise _refused(ON_DISCONNECT, given, "continue or cancel")
    return given == "cancel"


def _refused(name: str, value: str, allowed: str) -> RequestError:
    return RequestError(f"`{name}: {value[:100]}` is not valid: {allowed}.", param=name)
