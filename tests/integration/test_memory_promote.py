"""What was recalled, from OpenClaw's file to the reasons why it would be promoted or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import filelock
import pytest
from typer.testing import CliRunner

from reverie.cli.main import app
from reverie.config import Home

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NOW = "2026-04-06T12:00:00Z"
KEY = "memory:memory/2026-04-01.md:{0}:{0}"


def recalled(line: int, **more: Any) -> dict[str, Any]:
    """An entry as OpenClaw 2026.4 writes it: five recalls on three days, the last one yesterday."""
    found = {
        "key": KEY.format(line), "path": "memory/2026-04-01.md", "startLine": line, "endLine": line, "source": "memory",
        "snippet": "The roaster is serviced in March.", "recallCount": 5, "dailyCount": 0, "groundedCount": 0,
        "totalScore": 4.25, "maxScore": 0.9, "firstRecalledAt": "2026-04-01T12:00:00.000Z",
        "lastRecalledAt": "2026-04-05T12:00:00.000Z", "queryHashes": [f"{number:012x}" for number in range(4)],
        "recallDays": ["2026-04-01", "2026-04-03", "2026-04-05"], "conceptTags": ["a1", "b1", "c1", "d1", "e1", "f1"],
    }  # fmt: skip
    return {**found, **more}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that has taken in a recall store: a good passage, a rare one, and one that was only ever ingested."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.config_file.write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")
    ingested = recalled(
        7, recallCount=0, dailyCount=3, totalScore=1.86, lastRecalledAt=NOW, conceptTags=["a1", "b1", "c1", "d1", "e1"],
        recallDays=["2026-04-04", "2026-04-05", "2026-04-06"], queryHashes=["1" * 12, "2" * 12, "3" * 12],
    )  # fmt: skip
    entries = [recalled(3), recalled(5, recallCount=1, totalScore=0.96), ingested]
    store = {"version": 1, "updatedAt": NOW, "entries": {entry["key"]: entry for entry in entries}}
    signal = {"key": KEY.format(7), "lightHits": 3, "lastLightAt": NOW, "remHits": 3, "lastRemAt": NOW}
    recalls, phases = tmp_path / "short-term-recall.json", tmp_path / "phase-signals.json"
    recalls.write_text(json.dumps(store), encoding="utf-8")
    phases.write_text(json.dumps({"version": 1, "updatedAt": NOW, "entries": {KEY.format(7): signal}}), "utf-8")
    result = run(home, "import-recalls", str(recalls), "--phase-signals", str(phases))
    assert result.exit_code == 0, result.output
    return home


def run(home: Home, *arguments: str) -> Result:
    """Run a command of `reverie memory` on a home."""
    return CliRunner().invoke(app, ["memory", *arguments, "--home", str(home.path)])


def run_json(home: Home, *arguments: str) -> Any:
    """Run a command that must work, and its one object."""
    result = run(home, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_was_imported_is_ranked(home: Home) -> None:
    """The golden passage has the golden score; the others are refused, and no memory is written."""
    memory = home.path / "agents" / "main" / "workspace" / "MEMORY.md"
    before = memory.read_bytes()
    said = run_json(home, "promote", "--now", NOW)

    assert [(found["key"], round(found["score"], 6)) for found in said["candidates"]] == [(KEY.format(3), 0.820345)]
    assert said["rejected"] == {"recalls": 2}
    assert memory.read_bytes() == before


def test_upstream_counting_shows_what_openclaw_would_promote(home: Home) -> None:
    """Three passes of its own and the phases of sleep make a candidate there, with the later generation's score."""
    said = run_json(home, "promote", "--now", NOW, "--counting", "upstream")

    assert [(found["startLine"], round(found["score"], 6)) for found in said["candidates"]] == [
        (3, 0.820345), (7, 0.772014),
    ]  # fmt: skip
    assert said["rejected"] == {"recalls": 1}


def test_the_options_reach_the_rules(home: Home) -> None:
    """Each threshold, the limit and senseless values, which mean the defaults."""
    given = (
        "--limit", "1", "--min-score", "0.1", "--min-recalls", "1", "--min-unique-queries", "1", "--min-days", "2",
        "--max-age-days", "30", "--include-promoted",
    )  # fmt: skip
    said = run_json(home, "promote", "--now", NOW, *given)

    assert said["rules"] == {
        "minScore": 0.1, "minRecallCount": 1, "minUniqueQueries": 1, "minDays": 2, "minSignals": 1, "maxAgeDays": 30,
        "recencyHalfLifeDays": 14.0, "limit": 1, "includePromoted": True,
    }  # fmt: skip
    assert said["rejected"] == {"recalls": 1, "limit": 1}
    senseless = run_json(home, "promote", "--now", NOW, "--min-score", "7", "--min-recalls", "-1", "--limit", "-1")
    assert senseless["rules"] == run_json(home, "promote", "--now", NOW)["rules"]


def test_an_explanation_names_every_gate_that_fails(home: Home) -> None:
    """Of a passage that was only ingested: nobody asked for it, whatever it scores."""
    (match,) = run_json(home, "promote-explain", KEY.format(7), "--now", NOW)["matches"]

    assert round(match["score"], 6) == 0.757765
    assert [check["gate"] for check in match["gates"] if not check["passed"]] == ["recalls", "queries", "ingested"]
    shown = run(home, "promote-explain", "ROASTER", "--now", NOW).stdout
    assert shown.count("would be promoted") == 1
    assert shown.count("would not be promoted") == 2


def test_what_cannot_be_answered_is_said_so(home: Home) -> None:
    """No such passage, no such instant, no such agent: one line each, and an exit code."""
    for arguments, words in (
        (("promote-explain", "kettle"), "nothing that was recalled matches"),
        (("promote", "--now", "soon"), "ISO 8601"),
        (("promote", "--agent", "nobody"), "one of this home's agents"),
    ):
        result = run(home, *arguments)
        assert result.exit_code
        assert words in result.output


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def noted(home: Home) -> Home:
    """The home, with the note that the good passage stands in, two lines further down."""
    workspace = home.path / "agents" / "main" / "workspace"
    (workspace / "memory" / "2026-04-01.md").write_text(
        "# 2026-04-01\n\n\n\nThe roaster is serviced in March.\n", "utf-8"
    )
    (workspace / "MEMORY.md").write_text("Mine.\n", "utf-8")
    return home


WRITTEN = """\
Mine.

## Promoted From Short-Term Memory (2026-04-06)

<!-- openclaw-memory-promotion:memory:memory/2026-04-01.md:3:3 -->
- The roaster is serviced in March. [score=0.820 recalls=5 avg=0.850 source=memory/2026-04-01.md:5-5]
"""


def memory_of(home: Home) -> str:
    return (home.path / "agents" / "main" / "workspace" / "MEMORY.md").read_text("utf-8")


def test_promoting_and_taking_it_back(noted: Home) -> None:
    """Shown first, then written, listed, found by a search, and undone to the byte."""
    shown = run(noted, "promote", "--now", NOW, "--dry-run")
    assert shown.stdout.endswith("1 entry would be written to MEMORY.md\n")
    assert memory_of(noted) == "Mine.\n"

    said = run_json(noted, "promote", "--now", NOW, "--apply")["apply"]
    assert memory_of(noted) == WRITTEN
    assert (said["applied"], said["appended"], said["reconciledExisting"], said["gates"]) == (1, 1, 0, {"recalls": 2})
    assert [(each["key"], each["startLine"]) for each in said["appliedCandidates"]] == [(KEY.format(3), 5)]
    assert said["diff"].rstrip("\n") in shown.stdout
    found = CliRunner().invoke(app, ["search", "roaster promoted", "--home", str(noted.path), "--json"]).stdout
    assert '"path": "MEMORY.md"' in found

    (change,) = run_json(noted, "changes")["changes"]
    assert (change["id"], change["state"], change["added"][0]["keys"]) == (said["changeId"], "applied", [KEY.format(3)])
    assert f"{said['changeId']}  " in run(noted, "changes").stdout
    dry = run_json(noted, "undo", said["changeId"], "--dry-run")
    assert (dry["changeId"], dry["exact"], memory_of(noted)) == (None, True, WRITTEN)
    assert "MEMORY.md as it was before (1 entry)" in run(noted, "undo").stdout
    assert memory_of(noted) == "Mine.\n"
    again = run(noted, "undo")
    assert (again.exit_code, "nothing was promoted that could be undone" in again.output) == (1, True)
    assert run_json(noted, "promote", "--now", NOW, "--apply")["apply"]["gates"]["promoted"] == 1


def test_what_is_not_written_is_listed_with_its_reason(home: Home) -> None:
    """For a person and for programs; without its note the passage is gone."""
    said = run_json(home, "promote", "--now", NOW, "--apply")["apply"]
    assert [(each["category"], each["reason"]) for each in said["rejectedCandidates"]] == [
        ("source", "what it came from is gone")
    ]
    assert (said["rejections"], said["changeId"], said["diff"]) == ({"source": 1}, None, "")
    shown = run(home, "promote", "--now", NOW, "--apply").stdout
    assert "source       memory/2026-04-01.md:3-3  what it came from is gone\n0 entries written to MEMORY.md\n" in shown


def test_defaults_are_the_settings(noted: Home) -> None:
    """The gates are those of the configuration; a list is not cut by the limit of a night, what writes is."""
    with noted.config_file.open("a", encoding="utf-8") as file:
        file.write('[dreaming]\nmode = "rem"\nrecalls_min = 1\ndays_min = 1\nlimit = 0\n')
    rules = run_json(noted, "promote", "--now", NOW)["rules"]

    assert (rules["minScore"], rules["minRecallCount"], rules["minUniqueQueries"], rules["minDays"]) == (0.85, 1, 3, 1)
    assert rules["limit"] is None
    said = run_json(noted, "promote", "--now", NOW, "--apply")
    assert (said["rules"]["limit"], said["apply"]["waiting"]) == (0, "dreaming.limit is 0: nothing is promoted")
    assert (
        run_json(noted, "promote", "--now", NOW, "--apply", "--limit", "1", "--min-score", "0.8")["apply"]["applied"]
        == 1
    )


def test_counting_as_openclaw_does_writes_nothing(noted: Home) -> None:
    """It is refused with a word."""
    result = run(noted, "promote", "--now", NOW, "--apply", "--counting", "upstream")

    assert result.exit_code
    assert "counting" in result.output
    assert memory_of(noted) == "Mine.\n"


def test_beside_somebody_who_has_the_home(noted: Home) -> None:
    """It is written all the same, under the same lock; the owner of the index notices the file."""
    lock = filelock.FileLock(noted.path / "reverie.lock")
    with lock.acquire(timeout=0):
        assert run_json(noted, "promote", "--now", NOW, "--apply")["apply"]["appended"] == 1
        assert memory_of(noted) == WRITTEN
        assert run_json(noted, "undo")["exact"]
