"""Moving from OpenClaw beside a running server, and through any number of kills."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw

from tests.acceptance import killed_import
from tests.acceptance.servers import until
from tests.openclaw import write_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.servers import Server

KILLS = 30
ROWS = 40_000
ROOMY = {"REVERIE_MEMORY__CACHE_ENTRIES_MAX": "1000000", "REVERIE_MEMORY__EMBEDDER": "none"}


def openclaw_home(folder: Path) -> Path:
    """A small OpenClaw home: vectors, notes and a conversation of the agent `main`, a note of another."""
    files = {
        "openclaw.json": "{}",
        "workspace/MEMORY.md": "# Boat\n\nThe dinghy is called Alba.\n",
        "workspace/memory/dreaming/deep/2026-01-01.md": "generated",
        "workspace-ops/memory/2026-01-01.md": "The backup runs at four.\n",
        "agents/main/sessions/s1.jsonl": "\n".join(
            json.dumps({"type": "message", "timestamp": 1_770_000_000, "message": {"role": role, "content": text}})
            for role, text in (("user", "We sold the red sail to Tomas."), ("assistant", "Noted."))
        ),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "memory").mkdir()
    write_source(folder / "memory" / "main.sqlite", range(2_500))
    return folder


def every_file(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file below a folder."""
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def ask(database: Path, sql: str) -> Any:
    """The first value of a query."""
    with closing(apsw.Connection(str(database))) as connection:
        connection.set_busy_timeout(5_000)
        return next(iter(connection.execute(sql)))[0]


def test_a_move_beside_a_server(server: Server, tmp_path: Path) -> None:
    """A home is taken over while the server serves, which then answers from it; again adds nothing."""
    server.environment |= ROOMY
    source = openclaw_home(tmp_path / "openclaw")
    before = every_file(source)
    dry = json.loads(server.run("import", "openclaw", str(source), "--dry-run", "--json").stdout)
    assert not server.home.exists()
    server.start()
    first = json.loads(server.run("import", "openclaw", str(source), "--json").stdout)
    again = json.loads(server.run("import", "openclaw", str(source), "--json").stdout)
    until(lambda: "Alba" in server.chat("What is the dinghy called?").text, "the note is found")
    until(lambda: "Tomas" in server.chat("Who bought the red sail?").text, "the conversation is found")

    assert {kind: [place["count"] for place in places] for kind, places in dry["found"].items()} == {
        "databases": [2_500],
        "workspaces": [1, 1],
        "sessions": [1],
    }
    assert (first["vectors"]["added"], first["files"]["copied"], first["sessions"]["messages_added"]) == (2_500, 2, 2)
    assert first["files"]["skipped"][0]["path"] == "memory/dreaming/deep/2026-01-01.md"
    assert first["settings"]["memory.embedder_model"] == "small"
    assert first["indexed_by_server"]
    assert (again["vectors"]["added"], again["vectors"]["present"]) == (0, 2_500)
    assert (again["files"]["copied"], again["files"]["present"]) == (0, 2)
    assert (again["sessions"]["messages_added"], again["sessions"]["messages_present"]) == (0, 2)
    assert (server.home / "agents/ops/workspace/memory/2026-01-01.md").read_text() == "The backup runs at four.\n"
    assert every_file(source) == before


def test_an_import_that_is_killed_again_and_again(server: Server, tmp_path: Path) -> None:
    """Killed at thirty points, the import goes on each time; at the end every row is there once, the database sound."""
    server.environment |= ROOMY
    server.start()
    source, target = write_source(tmp_path / "main.sqlite", range(ROWS)), server.home / "embeddings.db"
    choose = random.Random(7)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([killed_import.__name__])
    marks = [0]
    for _ in range(KILLS):
        started = processes.Event()
        process = processes.Process(target=killed_import.run, args=(str(source), str(target), 1_000_000, started))
        process.start()
        assert started.wait(20)
        time.sleep(choose.uniform(0, 0.25))
        process.kill()
        process.join()
        marks.append(
            ask(target, "SELECT coalesce(max(last_rowid), 0) FROM imports WHERE source_table = 'embedding_cache'")
        )
        assert ask(target, "SELECT count(*) FROM embeddings") >= marks[-1]
    report = json.loads(server.run("import", "openclaw", str(source), "--json").stdout)

    assert marks == sorted(marks)
    assert len(set(marks)) > 3, "the kills came in the middle"
    assert (report["vectors"]["read"], sum(report["vectors"]["spaces"].values())) == (ROWS, ROWS)
    assert ask(target, "SELECT count(*) FROM embeddings") == ROWS
    assert ask(target, "SELECT count(DISTINCT text_hash) FROM embeddings") == ROWS
    assert ask(target, "PRAGMA integrity_check") == "ok"
    assert server.get("/healthz").status == 200


def test_a_move_as_it_is_shown(server: Server, tmp_path: Path) -> None:
    """Without a server the notes are indexed at once; a person sees what was found, done, left out, and what to set."""
    server.environment |= ROOMY
    source = openclaw_home(tmp_path / "openclaw")
    shown = server.run("import", "openclaw", str(source))
    again = server.run("import", "openclaw", str(source))
    found = json.loads(server.run("search", "dinghy", "--json").stdout)
    words = {" ".join(line.split()) for line in shown.stdout.splitlines()}

    assert shown.returncode == 0, shown.stderr
    assert words >= {
        f"database {source / 'memory' / 'main.sqlite'} 2,500 vectors",
        f"workspace {source / 'workspace-ops'} 1 file for ops",
        f"sessions {source / 'agents' / 'main' / 'sessions'} 1 conversation for main",
        "vectors added 2,500",
        "files copied 2 (60 B)",
        "messages indexed 2",
        "memory.chunker = lines",
    }
    assert "skipped memory/dreaming/deep/2026-01-01.md: a generated report, which is no memory" in shown.stderr
    assert "was imported before and has not changed since" in again.stdout
    assert found["hits"][0]["citation"] == "MEMORY.md#L1-L3"
    assert server.home.stat().st_mode & 0o077 == 0


def test_what_cannot_be_imported(server: Server, tmp_path: Path) -> None:
    """One line says what was looked for, and which agents there are."""
    nothing = server.run("import", "openclaw", str(tmp_path / "nowhere"))
    (tmp_path / "MEMORY.md").write_text("tea", encoding="utf-8")
    nobody = server.run("import", "openclaw", str(tmp_path), "--agent", "nobody")

    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr.startswith(f"error: there is nothing at {tmp_path / 'nowhere'}: give the path of an OpenClaw")
    assert nobody.returncode == 2
    assert "--agent = 'nobody' is not valid: one of this home's agents (main)" in nobody.stderr
