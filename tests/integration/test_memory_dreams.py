"""`reverie memory rem-harness` and `rem-backfill`, from a home to the words on the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from typer.testing import CliRunner

from reverie.cli.main import app
from reverie.config import Home

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NOW = "2026-04-06T03:00:00Z"
KEY = "memory:memory/2026-04-04.md:{0}:{0}"
NOTE = """\
# 2026-01-02

## Decisions
- Backups of the router go to S3 Glacier every night.

## Work
- Remember that Petra has the spare key.
- We talked about the gateway, the network and the router today.
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home without anything in it but its settings."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.config_file.write_text(
        '[memory]\nembedder = "none"\nwatch = false\n[dreaming]\ntime_zone = "UTC"\n', encoding="utf-8"
    )
    return home


def workspace(home: Home) -> Path:
    return home.path / "agents" / "main" / "workspace"


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["memory", *arguments, "--home", str(home.path)])


def run_json(home: Home, *arguments: str) -> Any:
    result = run(home, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def take_in(home: Home, tmp_path: Path, *entries: dict[str, Any]) -> None:
    """Bring recalls in, as OpenClaw would have kept them."""
    store = {"version": 1, "updatedAt": NOW, "entries": {entry["key"]: entry for entry in entries}}
    file = tmp_path / "short-term-recall.json"
    file.write_text(json.dumps(store), encoding="utf-8")
    assert run(home, "import-recalls", str(file)).exit_code == 0


def recalled(line: int, snippet: str, **more: Any) -> dict[str, Any]:
    """A passage that was recalled five times on three days."""
    return {
        "key": KEY.format(line), "path": "memory/2026-04-04.md", "startLine": line, "endLine": line, "source": "memory",
        "snippet": snippet, "recallCount": 5, "dailyCount": 0, "groundedCount": 0, "totalScore": 4.25, "maxScore": 0.9,
        "firstRecalledAt": "2026-04-03T12:00:00.000Z", "lastRecalledAt": "2026-04-05T12:00:00.000Z",
        "queryHashes": [f"{number:012x}" for number in range(4)],
        "recallDays": ["2026-04-03", "2026-04-04", "2026-04-05"],
        "conceptTags": ["kiln", "may", "c1", "d1", "e1", "f1"],
        **more,
    }  # fmt: skip


def grounded(home: Home) -> list[tuple[str, int, int]]:
    """What evidence is known, and how much of each kind."""
    connection = apsw.Connection(str(home.state_db))
    try:
        query = "SELECT key, grounded_count, recall_count FROM recall_entries ORDER BY key"
        return list(connection.execute(query))
    finally:
        connection.close()


# -- rem-harness -----------------------------------------------------------------------------------------------------


def test_the_harness_shows_what_rem_sleep_would_find(home: Home, tmp_path: Path) -> None:
    """Reflections, truths and all candidates of deep sleep, as one object; and nothing is written."""
    take_in(
        home, tmp_path,
        recalled(3, "The kiln is serviced in May."),
        recalled(5, "The router reboots on its own every week.", promotedAt="2026-04-05T03:00:00.000Z"),
    )  # fmt: skip
    before = home.state_db.read_bytes()
    said = run_json(home, "rem-harness", "--now", NOW)

    assert list(said) == ["agent", "now", "remConfig", "rem", "deep"]
    assert (said["agent"], said["now"]) == ("main", "2026-04-06T03:00:00.000Z")
    assert said["remConfig"] == {"enabled": True, "lookbackDays": 7, "limit": 10, "minPatternStrength": 0.75}
    rem = said["rem"]
    assert rem["sourceEntryCount"] == 2
    assert rem["reflections"][0] == {
        "tag": "c1", "count": 2, "strength": 1.0, "evidence": ["memory/2026-04-04.md:3-3", "memory/2026-04-04.md:5-5"],
    }  # fmt: skip
    (truth,) = rem["candidateTruths"]
    assert (truth["key"], truth["snippet"], truth["evidence"]) == (
        KEY.format(3), "The kiln is serviced in May.", "memory/2026-04-04.md:3-3",
    )  # fmt: skip
    assert round(truth["confidence"], 4) == 0.9127
    assert rem["candidateKeys"] == [KEY.format(3)]
    assert rem["bodyLines"][0] == "### Reflections"
    assert [found["key"] for found in said["deep"]["candidates"]] == [KEY.format(3)]
    assert said["deep"]["candidateCount"] == 1
    assert said["deep"]["rejected"] == {"promoted": 1}
    assert home.state_db.read_bytes() == before
    assert not (workspace(home) / "memory" / "dreaming").exists()

    shown = run(home, "rem-harness", "--now", NOW)
    assert "Theme: `kiln` kept surfacing across 2 memories." in shown.stdout
    assert "nothing is written" in shown.stdout


def test_the_harness_includes_what_was_promoted_if_asked(home: Home, tmp_path: Path) -> None:
    """Among the truths and the candidates."""
    take_in(home, tmp_path, recalled(5, "The router reboots weekly.", promotedAt="2026-04-05T03:00:00.000Z"))
    said = run_json(home, "rem-harness", "--now", NOW, "--include-promoted")

    assert said["rem"]["candidateKeys"] == [KEY.format(5)]
    assert said["deep"]["candidateCount"] == 1


def test_the_harness_of_an_empty_home_finds_nothing(home: Home) -> None:
    """And says so."""
    assert run_json(home, "rem-harness")["rem"]["bodyLines"] == [
        "### Reflections", "- No strong patterns surfaced.", "",
        "### Possible Lasting Truths", "- No strong candidate truths surfaced.",
    ]  # fmt: skip


# -- rem-backfill ----------------------------------------------------------------------------------------------------


def write_note(home: Home, day: str = "2026-01-02", text: str = NOTE) -> None:
    folder = workspace(home) / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{day}.md").write_text(text, encoding="utf-8")


DIARY = """\
# Dream Diary

<!-- openclaw:dreaming:diary:start -->
---

*January 2, 2026*

<!-- openclaw:dreaming:backfill-entry day=2026-01-02 source=memory/2026-01-02.md -->

Lasting updates:
- - Backups of the router go to S3 Glacier every night. (4-4)
- - Remember that Petra has the spare key. (7-7)

Candidates:
- - We talked about the gateway, the network and the router today. (8-8)

<!-- openclaw:dreaming:diary:end -->
"""


def test_notes_of_the_past_become_entries_of_the_diary(home: Home) -> None:
    """Whoever looks sees the difference; doing it again changes nothing, and undoing it leaves nothing."""
    write_note(home)
    (workspace(home) / "DREAMS.md").write_text("Mine.\n", encoding="utf-8")
    said = run_json(home, "rem-backfill", "--path", "memory/2026-01-02.md", "--now", NOW)
    diary = workspace(home) / "DREAMS.md"

    assert (said["notes"], said["lasting"], said["candidates"], said["staged"]) == (1, 2, 1, None)
    assert (said["diary"]["path"], said["diary"]["written"]) == ("DREAMS.md", True)
    assert "+Lasting updates:" in said["diary"]["diff"]
    assert diary.read_text(encoding="utf-8") == f"{DIARY}\nMine.\n"
    assert grounded(home) == []

    again = run(home, "rem-backfill", "--path", "memory")
    assert (again.exit_code, "DREAMS.md: nothing to change" in again.stdout) == (0, True)
    undone = run(home, "rem-backfill", "--rollback")
    assert "-*January 2, 2026*" in undone.stdout
    assert diary.read_text(encoding="utf-8").endswith(
        "diary:start -->\n<!-- openclaw:dreaming:diary:end -->\n\nMine.\n"
    )


def test_what_they_say_can_be_counted_as_evidence_and_taken_back(home: Home, tmp_path: Path) -> None:
    """What rests on it alone goes; what was recalled as well keeps its recalls."""
    write_note(home)
    lasting = "- Backups of the router go to S3 Glacier every night."
    take_in(
        home, tmp_path,
        recalled(4, lasting, key="memory:memory/2026-01-02.md:4:4", path="memory/2026-01-02.md", recallCount=1,
                 totalScore=0.9, queryHashes=["a" * 12], recallDays=["2026-01-05"]),
    )  # fmt: skip
    before = grounded(home)
    staged = run_json(home, "rem-backfill", "--path", "memory", "--stage-short-term", "--now", NOW)["staged"]

    assert (staged["added"], staged["changed"], staged["removed"]) == (2, 1, 0)
    assert [(each["change"], each["place"], each["groundedCount"]) for each in staged["entries"]] == [
        ("changed", "memory/2026-01-02.md:4-4", [0, 3]),
        ("added", "memory/2026-01-02.md:7-7", [0, 3]),
        ("added", "memory/2026-01-02.md:8-8", [0, 1]),
    ]
    assert run_json(home, "rem-backfill", "--path", "memory", "--stage-short-term")["staged"]["entries"] == []
    assert [counts for _, *counts in grounded(home)] == [[3, 1], [3, 0], [1, 0]]

    back = run(home, "rem-backfill", "--rollback-short-term")
    assert back.stdout.splitlines()[-1] == "evidence: 0 added, 1 changed, 2 removed"
    assert "- memory/2026-01-02.md:7-7  3 → 0  - Remember that Petra has the spare key." in back.stdout
    assert grounded(home) == before


def test_evidence_of_one_day_is_a_candidate_for_openclaw_and_not_for_us(home: Home) -> None:
    """Where all signals count as recalls it is enough; here somebody has to have asked."""
    write_note(home)
    run_json(home, "rem-backfill", "--path", "memory/2026-01-02.md", "--stage-short-term", "--now", NOW)

    assert len(run_json(home, "promote", "--now", NOW, "--counting", "upstream")["candidates"]) >= 1
    assert run_json(home, "promote", "--now", NOW)["candidates"] == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "--path"),
        (("--stage-short-term",), "--path"),
        (("--path", "memory", "--rollback"), "--rollback"),
        (("--rollback", "--stage-short-term"), "--stage-short-term"),
        (("--path", "memory/2026-01-09.md"), "there is no memory/2026-01-09.md"),
        (("--path", "MEMORY.md"), "is not below"),
        (("--path", "/etc"), "is not below"),
        (("--path", "memory/kiln.md"), "is no daily note"),
        (("--path", "memory", "--agent", "nobody"), "--agent"),
    ],
)
def test_what_makes_no_sense_is_refused(home: Home, arguments: tuple[str, ...], problem: str) -> None:
    """With what would; nothing is written."""
    write_note(home)
    (workspace(home) / "memory" / "kiln.md").write_text("x", encoding="utf-8")
    (workspace(home) / "MEMORY.md").write_text("x", encoding="utf-8")
    result = run(home, "rem-backfill", *arguments)

    assert result.exit_code != 0
    assert problem in result.output
    assert not (workspace(home) / "DREAMS.md").exists()
