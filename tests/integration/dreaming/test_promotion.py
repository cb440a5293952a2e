"""From what was recalled to MEMORY.md, and back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest

from reverie.dreaming.candidates import Rules
from reverie.dreaming.consolidation import Consolidator
from reverie.dreaming.evidence import RecallEntries
from reverie.dreaming.memory_file import Edit
from reverie.dreaming.promotion import Applied
from reverie.dreaming.sections import BUDGET_MARGIN, generated_entries, without_entries
from reverie.dreaming.settings import FixedSettings
from reverie.errors import ConfigError, MemoryPathError, StorageError, UndoRefusedError
from reverie.testing import ScriptedModel
from tests.integration.dreaming.promotion_world import (
    NOTE,
    NOW_MS,
    ROASTER,
    RULES,
    TEXT_OF_ROASTER,
    World,
    recalled,
    world,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.promotion import Promoter, PromotionReport

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    """A workspace in which the roaster's passage was recalled often."""
    async with world(tmp_path) as made:
        await made.recall(recalled(ROASTER))
        yield made


def why(report: PromotionReport) -> list[tuple[str, str]]:
    return [(each.category, each.reason) for each in report.rejected]


async def entry(here: World, one: RecallEntry | None = None) -> RecallEntry:
    found = await here.recalls.find("main", (one or recalled(ROASTER)).key)
    assert found is not None
    return found


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_a_passage_is_written_and_marked(here: World) -> None:
    """Byte for byte; the index hears of it; the ranking is empty afterwards."""
    report = await here.promote()

    assert here.memory == f"# Long-Term Memory\n\n{TEXT_OF_ROASTER}"
    assert report.applied == (Applied(recalled("").key, NOTE, 3, 3, ROASTER, report.applied[0].score),)
    assert (report.appended, report.reconciled, report.memory_path) == (1, 0, str(here.file))
    assert report.diff.startswith("--- a/MEMORY.md\n+++ b/MEMORY.md\n@@ ")
    assert here.told == [("main", "MEMORY.md")]
    assert (await entry(here)).promoted_at_ms == NOW_MS
    assert (await here.promote()).gates == {"promoted": 1}


async def test_the_owners_text_stays_as_it_is(here: World) -> None:
    """Damaged bytes, line ends of Windows and a missing last one: what is added is added behind it."""
    here.memory = "\ufeffMine \udcff.\r\n\r\n- two"
    await here.promote()

    assert here.memory == "\ufeffMine \udcff.\r\n\r\n- two\r\n" + TEXT_OF_ROASTER.replace("\n", "\r\n")


async def test_twice_is_once(here: World) -> None:
    """The second time nothing is written, also when the same candidates are given again."""
    await here.promote()
    first = here.memory
    again = await here.promote()

    assert (again.applied, again.change_id, again.diff, here.memory) == ((), None, "", first)
    assert len(here.told) == 1


async def test_the_marker_alone_is_enough(here: World) -> None:
    """An entry that lost its mark is marked again, and not written."""
    await here.promote()
    before = here.memory
    await here.recall(recalled(ROASTER))
    report = await here.promote()

    assert (len(report.applied), report.appended, report.reconciled, report.change_id) == (1, 0, 1, None)
    assert here.memory == before
    assert (await entry(here)).promoted_at_ms == NOW_MS


async def test_the_mark_alone_is_enough(here: World) -> None:
    """What a person took out of the file stays out."""
    await here.promote()
    here.memory = "Mine.\n"

    assert (await here.promote(replace(RULES, include_promoted=True))).gates == {"promoted": 1}
    assert here.memory == "Mine.\n"


async def test_a_dry_run_only_tells(here: World) -> None:
    """The difference is that of the real run; nothing is written, marked or recorded."""
    told = await here.promote(dry_run=True)
    assert (here.file.exists(), here.told, await here.promoter.file.changes("main")) == (False, [], [])
    assert (await entry(here)).promoted_at_ms is None
    done = await here.promote()

    assert (told.dry_run, told.change_id, told.applied, told.diff) == (True, None, done.applied, done.diff)


async def test_a_run_of_several(here: World) -> None:
    """Best first, in one section; those beyond the limit wait and are counted."""
    here.note("# 2026-04-01", "", ROASTER, "The kiln is hot on Mondays.", "Anna is allergic to peanuts.")
    await here.recall(
        recalled("The kiln is hot on Mondays.", line=4, average=0.95),
        recalled("Anna is allergic to peanuts.", line=5, average=0.9),
    )
    report = await here.promote(replace(RULES, limit=2))

    assert [each.text for each in report.applied] == ["The kiln is hot on Mondays.", "Anna is allergic to peanuts."]
    assert report.rejections == {"limit": 1}
    assert why(report) == [("limit", "2 better ones come first (dreaming.limit)")]
    assert here.memory.count("## Promoted") == 1


async def test_what_is_gone_takes_nobodys_place(here: World) -> None:
    """A better candidate whose source is gone does not keep the next one from its turn."""
    await here.recall(recalled("It is gone.", "memory/2026-04-02.md", average=1))
    report = await here.promote(replace(RULES, limit=1))

    assert [each.text for each in report.applied] == [ROASTER]
    assert why(report) == [("source", "what it came from is gone")]


async def test_nothing_is_promoted_where_the_limit_is_0(here: World) -> None:
    """And it says so."""
    report = await here.promote(replace(RULES, limit=0))

    assert (report.waiting, here.file.exists()) == ("dreaming.limit is 0: nothing is promoted", False)


async def test_only_strict_counting_writes(here: World) -> None:
    """Counting as OpenClaw does is for comparing with it."""
    with pytest.raises(ConfigError, match="strict"):
        await here.promote(replace(RULES, counting="upstream"))


async def test_repair_comes_first(here: World) -> None:
    """Before anything is ranked; not in a dry run, which changes nothing."""
    order: list[str] = []

    async def repair(agent: str) -> None:
        order.append(f"{agent} {await asyncio.to_thread(here.file.exists)}")

    await here.another(repair=repair).promote("main", RULES, NOW_MS, dry_run=True)
    await here.another(repair=repair).promote("main", RULES, NOW_MS)

    assert order == ["main False"]


# -- the live source -------------------------------------------------------------------------------------------------


async def test_a_passage_that_moved(here: World) -> None:
    """It is promoted with the lines where it stands now, and its entry learns them."""
    here.note("# 2026-04-01", "", "New.", "Newer.", ROASTER)
    report = await here.promote()

    assert (report.applied[0].start_line, report.applied[0].end_line) == (5, 5)
    assert f"source={NOTE}:5-5]" in here.memory
    assert ((await entry(here)).start_line, (await entry(here)).end_line) == (5, 5)


async def test_the_words_in_the_file_count(here: World) -> None:
    """A range that was recorded wider shrinks; a bullet is not doubled; the text is the file's."""
    here.note("", "", f"- {ROASTER.replace(' is', '  is')}", "Other.")
    await here.recall(recalled(f"- {ROASTER}", line=3, last=5))
    report = await here.promote(replace(RULES, limit=1))

    assert f"\n- {ROASTER} [score=" in here.memory
    assert (report.applied[0].start_line, report.applied[0].end_line) == (3, 3)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["# 2026-04-01", "", "The roaster is serviced in May."], "its words do not stand there any more"),
        ([], "its words do not stand there any more"),
        (
            ["<!-- openclaw:dreaming:light:start -->", "", ROASTER, "<!-- openclaw:dreaming:light:end -->"],
            "its words do not stand there any more",
        ),
    ],
    ids=["edited", "emptied", "fenced"],
)
async def test_what_does_not_stand_there_is_not_promoted(here: World, lines: list[str], reason: str) -> None:
    """Edited, deleted, or within a block of dreaming: no file is made."""
    here.note(*lines)
    report = await here.promote()

    assert (why(report), report.rejections, here.file.exists()) == ([("source", reason)], {"source": 1}, False)


async def test_an_older_path_without_its_folder(here: World) -> None:
    """It leads to the note, and is written as it was."""
    await here.recall(recalled(ROASTER, "2026-04-01.md", line=1))
    report = await here.promote()

    assert [each.path for each in report.applied] == ["2026-04-01.md"]
    assert "source=2026-04-01.md:3-3]" in here.memory
    assert why(report) == [("present", "MEMORY.md says so already")]


class Planted:
    """A program wrote everything."""

    async def of_lines(self, agent: str, text: str) -> tuple[Any, ...]:
        return ("untrusted",) * len(text.splitlines())


async def test_whose_words_it_is_is_looked_up_again(here: World) -> None:
    """Whatever the entry says: text that a program brought is not promoted."""
    report = await here.another(authors=Planted()).promote("main", RULES, NOW_MS)

    assert (why(report), here.file.exists()) == ([("origin", "it is untrusted text")], False)


async def test_what_is_never_a_memory_is_refused_at_last(here: World) -> None:
    """A snippet that was cut may look innocent; the lines in the file do not."""
    here.note("", "", ROASTER, "HEARTBEAT_OK")
    await here.recall(recalled(f"{ROASTER} HEART", line=3, last=4))
    report = await here.promote()

    assert ("contamination", "the text of a heartbeat") in why(report)


async def test_a_message_of_a_conversation(here: World) -> None:
    """It says who said it and when, and cites the message."""
    for text in ("Nothing.", "I live in Lisbon now."):
        await here.say(text, created_at_ms=NOW_MS)
    await here.say("It is gone.", known_as="owner", session_id="s2")
    here.talk.messages.pop()
    await here.recall(
        recalled("I live in Lisbon now.", "sessions/s1", 2, average=0.95), recalled("It is gone.", "sessions/s2", 1)
    )
    report = await here.promote(replace(RULES, limit=1))

    assert "\n- (6 April 2026) User: I live in Lisbon now. [score=" in here.memory
    assert "source=sessions/s1:2-2]" in here.memory
    assert report.applied[0].path == "sessions/s1"
    assert why(await here.promote()) == [("source", "what it came from is gone")]


async def test_an_imported_conversation_is_nobodys(here: World) -> None:
    """Unless it is known whose it is, nothing of it is promoted."""
    await here.say("I live in Lisbon now.", known_as="owner", origin="import", speaker="Ann")
    await here.recall(recalled("I live in Lisbon now.", "sessions/s1", 1, provenance="owner"))

    assert ("origin", "it is untrusted text") in why(await here.promote())


async def test_what_the_file_says_already(here: World) -> None:
    """In its owner's words, or by another candidate of the run: it is marked and not written."""
    here.memory = "# Facts\n- the ROASTER is serviced\n  in March\n"
    here.note("", "", ROASTER, "Anna is allergic to peanuts.")
    here.note("Anna is allergic to peanuts!", path="memory/2026-04-02.md")
    await here.recall(
        recalled("Anna is allergic to peanuts.", line=4),
        recalled("Anna is allergic to peanuts!", "memory/2026-04-02.md", 1),
    )
    report = await here.promote()

    assert [each.text for each in report.applied] == ["Anna is allergic to peanuts."]
    assert why(report) == [("present", "MEMORY.md says so already")] * 2
    assert (await entry(here)).promoted_at_ms == NOW_MS
    assert (await here.promote()).gates == {"promoted": 3}


# -- the budget ------------------------------------------------------------------------------------------------------


async def test_the_oldest_sections_give_way(tmp_path: Path) -> None:
    """At most their share, and the report says which; they are still marked."""
    async with world(tmp_path, memory_chars_max=1_200) as here:
        reports: list[PromotionReport] = []
        for day in range(1, 8):
            text = f"Fact {day} of the kiln, which is hot."
            here.note(text, path=f"memory/2026-03-0{day}.md")
            await here.recall(recalled(text, f"memory/2026-03-0{day}.md", 1))
            before = here.memory if here.file.exists() else ""
            report = await here.promoter.promote("main", RULES, NOW_MS + day * 86_400_000)
            reports.append(report)
            assert report.appended == 1
            assert len(here.memory) <= 1_200 - BUDGET_MARGIN
            if report.gave_way:
                days = [each.section_day for each in generated_entries(before)]
                assert report.compacted_days == tuple(days[: report.compacted_sections])
                assert report.gave_way <= 0.25 * len(days)
        assert reports[-1].compacted_sections == 1


async def test_without_room_it_waits_and_says_so(tmp_path: Path) -> None:
    """The file is untouched, the entry stays unpromoted, and comes when there is room."""
    async with world(tmp_path, memory_chars_max=300) as here:
        here.memory = "Mine. " * 40
        await here.recall(recalled(ROASTER))
        report = await here.promote()

        assert here.memory == "Mine. " * 40
        assert report.waiting.startswith("MEMORY.md has 240 characters of 300 (dreaming.memory_chars_max)")
        assert why(report) == [("budget", report.waiting)]
        assert (await entry(here)).promoted_at_ms is None
        here.memory = "Mine.\n"
        assert (await here.promote()).appended == 1


# -- others who write at the same time -------------------------------------------------------------------------------


class Interrupted(RecallEntries):
    """Does something the first time when a candidate is asked for under the lock."""

    def __init__(self, here: World, first: Callable[[], Awaitable[object]]) -> None:
        super().__init__(here.database, here.clock, entries_max=4_096, zone=UTC)
        self._first: Callable[[], Awaitable[object]] | None = first

    async def find(self, agent: str, key: str) -> RecallEntry | None:
        first, self._first = self._first, None
        if first is not None:
            await first()
        return await super().find(agent, key)


async def test_a_person_saves_the_file_meanwhile(here: World) -> None:
    """Their text is read again, and kept."""
    here.memory = "Mine.\n"
    promoter = here.another(Interrupted(here, lambda: here.write("Mine, edited.\n")))
    report = await promoter.promote("main", RULES, NOW_MS)

    assert here.memory == f"Mine, edited.\n{TEXT_OF_ROASTER}"
    states = [change.state for change in await here.promoter.file.changes("main")]
    assert (report.appended, states) == (1, ["applied", "abandoned"])


async def test_a_file_that_never_rests(here: World) -> None:
    """It is given up with a word, and the person's text stands."""
    saves = 0

    async def decide(text: str) -> Edit:
        nonlocal saves
        saves += 1
        await here.write(f"Mine {saves}.\n")
        return Edit("promotion", text.encode() + b"more", {})

    with pytest.raises(StorageError, match="keeps changing"):
        await here.promoter.file.edit("main", decide)
    assert here.memory == f"Mine {saves}.\n"


async def test_two_at_once_write_once(here: World) -> None:
    """Whoever comes second finds the marker."""
    reports = await asyncio.gather(*(here.another().promote("main", RULES, NOW_MS) for _ in range(4)))

    assert sorted(each.appended for each in reports) == [0, 0, 0, 1]
    assert here.memory == f"# Long-Term Memory\n\n{TEXT_OF_ROASTER}"


async def test_what_is_forgotten_meanwhile_stays_out(here: World) -> None:
    """A candidate is asked for again under the lock."""

    def forget() -> Awaitable[int]:
        return here.database.write(lambda tx: tx.execute("prune_recall_entries", agent="main", entries_max=0))

    report = await here.another(Interrupted(here, forget)).promote("main", RULES, NOW_MS)

    assert not here.file.exists()
    assert why(report) == [("changed", "it was promoted, forgotten or changed while this ran")]


@pytest.mark.parametrize("kind", ["link", "large", "folder"])
async def test_a_file_that_must_not_be_written(here: World, kind: str) -> None:
    """A link, one that is too large, or a folder of that name: it is said so, and left alone."""
    if kind == "link":
        here.file.symlink_to(here.workspace / NOTE)
    elif kind == "large":
        here.memory = "x" * (4 * 1024 * 1024 + 1)
    else:
        here.file.mkdir()

    with pytest.raises(MemoryPathError):
        await here.promote()
    assert await here.promoter.file.changes("main") == []


# -- undoing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, "", "Mine \udcff.\r\n"])
async def test_undoing_brings_the_file_back(here: World, before: str | None) -> None:
    """Byte for byte, or away if there was none; it is not promoted again; the index hears of it."""
    if before is not None:
        here.memory = before
    await here.promote()
    dry = await here.promoter.undo("main", dry_run=True)
    report = await here.promoter.undo("main")

    assert (here.memory if here.file.exists() else None) == before
    assert (report.exact, report.removed, dry.diff) == (True, (recalled("").key,), report.diff)
    assert here.told == [("main", "MEMORY.md")] * 2
    assert (await here.promote()).gates == {"promoted": 1}
    assert [(change.kind, change.state) for change in await here.promoter.file.changes("main")] == [
        ("undo", "applied"), ("promotion", "undone"),
    ]  # fmt: skip


async def test_undoing_after_an_edit_takes_out_only_its_entries(here: World) -> None:
    """What a person wrote since stays, wherever they wrote it."""
    here.memory = "Mine.\n"
    await here.promote()
    here.memory = f"Before.\n{here.memory}After.\n"
    report = await here.promoter.undo("main")

    assert here.memory == "Before.\nMine.\n\n## Promoted From Short-Term Memory (2026-04-06)\n\nAfter.\n"
    assert (report.exact, report.removed) == (False, (recalled("").key,))


async def test_undoing_an_older_change(here: World) -> None:
    """By its id, while later ones stay."""
    here.memory = "Mine.\n"
    first = await here.promote()
    here.note("Fact 2 of the kiln.", path="memory/2026-04-02.md")
    await here.recall(recalled("Fact 2 of the kiln.", "memory/2026-04-02.md", 1))
    here.clock.advance(ms=5)
    await here.promoter.promote("main", RULES, NOW_MS + 86_400_000)
    await here.promoter.undo("main", first.change_id)

    assert here.memory.startswith("Mine.\n\n## Promoted From Short-Term Memory (2026-04-07)\n")
    assert len(generated_entries(here.memory)) == 1


async def test_what_gave_way_comes_back(tmp_path: Path) -> None:
    """Also after an edit, if there is room."""
    async with world(tmp_path, memory_chars_max=900, loss_fraction_max=1) as here:
        befores: list[str] = []
        for day in range(1, 5):
            text = f"Fact {day} of the kiln, which is hot."
            here.note(text, path=f"memory/2026-03-0{day}.md")
            await here.recall(recalled(text, f"memory/2026-03-0{day}.md", 1))
            befores.append(here.memory if here.file.exists() else "")
            report = await here.promoter.promote("main", RULES, NOW_MS + day * 86_400_000)
            if report.gave_way:
                break
        else:
            pytest.fail("nothing gave way")
        here.memory = f"{here.memory}\nMine.\n"
        undone = await here.promoter.undo("main")

        assert here.memory == f"{befores[-1]}\nMine.\n"
        assert (undone.exact, len(undone.restored), undone.left_out) == (False, 1, ())


async def test_what_cannot_be_undone(here: World) -> None:
    """Nothing, an unknown change, one that is undone, an undoing: each says why."""
    with pytest.raises(UndoRefusedError, match="nothing was promoted that could be undone"):
        await here.promoter.undo("main")
    with pytest.raises(UndoRefusedError, match="there is no change 'mem_x'"):
        await here.promoter.undo("main", "mem_x")
    done = await here.promote()
    undone = await here.promoter.undo("main")
    with pytest.raises(UndoRefusedError, match="was undone already"):
        await here.promoter.undo("main", done.change_id)
    with pytest.raises(UndoRefusedError, match="is an undoing itself"):
        await here.promoter.undo("main", undone.change_id)
    with pytest.raises(UndoRefusedError, match="nothing was promoted"):
        await here.promoter.undo("main")


async def test_undoing_what_a_person_took_out(here: World) -> None:
    """There is nothing left to do, and the change counts as undone."""
    await here.promote()
    here.memory = "Mine.\n"
    report = await here.promoter.undo("main")

    assert (report.change_id, report.removed, here.memory) == (None, (), "Mine.\n")
    assert [change.state for change in await here.promoter.file.changes("main")] == ["undone"]


async def test_only_so_many_changes_are_kept(tmp_path: Path) -> None:
    """The oldest give way; the file does not."""
    async with world(tmp_path, changes_kept=2, memory_chars_max=0) as here:
        for day in range(1, 6):
            here.note(f"Fact {day} of the kiln.", path=f"memory/2026-03-0{day}.md")
            await here.recall(recalled(f"Fact {day} of the kiln.", f"memory/2026-03-0{day}.md", 1))
            here.clock.advance(ms=1)
            await here.promote()
        assert len(await here.promoter.file.changes("main")) == 2
        assert len(generated_entries(here.memory)) == 5


async def test_what_is_forgotten_is_kept_in_no_change(here: World) -> None:
    """Neither its words nor the file that held them; undoing then takes out what is left of the change."""
    here.memory = "Mine.\n"
    here.note("", "", ROASTER, "The kiln is hot on Mondays.")
    await here.recall(recalled("The kiln is hot on Mondays.", line=4))
    done = await here.promote()
    assert await here.promoter.file.forget_before("main", [recalled("").key]) == 1
    (change,) = await here.promoter.file.changes("main")
    held = await here.promoter.file.find("main", change.id)

    assert held is not None
    assert held.before is None
    assert ROASTER not in str(change.details)
    report = await here.promoter.undo("main", done.change_id)
    assert (report.exact, report.removed) == (False, (recalled("", line=4).key,))
    assert ROASTER in here.memory


async def test_rules_reach_the_gates_again(here: World) -> None:
    """Age, score and counts hold at the moment of writing too; no file is made."""
    for rules in (Rules(age_days_max=0.5), Rules(score_min=0.95), Rules(recalls_min=9), Rules(queries_min=9)):
        assert (await here.promote(rules)).applied == ()
    assert not here.file.exists()


# -- with a model ----------------------------------------------------------------------------------------------------


class Unlimited:
    """Any number of calls."""

    async def take(self, kind: str, tokens: int, now_ms: int) -> str | None:
        return None

    async def settle(self, kind: str, tokens_used: int) -> None:
        return


FOUR = ("Jon plays chess.", "The kiln is hot on Mondays.", "Anna lives in Berlin.", "The bank is closed.")


@pytest.fixture
async def grown(tmp_path: Path) -> AsyncGenerator[World]:
    """A file with four entries, and a fuller version of the first that was recalled often."""
    async with world(tmp_path, consolidate=True, model="small") as made:
        made.memory = "Mine.\n"
        made.note(*FOUR, path="memory/2026-03-01.md")
        await made.recall(*(recalled(text, "memory/2026-03-01.md", line) for line, text in enumerate(FOUR, 1)))
        await made.promoter.promote("main", RULES, NOW_MS - 86_400_000)
        made.note("", "", "Jon plays chess every Friday.")
        await made.recall(recalled("Jon plays chess every Friday."))
        yield made


def proposal(action: str, *prior: str) -> str:
    return json.dumps({"candidates": [{"id": "n1", "action": action, "prior_entries": list(prior)}]})


def with_model(here: World, model: ScriptedModel) -> Promoter:
    return here.promoter.consolidating(Consolidator(model, FixedSettings(here.config, UTC), Unlimited()))


async def test_a_model_merges(grown: World) -> None:
    """The older entry goes, the fuller one stands for both, the owner's text stays; and it can be undone."""
    before = grown.memory
    with ScriptedModel(proposal("merged", FOUR[0])) as model:
        report = await with_model(grown, model).promote("main", RULES, NOW_MS)

    assert grown.memory == without_entries(before, [recalled("", "memory/2026-03-01.md", 1).key]) + (
        "\n## Consolidated Memory (2026-04-06)\n\n<!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->\n"
        "<!-- openclaw-memory-promotion:memory:memory/2026-03-01.md:1:1 -->\n"
        f"- Jon plays chess every Friday. [score=0.820 recalls=5 avg=0.850 source={NOTE}:3-3]\n"
    )
    assert (report.merged, report.superseded, report.unconsolidated, report.appended) == (1, 0, "", 1)
    older = await grown.recalls.find("main", recalled("", "memory/2026-03-01.md", 1).key)
    assert older is not None
    assert (older.start_line, older.snippet) == (1, FOUR[0])
    grown.memory = f"{grown.memory}\nAnd mine.\n"
    undone = await grown.promoter.undo("main")
    assert (undone.removed, undone.restored) == (
        (recalled("").key, older.key), (older.key,),
    )  # fmt: skip
    assert sorted(grown.memory.splitlines()) == sorted(f"{before}\nAnd mine.\n".splitlines())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (proposal("merged", FOUR[1]), "the model's answer is not accepted: n1 has another fact"),
        (proposal("superseded", "Mine."), "the model's answer is not accepted: no entry says 'Mine.'"),
        ("no", "the model's answer is not accepted: there is no JSON object in it"),
    ],
)
async def test_without_an_accepted_answer_entries_are_added(grown: World, said: str, reason: str) -> None:
    """As without a model, and the report says why."""
    before = grown.memory
    with ScriptedModel(said) as model:
        report = await with_model(grown, model).promote("main", RULES, NOW_MS)

    assert grown.memory.startswith(before)
    assert generated_entries(grown.memory)[-1].text == "Jon plays chess every Friday."
    assert report.unconsolidated.startswith(reason)
    assert (report.merged, report.appended) == (0, 1)


async def test_a_file_that_changed_while_the_model_was_asked(grown: World) -> None:
    """The answer was for another file: entries are added."""
    promoter = grown.another(Interrupted(grown, lambda: grown.write(f"{grown_text}Edited.\n")))
    grown_text = grown.memory
    with ScriptedModel(proposal("merged", FOUR[0])) as model:
        consolidator = Consolidator(model, FixedSettings(grown.config, UTC), Unlimited())
        report = await promoter.consolidating(consolidator).promote("main", RULES, NOW_MS)

    assert report.unconsolidated == "MEMORY.md or a candidate changed while the model was asked"
    assert f"{grown_text}Edited.\n" in grown.memory


async def test_all_added_is_as_without_a_model(grown: World) -> None:
    """An ordinary section, an ordinary change; a dry run asks nobody."""
    with ScriptedModel(proposal("added")) as model:
        promoter = with_model(grown, model)
        await promoter.promote("main", RULES, NOW_MS, dry_run=True)
        report = await promoter.promote("main", RULES, NOW_MS)

    assert (report.unconsolidated, report.appended) == ("", 1)
    assert "## Consolidated" not in grown.memory
    assert (await grown.promoter.file.changes("main"))[0].kind == "promotion"
