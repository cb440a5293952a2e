"""What was planted never becomes lasting memory, however often it is recalled; the owner's own facts do."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.dreaming.candidates import PRESETS, Rules, rank
from reverie.memory.plain import plain_words
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
    """It is refused by the gate it must be refused by; were it not for whose words it is, it would be a candidate.

    Nor is it promoted where an entry says that it is the owner's: it is looked up again where it stands.
    """
    async with open_world(tmp_path, **case.settings) as world:
        await case.plant(world)
        if case.recalled:
            await world.recall(case.about)
        held, now_ms = await world.entries(case.sign), world.clock.now_ms()
        ranked = rank(await world.entries(), ANYTHING, now_ms)

        assert [each.entry.snippet for each in ranked.candidates if each.entry in held] == []
        gates = {each.gate for each in ranked.rejected if each.entry in held}
        assert gates == (set() if case.gate == "never recorded" else {case.gate})
        if case.gate == "provenance":
            assert rank([replace(entry, provenance="owner") for entry in held], ANYTHING, now_ms).rejected == ()
            await asyncio.to_thread(forge, world.app.open.home.state_db)
        await world.app.open.promoter.promote("main", ANYTHING, now_ms)
        lasting = (*world.seen, await world.read("MEMORY.md"))
        assert not any(says(text, sign) for text in lasting for sign in (case.sign, SIGN))


def forge(state_db: Path) -> None:
    """Let every entry claim that it is the owner's."""
    with closing(apsw.Connection(str(state_db))) as connection:
        connection.set_busy_timeout(5_000)
        connection.execute("UPDATE recall_entries SET provenance = 'owner'")


def says(text: str, sign: str) -> bool:
    """Whether a text holds a sign, in whatever writing."""
    return " ".join(plain_words(sign)) in " ".join(plain_words(text))


async def test_facts_of_the_owner_and_the_agent_become_lasting_memory(tmp_path: Path) -> None:
    """In many languages, by each of their doors, under the rules that hold by default."""
    async with open_world(tmp_path, dreaming={"time_zone": "UTC", "memory_chars_max": 0}) as world:
        for fact in GOOD:
            await tell(world, fact)
        await world.recall(*(fact.about for fact in GOOD))
        rules, now_ms = replace(PRESETS["core"].rules, limit=None), world.clock.now_ms()
        ranked = rank(await world.entries(), rules, now_ms)
        missing = [fact for fact in GOOD if not any(fact.text in each.entry.snippet for each in ranked.candidates)]
        refused = [
            (each.gate, each.has, each.entry.snippet)
            for each in ranked.rejected
            if any(fact.text in each.entry.snippet for fact in missing)
        ]
        assert len(GOOD) - len(missing) >= GOOD_MIN, (missing, refused)
        await world.app.open.promoter.promote("main", rules, now_ms)
        lasting = await world.read("MEMORY.md")
        assert sum(fact.text in lasting for fact in GOOD) >= GOOD_MIN
