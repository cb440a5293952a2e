"""`reverie memory status`, `repair` and `forget`, from the command line to the files of a home."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import filelock
import pytest
from typer.testing import CliRunner

from reverie.cli.main import app
from reverie.config import Home
from reverie.dreaming.openclaw_store import STORE

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NOTE = "memory/2026-04-01.md"
AT = "2026-04-05T12:00:00.000Z"


def recalled(line: int, **more: Any) -> dict[str, Any]:
    """An entry of OpenClaw's file, without what is derived."""
    return {
        "path": NOTE, "startLine": line, "endLine": line, "source": "memory", "recallCount": 2, "totalScore": 1.6,
        "snippet": "The roaster is serviced in March by Brigitta.", "maxScore": 0.9, "firstRecalledAt": AT,
        "lastRecalledAt": AT, "queryHashes": ["1" * 12],
    } | more  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with two notes, of which one is indexed, and OpenClaw's file with a good entry and one of no use."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.config_file.write_text(
        '[memory]\nembedder = "none"\nwatch = false\n[dreaming]\nmode = "off"\n[agents.work]\n', encoding="utf-8"
    )
    write(home, NOTE, "# Wednesday\n\nThe roaster is serviced in March by Brigitta.\n")
    assert command(home, "index").exit_code == 0
    write(home, "memory/2026-04-02.md", "The kettle is red.\n")
    entries = {"a": recalled(3), "b": recalled(4, snippet="")}
    write(home, STORE, json.dumps({"version": 1, "updatedAt": AT, "entries": entries}))
    return home


def workspace(home: Home) -> Path:
    return home.path / "agents/main/workspace"


def write(home: Home, name: str, text: str) -> None:
    """A file of the first agent's workspace."""
    path = workspace(home) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def command(home: Home, *arguments: str) -> Result:
    """Run any command on a home."""
    return CliRunner().invoke(app, [*arguments, "--home", str(home.path)])


def told(home: Home, *arguments: str) -> Any:
    """Run a command of `reverie memory` that must work, and its one object."""
    result = command(home, "memory", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_state_of_every_agent(home: Home) -> None:
    """Files and passages beside what is on disk, recalled passages, and each thing that is wrong by its code."""
    before = (workspace(home) / STORE).read_bytes()
    said = told(home, "status")
    main, work = said["agents"]

    assert (said["provider"], said["model"], said["vector"]["state"]) == ("none", None, "off")
    assert said["dreaming"]["blocked"]["reason"] == "mode-off"
    assert (main["agent"], work["agent"]) == ("main", "work")
    assert main["files"]["indexed"] + 1 == main["files"]["onDisk"]
    assert main["files"]["differences"] == {"missing": {"count": 1, "names": ["memory/2026-04-02.md"]}}
    assert (main["dirty"], work["dirty"]) == (True, False)
    assert [issue["code"] for issue in main["issues"]] == ["recall-store-invalid", "index-dirty"]
    assert main["audit"]["openclaw"]["invalidEntries"] == {"empty": 1}
    assert work["issues"] == []
    assert said["probe"] is None
    assert (workspace(home) / STORE).read_bytes() == before


def test_it_is_shown_to_people(home: Home) -> None:
    """The same in words; --verbose names files, and one agent may be asked for."""
    plain = command(home, "memory", "status", "--agent", "main").stdout
    verbose = command(home, "memory", "status", "--verbose").stdout

    assert "index          NOT in step" in plain
    assert "issue          warn recall-store-invalid: 1 recall entry is of no use (empty: 1)." in plain
    assert "memory/2026-04-02.md" not in plain
    assert "\nwork\n" not in plain
    assert "memory/2026-04-02.md" in verbose
    assert str(workspace(home) / STORE) in verbose
    assert "\nwork\n" in verbose
    assert command(home, "memory", "status", "--agent", "nobody").exit_code != 0


def test_what_is_new_is_indexed_and_what_is_wrong_put_right(home: Home) -> None:
    """With --index and --fix the index is in step afterwards, and no issue is left."""
    said = told(home, "status", "--index", "--fix")
    main = said["agents"][0]

    assert main["indexedNow"]["added"] == 1
    assert main["repaired"]["openclaw"]["removedInvalidEntries"] == 1
    assert (main["dirty"], main["issues"]) == (False, [])
    assert said["fts"]["passages"] == main["passages"]
    assert [each["check"] for each in said["probe"]] == ["vectors.off"]
    again = command(home, "memory", "status", "--index", "--fix").stdout
    assert "nothing to repair" in again


def test_a_repair_is_shown_first(home: Home) -> None:
    """A dry run says what would be done, and does nothing; then it is done, once."""
    before = (workspace(home) / STORE).read_bytes()
    planned = told(home, "repair", "--dry-run")
    unchanged = (workspace(home) / STORE).read_bytes()
    words = command(home, "memory", "repair").stdout
    again = told(home, "repair")

    assert unchanged == before
    assert planned["dryRun"]
    assert [each["changed"] for each in planned["agents"]] == [True, False]
    assert "main: repaired\n  1 entry of no use removed from OpenClaw's file (empty: 1)\n" in words
    assert "work: nothing to repair (0 entries looked at)" in words
    assert [each["changed"] for each in again["agents"]] == [False, False]


def test_a_file_that_cannot_be_put_right_fails(home: Home) -> None:
    """Its reason is told, and the exit code says so."""
    (workspace(home) / "memory/.dreams/.reverie-promotion.lock").mkdir()
    result = command(home, "memory", "repair", "--agent", "main")

    assert result.exit_code == 1
    assert "promotion" in result.stderr


# -- forgetting ------------------------------------------------------------------------------------------------------


def test_forgetting_is_shown_first(home: Home) -> None:
    """Without --apply a diff and counts, and nothing is changed; with it the same is done."""
    assert command(home, "memory", "import-recalls", str(workspace(home) / STORE)).exit_code == 0
    before = (workspace(home) / NOTE).read_bytes()
    look = command(home, "memory", "forget", "--source", NOTE, "--delete-file")
    unchanged = (workspace(home) / NOTE).read_bytes()
    done = told(home, "forget", "--source", NOTE, "--delete-file", "--apply")

    assert look.exit_code == 0
    assert "-The roaster is serviced in March by Brigitta.\n" in look.stdout
    assert "nothing is changed yet: --apply forgets it" in look.stdout
    assert unchanged == before
    assert done["applied"]
    assert done["counts"] == {"notes": 1, "entries": 2, "passages": 1, "openclaw": 2}
    assert done["changes"][0]["diff"] in look.stdout
    assert not (workspace(home) / NOTE).exists()
    assert not found_in_files(home, b"brigitta")


def test_what_was_forgotten_is_not_taken_in_again(home: Home) -> None:
    """Importing the recalls again adds none of the note's, and the note itself is not indexed again."""
    recalls = (workspace(home) / STORE).read_bytes()
    told(home, "forget", "--source", NOTE, "--apply")
    (home.path / "recalls.json").write_bytes(recalls)
    again = told(home, "import-recalls", str(home.path / "recalls.json"))
    index = command(home, "index")
    search = command(home, "search", "Who services the roaster?", "--json")

    assert (again["added"], again["forgotten"]) == (0, 2)
    assert index.exit_code == 0
    assert json.loads(search.stdout)["hits"] == []
    assert (workspace(home) / NOTE).exists()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--session", "a", "--source", "b"), ("--since", "yesterday"), ("--source", NOTE, "--participant", "x")],
)
def test_what_makes_no_sense_is_refused(home: Home, arguments: tuple[str, ...]) -> None:
    """Nothing is done, and the exit code is that of a wrong command line."""
    result = command(home, "memory", "forget", *arguments, "--apply")

    assert result.exit_code == 2, result.output


def test_nothing_is_forgotten_beside_another_process(home: Home) -> None:
    """Whoever has the home has the index: without an answer of it nothing is done."""
    with filelock.FileLock(home.lock_file):
        result = command(home, "memory", "forget", "--participant", "Brigitta", "--apply")

    assert result.exit_code != 0
    assert "another Reverie process has this home" in result.stderr


def test_an_unknown_session(home: Home) -> None:
    """It is said, with what shows those that there are."""
    result = command(home, "memory", "forget", "--session", "nothing")

    assert result.exit_code == 1
    assert "reverie sessions list" in result.stderr


def found_in_files(home: Home, word: bytes) -> list[str]:
    """In which files a word stands; a database that was closed has no log."""
    with closing(apsw.Connection(str(home.state_db))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return [
        str(path.relative_to(home.path))
        for path in home.path.rglob("*")
        if path.is_file() and word in path.read_bytes().lower()
    ]
