"""Deep sleep as a step of a night: what has earned it becomes lasting memory, at most as much as one night may.

A night that was stopped while it promoted finds in the record of MEMORY.md's changes what it had promoted, and adds
what is left of its limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from reverie.dreaming.candidates import Rules
    from reverie.dreaming.promotion import Promoter, PromotionReport


@dataclass(frozen=True, slots=True)
class Promoted:
    """What deep sleep did: the keys of what became lasting, how many candidates there were, what gave way and waits."""

    keys: tuple[str, ...] = ()
    candidates: int = 0
    gave_way: int = 0
    waiting: str = ""
    counts: dict[str, Any] = field(default_factory=dict[str, Any])


class Promotes(Protocol):
    """Makes lasting memory of what has earned it."""

    async def promote(self, agent: str, rules: Rules, now_ms: int) -> Promoted:
        """Promote an agent's best candidates."""
        ...

    async def promoted_at(self, agent: str, at_ms: int) -> tuple[str, ...]:
        """The keys of what was promoted as of an instant, also if whoever did it was stopped."""
        ...


class DeepSleep:
    """Promotes by way of a `Promoter`."""

    def __init__(self, promoter: Promoter) -> None:
        self._promoter = promoter

    async def promote(self, agent: str, rules: Rules, now_ms: int) -> Promoted:
        """Promote an agent's best candidates. Raises what `Promoter.promote` raises."""
        return outcome_of(await self._promoter.promote(agent, rules, now_ms))

    async def promoted_at(self, agent: str, at_ms: int) -> tuple[str, ...]:
        """The keys of what was promoted as of an instant. Raises what `MemoryFile.settle` raises."""
        await self._promoter.file.settle(agent)
        return tuple(
            added["keys"][0]
            for change in await self._promoter.file.changes(agent)
            if change.state == "applied"
            for added in change.details.get("added", ())
            if added.get("at") == at_ms
        )


async def promoted_once(promotes: Promotes, agent: str, rules: Rules, at_ms: int, *, goes_on: bool) -> Promoted:
    """Promote within the limit of one night, as of an instant; `goes_on`: it may have been done in part before."""
    earlier = await promotes.promoted_at(agent, at_ms) if goes_on else ()
    left = None if rules.limit is None else max(0, rules.limit - len(earlier))
    if left == 0:
        return Promoted(earlier, len(earlier))
    done = await promotes.promote(agent, replace(rules, limit=left), at_ms)
    return replace(done, keys=(*earlier, *done.keys), candidates=len(earlier) + done.candidates)


def outcome_of(report: PromotionReport) -> Promoted:
    """What a promotion's report comes to for a night."""
    waiting = report.rejections.get("budget", 0)
    count = f"{waiting:,} {'passage waits' if waiting == 1 else 'passages wait'}: " if waiting else ""
    return Promoted(
        keys=tuple(each.key for each in report.applied if not each.reconciled),
        candidates=len(report.applied) + sum(report.rejections.values()),
        gave_way=report.gave_way,
        waiting=f"{count}{report.waiting}" if report.waiting else "",
        counts={"reconciled": report.reconciled, "rejected": dict(report.rejections), "refused": dict(report.gates)},
    )
