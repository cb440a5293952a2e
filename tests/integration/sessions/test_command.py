"""`reverie sessions …` on a real home, without a server and beside one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.cli.commands.sessions import CANCELLED
from reverie.cli.main import app
from reverie.config import Home
from reverie.sessions.events import TurnFinished
from reverie.sessions.transcript import RecordedMessage
from reverie.sessions.turns import TurnStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Message, SessionKey, TurnRequest, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

KEY = SessionKey("main", "agent:main:main")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one conversation, in which a message waits."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.config_file.write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")

    async def fill() -> None:
        clock = FakeClock()
        database = await Database.open(home.state_db, STATE, now_ms=clock.now_ms())
        turns = TurnStore(database, clock)
        accepted = await turns.accept(TurnRequest("t1", KEY, (Message("user", "I am Ann."),)))
        begun = await turns.begin(accepted.turn, history_max=10)
        end = TurnFinished("t1", "Hello Ann.", (), "stop", Usage(), "some-model")
        await turns.finish(begun.turn, [RecordedMessage(Message("assistant", "Hello \x1b[31mAnn."))], end)
        await turns.accept(TurnRequest("t2", KEY, (Message("user", "And now?"),)), waits=True)
        await database.aclose()

    asyncio.run(fill())
    return home


def run(home: Home, *words: str) -> Result:
    return CliRunner().invoke(app, ["sessions", *words, "--home", str(home.path)])


def run_json(home: Home, *words: str) -> Any:
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_sessions_are_listed_and_shown(home: Home) -> None:
    """A line for each, and the last entries of one; nothing in them steers the terminal."""
    listed, shown = run(home, "list"), run(home, "show", "main")

    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["session", "entries"], [KEY.value, "2"]]
    assert "Hello \N{REPLACEMENT CHARACTER}[31mAnn." in shown.stdout
    assert run_json(home, "list")["data"][0]["key"] == KEY.value
    assert [entry["text"] for entry in run_json(home, "show", "main", "--limit", "1")["entries"]] == [
        "Hello \x1b[31mAnn."
    ]


def test_a_waiting_message_is_shown_and_cancelled(home: Home) -> None:
    """What became of it stands in the transcript; cancelling it again changes nothing."""
    before = run_json(home, "queue", "main")["data"]
    states = [run_json(home, "cancel", "t2")["state"] for _ in range(2)]
    entry = run_json(home, "show", "main")["entries"][-1]

    assert [(each["id"], each["state"]) for each in before] == [("t2", "queued")]
    assert states == ["cancelled", "cancelled"]
    assert (entry["kind"], entry["turn_id"], entry["data"]["cause"]) == ("turn_ended", "t2", CANCELLED)
    assert run(home, "queue", "main").stdout == "nothing runs or waits\n"


def test_a_reset_moves_what_waits(home: Home) -> None:
    """The successor begins with a summary and has the waiting message."""
    rolled = run_json(home, "reset", "main")

    assert run_json(home, "show", rolled["ended_id"])["session"]["end_reason"] == "manual"
    assert [entry["kind"] for entry in run_json(home, "show", "main")["entries"]] == ["continuity"]
    assert [each["id"] for each in run_json(home, "queue", "main")["data"]] == ["t2"]


def test_a_session_is_taken_to_another_home(home: Home, tmp_path: Path) -> None:
    """Exported, imported twice, exported again: the same bytes, and the second import adds nothing."""
    file, again = tmp_path / "main.jsonl", tmp_path / "again.jsonl"
    other = Home(tmp_path / "other")
    told = run_json(home, "export", "main", "--output", str(file))
    added = [run_json(other, "import", str(file))["added"] for _ in range(2)]
    run_json(other, "export", "main", "--output", str(again))

    assert (told["format"], told["bytes"]) == ("jsonl", file.stat().st_size)
    assert added == [2, 0]
    assert again.read_bytes() == file.read_bytes() == run(home, "export", "main").stdout_bytes
    assert run(home, "export", "main", "--format", "markdown").stdout.startswith("# agent:main:main\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "none"), 1, "There is no session 'none'"),
        (("reset", "none"), 1, "There is no session 'none'"),
        (("cancel", "none"), 1, "There is no message 'none'"),
        (("compact", "main"), 1, "start `reverie serve`"),
        (("export", "main", "--json"), 2, "--output"),
    ],
)
def test_what_cannot_be_done_says_why(home: Home, words: tuple[str, ...], code: int, said: str) -> None:
    """One line and an exit code."""
    result = run(home, *words)

    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert len(result.stderr.splitlines()) == 1


def test_a_foreign_file_is_refused_by_its_line(home: Home, tmp_path: Path) -> None:
    """And nothing of it is imported."""
    file = tmp_path / "foreign.jsonl"
    file.write_text('{"name": "x"}\n', encoding="utf-8")
    result = run(home, "import", str(file))

    assert result.exit_code == 1
    assert "line 1" in result.stderr
