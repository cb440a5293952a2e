"""Importing a MemOS plugin's database again after something of it was forgotten or deleted: that stays so."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from typer.testing import CliRunner

from reverie.cli.main import app
from tests.integration.dreaming.forgetting_world import SECRET, traces
from tests.memos import T0, MemosBuilder, rows_of, small

if TYPE_CHECKING:
    from pathlib import Path

LEARNED = ("traces", "episodes", "policies", "world_models", "skills", "feedback", "decision_repairs")
FIRST = "tr_se_1_00000a"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One of everything, and a second of what names no step: each says the word."""
    path = tmp_path / "source" / "memos.db"
    path.parent.mkdir()
    small(path)
    with closing(apsw.Connection(str(path))) as connection:
        for table, column in (("traces", "agent_text"), ("policies", "procedure"), ("world_model", "body"),
                              ("skills", "invocation_guide"), ("feedback", "rationale"),
                              ("decision_repairs", "preference")):  # fmt: skip
            connection.execute(f"UPDATE {table} SET {column} = {column} || ' {SECRET}'")  # noqa: S608 (our own words)
        connection.execute(f"""
          INSERT INTO policies (id, title, status, procedure, created_at, updated_at)
          VALUES ('po_2', 'Alone', 'active', '{SECRET}', {T0}, {T0});
          INSERT INTO feedback (id, ts, channel, polarity, magnitude, rationale)
          VALUES ('fb_2', {T0}, 'explicit', 'negative', 1, '{SECRET}');
          INSERT INTO decision_repairs (id, ts, context_hash, preference, anti_pattern)
          VALUES ('dr_2', {T0}, '0123456789abcdef', '{SECRET}', 'guessing')""")  # noqa: S608 (our own words)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that searches by words alone, to be quick."""
    home = tmp_path / "home"
    (home / "agents" / "main" / "workspace").mkdir(parents=True)
    (home / "config.toml").write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")
    return home


def run(home: Path, *words: str) -> Any:
    """Run a command on the home."""
    result = CliRunner().invoke(app, [*words, "--home", str(home)])
    assert result.exit_code == 0, result.output
    return result


def imported(home: Path, source: Path) -> dict[str, dict[str, int]]:
    """Import the source, changed since the last time; by table why rows were left out."""
    with closing(apsw.Connection(str(source))) as connection:
        connection.execute("UPDATE sessions SET last_seen_at = last_seen_at + 1")
    tables = json.loads(run(home, "import", "memos", str(source), "--json").stdout)["tables"]
    return {table["name"]: table["tally"]["skipped"] for table in tables}


def held(home: Path) -> dict[str, list[str]]:
    """The ids of what is there."""
    sql = "SELECT id FROM {} ORDER BY id"
    return {table: [row[0] for row in rows_of(home / "state.db", sql.format(table))] for table in LEARNED}


def forget(home: Path, *words: str) -> dict[str, Any]:
    """Forget something; the report."""
    done: dict[str, Any] = json.loads(run(home, "memory", "forget", *words, "--apply", "--json").stdout)
    return done


def test_a_history_goes_with_all_that_was_imported_under_its_name(home: Path, source: Path) -> None:
    """Also what names no step of it. Imported again nothing of it comes back, and there is nothing left to forget."""
    imported(home, source)
    assert held(home)["policies"] == ["po_1", "po_2"]

    forget(home, "--source", "memos")
    again = imported(home, source)

    assert held(home) == {table: [] for table in LEARNED}
    assert again["policies"] == {"forgotten": 2}
    assert again["traces"] == {"forgotten": 4}
    assert forget(home, "--source", "memos")["counts"] == {}
    assert traces(home) == {}


def test_a_message_that_is_forgotten_stays_away_with_what_was_made_of_it(home: Path, source: Path) -> None:
    """The rest of the conversation and what rests on none of it stay; new rows of what is forgotten are refused too."""
    imported(home, source)
    until = "2025-06-15T15:06:45Z"  # T0 and five seconds: the call, before its answer

    forget(home, "--source", "memos", "--until", until)
    with closing(apsw.Connection(str(source))) as connection:
        connection.execute(f"""
          INSERT INTO policies (id, title, status, source_trace_ids_json, created_at, updated_at)
          VALUES ('po_3', '{SECRET}', 'active', '["{FIRST}"]', {T0}, {T0});
          INSERT INTO world_model (id, title, body, policy_ids_json, created_at, updated_at)
          VALUES ('wm_3', '{SECRET}', '', '["po_3"]', {T0}, {T0});
          INSERT INTO feedback (id, ts, channel, polarity, magnitude, rationale, trace_id)
          VALUES ('fb_3', {T0}, 'explicit', 'negative', 1, '{SECRET}', '{FIRST}')""")  # noqa: S608 (our own words)
    again = imported(home, source)

    assert held(home) == {
        "traces": ["tr_se_1_00000b", "tr_se_1_00001a", "tr_se_1_00001b"],
        "episodes": ["ep_1"],
        "policies": ["po_2"],
        "world_models": [],
        "skills": [],
        "feedback": ["fb_2"],
        "decision_repairs": ["dr_1", "dr_2"],
    }
    assert (again["traces"], again["policies"], again["world_model"]) == (
        {"forgotten": 1}, {"forgotten": 2}, {"forgotten": 2},
    )  # fmt: skip


def test_a_conversation_that_is_forgotten_stays_away_with_what_is_new_of_it(home: Path, source: Path) -> None:
    """The source goes on with a session that was forgotten here: no episode of it comes, nor what was made of one."""
    imported(home, source)
    forget(home, "--session", "agent:main:import:memos:se_1")
    with closing(apsw.Connection(str(source))) as connection:
        connection.execute(f"""
          INSERT INTO episodes (id, session_id, started_at, status) VALUES ('ep_9', 'se_1', {T0}, 'closed');
          INSERT INTO traces (id, episode_id, session_id, ts, turn_id, user_text)
          VALUES ('tr_9', 'ep_9', 'se_1', {T0}, 1, 'new');
          INSERT INTO policies (id, title, status, source_trace_ids_json, created_at, updated_at)
          VALUES ('po_9', '{SECRET}', 'active', '["tr_9"]', {T0}, {T0})""")  # noqa: S608 (our own words)

    again = imported(home, source)

    assert (again["episodes"], again["traces"], again["policies"]) == (
        {"forgotten": 2}, {"forgotten": 5}, {"forgotten": 2},
    )  # fmt: skip
    assert held(home)["policies"] == ["po_2"]


def test_what_a_person_deleted_is_not_imported_again(home: Path, source: Path) -> None:
    """A skill, a policy, a world model; what was made of them stays, and comes when it is new."""
    imported(home, source)

    run(home, "skills", "delete", "list-files", "--yes")
    run(home, "learning", "policies", "delete", "po_2", "--yes")
    run(home, "learning", "world-models", "delete", "wm_1", "--yes")
    again = imported(home, source)

    left = held(home)
    assert (left["skills"], left["policies"], left["world_models"]) == ([], ["po_1"], [])
    reason = "deleted by a person"
    assert (again["skills"], again["policies"], again["world_model"]) == ({reason: 1}, {reason: 1}, {reason: 1})


def test_what_was_never_taken_over_is_told_from_what_was_forgotten(home: Path, source: Path) -> None:
    """A policy of steps that the source has not kept comes over as before."""
    with closing(apsw.Connection(str(source))) as connection:
        connection.execute("UPDATE policies SET source_trace_ids_json = '[\"tr_pruned\"]'")

    imported(home, source)

    assert held(home)["policies"] == ["po_1", "po_2"]


def test_what_else_was_imported_stays(home: Path, tmp_path: Path) -> None:
    """Of two conversations one was forgotten: the other comes whole."""
    path = tmp_path / "two.db"
    builder = MemosBuilder(path)
    for number in (1, 2):
        builder.session(f"se_{number}", f"ep_{number}")
        builder.exchanges(f"se_{number}", f"ep_{number}", 60)
    builder.close()
    imported(home, path)
    forget(home, "--session", "agent:main:import:memos:se_1")

    imported(home, path)

    count = "SELECT episode_id, count(*) FROM traces GROUP BY episode_id"
    assert list(rows_of(home / "state.db", count)) == [("ep_2", 120)]
