"""What stands at a path, and whose it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.errors import ImportFileError
from reverie.importers.openclaw.discovery import Found, Place, agent_name, discover

if TYPE_CHECKING:
    from pathlib import Path


def database(path: Path) -> Path:
    """An empty SQLite database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with apsw.Connection(str(path)) as made:
        made.execute("CREATE TABLE chunks (id TEXT)")
    made.close()
    return path


def note(path: Path) -> Path:
    """A file with a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("tea\n", encoding="utf-8")
    return path


def test_a_home(tmp_path: Path) -> None:
    """Databases of either version, workspaces and sessions, each with its agent; what else stands there is left."""
    main, ops = (
        database(tmp_path / "memory" / "main.sqlite"),
        database(tmp_path / "agents/Ops Team/agent/openclaw.sqlite"),
    )
    note(tmp_path / "memory" / "main.sqlite.tmp-1")
    note(tmp_path / "workspace" / "MEMORY.md")
    note(tmp_path / "workspace-home" / "memory" / "2026-01-01.md")
    note(tmp_path / "workspace-empty" / "other.txt")
    note(tmp_path / "agents" / "main" / "sessions" / "a.jsonl")
    found = discover(tmp_path)

    assert found == Found(
        databases=(Place(main, "main"), Place(ops, "ops-team")),
        workspaces=(Place(tmp_path / "workspace", "main"), Place(tmp_path / "workspace-home", "home")),
        sessions=(Place(tmp_path / "agents" / "main" / "sessions", "main"),),
    )
    assert found.agents == ("main", "home")


def test_workspaces_that_the_settings_name(tmp_path: Path) -> None:
    """An agent's own workspace counts before the default's, wherever it stands."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    note(elsewhere / "MEMORY.md")
    note(home / "work" / "MEMORY.md")
    agents = {
        "defaults": {"workspace": "~/.openclaw/work"},
        "list": [{"id": "main"}, {"id": "Beta", "workspace": str(elsewhere)}, "broken"],
    }
    (home / "openclaw.json").write_text(json.dumps({"agents": agents}), encoding="utf-8")

    assert discover(home).workspaces == (Place(home / "work", "main"), Place(elsewhere, "beta"))


def test_settings_that_are_not_plain_json(tmp_path: Path) -> None:
    """JSON5 is not read; that is said, and what stands beside it is found all the same."""
    note(tmp_path / "workspace" / "MEMORY.md")
    (tmp_path / "openclaw.json").write_text("{ // mine\n agents: {} }", encoding="utf-8")
    found = discover(tmp_path)

    assert found.workspaces == (Place(tmp_path / "workspace", "main"),)
    (said,) = found.notes
    assert said.startswith(
        f"{tmp_path / 'openclaw.json'} is not plain JSON: workspaces elsewhere than beside it must be"
    )


def test_parts_of_a_home(tmp_path: Path) -> None:
    """A database, a folder of them, a workspace and a folder of sessions can each be given by itself."""
    beta = database(tmp_path / "memory" / "beta.sqlite")
    note(tmp_path / "workspace-beta" / "USER.md")
    note(tmp_path / "agents" / "beta" / "sessions" / "a.jsonl.reset.2026-01-01")

    assert discover(beta) == discover(tmp_path / "memory") == Found(databases=(Place(beta, "beta"),))
    assert discover(tmp_path / "workspace-beta").workspaces == (Place(tmp_path / "workspace-beta", "beta"),)
    assert [place.agent for place in discover(tmp_path / "agents" / "beta" / "sessions").sessions] == ["beta"]


def test_nothing_to_import(tmp_path: Path) -> None:
    """A path that is not there, and one that is nothing of OpenClaw's, are refused with what was looked for."""
    with pytest.raises(ImportFileError, match="there is nothing at .*nowhere"):
        discover(tmp_path / "nowhere")
    with pytest.raises(ImportFileError, match="is nothing of OpenClaw's: expected its home"):
        discover(tmp_path)
    with pytest.raises(ImportFileError, match="is nothing of OpenClaw's"):
        discover(note(tmp_path / "other.txt"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("main", "main"), ("Ops Team", "ops-team"), ("../../x", "x"), ("東京", "main"), ("a" * 80, "a" * 64)],
)
def test_names_are_made_fit(name: str, expected: str) -> None:
    """An agent's name is a folder here, so it is made of few characters."""
    assert agent_name(name) == expected
