"""The settings of dreaming as they are now: `[dreaming]` of config.toml is read again when the file has changed.

A change that is not valid changes nothing: the settings before it stay, and `problem` says what is wrong. Every other
section is read at the start alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from reverie.config import load_config
from reverie.dreaming.settings import cron_for
from reverie.errors import ConfigError
from reverie.sessions.reset import zone_named

if TYPE_CHECKING:
    from datetime import tzinfo

    from reverie.config import DreamingConfig, Home

log = structlog.get_logger(__name__)

_Signature = tuple[int, int, int] | None


class LiveSettings:
    """The settings of one home. Make it with `await LiveSettings.of(home, config)`."""

    def __init__(self, home: Home, config: DreamingConfig, zone: tzinfo, signature: _Signature) -> None:
        self._home = home
        self._signature = signature
        self.current = config
        self.zone = zone
        self.problem = ""

    @classmethod
    async def of(cls, home: Home, config: DreamingConfig) -> LiveSettings:
        """The settings a home was opened with; changes of its file from now on count."""
        zone, signature = await asyncio.to_thread(lambda: (zone_named(config.time_zone), _signature(home)))
        return cls(home, config, zone, signature)

    @property
    def cron(self) -> str:
        """When it is due, in `zone`."""
        return cron_for(self.current)

    async def refresh(self) -> bool:
        """Read the file again if it has changed; True when that changed the settings.

        The time zone is looked up each time: the machine may have moved.
        """
        signature = await asyncio.to_thread(_signature, self._home)
        changed = False
        if signature != self._signature:
            self._signature = signature
            changed = await self._read()
        self.zone = await asyncio.to_thread(zone_named, self.current.time_zone)
        return changed

    async def _read(self) -> bool:
        try:
            found = (await asyncio.to_thread(load_config, self._home)).dreaming
        except ConfigError as error:
            self.problem = _told(error)
            log.warning("config.toml was changed and is not valid; dreaming goes on as before",
                        action="dreaming_config_refused", key=error.key, cause=self.problem)  # fmt: skip
            return False
        self.problem = ""
        changed = found != self.current
        self.current = found
        if changed:
            log.info("the settings of dreaming were read again", action="dreaming_config_read", mode=found.mode)
        return changed


def _told(error: ConfigError) -> str:
    """What is wrong. A value of another section may be a secret that stands in the wrong place."""
    return str(error) if error.key.startswith("dreaming.") else f"{error.key} is not valid: {error.allowed}"


def _signature(home: Home) -> _Signature:
    """What tells one state of the file from the next; None when there is none. Blocks."""
    try:
        found = home.config_file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
