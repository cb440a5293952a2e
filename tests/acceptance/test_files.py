"""Files and the real process: killed while it indexes, without handles to watch, with files that it must leave out."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from reverie.testing.edit_storm import EditStorm, damage, indexed_files, write_notes
from tests.acceptance.servers import Server, server_at, until

if TYPE_CHECKING:
    from reverie.testing.edit_storm import IndexedFile

KILLS = 30
FILES = 300
SEED = 20_261_121
WORDS_ONLY = {"REVERIE_MEMORY__EMBEDDER": "none"}

pytestmark = pytest.mark.acceptance


def indexed_anew(server: Server) -> dict[str, IndexedFile]:
    """What an index holds that is made from the same files now."""
    with server_at(server.home.with_name("anew")) as fresh:
        fresh.environment |= WORDS_ONLY
        fresh.workspace.parent.mkdir(parents=True)
        shutil.copytree(server.workspace, fresh.workspace)
        fresh.run("index")
        return indexed_files(fresh.home / "index.db")


@pytest.mark.timeout(240)
def test_killed_while_files_are_indexed(server: Server) -> None:
    """Thirty times killed in the middle of an edit storm: the database is whole each time, and the index in step."""
    server.environment |= WORDS_ONLY
    paths = write_notes(server.workspace, FILES, seed=SEED)
    storm, choose = EditStorm(server.workspace, paths, seed=SEED), random.Random(SEED)
    assert server.run("index").returncode == 0
    killed = 0
    for _ in range(KILLS):
        for _ in range(FILES):
            storm.change()
        process = server.begin("index")
        until(lambda process=process: _writes(server) or process.poll() is not None, "it writes")
        time.sleep(choose.uniform(0, 0.15))
        process.kill()
        process.communicate(timeout=20)
        killed += process.returncode == -signal.SIGKILL
        assert damage(server.home / "index.db") == []
    assert server.run("index").returncode == 0
    assert damage(server.home / "index.db") == []
    assert killed > KILLS // 2
    assert indexed_files(server.home / "index.db") == indexed_anew(server)


def test_without_handles_files_are_compared(server: Server) -> None:
    """When the system has no handles to watch with, edits are found by comparing, and status says so."""
    limited = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    server.wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"]
    if subprocess.run([*server.wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody make a namespace of their own")
    server.environment |= WORDS_ONLY
    server.start()
    (server.workspace / "memory/a.md").write_text("The walrus is called Olga.\n")
    until(lambda: "memory/a.md" in indexed_files(server.home / "index.db"), "the note is indexed")
    index = json.loads(server.run("status", "--json").stdout)["index"]
    assert index["watch"].startswith("polling: ")
    assert "watch_failed" in server.log


def test_status_names_files_that_are_left_out(server: Server) -> None:
    """A link, a file over the bound and a damaged one are in `reverie status`, with reasons, beside the server."""
    server.environment |= WORDS_ONLY | {"REVERIE_MEMORY__FILE_BYTES_MAX": "1024"}
    server.start()
    (server.workspace / "memory/large.md").write_text("x" * 2_000)
    (server.workspace / "memory/damaged.md").write_bytes(b"\xff walrus\n")
    (server.workspace / "memory/link.md").symlink_to("/etc/passwd")
    found = until(lambda: _notices(server), "all three are noticed")
    advice = "split it into smaller files, or raise memory.file_bytes_max"
    assert found == [
        "damaged memory/damaged.md: some bytes are not UTF-8 and were replaced",
        f"skipped memory/large.md: 2,000 bytes, more than the limit of 1,024: {advice}",
        "skipped memory/link.md: a symbolic link: not followed",
    ]


def _writes(server: Server) -> bool:
    """Whether something is committed that is not folded into the database file yet."""
    try:
        return (server.home / "index.db-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _notices(server: Server) -> list[str]:
    lines = sorted(line for line in server.run("status").stderr.splitlines() if line.startswith(("skipped", "damaged")))
    return lines if len(lines) == 3 else []
