"""Events that wait for a plugin, bounded by their number and by their text; the oldest give way."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from reverie.plugins.events import characters

if TYPE_CHECKING:
    from reverie.plugins.events import PluginEvent

EVENTS_MAX = 256
CHARACTERS_MAX = 16 * 1024 * 1024


class WaitingEvents:
    """The events of one plugin, in order. Only ever used on one event loop."""

    def __init__(self, events_max: int = EVENTS_MAX, characters_max: int = CHARACTERS_MAX) -> None:
        self._events: deque[tuple[str, PluginEvent, int]] = deque()
        self._events_max = events_max
        self._characters_max = characters_max
        self._characters = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._events)

    def add(self, hook: str, event: PluginEvent) -> None:
        """Put an event at the end. One that is larger than all the room there is stands alone."""
        size = characters(event)
        self._events.append((hook, event, size))
        self._characters += size
        while len(self._events) > self._events_max or (
            self._characters > self._characters_max and len(self._events) > 1
        ):
            self._characters -= self._events.popleft()[2]
            self.dropped += 1

    def take(self) -> tuple[str, PluginEvent] | None:
        """The oldest event; None when none waits."""
        if not self._events:
            return None
        hook, event, size = self._events.popleft()
        self._characters -= size
        return hook, event
