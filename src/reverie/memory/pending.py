"""What has changed on disk and is not in the index yet: a bounded set of paths for each agent.

Invariant: nothing that was noted is lost. When more than `PATHS_MAX` paths wait for an agent they are dropped, and the
whole workspace is to be compared instead, which finds them all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PATHS_MAX = 4_096


@dataclass(slots=True)
class PendingPaths:
    """Filled while a sync runs, emptied by the next one."""

    _paths: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    _whole: set[str] = field(default_factory=set[str])
    _noted: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, agent: str, paths: Iterable[str]) -> None:
        """These files or folders have changed."""
        if agent not in self._whole:
            waiting = self._paths.setdefault(agent, set())
            waiting.update(paths)
            if len(waiting) > PATHS_MAX:
                self.add_whole(agent)
        self._noted.set()

    def add_whole(self, agent: str) -> None:
        """Anything may have changed."""
        self._paths.pop(agent, None)
        self._whole.add(agent)
        self._noted.set()

    def take(self) -> dict[str, list[str] | None]:
        """What waits, by agent: sorted paths, or None for the whole workspace. Nothing waits afterwards."""
        taken: dict[str, list[str] | None] = {agent: sorted(paths) for agent, paths in self._paths.items() if paths}
        taken |= dict.fromkeys(sorted(self._whole))
        self._paths.clear()
        self._whole.clear()
        self._noted.clear()
        return taken

    async def noted(self, within_s: float | None) -> bool:
        """Wait until something waits, at most `within_s` seconds (None: for ever); whether something does."""
        try:
            async with asyncio.timeout(within_s):
                await self._noted.wait()
        except TimeoutError:
            return False
        return True
