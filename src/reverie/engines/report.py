"""What a configuration names as context engines, who offers them, and what ended their service: status and doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reverie.engines.event_log import RecordedQuarantine
    from reverie.engines.found import OfferedEngine

QUARANTINES_MAX = 50
"""Recorded quarantines that are looked at, newest first."""
RECENT_MS = 86_400_000
"""One that is older than a day is not told any more."""


@dataclass(frozen=True, slots=True)
class NamedEngine:
    """A context engine of the configuration, with the agents that have it.

    `packages` are those that offer it: with another number than one, the built-in engine serves in its place.
    `quarantines` are those of the last day; `last` is the newest of them, in words.
    """

    name: str
    agents: tuple[str, ...]
    packages: tuple[str, ...]
    quarantines: int
    last: str


def named_engines(
    chosen: Mapping[str, tuple[str, ...]],
    offered: Mapping[str, tuple[OfferedEngine, ...]],
    quarantines: Iterable[RecordedQuarantine],
    now_ms: int,
) -> tuple[NamedEngine, ...]:
    """The engines of a configuration, in the order of its agents."""
    recent = [each for each in quarantines if each.at_ms > now_ms - RECENT_MS]
    found: list[NamedEngine] = []
    for name, agents in chosen.items():
        mine = [each for each in recent if each.engine == name]
        last = f"{mine[0].operation}: {mine[0].error}" if mine else ""
        packages = tuple(f"{each.package} {each.version}" for each in offered.get(name, ()))
        found.append(NamedEngine(name, agents, packages, len(mine), last))
    return tuple(found)
