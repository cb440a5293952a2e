"""What was planted never becomes lasting memory, however often it is recalled; the owner's own facts do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reverie.dreaming.candidates import PRESETS, Rules, rank
from tests.planted import GOOD, PLANTED, SIGN, Planted, open_world, tell

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ANYTHING = Rules(score_min=0.0, recalls_min=0, queries_min=0)
"""Rules that ask for nothing but that it is a memory at all, and somebody's who is trusted."""

GOOD_MIN = 38


def test_there_are_enough_of_both() -> None:
    """The tables are as large as was agreed, and name each way once."""
    assert len(PLANTED) >= 40
    assert len({case.name for case in PLANTED}) == len(PLANTED)
    assert len(GOOD) == len({fact.text for fact in GOOD}) == 40


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: case.name)
async def test_what_was_planted_is_never_a_candidate(tmp_path: Path, case: Planted) -> None:
    """It is refused by the gate it must be refused by; were it not for whose words it is, it would be promoted."""
    async with open_world(tmp_path, **case.settings) as world:
        await case.plant(world)
        if case.recalled:
            await world.recall(case.about)
        held, now_ms = await world.entries(case.sign), world.clock.now_ms()
        ranked = rank(
            [entry async for page in world.app.open.recalls.pages("main") for entry in page], ANYTHING, now_ms
        )

        assert [each.entry.snippet for each in ranked.candidates if each.entry in held] == []
        gates = {each.gate for each in ranked.rejected if each.entry in held}
        assert gates == (set() if case.gate == "never recorded" else {case.gate})
        if case.gate == "provenance":
            assert rank([replace(entry, provenance="owner") for entry in held], ANYTHING, now_ms).rejected == ()
        assert all(SIGN not in text for text in (*world.seen, await world.read("MEMORY.md")))


async def test_facts_of_the_owner_and_the_agent_are_candidates(tmp_path: Path) -> None:
    """In many languages, by each of their doors, under the rules that hold by default."""
    async with open_world(tmp_path) as world:
        for fact in GOOD:
            await tell(world, fact)
        await world.recall(*(fact.about for fact in GOOD))
        entries = [entry async for page in world.app.open.recalls.pages("main") for entry in page]
        ranked = rank(entries, replace(PRESETS["core"].rules, limit=None), world.clock.now_ms())
        promoted = {fact.text for fact in GOOD for each in ranked.candidates if fact.text in each.entry.snippet}
        missing = [fact for fact in GOOD if fact.text not in promoted]
        refused = [
            (each.gate, each.has, each.entry.snippet)
            for each in ranked.rejected
            for fact in missing
            if fact.text in each.entry.snippet
        ]

        assert len(promoted) >= GOOD_MIN, (missing, refused)
