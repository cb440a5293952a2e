"""Dreaming with the real process: triggers of real clients, sweeps asked for, many processes on one database."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance import dreaming_process
from tests.acceptance.dreaming_process import STOP
from tests.acceptance.servers import WITHOUT_MEMORY, said_by_user, sdk, until, upstream_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.servers import Server, WithUpstream

TOKEN = "__openclaw_memory_core_short_term_promotion_dream__"
BEGUN = "[dreaming] A sweep over the memory has begun."
RECENT = "[dreaming] A sweep over the memory was begun less than a minute ago; none was begun now."


@pytest.fixture
def served(server: Server) -> Iterator[WithUpstream]:
    """A running server of its own without memory, whose model echoes."""
    server.environment |= WITHOUT_MEMORY
    with upstream_for(server, Plan(echo=True)) as both:
        yield both


def runs(server: Server) -> list[Any]:
    """The runs of dreaming, as the server tells."""
    return server.get("/v1/memory/dreams").json["data"]


def ended(server: Server) -> list[Any]:
    """The runs, once all of them have ended."""

    def found() -> list[Any]:
        listed = runs(server)
        return listed if all(run["endedAt"] for run in listed) else []

    return until(found, "the sweep ends")


def test_a_trigger_of_real_clients(served: WithUpstream) -> None:
    """A small completion for curl and OpenAI's library; no turn, no transcript, no model has anything of it."""
    server = served.server.start()
    body = {"model": "openclaw", "user": "main", "messages": [{"role": "user", "content": f"[cron:7 Dream] {TOKEN}"}]}
    command = ["curl", "--silent", "--include", f"{server.url}/v1/chat/completions", "-d", json.dumps(body)]
    command += ["-H", "Content-Type: application/json"]
    head, _, answer = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout.partition(b"\r\n\r\n")
    assert b"x-reverie-dreaming: processed" in head.lower().splitlines()
    assert json.loads(answer)["choices"][0]["message"]["content"] == BEGUN
    (run,) = ended(server)
    assert (run["cause"], run["state"]) == ("trigger", "done")

    client = sdk(server)
    stream = client.chat.completions.create(
        model="openclaw", user="main", stream=True, messages=[{"role": "user", "content": f"Reminder:\n{TOKEN}\n"}]
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == RECENT

    after = client.chat.completions.create(
        model="openclaw",
        user="main",
        messages=[
            {"role": "user", "content": TOKEN},
            {"role": "assistant", "content": BEGUN},
            {"role": "user", "content": "good morning"},
        ],
    )
    assert after.choices[0].message.content == "good morning"
    assert [said_by_user(request) for request in served.asked] == [["good morning"]]
    assert server.transcript() == [("user", "good morning"), ("assistant", "good morning")]
    assert "dream" not in json.dumps([request.body for request in served.asked])


@pytest.mark.parametrize(
    ("setting", "value", "word"), [("MODE", "off", "disabled"), ("LIMIT", "0", "disabled-by-limit")]
)
def test_a_trigger_of_a_home_that_does_not_dream(served: WithUpstream, setting: str, value: str, word: str) -> None:
    """Why not is said, in words and in a header; nothing is on record."""
    served.server.environment[f"REVERIE_DREAMING__{setting}"] = value
    server = served.server.start()
    answer = server.chat(TOKEN)
    assert (answer.headers["x-reverie-dreaming"], answer.text[:28]) == (word, "[dreaming] Nothing was done:")
    assert runs(server) == []


def test_a_sweep_asked_for_on_the_command_line(served: WithUpstream) -> None:
    """The server does it when one runs, else the command; both are on record, and the status shows the last."""
    server = served.server
    server.home.mkdir()
    alone = json.loads(server.run("memory", "dream", "--json").stdout)
    server.start()
    beside = json.loads(server.run("memory", "dream", "--json", "--now", "2026-04-03T03:00:00Z").stdout)
    assert [done["started"] for done in (alone, beside)] == [True, True]
    ran = [
        (run["cause"], run["state"], list(run["report"]["by_agent"]["main"])) for run in (alone["run"], beside["run"])
    ]
    assert ran == [("manual", "done", ["repair", "notes", "transcripts", "light", "rem", "deep", "diary"])] * 2
    assert beside["run"]["dueAt"] == "2026-04-03T03:00:00.000Z"
    assert runs(server) == [beside["run"], alone["run"]]

    shown = server.run("status").stdout
    assert re.search(r"^dreaming +core, 0 3 \* \* \* \(local\), next ", shown, re.MULTILINE)
    assert f"last {beside['run']['endedAt']} (manual): " in shown
    assert server.get("/v1/status").json["dreaming"]["last"] == beside["run"]
    assert server.figure("dreaming_running") == 0
    refused = server.run("memory", "dream", "--now", "soon")
    assert (refused.returncode, "--now = 'soon' is not valid" in refused.stderr) == (2, True)


def test_a_sweep_that_was_acknowledged_outlives_a_kill(served: WithUpstream) -> None:
    """It is on record before its caller is told."""
    server = served.server.start()
    assert server.chat(TOKEN).text == BEGUN
    server.kill()
    server.start()
    (run,) = runs(server)
    assert run["cause"] == "trigger"


# -- many processes on one database ----------------------------------------------------------------------------------


def sweeps(home: Path) -> list[tuple[str, int]]:
    """The runs that were swept, in order, and by which process."""
    path = home / "sweeps"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [(run_id, int(pid)) for run_id, pid in (line.split(" ") for line in lines)]


@pytest.mark.timeout(180)
def test_of_many_processes_one_fires(tmp_path: Path) -> None:
    """Four processes look at one database at the same moments: each night is swept once, under its own id."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([dreaming_process.__name__])
    nights = list(range(8))
    together = processes.Barrier(4)
    started = [
        processes.Process(target=dreaming_process.run, args=(str(tmp_path), nights, together)) for _ in range(4)
    ]  # fmt: skip
    for process in started:
        process.start()
    for process in started:
        process.join(100)
        assert process.exitcode == 0
    expected = [f"dream:reverie.dreaming.promotion:2026-06-{night + 1:02}T03:00:00Z" for night in nights]
    assert [run_id for run_id, _ in sweeps(tmp_path)] == expected


def test_a_killed_process_is_succeeded_by_another(tmp_path: Path) -> None:
    """Under the same run, when the lease is over; its firing does not come a second time."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([dreaming_process.__name__])
    (tmp_path / STOP).touch()
    alone = processes.Barrier(1)
    first = processes.Process(target=dreaming_process.run, args=(str(tmp_path), [0], alone))
    first.start()
    until(lambda: sweeps(tmp_path), "the first sweeps")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join(20)
    (tmp_path / STOP).unlink()

    second = processes.Process(target=dreaming_process.run, args=(str(tmp_path), [0, 1], alone))
    second.start()
    second.join(30)
    assert second.exitcode == 0
    first_id = "dream:reverie.dreaming.promotion:2026-06-01T03:00:00Z"
    swept = sweeps(tmp_path)
    assert [run_id for run_id, _ in swept] == [first_id, first_id, first_id.replace("06-01", "06-02")]
    assert [pid for _, pid in swept] == [first.pid, second.pid, second.pid]
    with closing(apsw.Connection(str(tmp_path / "state.db"))) as connection:
        found = list(connection.execute("SELECT cause, state, interruptions FROM dream_runs ORDER BY started_at"))
    assert found == [("schedule", "done", 1), ("schedule", "done", 0)]
