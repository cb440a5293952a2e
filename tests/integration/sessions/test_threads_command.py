"""`reverie threads …` and what the doctor says of threads, on a real home without a server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.cli.main import app
from reverie.clock import SystemClock
from reverie.config import Home
from reverie.context.epochs import epoch_of
from reverie.context.fingerprints import EnginePolicy
from reverie.context.projection import Bootstrap, Seen, project, sizes_of
from reverie.context.thread_guards import Guards
from reverie.context.threads import Capabilities, bound, decide, expected_of, logged, rebound
from reverie.doctor.threads import thread_findings
from reverie.sessions.bindings import BindingStore, finished_on
from reverie.sessions.thread_log import ThreadLog
from reverie.sessions.transcript import open_session
from reverie.storage import STATE, Database
from reverie.types import Message, SessionKey, ThreadSettings, ThreadTokens

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

KEY = SessionKey("main", "agent:main:main")
OTHER = SessionKey("main", "agent:main:other")


async def turns(database: Database, session_id: str, clients: str) -> None:
    """A turn for each letter: the instructions that the client sends with it."""
    clock = SystemClock()
    store, log = BindingStore(database, clock), ThreadLog(database, clock)
    for number, client in enumerate(clients):
        expected = expected_of(
            input_seq=2 * number + 1,
            last_seq=2 * number,
            policy=EnginePolicy("reverie"),
            parts={"client": client, "file:USER.md": "u"},
            window_tokens=258_400,
        )
        held = await store.acquire(session_id)
        decision = decide(held.binding, expected, Guards(), Capabilities())
        bootstrap = Bootstrap("rules", (Seen(1, Message("user", "x" * 400)),), Message("user", "hm?"))
        projected = project(decision, bootstrap)
        thread_id = decision.thread_id or f"thr_{number}\x1b"
        if decision.action == "start":
            binding = bound(thread_id, session_id, expected, decision, ThreadSettings(model="gpt-5"), clock.now_ms())
            held = await store.bind(held, binding)
            assert held is not None
        assert held.binding is not None
        after = rebound(held.binding, expected, decision, ThreadSettings(model="gpt-5"), 2 * number + 1, clock.now_ms())
        held = await store.accepted(held, after)
        assert held is not None
        done, tokens = held, ThreadTokens(86_000 + number, "last", 258_400)
        await database.write(lambda tx, n=number, d=done, t=tokens: finished_on(tx, d, 2 * n + 2, t, clock.now_ms()))
        await log.record(
            logged(
                decision,
                session_id=session_id,
                turn_id=f"t{number}",
                runtime="codex",
                thread_id=thread_id,
                sizes=sizes_of(bootstrap, projected, decision),
            )
        )
        await store.release(done)


def home_with(folder: Path, clients: str) -> Home:
    home = Home(folder / "home")
    home.path.mkdir()
    home.config_file.write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")

    async def fill() -> None:
        database = await Database.open(home.state_db, STATE, now_ms=1)
        session_id = await database.write(lambda tx: open_session(tx, KEY, "live", 1))
        await database.write(lambda tx: open_session(tx, OTHER, "live", 1))
        await turns(database, session_id, clients)
        await database.aclose()

    asyncio.run(fill())
    return home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one conversation of three turns in a thread, and one without."""
    return home_with(tmp_path, "aaa")


def run(home: Home, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home.path)])


def run_json(home: Home, *words: str) -> Any:
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_threads_are_listed(home: Home) -> None:
    """A line for each, with how full it is and how its last turn ran; nothing in it steers the terminal."""
    lines = run(home, "threads", "list").stdout.splitlines()
    (thread,) = run_json(home, "threads", "list")["data"]

    assert lines[0].split("  ")[0] == "session"
    assert [cell.strip() for cell in lines[1].split("  ") if cell][:6] == [
        "agent:main:main", "thr_0\N{REPLACEMENT CHARACTER}", "active", "86,002 of 258,400", "went on",
        "matching-thread-bootstrap-binding",
    ]  # fmt: skip
    assert (thread["covered_through"], thread["last"]["warm"], thread["held"]) == (6, True, False)


def test_a_home_without_threads_says_so(tmp_path: Path) -> None:
    """And what would have them."""
    home = home_with(tmp_path, "")

    assert "no session goes on in a native thread" in run(home, "threads", "list").stdout
    assert run_json(home, "threads", "list") == {"object": "list", "data": [], "has_more": False}


def test_a_thread_is_explained(home: Home) -> None:
    """What it knows, and of each turn why it ran where it ran and how large it was."""
    shown = run(home, "threads", "explain", "main", "--limit", "3").stdout

    assert "thread thr_0\N{REPLACEMENT CHARACTER}: active\n" in shown
    assert "runtime codex, model gpt-5, engine reverie, epoch " in shown
    assert "86,002 of 258,400 tokens, has seen entries up to 6" in shown
    assert "it was told: client a, file:USER.md u" in shown
    assert "  because: matching-thread-bootstrap-binding\n  sent 3 characters\n" in shown
    assert "  held 86,001 tokens (of its last call; limit 238,399, window 258,400)\n" in shown
    assert "  began  thr_0\N{REPLACEMENT CHARACTER}\n  because: missing-thread-binding\n" in shown
    assert "largest: history 400" in shown
    explained = run_json(home, "threads", "explain", "main")
    assert [each["reason"] for each in explained["decisions"]] == [
        "matching-thread-bootstrap-binding", "matching-thread-bootstrap-binding", "missing-thread-binding",
    ]  # fmt: skip
    assert (explained["parts"], explained["churn"]) == ({"client": "a", "file:USER.md": "u"}, None)
    assert explained["thread"]["epoch"] == f"{epoch_of(explained['parts'])[:12]}…"


def test_a_conversation_without_a_thread_is_explained_too(home: Home) -> None:
    """It has none; one that is not there is an error."""
    assert "it has no native thread" in run(home, "threads", "explain", "other").stdout
    missing = run(home, "threads", "explain", "nobody")
    assert (missing.exit_code, "There is no session 'nobody'" in missing.stderr) == (1, True)


def test_another_thread_is_asked_for(home: Home) -> None:
    """The next turn begins it and says that a person wanted it; a conversation without one is an error."""
    done = run(home, "threads", "rotate", "main")
    refused = run(home, "threads", "rotate", "other")

    assert "the next message begins another thread in place of thr_0" in done.stdout
    assert "to be replaced" in run(home, "threads", "list").stdout
    assert (refused.exit_code, "has no native thread that may be replaced" in refused.stderr) == (1, True)
    assert run_json(home, "threads", "rotate", "main")["asked"] is True


def test_what_flaps_is_told_everywhere(tmp_path: Path) -> None:
    """Where a thread is explained, and by the doctor, with what differs and what to do."""
    home = home_with(tmp_path, "abcd")
    shown = run(home, "threads", "explain", "main")
    findings = {each["check"]: each for each in run_json_of_doctor(home)}

    assert "3 new threads within the last 4 turns: most often `client` differed" in shown.stderr
    assert "  because: projection-mismatch (client)\n" in shown.stdout
    assert "  alarm: `client` differs again and again" in shown.stdout
    assert findings["threads.churn"]["severity"] == "warning"
    assert "agent:main:main (`client` differs)" in findings["threads.churn"]["what"]


def run_json_of_doctor(home: Home) -> list[dict[str, Any]]:
    return json.loads(run(home, "doctor", "--json").stdout)["findings"]


def test_the_doctor_is_content_with_steady_threads(home: Home) -> None:
    """And says nothing where there are none."""
    assert "threads.steady" in {each["check"] for each in run_json_of_doctor(home)}
    assert thread_findings([], 0) == []


def test_the_doctor_names_the_newest_of_many() -> None:
    """Three by name, each session once."""
    rows = [{"session_key": f"k{number % 5}", "alarm": f"a{number}"} for number in range(9, -1, -1)]
    (finding,) = thread_findings(rows, 9)

    assert "5 sessions" in finding.what
    assert finding.what.endswith("k4 (`a9` differs), k3 (`a8` differs), k2 (`a7` differs) and 2 more")
