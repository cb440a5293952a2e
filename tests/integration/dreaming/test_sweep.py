"""Whole nights: what is staged and reinforced, what is written, what a kill costs, who stops whom."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.config import DreamingConfig, LightSleepConfig, RemSleepConfig
from reverie.dreaming.candidates import Rules, explain, rank
from reverie.dreaming.deep import Promoted
from reverie.errors import StorageError, UpstreamUnreachableError
from reverie.testing import ScriptedModel, reply
from reverie.types import SearchHit, Usage
from tests.integration.dreaming.nights import DAY_MS, NIGHT, Home, open_home

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from pathlib import Path

    from reverie.dreaming.entry import RecallEntry
    from reverie.types import JsonObject

KILN = "The kiln is serviced in May by Petra."
NOTE = f"# 2026-04-05\n\n{KILN}\n\nThe spare key is with Mrs. Novak.\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """An empty home."""
    async with open_home(tmp_path) as opened:
        yield opened


async def recall(home: Home, text: str, line: int, *, query: str = "kiln", times: int = 1, now_ms: int = NIGHT) -> None:
    """Have somebody's searches surface a passage of yesterday's note."""
    hit = SearchHit("memory", "memory/2026-04-05.md", line, line, text, 0.9)
    for number in range(times):
        await home.recalls.record("main", f"{query} {number}", [hit], now_ms=now_ms - 1)


class Promotes:
    """Promotes what a test says, once: what is lasting memory already is no candidate."""

    def __init__(self, home: Home, *keys: str, **more: Any) -> None:
        self.home = home
        self.keys = keys
        self.more = more
        self.calls: list[tuple[str, Rules, int]] = []

    async def promoted_at(self, agent: str, at_ms: int) -> tuple[str, ...]:
        """What bears that instant."""
        entries = [await self.home.recalls.find(agent, key) for key in self.keys]
        return tuple(each.key for each in entries if each is not None and each.promoted_at_ms == at_ms)

    async def promote(self, agent: str, rules: Rules, now_ms: int) -> Promoted:
        """Mark the passages, and write MEMORY.md."""
        self.calls.append((agent, rules, now_ms))
        done: list[str] = []
        for key in self.keys:
            entry = await self.home.recalls.find(agent, key)
            if entry is not None and entry.promoted_at_ms is None:
                await self.home.recalls.mark_promoted(
                    agent,
                    key,
                    at_ms=now_ms,
                    start_line=entry.start_line,
                    end_line=entry.end_line,
                    snippet=entry.snippet,
                )
                done.append(key)
        return Promoted(tuple(done), candidates=len(done), **self.more)


@pytest.mark.anyio
async def test_a_night_from_notes_to_the_diary(home: Home) -> None:
    """Notes and conversations are noticed, staged and reinforced; the report and the diary say so."""
    home.write("memory/2026-04-05.md", NOTE)
    home.say("Petra wants the kiln moved to the yard.")
    told = await home.night()

    assert told == {
        "agents": 1,
        "noticed": 3,
        "staged": 3,
        "candidates": 0,
        "promoted": 0,
        "failed": 0,
        "by_agent": {
            "main": {
                "repair": {"skipped": "nothing repairs here"},
                "notes": {"files": 1, "read": 1, "unchanged": 0, "skipped": 0, "waiting": 0, "passages": 2},
                "transcripts": {"messages": 1, "passages": 1, "behind": False},
                "light": {"staged": 3, "reinforced": 3, "report": "memory/dreaming/light/2026-04-06.md"},
                "rem": {
                    "entries": 3,
                    "themes": ["kiln", "petra"],
                    "truths": 0,
                    "reinforced": 0,
                    "report": "memory/dreaming/rem/2026-04-06.md",
                },
                "deep": {"skipped": "nothing promotes here"},
                "diary": {"by": "rule", "path": "DREAMS.md", "written": True},
            }
        },
    }
    hits = [(entry.light_hits, entry.light_at_ms, entry.rem_hits) for entry in await home.entries()]
    assert hits == [(1, NIGHT, 0)] * 3
    assert home.read("memory/dreaming/light/2026-04-06.md") == (
        "## Light Sleep\n"
        "<!-- openclaw:dreaming:light:start -->\n"
        f"- Candidate: {KILN}\n"
        "  - confidence: 0.62\n"
        "  - evidence: memory/2026-04-05.md:3-3\n"
        "  - recalls: 0\n"
        "  - status: staged\n"
        "- Candidate: The spare key is with Mrs. Novak.\n"
        "  - confidence: 0.62\n"
        "  - evidence: memory/2026-04-05.md:5-5\n"
        "  - recalls: 0\n"
        "  - status: staged\n"
        "- Candidate: Petra wants the kiln moved to the yard.\n"
        "  - confidence: 0.58\n"
        "  - evidence: sessions/s1:1-1\n"
        "  - recalls: 0\n"
        "  - status: staged\n"
        "<!-- openclaw:dreaming:light:end -->\n"
    )
    assert home.read("DREAMS.md") == (
        "# Dream Diary\n\n"
        "<!-- openclaw:dreaming:diary:start -->\n"
        "---\n\n"
        "*April 6, 2026, 3:00 AM*\n\n"
        "3 passages were noticed or recalled anew and staged. Among them: "
        f"“{KILN}” (memory/2026-04-05.md:3-3); “The spare key is with Mrs. Novak.” (memory/2026-04-05.md:5-5); "
        "“Petra wants the kiln moved to the yard.” (sessions/s1:1-1).\n\n"
        "What came back: kiln, petra.\n\n"
        "<!-- openclaw:dreaming:diary:end -->\n"
    )


@pytest.mark.anyio
async def test_a_night_in_which_nothing_happened_writes_nothing(home: Home) -> None:
    """No reports, no diary, no hits: neither in an empty home, nor when nothing is new."""
    empty = await home.night()
    assert empty["by_agent"]["main"]["diary"] == {"skipped": "nothing happened"}
    assert list(home.workspace().iterdir()) == []

    home.write("memory/2026-04-05.md", NOTE)
    await home.night()
    entries, diary = await home.entries(), home.read("DREAMS.md")
    again = await home.night(now_ms=NIGHT + 6 * 3_600_000)

    assert again["by_agent"]["main"]["light"]["reinforced"] == 0
    assert (await home.entries(), home.read("DREAMS.md")) == (entries, diary)


@pytest.mark.anyio
async def test_repetition_is_no_evidence(home: Home) -> None:
    """Night after night over one unchanged note: one signal, one hit, and nothing that promotes."""
    home.write("memory/2026-04-05.md", NOTE)
    for night in range(10):
        await home.night(now_ms=NIGHT + night * 6 * 3_600_000)

    assert {(e.daily_count, e.light_hits, e.rem_hits, e.last_recalled_at_ms) for e in await home.entries()} == {
        (1, 1, 0, NIGHT)
    }


@pytest.mark.anyio
async def test_what_was_recalled_well_is_a_truth_and_rem_sleep_says_so_once(home: Home) -> None:
    """The next night neither phase counts it again, until somebody recalls it anew."""
    home.write("memory/2026-04-05.md", NOTE)
    await recall(home, KILN, 3, times=3)
    await home.night()
    (entry,) = [each for each in await home.entries() if each.recall_count]
    assert (entry.light_hits, entry.rem_hits, entry.rem_at_ms) == (1, 1, NIGHT)
    assert f"- {KILN} [confidence=" in home.read("memory/dreaming/rem/2026-04-06.md")

    second = await home.night(now_ms=NIGHT + DAY_MS)
    assert (second["by_agent"]["main"]["light"]["reinforced"], second["by_agent"]["main"]["rem"]["reinforced"]) == (
        0,
        0,
    )
    assert KILN not in home.read("memory/dreaming/light/2026-04-07.md")

    await recall(home, KILN, 3, query="again", now_ms=NIGHT + 2 * DAY_MS)
    await home.night(now_ms=NIGHT + 2 * DAY_MS)
    (entry,) = [each for each in await home.entries() if each.recall_count]
    assert (entry.light_hits, entry.rem_hits) == (2, 2)


# -- the case of repetition alone -----------------------------------------------------------------------------------


async def three_days_of_passes(home: Home) -> RecallEntry:
    """A passage that only passes ever saw, on three days, which both phases reinforced three times."""
    hit = SearchHit("memory", "memory/2026-04-04.md", 3, 3, "Backups of the router go to S3 Glacier by VLAN.", 0.62)
    for day in range(4, 7):
        now_ms = NIGHT + (day - 6) * DAY_MS
        query = f"__dreaming_daily__:2026-04-0{day}"
        await home.recalls.record("main", query, [hit], kind="daily", now_ms=now_ms, once_a_day=True)
        (entry,) = await home.entries()
        for phase in ("light", "rem"):
            await home.database.write(
                lambda tx, p=phase, k=entry.key, t=now_ms: home.recalls.reinforce(tx, "main", p, [k], t)  # pyright: ignore[reportArgumentType]
            )
    (entry,) = await home.entries()
    return replace(entry, tags=entry.tags[:5], light_at_ms=NIGHT, rem_at_ms=NIGHT)


@pytest.mark.anyio
async def test_three_days_of_passes_promote_nothing(home: Home) -> None:
    """The default rules refuse it whatever it scores, and name the gates; OpenClaw's counting would promote it."""
    entry = await three_days_of_passes(home)
    assert (entry.recall_count, entry.daily_count, round(entry.total_score, 6), entry.light_hits, entry.rem_hits) == (
        0, 3, 1.86, 3, 3,
    )  # fmt: skip
    upstream = Rules(counting="upstream", queries_min=3)

    found = rank([entry], upstream, NIGHT)
    assert [round(each.score, 6) for each in found.candidates] == [0.772014]
    explained = explain(entry, Rules(), NIGHT)
    assert round(explained.candidate.score, 6) == 0.757765
    assert [check.gate for check in explained.checks if not check.passed] == ["recalls", "queries", "ingested"]
    assert rank([entry], Rules(recalls_min=0, queries_min=0), NIGHT).rejected[0].gate == "ingested"


@pytest.mark.anyio
async def test_two_days_of_passes_are_not_enough_for_openclaw_either(home: Home) -> None:
    """Its score passes after the third day only."""
    entry = await three_days_of_passes(home)
    two = replace(
        entry, daily_count=2, total_score=1.24, queries=entry.queries[:2], days=entry.days[:2], light_hits=2, rem_hits=2
    )  # fmt: skip

    assert rank([two], Rules(counting="upstream"), NIGHT).candidates == ()


# -- deep sleep and the diary ----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_deep_sleep_promotes_by_the_rules_and_tells_it(home: Home) -> None:
    """The report and the diary say what became lasting, what gave way, and what waits."""
    home.write("memory/2026-04-05.md", NOTE)
    await recall(home, KILN, 3, times=3)
    key = "memory:memory/2026-04-05.md:3:3"
    promotes = Promotes(home, key, gave_way=2, waiting="1 passage waits: MEMORY.md is full")
    done = await home.night(home.dreamer(DreamingConfig(mode="deep"), promotes=promotes))

    assert promotes.calls == [("main", Rules(0.8, 3, 3, limit=10), NIGHT)]
    assert (done["candidates"], done["promoted"]) == (1, 1)
    assert home.read("memory/dreaming/deep/2026-04-06.md") == (
        "# Deep Sleep\n"
        "<!-- openclaw:dreaming:deep:start -->\n"
        "- Candidates for lasting memory: 1.\n"
        "- Promoted into MEMORY.md: 1.\n"
        "- Older entries that gave way: 2.\n"
        "- 1 passage waits: MEMORY.md is full\n"
        "\n"
        "### Promoted\n"
        f"- {KILN} [source=memory/2026-04-05.md:3-3]\n"
        "<!-- openclaw:dreaming:deep:end -->\n"
    )
    assert f"1 passage became lasting memory. “{KILN}” (memory/2026-04-05.md:3-3)." in home.read("DREAMS.md")


@pytest.mark.anyio
async def test_a_limit_of_nothing_skips_deep_sleep(home: Home) -> None:
    """With the reason; nobody is asked to promote."""
    promotes = Promotes(home)
    done = await home.night(home.dreamer(DreamingConfig(limit=0), promotes=promotes))

    assert done["by_agent"]["main"]["deep"] == {"skipped": "dreaming.limit is 0"}
    assert promotes.calls == []


@pytest.mark.anyio
async def test_every_part_can_be_left_out(home: Home) -> None:
    """Each says by which setting; nothing is written."""
    home.write("memory/2026-04-05.md", NOTE)
    home.say("Petra wants the kiln moved to the yard.")
    config = DreamingConfig(
        ingest_notes=False, ingest_transcripts=False, reports=False, diary=False, limit=0,
        light=LightSleepConfig(enabled=False), rem=RemSleepConfig(enabled=False),
    )  # fmt: skip
    done = await home.night(home.dreamer(config))

    assert [found["skipped"] for step, found in done["by_agent"]["main"].items() if step != "repair"] == [
        "dreaming.ingest_notes is false",
        "dreaming.ingest_transcripts is false",
        "dreaming.light.enabled is false",
        "dreaming.rem.enabled is false",
        "dreaming.limit is 0",
        "dreaming.diary is false",
    ]
    assert await home.entries() == []


@pytest.mark.anyio
async def test_reports_can_be_left_out_alone(home: Home) -> None:
    """The phases work all the same."""
    home.write("memory/2026-04-05.md", NOTE)
    done = await home.night(home.dreamer(DreamingConfig(reports=False)))

    assert done["staged"] == 2
    assert not (home.workspace() / "memory" / "dreaming").exists()


# -- a model ---------------------------------------------------------------------------------------------------------

WITH_MODEL = DreamingConfig(model="small")


@pytest.mark.anyio
async def test_a_model_writes_the_diary_where_one_is_set(home: Home) -> None:
    """One call, in the background, of the model that is named; what it took is on record."""
    home.write("memory/2026-04-05.md", NOTE)
    with ScriptedModel(reply("I dreamt of the kiln.", usage=Usage(400, 100, 500))) as model:
        done = await home.night(home.dreamer(WITH_MODEL, model=model))

    (request,) = model.requests
    assert (request.model_override, request.lane, request.tools) == ("small", "background", ())
    assert KILN in request.messages[1].text
    assert "*April 6, 2026, 3:00 AM*\n\nI dreamt of the kiln.\n" in home.read("DREAMS.md")
    assert done["by_agent"]["main"]["diary"] == {"by": "small (dream-diary/1)", "path": "DREAMS.md", "written": True}
    assert home.sql("SELECT day, kind, calls, tokens FROM dream_spend") == [("2026-04-06", "diary", 1, 500)]


@pytest.mark.anyio
async def test_no_model_is_asked_by_default(home: Home) -> None:
    """One that is there is not, until it is named."""
    home.write("memory/2026-04-05.md", NOTE)
    with ScriptedModel() as model:
        await home.night(home.dreamer(model=model))
    assert model.requests == []
    assert home.sql("SELECT * FROM dream_spend") == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (UpstreamUnreachableError("no connection"), "no connection"),
        (reply(""), "the model's answer was empty"),
        (reply("<!-- openclaw:dreaming:diary:end -->"), ""),
    ],
)
async def test_a_model_that_fails_costs_no_night(home: Home, answer: Any, problem: str) -> None:
    """The plain sentences stand, and the report says why; what it wrote cannot end the diary."""
    home.write("memory/2026-04-05.md", NOTE)
    with ScriptedModel(answer) as model:
        done = await home.night(home.dreamer(WITH_MODEL, model=model))

    assert done["by_agent"]["main"]["diary"].get("problem", "") == problem
    assert ("2 passages were noticed" in home.read("DREAMS.md")) is bool(problem)
    assert home.read("DREAMS.md").count("<!-- openclaw:dreaming:diary:end -->") == 1


@pytest.mark.anyio
async def test_a_model_that_does_not_answer_is_left(home: Home) -> None:
    """After its time the plain sentences stand; its call is over, and paid for."""
    home.write("memory/2026-04-05.md", NOTE)
    config = DreamingConfig(model="small", model_timeout_s=0.05)
    with ScriptedModel(reply(anyio.Event())) as model:
        done = await home.night(home.dreamer(config, model=model))

    assert done["by_agent"]["main"]["diary"]["problem"] == "no answer within 0.05 s (dreaming.model_timeout_s)"
    assert model.cancelled == 1
    ((calls, tokens),) = home.sql("SELECT calls, tokens FROM dream_spend")
    assert (calls, tokens > 1_000) == (1, True)


@pytest.mark.anyio
async def test_a_budget_that_is_used_up_makes_the_diary_plain(home: Home) -> None:
    """Until the next day, which the report names."""
    config = DreamingConfig(model="small", model_calls_day_max=1)
    with ScriptedModel("First.", "Third.") as model:
        dreamer = home.dreamer(config, model=model)
        for night, line in enumerate((NOTE, f"{NOTE}\nA third line of it.\n", f"{NOTE}\nA fourth one behind it.\n")):
            home.write("memory/2026-04-05.md", line, mtime_ns=night)
            done = await home.night(dreamer, now_ms=NIGHT + night * 12 * 3_600_000)
            if night == 1:
                assert done["by_agent"]["main"]["diary"]["problem"] == (
                    "1 of 1 calls of the model were made on 2026-04-06 (dreaming.model_calls_day_max): none before "
                    "2026-04-07"
                )
    assert [text in home.read("DREAMS.md") for text in ("First.", "1 passage was noticed", "Third.")] == [True] * 3


# -- several agents, failures, kills ---------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_one_agent_does_not_stop_the_others(tmp_path: Path) -> None:
    """Its failure is in the report; when it is called again, only what it lacks is done."""
    async with open_home(tmp_path, agents=("main", "other", "third")) as home:
        for agent in home.agents:
            home.write("memory/2026-04-05.md", NOTE, agent)
        broken = ["other"]

        async def repair(agent: str) -> dict[str, Any]:
            if agent in broken:
                raise StorageError("the disk refused it")
            return {"changed": False}

        run = home.begin_run()
        dreamer = home.dreamer(repair=repair)
        first = await dreamer.sweep(run, NIGHT)
        assert (first["agents"], first["failed"], first["staged"]) == (3, 1, 4)
        assert first["by_agent"]["other"] == {"error": "the disk refused it"}

        before = {agent: await home.entries(agent) for agent in ("main", "third")}
        broken.clear()
        second = await dreamer.sweep(run, NIGHT)
        assert (second["failed"], second["staged"]) == (0, 6)
        assert {agent: await home.entries(agent) for agent in ("main", "third")} == before


@pytest.mark.anyio
async def test_a_night_that_nobody_ended_says_why(home: Home) -> None:
    """With a single agent its failure is that of the run."""

    async def repair(agent: str) -> dict[str, Any]:
        raise StorageError(f"the disk refused {agent}")

    with pytest.raises(StorageError, match="the disk refused main"):
        await home.night(home.dreamer(repair=repair))


@pytest.mark.anyio
async def test_what_cannot_be_written_stops_no_night(home: Home) -> None:
    """A diary and a folder of reports that are links: the night goes on, and says what it did not write."""
    home.write("memory/2026-04-05.md", NOTE)
    (home.path / "elsewhere").mkdir()
    (home.workspace() / "memory" / "dreaming").symlink_to(home.path / "elsewhere")
    (home.workspace() / "DREAMS.md").symlink_to(home.path / "elsewhere" / "x.md")
    done = (await home.night())["by_agent"]["main"]

    assert done["light"]["problem"].startswith("the report of light sleep was not written: ")
    assert done["diary"]["problem"].startswith("diary was not written: ")
    assert list((home.path / "elsewhere").iterdir()) == []


STEPS = ("repair", "notes", "transcripts", "light", "rem", "deep", "diary")


async def whole(home: Home) -> dict[str, Any]:
    """Everything a night leaves."""
    files = {
        str(file.relative_to(home.path)): file.read_text(encoding="utf-8")
        for file in sorted(home.workspace().rglob("*.md"))
    }
    return {"entries": await home.entries(), "files": files}


def fill(home: Home) -> None:
    home.write("memory/2026-04-05.md", NOTE, mtime_ns=1)
    for number in range(30):
        home.say(f"Message number {number} about the kiln.", session=f"s{number % 3}")


@pytest.mark.anyio
async def test_a_run_that_is_called_again_counts_nothing_twice(home: Home) -> None:
    """Not even hours later: what is done is done."""
    fill(home)
    await recall(home, KILN, 3, times=3)
    run = home.begin_run()
    first = await home.dreamer().sweep(run, NIGHT)
    before = await whole(home)
    second = await home.dreamer().sweep(run, NIGHT + 5 * 3_600_000)

    assert (second, await whole(home)) == (first, before)
    assert sorted(home.steps(run)) == sorted([*STEPS, "entry"])
    assert home.steps(run)["entry"] == {}


async def ends(sweep: Coroutine[Any, Any, JsonObject], within_s: float) -> bool:
    """Whether a sweep ends within a time; one that does not is stopped."""
    task = asyncio.ensure_future(sweep)
    await asyncio.wait({task}, timeout=within_s)
    task.cancel()
    await asyncio.wait({task})
    return not task.cancelled() and bool(task.result())


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(12))
async def test_a_run_that_is_stopped_anywhere_goes_on(tmp_path: Path, seed: int) -> None:
    """Stopped between any two writes, again and again, it leaves what an undisturbed night leaves."""
    chance = random.Random(seed)
    async with open_home(tmp_path / "calm") as calm, open_home(tmp_path / "storm") as storm:
        for home in (calm, storm):
            fill(home)
            await recall(home, KILN, 3, times=3)
        keys = ("memory:memory/2026-04-05.md:3:3",)
        await calm.night(calm.dreamer(promotes=Promotes(calm, *keys)), run_id="run")
        run = storm.begin_run("run")
        stops = 0
        while not await ends(storm.dreamer(promotes=Promotes(storm, *keys)).sweep(run, NIGHT), chance.random() * 0.12):
            stops += 1
        assert stops < 200

        assert await whole(storm) == await whole(calm)


@pytest.mark.anyio
async def test_an_entry_of_a_model_is_written_once_whatever_happens(home: Home) -> None:
    """Killed after the answer and before the file: the run goes on with that answer, and asks nobody again."""
    home.write("memory/2026-04-05.md", NOTE)
    run = home.begin_run()
    with ScriptedModel("I dreamt of the kiln.") as model:
        await home.dreamer(WITH_MODEL, model=model).sweep(run, NIGHT)
        entry = home.read("DREAMS.md").partition("start -->\n")[2].partition("\n<!--")[0]
        (home.workspace() / "DREAMS.md").unlink()
        home.sql("DELETE FROM dream_steps WHERE step = 'diary'")
        kept = json.dumps({"by": "small (dream-diary/1)", "text": entry})
        home.sql("UPDATE dream_steps SET report = ? WHERE step = 'entry'", (kept,))
        await home.dreamer(WITH_MODEL, model=model).sweep(run, NIGHT + 3_600_000)

    assert home.read("DREAMS.md").count("*April 6, 2026, 3:00 AM*\n\nI dreamt of the kiln.\n") == 1
    assert len(model.requests) == 1


@pytest.mark.anyio
async def test_words_do_not_stay_with_a_run(home: Home) -> None:
    """What is on record of a night names passages by their keys: what is forgotten is nowhere to be found there."""
    fill(home)
    await recall(home, KILN, 3, times=3)
    run = home.begin_run()
    await home.dreamer().sweep(run, NIGHT)

    assert KILN not in json.dumps(home.steps(run))
