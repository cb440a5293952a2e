"""What a plugin is, and what it is given.

A plugin is a class derived from `Plugin`, offered by an entry point of the group `reverie.plugins` and named in
`config.toml`. It overrides the hooks it wants. A hook is written `def` or `async def`: neither runs on Reverie's event
loop, so it may block, and costs nobody anything until its deadline.

The grant `conversation_access` is about what a plugin is *given*. A plugin is code in this process: install none that
you would not run.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reverie.errors import PluginError, StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from reverie.plugins.events import CompactionStep, SessionReset, TurnEnded, TurnStarting
    from reverie.types import JsonObject

GROUP = "reverie.plugins"
NOTE_CHARACTERS_MAX = 2_000
"""A longer note is cut."""
EVENTS_WAITING_MAX = 100
"""Events that a plugin may add before they are written; the oldest give way."""
EVENT_BYTES_MAX = 4_096
ERROR_CHARACTERS_MAX = 200

_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}\.[a-z][a-z0-9_]{0,31}")
_RESERVED = re.compile(
    r"(?:turn|session|plugin|engine)\.|compaction\.(?:preparing|flushed|ready|adopted|failed|stale)$"
)


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """An error in words: its type, what it says, and where it was raised. Made on the plugin's own thread."""

    kind: str
    text: str
    place: str

    @classmethod
    def of(cls, error: BaseException) -> ErrorWords:
        """The words of an error, whatever it is."""
        try:
            text = str(error)[:ERROR_CHARACTERS_MAX]
        except Exception:  # noqa: BLE001 (a named border: even the text of an error is a plugin's code)
            text = ""
        frames = list(traceback.walk_tb(error.__traceback__))
        place = f"{PurePath(frames[-1][0].f_code.co_filename).name}, line {frames[-1][1]}" if frames else ""
        if isinstance(error, OSError) and error.errno is not None:  # the system's words quote nobody
            place = f"{place} ({os.strerror(error.errno)})"
        elif isinstance(error, StorageError):  # neither do a database's
            place = f"{place} ({text})"
        return cls(type(error).__name__, text, place)

    def told(self, *, private: bool) -> str:
        """What may be logged. A plugin that sees the conversation may quote it: then type and place only."""
        said = self.place if private else self.text
        return f"{self.kind} in {said}" if private and said else f"{self.kind}: {said}" if said else self.kind


@dataclass(frozen=True, slots=True)
class TurnNote:
    """A short text for the model, shown with the new message and marked as data. At most 2,000 characters are used."""

    text: str


@dataclass(frozen=True, slots=True)
class AddedEvent:
    """An event of a plugin for a session's stream."""

    session_id: str
    kind: str
    data: JsonObject
    turn_id: str | None = None


class Transcripts(Protocol):
    """Reading whole conversations; only with the grant."""

    async def export(
        self,
        session_id: str,
        form: Literal["jsonl", "markdown"],
        write: Callable[[bytes], Awaitable[object] | object],
    ) -> None:
        """Hand a session's transcript to `write`, piece by piece, in the form of `reverie sessions export`.

        To be awaited in an `async def` hook or a task of the plugin's. `write` is called on the plugin's own thread;
        it may be a coroutine function or not.

        Raises:
            ReverieError: there is no such session, or it could not be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What a plugin has of Reverie. `transcripts` is None without the grant.

    `settings` is the table `[plugins.NAME.settings]` as it stands in the configuration.
    """

    name: str
    settings: Mapping[str, Any]
    transcripts: Transcripts | None = None
    _added: deque[AddedEvent] = field(default_factory=lambda: deque[AddedEvent](maxlen=EVENTS_WAITING_MAX), repr=False)
    _failures: deque[ErrorWords] = field(default_factory=lambda: deque[ErrorWords](maxlen=1), repr=False)

    def add_event(self, session_id: str, kind: str, data: JsonObject, *, turn_id: str | None = None) -> None:
        """Put an event into a session's stream: it is recorded, and shown to those who watch the session.

        It is written soon after the hook ends. `kind` is two words joined by a dot.

        Raises:
            PluginError: the kind is not of that form or is one of Reverie's own, or the data is not JSON of at most
                4,096 bytes.
        """
        if not _KIND.fullmatch(kind) or _RESERVED.match(kind):
            raise PluginError(
                f"an event cannot be of the kind {kind!r}: take two words of your own, such as export.done"
            )
        try:
            size = len(json.dumps(data, ensure_ascii=False, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise PluginError(f"the data of an event must be JSON ({type(error).__name__})") from error
        if size > EVENT_BYTES_MAX:
            raise PluginError(f"the data of an event is {size} bytes long; {EVENT_BYTES_MAX} are allowed")
        self._added.append(AddedEvent(session_id, kind, data, turn_id))

    def report(self, error: BaseException) -> None:
        """Tell of a failure outside of any hook, in a task of the plugin's own; it counts like one in a hook."""
        self._failures.append(ErrorWords.of(error))

    def take_events(self) -> list[AddedEvent]:
        """The events that were added since the last time; Reverie calls this after each hook."""
        return _taken(self._added)

    def take_failures(self) -> list[ErrorWords]:
        """What was reported since the last time; Reverie calls this after each hook, and every second."""
        return _taken(self._failures)


def _taken(waiting: deque[Any]) -> list[Any]:
    """Everything in a deque to which another thread may be adding."""
    taken: list[Any] = []
    while waiting and len(taken) < EVENTS_WAITING_MAX:
        taken.append(waiting.popleft())
    return taken


class Plugin:
    """A plugin. Override the hooks that you want; those that are not overridden cost nothing.

    A hook that raises or takes longer than its deadline is reported and changes nothing else; after three failures in
    a row the plugin is left alone for a time that grows.
    """

    def __init__(self, context: PluginContext) -> None:
        """Check the settings here; whatever is raised means that the plugin is not used, and is reported."""
        self.context = context

    def before_turn(self, event: TurnStarting) -> TurnNote | Awaitable[TurnNote | None] | None:  # noqa: ARG002 (a hook)
        """A turn is about to run. The turn waits, at most `deadline_ms`.

        With the grant, a `TurnNote` may be returned for the model to see in this turn.
        """
        return None

    def after_turn(self, event: TurnEnded) -> Awaitable[None] | None:  # noqa: ARG002 (a hook)
        """A turn has ended. Nobody waits. A plugin's events come one at a time, in order."""
        return None

    def on_compaction(self, event: CompactionStep) -> Awaitable[None] | None:  # noqa: ARG002 (a hook)
        """A compaction began, was adopted, or failed. Nobody waits."""
        return None

    def on_reset(self, event: SessionReset) -> Awaitable[None] | None:  # noqa: ARG002 (a hook)
        """A session ended and another goes on under its key. Nobody waits."""
        return None

    def close(self) -> Awaitable[None] | None:
        """Reverie stops: finish what is under way, within five seconds."""
        return None
