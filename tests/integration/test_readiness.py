"""Whether the files of a home can be written, tried out on real ones."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.readiness import DRAINING, STARTING, STORAGE, WORKSPACE, Condition, Readiness, WritabilityProbe
from reverie.sessions.figures import InboxFigures, SessionQueue, read_inbox_figures
from reverie.sessions.store import SessionStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def state_at(folder: Path) -> AsyncGenerator[Database]:
    """An open, empty `state.db`."""
    database = await Database.open(folder / "state.db", STATE, now_ms=0)
    try:
        yield database
    finally:
        await database.aclose()


def ready() -> Readiness:
    """Readiness after the start."""
    readiness = Readiness()
    readiness.discard(STARTING)
    return readiness


async def test_a_home_that_can_be_written(tmp_path: Path) -> None:
    """Nothing is in the way, one commit was made, and no file is left behind."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    async with state_at(tmp_path) as state:
        readiness = ready()
        await WritabilityProbe(readiness, state, [workspace]).check()
        commits = state.statistics().writes
    assert (readiness.ready, commits, list(workspace.iterdir())) == (True, 1, [])


async def test_writes_of_others_save_the_probe(tmp_path: Path) -> None:
    """What was committed since the last try says the same; without any, the probe commits itself."""
    async with state_at(tmp_path) as state:
        probe = WritabilityProbe(ready(), state, [])
        await state.write(lambda tx: tx.execute("note_probe"))
        await probe.check()
        after_others = state.statistics().writes
        await probe.check()
        assert (after_others, state.statistics().writes) == (1, 2)


async def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    """It is named with its cause, and counts as ready again by itself."""
    workspace = tmp_path / "workspace"
    async with state_at(tmp_path) as state:
        readiness = ready()
        probe = WritabilityProbe(readiness, state, [workspace])
        await probe.check()
        found = readiness.messages
        assert found == {
            WORKSPACE: f"{workspace} cannot be written (No such file or directory): check its permissions and the free "
            "space."
        }
        workspace.mkdir()
        await probe.check()
        assert readiness.ready


async def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    """After the deadline the reason stands; no second write is begun beside the first, whose end clears the reason."""
    held = threading.Event()
    async with state_at(tmp_path) as state:
        readiness = ready()
        probe = WritabilityProbe(readiness, state, [], try_s_max=0.05)
        blocking = asyncio.create_task(state.write(lambda _: held.wait(10)))
        await asyncio.sleep(0.02)
        await probe.check()
        await probe.check()
        waiting = state.statistics().waiting_writes
        messages = dict(readiness.messages)
        held.set()
        await blocking
        await probe.check()

        assert messages == {STORAGE: "a write has not ended within 0.05 s"}
        assert waiting == 1
        assert readiness.ready


async def test_a_database_that_refuses(tmp_path: Path) -> None:
    """Its error is the message; while it stands, each round tries anew."""
    async with state_at(tmp_path) as state:
        readiness = ready()
        probe = WritabilityProbe(readiness, state, [])
        await state.aclose()
        await probe.check()
        assert readiness.messages == {STORAGE: f"{tmp_path / 'state.db'} is closed"}


async def test_the_loop_of_the_probe_ends_with_its_tries(tmp_path: Path) -> None:
    """Cancelled while a write hangs, it leaves no task behind."""
    held = threading.Event()
    async with state_at(tmp_path) as state:
        before = asyncio.all_tasks()
        probe = WritabilityProbe(ready(), state, [], try_s_max=0.01)
        blocking = asyncio.create_task(state.write(lambda _: held.wait(10)))
        await asyncio.sleep(0.02)
        running = asyncio.create_task(probe.run(0.01))
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.wait({running})
        held.set()
        await blocking
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before


def test_conditions_say_what_readiness_rests_on() -> None:
    """Four are required; advisory ones are asked beside them and do not count."""
    advisory = Condition("UpstreamAnswering", "False", "advisory", "upstream_circuit_open", "down")
    readiness = Readiness(advisory=(lambda: advisory,))
    starting = readiness.conditions()[0]
    readiness.discard(STARTING)
    unready_before = not readiness.ready
    readiness.add(DRAINING, "stopping")

    assert starting == Condition(
        "GatewayStartupComplete", "False", "required", STARTING, "the stores and loops are being opened"
    )
    assert not unready_before
    assert [(condition.type, condition.status) for condition in readiness.conditions()] == [
        ("GatewayStartupComplete", "True"),
        ("GatewayAcceptingWork", "False"),
        ("StorageWritable", "True"),
        ("WorkspaceWritable", "True"),
        ("UpstreamAnswering", "False"),
    ]


ROWS = """
INSERT INTO sessions (id, key, agent, origin, title, started_at, last_interaction_at, updated_at)
VALUES ('s1', 'agent:main:late', 'main', 'live', '', 0, 0, 0), ('s2', 'agent:main:busy', 'main', 'live', '', 0, 0, 0),
       ('s3', 'agent:main:idle', 'main', 'live', '', 0, 0, 0);
INSERT INTO turns (id, session_id, position, state, request, accepted_at)
VALUES ('t1', 's1', 1, 'running', '{}', 1000), ('t2', 's2', 1, 'queued', '{}', 2000),
       ('t3', 's2', 2, 'accepted', '{}', 3000), ('t4', 's1', 2, 'accepted', '{}', 4000),
       ('t5', 's3', 1, 'answered', '{}', 500);
INSERT INTO compactions (id, session_id, state, cause, first_seq, last_seq, created_at)
VALUES ('c1', 's1', 'preparing', 'manual', 1, 2, 0), ('c2', 's2', 'preparing', 'manual', 1, 2, 0);
UPDATE compactions SET state = 'adopted' WHERE id = 'c1';
DELETE FROM compactions WHERE id = 'c2';
"""


def write_rows(path: Path) -> None:
    """Three sessions, one of them idle, and two compactions, one of which was removed again."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(ROWS)


async def test_the_inbox_in_figures(tmp_path: Path) -> None:
    """Turns and compactions by state, and per session how many wait and for how long; idle sessions are not listed."""
    async with state_at(tmp_path) as state:
        await asyncio.to_thread(write_rows, state.path)
        figures = await read_inbox_figures(state, 5_000)
        totals = await SessionStore(state, FakeClock()).totals()

    assert figures == InboxFigures(
        {"accepted": 2, "answered": 1, "queued": 1, "running": 1},
        {"adopted": 1},
        (SessionQueue("agent:main:busy", 2, 0, 3_000), SessionQueue("agent:main:late", 1, 1, 1_000)),
    )
    assert (figures.waiting, figures.running, figures.oldest_wait_ms) == (3, 1, 3_000)
    assert (totals.sessions, totals.messages, totals.turns) == (3, 0, figures.turns)
