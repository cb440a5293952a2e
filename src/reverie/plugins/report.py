"""What a configuration names as plugins, who offers them, and what went wrong last: for status and the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reverie.config import PluginConfig
    from reverie.plugins.event_log import RecordedFailure
    from reverie.plugins.found import OfferedPlugin

FAILURES_MAX = 50
"""Recorded failures that are looked at, newest first."""
RECENT_MS = 86_400_000
"""A failure that is older than a day is not told any more."""


@dataclass(frozen=True, slots=True)
class NamedPlugin:
    """A plugin of the configuration.

    `packages` are those that offer it: one, or the server refuses to start. `failures` are those of the last day, as
    far as they are among the last 50 of all plugins; `last_failure` is the newest of them, in words.
    """

    name: str
    enabled: bool
    conversation_access: bool
    packages: tuple[str, ...]
    failures: int
    last_failure: str


def named_plugins(
    configs: Mapping[str, PluginConfig],
    offered: Mapping[str, tuple[OfferedPlugin, ...]],
    failures: Iterable[RecordedFailure],
    now_ms: int,
) -> tuple[NamedPlugin, ...]:
    """The plugins of a configuration, in its order."""
    recent = [failure for failure in failures if failure.at_ms > now_ms - RECENT_MS]
    found: list[NamedPlugin] = []
    for name, config in configs.items():
        mine = [failure for failure in recent if failure.plugin == name]
        last = f"{mine[0].hook}: {mine[0].error}" if mine else ""
        packages = tuple(f"{each.package} {each.version}" for each in offered.get(name, ()))
        found.append(NamedPlugin(name, config.enabled, config.conversation_access, packages, len(mine), last))
    return tuple(found)
