"""What is known of recalled passages, in a real database, from real turns and searches."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.app import open_app
from reverie.cli.main import app as command_line
from reverie.config import Home, load_config
from reverie.dreaming.entry import RecallEntry, query_hash
from reverie.dreaming.evidence import EvidenceTotals, RecallEntries, TakenIn
from reverie.dreaming.openclaw_files import file_head, file_tail, phase_lines, recall_lines
from reverie.dreaming.recording import claim_hash
from reverie.memory.recall import RecallEvidence, RecallNote
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SearchHit, SessionKey, ToolCall, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from typer.testing import Result

NOTE = "memory/2026-04-01.md"
HIT = SearchHit("memory", NOTE, 3, 4, "The kiln is serviced in May.", 0.8)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """An empty state.db."""
    opened = await Database.open(tmp_path / "state.db", STATE, now_ms=1)
    yield opened
    await opened.aclose()


def on(database: Database, *, entries_max: int = 4_096) -> RecallEntries:
    return RecallEntries(
        database, FakeClock(), entries_max=entries_max, zone=UTC, tags=lambda _path, _snippet: ("kiln",)
    )


async def kept(entries: RecallEntries, agent: str = "main") -> list[RecallEntry]:
    return [entry async for page in entries.pages(agent) for entry in page]


@pytest.mark.anyio
async def test_two_queries_make_one_entry(database: Database) -> None:
    """Two recalls, two queries; other agents know nothing of it."""
    entries = on(database)
    changed = [await entries.record("main", query, [HIT]) for query in ("kiln", "service")]

    (entry,) = await kept(entries)
    assert (changed, entry.recall_count, len(entry.user_queries), entry.tags) == ([1, 1], 2, 2, ("kiln",))
    assert await entries.find("main", entry.key) == entry
    assert (await kept(entries, "other"), await entries.find("main", "x")) == ([], None)


@pytest.mark.anyio
async def test_what_does_not_count_leaves_nothing(database: Database) -> None:
    """Lasting memory, notes that stand nowhere, and searches without words."""
    entries = on(database)
    await entries.record("main", "kiln", [replace(HIT, path="MEMORY.md"), replace(HIT, source="sessions")])
    await entries.record("main", "  ", [HIT])

    assert (await kept(entries), await entries.totals("main")) == ([], EvidenceTotals())


@pytest.mark.anyio
async def test_searches_at_the_same_moment_lose_nothing(database: Database) -> None:
    """Eight of them, of four queries."""
    entries = on(database)
    await asyncio.gather(*(entries.record("main", f"q{number % 4}", [HIT]) for number in range(8)))

    (entry,) = await kept(entries)
    assert (entry.recall_count, len(entry.queries), round(entry.total_score, 9)) == (8, 4, 6.4)


@pytest.mark.anyio
async def test_a_repeated_pass_changes_nothing(database: Database) -> None:
    """Neither counts nor scores nor times nor the time of the last change."""
    entries = on(database)
    await entries.record("main", "__dreaming_daily__:2026-04-01", [HIT], kind="daily", now_ms=1, once_a_day=True)
    before = (await kept(entries), await entries.totals("main"))
    changed = await entries.record(
        "main", "__dreaming_daily__:2026-04-01", [HIT], kind="daily", now_ms=2, once_a_day=True
    )

    assert (changed, (await kept(entries), await entries.totals("main"))) == (0, before)
    assert (before[0][0].recall_count, before[0][0].user_queries) == (0, ())


@pytest.mark.anyio
async def test_the_lowest_give_way(database: Database) -> None:
    """Those recalled longest ago; of those of one moment the weaker; never those of another agent."""
    entries = on(database, entries_max=16)
    await entries.record("other", "q", [HIT], now_ms=1)
    for line in range(1, 18):
        await entries.record("main", "q", [replace(HIT, start_line=line)], now_ms=1_000 * line)
    assert [entry.start_line for entry in await kept(entries)] == list(range(2, 18))

    pair = [replace(HIT, start_line=20, score=0.9), replace(HIT, start_line=21, score=0.1)]
    await entries.record("main", "q", [*pair, *(replace(HIT, start_line=n) for n in range(30, 45))], now_ms=99_000)
    assert [entry.start_line for entry in await kept(entries)] == [20, *range(30, 45)]
    assert [(await entries.totals(agent)).entries for agent in ("main", "other")] == [16, 1]


@pytest.mark.anyio
async def test_a_recall_goes_to_the_entry_of_its_claim(database: Database) -> None:
    """An entry that is known by what it says is the one that counts."""
    entries = on(database)
    known = RecallEntry(f"memory:{NOTE}:3:4:8c7dd922ad47", NOTE, 3, 4, HIT.text, claim_hash="8c7dd922ad47")
    grounded = replace(known, key=f"memory:{NOTE}:3:4:{claim_hash(HIT.text)}", claim_hash=claim_hash(HIT.text))
    await entries.take_in("main", [known, grounded], updated_at_ms=5)
    await entries.record("main", "kiln", [HIT])

    assert [entry.recall_count for entry in await kept(entries)] == [0, 1]


@pytest.mark.anyio
async def test_a_promotion_is_marked(database: Database) -> None:
    """With the place and the words it was found with; an entry that is gone cannot be marked."""
    entries = on(database)
    await entries.record("main", "kiln", [HIT])
    place: dict[str, Any] = {"at_ms": 7, "start_line": 9, "end_line": 9, "snippet": "In May."}
    key = f"memory:{NOTE}:3:4"

    assert [await entries.mark_promoted("main", name, **place) for name in (key, "x")] == [True, False]
    entry = await entries.find("main", key)
    assert entry is not None
    assert (entry.promoted_at_ms, entry.start_line, entry.snippet) == (7, 9, "In May.")


@pytest.mark.anyio
async def test_entries_come_in_pages(database: Database) -> None:
    """In the order of their arrival, whatever is recalled again meanwhile."""
    entries = on(database)
    for line in range(1, 6):
        await entries.record("main", "q", [replace(HIT, start_line=line)])
    first = await entries.entries("main", limit=2)
    await entries.record("main", "r", [replace(HIT, start_line=1)])
    assert first.after is not None
    rest = await entries.entries("main", first.after, 100)

    assert [entry.start_line for entry in (*first.entries, *rest.entries)] == [1, 2, 3, 4, 5]
    assert rest.after is None


@pytest.mark.anyio
async def test_taking_in_again_adds_nothing(database: Database) -> None:
    """What was recalled last stands; above the bound the lowest give way."""
    entries = on(database, entries_max=300)
    given = [RecallEntry(f"k{n}", NOTE, n, n, "s", recall_count=1, last_recalled_at_ms=n) for n in range(1, 251)]

    first = await entries.take_in("main", given, updated_at_ms=5)
    newer = [replace(given[0], recall_count=9, last_recalled_at_ms=1_000)]
    assert first == TakenIn(added=250)
    assert await entries.take_in("main", given, updated_at_ms=5) == TakenIn(unchanged=250)
    assert await entries.take_in("main", newer, updated_at_ms=6) == TakenIn(updated=1)
    assert await entries.take_in("main", given[:1], updated_at_ms=5) == TakenIn(unchanged=1)
    more = [replace(each, key=f"m{each.key}", last_recalled_at_ms=2_000) for each in given[:60]]
    assert await entries.take_in("main", more, updated_at_ms=5) == TakenIn(added=60, gave_way=10)
    assert (await entries.totals("main")).updated_at_ms == 6


@pytest.mark.anyio
async def test_a_search_is_on_record_whatever_is_made_of_it(database: Database) -> None:
    """What learns from it may fail; the record stays, and the next search is learned from again."""
    learned: list[str] = []

    def fails_once(_: object, note: RecallNote) -> None:
        learned.append(note.query)
        if len(learned) == 1:
            raise ValueError("no")

    evidence = RecallEvidence(database, FakeClock(), 100, also=fails_once)
    for query in ("first", "second"):
        await evidence.record("api", "main", query, [HIT])
        await evidence.settle()
    assert learned == ["first", "second"]
    assert len(await database.read(lambda tx: tx.rows("list_recall_events", limit=10))) == 2


@pytest.mark.anyio
async def test_what_was_recorded_is_learned_from_before_the_end(database: Database) -> None:
    """Closing waits for it."""
    learned: list[str] = []

    def learn(_: object, note: RecallNote) -> None:
        learned.append(note.query)

    evidence = RecallEvidence(database, FakeClock(), 100, also=learn)
    await evidence.record("api", "main", "last words", [HIT])
    await evidence.aclose()
    assert learned == ["last words"]


@pytest.mark.anyio
async def test_a_turn_and_a_search_of_the_model_leave_entries(tmp_path: Path) -> None:
    """What was quoted with the message counts, and what the model found by itself."""
    search = ToolCall("c1", "memory_search", '{"query":"who services the kiln"}')
    config = await asyncio.to_thread(load_config, Home(tmp_path))
    with ScriptedModel(reply(calls=[search]), reply("In May.")) as model:
        async with open_app(Home(tmp_path), config, model=model, embedder=FakeEmbedder()) as app:
            note = app.open.workspaces["main"] / NOTE
            await asyncio.to_thread(write, note, "# Kiln\n\nThe kiln is serviced in May by Mr. Abara.\n")
            await app.open.memory.sync_workspace("main")
            said = (Message("user", "When is the kiln serviced?"),)
            feed = await app.submit(TurnRequest("t1", SessionKey("main", "agent:main:main"), said))
            _ = [event async for event in feed.follow()]
            await app.open.evidence.settle()
            (entry,) = await kept(app.open.recalls)

    assert (entry.path, entry.recall_count, entry.daily_count) == (NOTE, 2, 0)
    assert set(entry.user_queries) == {query_hash("When is the kiln serviced?"), query_hash("who services the kiln")}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home without vectors."""
    path = tmp_path / "home"
    path.mkdir()
    (path / "config.toml").write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")
    return path


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Path]:
    """OpenClaw's two files: a store of 120 entries as it grows in use, and some phase signals."""
    days = [f"2026-03-{day:02}" for day in range(1, 29)]
    entries = [
        RecallEntry(
            key=f"memory:memory/{days[n % 28]}.md:{n + 1}:{n + 3}",
            path=f"memory/{days[n % 28]}.md",
            start_line=n + 1,
            end_line=n + 3,
            snippet=f"Notiz {n}: „Der Ofen“ 障害対応 – {n / 7}",
            recall_count=n % 5,
            daily_count=n % 3,
            total_score=round(n * 0.62, 2) if n % 2 else float(n),
            max_score=0.62,
            first_recalled_at_ms=1_772_350_000_000 + n,
            last_recalled_at_ms=1_772_950_000_000 + 1_000 * (n * 37 % 120),
            queries=tuple(query_hash(f"q{k}") for k in range(n % 4)),
            user_queries=tuple(query_hash(f"q{k}") for k in range(n % 4)) if n % 5 else (),
            days=tuple(days[: n % 6]),
            tags=("ofen", "バックアップ")[: 1 + n % 2],
            promoted_at_ms=1_772_960_000_000 if n % 10 == 0 else None,
            light_hits=n % 4,
            light_at_ms=1_772_960_000_000 if n % 4 else None,
        )
        for n in range(120)
    ]
    files = (tmp_path / "short-term-recall.json", tmp_path / "phase-signals.json")
    for file, lines in zip(files, (recall_lines, phase_lines), strict=True):
        text = file_head(1_772_970_000_123) + lines(entries, first=True) + file_tail(any_entries=True)
        file.write_text(text, encoding="utf-8")
    return files


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(command_line, ["memory", *words, "--home", str(home)])


def run_json(home: Path, *words: str) -> Any:
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_was_imported_is_exported_byte_for_byte(home: Path, exported: tuple[Path, Path], tmp_path: Path) -> None:
    """Both files, also on standard output; importing again changes nothing."""
    recalls, phases = exported
    again, phases_again = tmp_path / "again.json", tmp_path / "phases-again.json"
    given = ("import-recalls", str(recalls), "--phase-signals", str(phases))

    first, second = run_json(home, *given), run_json(home, *given)
    written = run_json(home, "export-recalls", "--out", str(again), "--phase-signals", str(phases_again))
    assert (first["entries"], first["added"], first["phase_signals"]["applied"]) == (120, 120, 90)
    assert (second["added"], second["updated"], second["unchanged"], second["held"]) == (0, 0, 120, 120)
    assert (again.read_bytes(), phases_again.read_bytes()) == (recalls.read_bytes(), phases.read_bytes())
    assert run(home, "export-recalls").stdout_bytes == recalls.read_bytes()
    assert (written["entries"], written["phase_signals"]) == (120, 90)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")) == []


def test_an_import_says_what_it_left_out(home: Path, tmp_path: Path) -> None:
    """By reason, and for people too; phase signals of unknown entries stand for nothing."""
    recalls, phases = tmp_path / "r.json", tmp_path / "p.json"
    good = {"path": NOTE, "startLine": 1, "endLine": 1, "source": "memory"}
    recalls.write_text(json.dumps({"version": 1, "entries": {"a": good, "b": {}, "c": 4}}), encoding="utf-8")
    phases.write_text(json.dumps({"version": 1, "entries": {"x": {"lightHits": 1}}}), encoding="utf-8")

    shown = run(home, "import-recalls", str(recalls), "--phase-signals", str(phases))
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == "1 entry: 1 new, 0 changed, 0 known as they are; main has 1 now\n"
    assert shown.stderr.splitlines() == [
        "left out: 1 phase signal of entries that are not in the file",
        "left out: 1 entry (no path)",
        "left out: 1 entry (not an object)",
    ]
    told = run(home, "export-recalls", "--out", str(tmp_path / "o.json"))
    assert (told.exit_code, told.stdout) == (0, "1 entry written\n")


def test_an_import_goes_on_beside_another_process(home: Path, exported: tuple[Path, Path]) -> None:
    """The home is taken by an app; the entries are there for it at once."""

    async def beside() -> int:
        config = await asyncio.to_thread(load_config, Home(home))
        with ScriptedModel() as model:
            async with open_app(Home(home), config, model=model, embedder=None) as app:
                told = await asyncio.to_thread(run, home, "import-recalls", str(exported[0]))
                assert told.exit_code == 0, told.output
                return (await app.open.recalls.totals("main")).entries

    assert asyncio.run(beside()) == 120


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import-recalls", "missing.json"), "cannot be read"),
        (("import-recalls", "missing.json", "--agent", "nobody"), "one of this home's agents"),
        (("export-recalls", "--out", "same.json", "--phase-signals", "same.json"), "another file than that of --out"),
        (("export-recalls", "--out", "no/such/folder.json"), "could not be written"),
    ],
)
def test_what_cannot_be_done_is_said(home: Path, words: tuple[str, ...], said: str) -> None:
    """One line, and an exit code."""
    result = run(home, *words)

    assert result.exit_code != 0
    assert said in result.stderr
