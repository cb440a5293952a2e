"""The foreground never waits: probes and turns are answered while memory is busy, in little memory, soon after a start.

The limits here are loose, so that a busy machine does not fail them; the benchmarks measure the figures.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.acceptance.servers import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.acceptance.servers import Server, WithUpstream

MESSAGES = 2_000
WORDS = (
    "harbour", "mooring", "anchor", "keel", "rudder", "compass", "lantern", "cabin", "galley", "deck", "mast", "sail",
    "rope", "chart", "tide", "current", "island", "lighthouse", "pilot", "captain", "crew", "cargo", "barrel", "voyage",
    "storm", "calm", "breeze", "horizon", "gull", "shore",
)  # fmt: skip


@dataclass
class Probes:
    """How long each probe took, in milliseconds."""

    took_ms: list[float] = field(default_factory=list[float])

    def p99_ms(self) -> float:
        """All but one in a hundred were faster."""
        return sorted(self.took_ms)[int(len(self.took_ms) * 0.99)]


@contextmanager
def probed(server: Server) -> Generator[Probes]:
    """Ask `/healthz` again and again within the block."""
    probes, stop = Probes(), threading.Event()

    def probe() -> None:
        with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)) as connection:
            while not stop.is_set():
                started = time.perf_counter()
                connection.request("GET", "/healthz")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                probes.took_ms.append((time.perf_counter() - started) * 1000)
                stop.wait(0.005)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield probes
    finally:
        stop.set()
        thread.join()


def sentence(number: int) -> str:
    """A sentence that no other number has."""
    words = " ".join(WORDS[(number * step) % len(WORDS)] for step in (1, 3, 7, 11, 13))
    return f"Entry {number} of the log: {words}."


def history(path: Path) -> Path:
    """A past conversation of many sessions."""
    turns = [
        {"session": f"day {number // 40}", "speaker": ("Mia", "assistant")[number % 2], "text": sentence(number)}
        for number in range(MESSAGES)
    ]
    path.write_text(json.dumps({"name": "logbook", "turns": turns}) + "\n", encoding="utf-8")
    return path


def test_an_import_beside_the_server(connected: WithUpstream, tmp_path: Path) -> None:
    """While 2,000 messages are imported, indexed and embedded, probes and turns are answered without a stall."""
    server = connected.server
    file = history(tmp_path / "history.jsonl")
    turns_ms: list[float] = []
    reports: list[str] = []
    importing = threading.Thread(
        target=lambda: reports.append(server.run("import", "conversation", str(file), "--json").stdout)
    )

    def all_embedded() -> bool:
        started = time.perf_counter()
        answer = server.chat(f"Are you there at {len(turns_ms)}?", user=f"caller {len(turns_ms)}")
        turns_ms.append((time.perf_counter() - started) * 1000)
        assert answer.status == 200
        return server.figure("vectors") >= MESSAGES

    with probed(server) as probes:
        importing.start()
        until(all_embedded, "every message has its vector", within_s=25)
        importing.join()

    assert json.loads(reports[0])["messages_added"] == MESSAGES
    assert len(probes.took_ms) > 50
    assert probes.p99_ms() < 200
    assert max(turns_ms) < 2_000
    assert "Entry 1234 of the log" in server.chat("What did entry 1234 of the log say?", user="asker").text


def test_many_files_beside_the_server(connected: WithUpstream) -> None:
    """A folder of notes that appears all at once is indexed without a stall."""
    server = connected.server
    folder = server.workspace / "memory" / "logbook"
    folder.mkdir()
    with probed(server) as probes:
        for number in range(100):
            lines = "\n\n".join(sentence(number * 20 + line) for line in range(20))
            (folder / f"{number}.md").write_text(f"# Page {number}\n\n{lines}\n", encoding="utf-8")
        until(lambda: server.figure("indexed_chunks") >= 500, "every page is indexed", within_s=20)
        answer = server.chat("What did entry 1999 of the log say?", user="asker").text

    assert "memory/logbook/99.md#L35-L41" in answer
    assert len(probes.took_ms) > 20
    assert probes.p99_ms() < 200


def test_a_warm_start_and_an_idle_server(server: Server) -> None:
    """A start on a home that is in use is quick, and the server with its embedder in memory stays small."""
    server.start()
    server.chat("The boat is called Alba.")
    starts_s: list[float] = []
    for _ in range(2):  # the quicker one counts: the other may have met a busy machine
        server.stop()
        started = time.monotonic()
        server.start()
        starts_s.append(time.monotonic() - started)
    server.post("/v1/embeddings", {"model": "reverie", "input": "The boat is called Alba."})
    server.chat("What is the boat called?", user="other")

    assert min(starts_s) < 5
    assert server.memory_kib() < 250 * 1024
