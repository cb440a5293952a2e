"""Forgetting that is killed anywhere goes on when it is done again, and then nothing is left."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import shutil
from typing import TYPE_CHECKING

import apsw
import pytest

from tests.integration.dreaming import killed_forgetting
from tests.integration.dreaming.forgetting_world import KEPT, MAIN, NOTE, SECRET, traces, world
from tests.integration.dreaming.test_forgetting import everywhere

if TYPE_CHECKING:
    from pathlib import Path

POINTS = 6
SEED = 5


async def build(home: Path) -> None:
    """Traces everywhere, of a conversation and of one person in another."""
    async with world(home) as here:
        await everywhere(here)
        await here.say(f"The {SECRET} in a group.", "agent:main:group", name="Jonas", answer=f"A {SECRET}.")
        await here.say(f"The {KEPT} in a group.", "agent:main:group", name="Ayo")
        await here.compacted("agent:main:group")
        await here.say("Go on.", "agent:main:group", name="Ayo")
        await here.settle()


def forget(home: Path, selection: dict[str, str], kill_at: int = 0) -> tuple[int, int]:
    """Forget in a process of its own; its exit code, and how many statements it got to."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([killed_forgetting.__name__])
    counted = processes.Value("i", 0)
    process = processes.Process(target=killed_forgetting.run, args=(str(home), selection, kill_at, counted))
    process.start()
    process.join(50)
    return process.exitcode or 0, counted.value


def sound(home: Path) -> bool:
    """Whether the databases hold together, and their counts agree with their rows."""
    state = apsw.Connection(str(home / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    index = apsw.Connection(str(home / "index.db"), flags=apsw.SQLITE_OPEN_READONLY)
    checks = [database.execute("PRAGMA integrity_check").get == "ok" for database in (state, index)]
    checks += [database.execute("PRAGMA foreign_key_check").fetchall() == [] for database in (state, index)]
    tallied = "SELECT (SELECT total FROM tally WHERE name = 'messages') = (SELECT count(*) FROM messages)"
    counted = "SELECT (SELECT chunks FROM tally) = (SELECT count(*) FROM chunks)"
    checks += [state.execute(tallied).get == 1, index.execute(counted).get == 1]
    state.close()
    index.close()
    return all(checks)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("selection", [{"session": MAIN}, {"participant": "Jonas"}], ids=["session", "participant"])
def test_whatever_kills_it_the_same_again_finishes_it(tmp_path: Path, selection: dict[str, str]) -> None:
    """At points all over its work: afterwards the words are in no file, and what was not meant is there."""
    built = tmp_path / "built"
    built.mkdir()
    asyncio.run(build(built))
    whole = tmp_path / "whole"
    shutil.copytree(built, whole)
    code, statements = forget(whole, selection)
    expected = rows(whole)
    assert (code, statements > 100) == (0, True)

    chosen = random.Random(SEED)
    step = statements // POINTS
    for number in range(POINTS):
        home = tmp_path / f"killed-{number}"
        shutil.copytree(built, home)
        kill_at = number * step + chosen.randrange(1, step)
        assert forget(home, selection, kill_at)[0] == -9, kill_at
        code, _ = forget(home, selection)
        assert (code, rows(home), sound(home)) == (0, expected, True), kill_at
        if "session" in selection:
            other = {f"agents/main/workspace/{NOTE}"}
            group = traces(home, SECRET).keys() - other
            assert group <= {"state.db", "index.db"}, kill_at
        else:
            assert traces(home, "in a group").keys() <= {"state.db", "index.db", f"agents/main/workspace/{NOTE}"}
        shutil.rmtree(home)


def rows(home: Path) -> list[tuple[object, ...]]:
    """What the transcripts say, and what was named as forgotten, however often."""
    state = apsw.Connection(str(home / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    said = state.execute("SELECT session_id, seq, role, text FROM messages ORDER BY session_id, seq").fetchall()
    names = state.execute("SELECT kind, name FROM forgotten ORDER BY kind, name").fetchall()
    evidence = state.execute("SELECT key FROM recall_entries ORDER BY key").fetchall()
    state.close()
    return [*said, *names, *evidence]
