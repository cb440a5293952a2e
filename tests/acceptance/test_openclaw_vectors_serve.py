"""Vectors that OpenClaw paid for are not paid for again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reverie.testing.fake_upstream import FakeUpstream, Plan, serve_in_thread
from tests.openclaw import write_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.servers import Server

MODEL, DIMS = "text-embedding-3-small", 1_536
SHORT = "---\nkind: facts\n---\n# Boat\r\n\nThe dinghy is called Alba. <!-- since spring -->\n"
LONG = [f"{number:04} {'a' * 74}" for number in range(1, 41)]
CHUNKS = [SHORT, *("\n".join(LONG[first:last]) for first, last in ((0, 20), (16, 36), (32, 40)))]
"""What OpenClaw embedded of the two files: twenty lines of 80 fill a chunk, and four of them open the next."""


def test_no_text_is_sent_after_a_move(server: Server, tmp_path: Path) -> None:
    """Under the settings of the report, indexing every note asks the embeddings server for nothing."""
    source = tmp_path / "openclaw"
    (source / "workspace" / "memory").mkdir(parents=True)
    (source / "workspace" / "MEMORY.md").write_bytes(SHORT.encode())
    (source / "workspace" / "memory" / "2026-01-01.md").write_text("\n".join(LONG), encoding="utf-8")
    (source / "memory").mkdir()
    write_source(source / "memory" / "main.sqlite", range(4), dims=DIMS, model=MODEL, texts=CHUNKS)
    upstream = FakeUpstream(Plan(embedding_dims=DIMS))
    with serve_in_thread(upstream.app) as address:
        server.environment |= {
            "REVERIE_MEMORY__EMBEDDER": "openai",
            "REVERIE_MEMORY__EMBEDDER_BASE_URL": f"{address}/v1",
            "REVERIE_MEMORY__EMBEDDER_MODEL": MODEL,
            "REVERIE_MEMORY__CHUNKER": "lines",
        }
        report = json.loads(server.run("import", "openclaw", str(source), "--json").stdout)
        asked = [request.body["input"] for request in upstream.requests]
        found = json.loads(server.run("search", "What is the boat called?", "--json").stdout)

    assert asked == []
    assert report["vectors"]["added"] == report["vectors_computed"] == 4
    assert report["settings"] == {
        "memory.embedder": "openai",
        "memory.embedder_base_url": "https://api.openai.com/v1",
        "memory.embedder_model": MODEL,
        "memory.chunker": "lines",
    }
    assert {hit["citation"] for hit in found["hits"]} >= {"MEMORY.md#L1-L7"}
