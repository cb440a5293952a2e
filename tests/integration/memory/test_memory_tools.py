"""What a model sees of memory, and what is remembered about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import MemoryConfig
from reverie.memory.recall import RecallEvidence
from reverie.memory.tool_contracts import NOTE, Asker
from reverie.memory.tools import MemoryTools
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import SearchHit, ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def state_db(tmp_path: Path) -> AsyncGenerator[Database]:
    """The database that holds the evidence."""
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    yield database
    await database.aclose()


ASKER = Asker("main", "tool", "agent:main:main", "s9", "t9")


def tools_of(memory: Any, evidence: RecallEvidence | None = None, **settings: Any) -> MemoryTools:
    """The tools over an opened index."""
    owns_index = settings.pop("owns_index", True)
    return MemoryTools(
        settings.pop("index", memory.index),
        evidence,
        workspaces={"main": memory.workspace},
        embedder=memory.embedder,
        config=MemoryConfig(**settings),
        clock=memory.clock,
        owns_index=owns_index,
    )


async def call(
    memory: Any,
    name: str,
    arguments: Any,
    evidence: RecallEvidence | None = None,
    asker: Asker = ASKER,
    **settings: Any,
) -> Any:
    """Run a tool as a model does, and parse its answer."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return json.loads(await tools_of(memory, evidence, **settings).call(ToolCall("c1", name, text), asker))


async def test_memory_search_answers_in_its_contract(open_index: OpenIndex) -> None:
    """Results carry path, lines, score, a snippet that ends with its source, and a note that they are data."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "# Pets\n\nLuna is a cat.\n")
        await memory.index.sync_workspace("main")
        answer = await call(memory, "memory_search", {"query": "Luna"})
        score = answer["results"][0].pop("score")
        assert 0 < score <= 1
        assert answer == {
            "note": NOTE,
            "citations": "auto",
            "mode": "fts-only",
            "model": None,
            "provider": "none",
            "results": [
                {
                    "path": "MEMORY.md",
                    "startLine": 1,
                    "endLine": 3,
                    "snippet": "# Pets\n\nLuna is a cat.\n\nSource: MEMORY.md#L1-L3",
                    "source": "memory",
                    "citation": "MEMORY.md#L1-L3",
                    "corpus": "memory",
                }
            ],
        }


async def test_limits_of_a_search_are_respected(open_index: OpenIndex) -> None:
    """maxResults, minScore and corpus narrow the answer; long snippets are cut."""
    async with open_index() as memory:
        for number in range(9):
            memory.write(f"memory/{number}.md", f"walrus number{number} {'tusk ' * 70}\n")
        memory.transcripts.say("walrus in talk " + "long " * 300)
        await memory.index.sync_workspace("main")
        await memory.index.follow_transcripts()
        assert len((await call(memory, "memory_search", {"query": "walrus", "maxResults": 3}))["results"]) == 3
        assert len((await call(memory, "memory_search", {"query": "walrus", "maxResults": "2"}))["results"]) == 2
        assert (await call(memory, "memory_search", {"query": "walrus zebra", "minScore": "1.0"}))["results"] == []
        sessions = (await call(memory, "memory_search", {"query": "walrus", "corpus": "sessions"}))["results"]
        assert [result["corpus"] for result in sessions] == ["sessions"]
        assert len(sessions[0]["snippet"].split("\n\nSource:")[0]) == 700


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("{not json", "the arguments are not JSON"),
        ("[]", "the arguments must be a JSON object"),
        ({}, "query must be a string"),
        ({"query": " "}, "query must be a string"),
        ({"query": "x", "maxResults": 0}, "maxResults must be a positive"),
        ({"query": "x", "maxResults": 1.5}, "maxResults must be a whole"),
        ({"query": "x", "maxResults": True}, "maxResults must be a whole"),
        ({"query": "x", "minScore": "high"}, "minScore must be a number"),
        ({"query": "x", "minScore": "nan"}, "minScore must be a number"),
        ({"query": "x", "maxResults": 10**400}, "maxResults must be a whole"),
        ({"query": "x", "corpus": "web"}, "corpus must be one of memory, sessions, wiki, all"),
        ({"query": "x", "corpus": ["memory"]}, "corpus must be one of memory, sessions, wiki, all"),
    ],
)
async def test_wrong_arguments_are_answered_not_raised(open_index: OpenIndex, arguments: Any, error: str) -> None:
    """The model reads what was wrong and can call again."""
    async with open_index() as memory:
        answer = await call(memory, "memory_search", arguments)
        assert answer["results"] == []
        assert answer["error"].startswith(error)
        assert "disabled" not in answer


async def test_a_search_that_cannot_run_says_so(open_index: OpenIndex) -> None:
    """A closed index becomes the structured answer of the contract."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna\n")
        await memory.index.sync_workspace("main")
        await memory.index_db.aclose()
        answer = await call(memory, "memory_search", {"query": "Luna"})
        assert {key: answer[key] for key in ("results", "disabled", "unavailable")} == {
            "results": [],
            "disabled": True,
            "unavailable": True,
        }
        assert answer["error"]
        assert answer["warning"]
        assert answer["action"]


async def test_memory_get_reads_what_was_cited(open_index: OpenIndex) -> None:
    """Lines come back with where to go on; a wrong path is an error in the answer, a missing file is empty."""
    async with open_index() as memory:
        memory.write("memory/a.md", "line\n" * 500)
        answer = await call(memory, "memory_get", {"path": "memory/a.md", "from": 2, "lines": 2})
        assert answer == {"note": NOTE, "path": "memory/a.md", "startLine": 2, "endLine": 3, "text": "line\nline"}
        whole = await call(memory, "memory_get", {"path": "memory/a.md"})
        assert (whole["truncated"], whole["nextLine"]) == (True, 401)
        wrong = await call(memory, "memory_get", {"path": "../etc/passwd"})
        action = "'../etc/passwd' is not a path inside the memory. Use a path that memory_search cites."
        refused = {"path": "../etc/passwd", "text": "", "disabled": True, "error": "path required", "action": action}
        assert wrong == refused
        assert (await call(memory, "memory_get", {"path": "memory/none.md"}))["text"] == ""
        assert (await call(memory, "memory_get", {}))["error"] == "path required"
        assert (await call(memory, "memory_get", {"path": "MEMORY.md", "from": "x"}))[
            "error"
        ] == "from must be a whole number"
        below = await call(memory, "memory_get", {"path": "memory/a.md", "from": -3, "lines": "0"})
        assert (below["startLine"], below["endLine"]) == (1, 1)
        assert (await call(memory, "memory_fly", {}))["error"] == "there is no memory tool named 'memory_fly'"


async def test_the_tools_are_described_for_a_model(open_index: OpenIndex) -> None:
    """Functions in OpenAI's format, whose corpus is a flat list of words; none writes where writing is off."""
    async with open_index() as memory:
        offered = tools_of(memory).definitions()
        quiet = tools_of(memory, append="off").definitions()
    assert [tool["function"]["name"] for tool in offered] == ["memory_search", "memory_get", "memory_append"]
    assert [tool["function"]["name"] for tool in quiet] == ["memory_search", "memory_get"]
    corpus = offered[0]["function"]["parameters"]["properties"]["corpus"]
    assert (corpus["type"], corpus["enum"]) == ("string", ["memory", "sessions", "wiki", "all"])


async def test_a_search_leaves_evidence(open_index: OpenIndex, state_db: Database) -> None:
    """Who asked what, and what it surfaced, best first."""
    clock = FakeClock()
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await call(memory, "memory_search", {"query": "Luna\n\x00"}, RecallEvidence(state_db, clock, 100))
    events = await state_db.read(lambda tx: tx.rows("list_recall_events", limit=10))
    assert events == [
        {
            "id": 1,
            "at": clock.now_ms(),
            "agent": "main",
            "session_id": "s9",
            "turn_id": "t9",
            "kind": "tool",
            "query": "Luna \ufffd",
            "hits": 1,
        }
    ]
    hits = await state_db.read(lambda tx: tx.rows("list_recall_hits", event_id=1))
    assert [(h["rank"], h["path"], h["start_line"], h["snippet"]) for h in hits] == [
        (1, "MEMORY.md", 1, "Luna is a cat.")
    ]


async def test_evidence_is_bounded(state_db: Database) -> None:
    """Old searches give way to new ones, with what they surfaced."""
    evidence = RecallEvidence(state_db, FakeClock(), events_max=5)
    hit = SearchHit("memory", "MEMORY.md", 1, 1, "x" * 5_000, 0.5)
    for number in range(12):
        await evidence.record("api", "main", f"query {number}" + "y" * 5_000, [hit] * 3)
    events = await state_db.read(lambda tx: tx.rows("list_recall_events", limit=100))
    assert [event["query"].rstrip("y") for event in events] == [f"query {n}" for n in (11, 10, 9, 8, 7)]
    assert all(len(event["query"]) == 1_000 for event in events)
    kept = await state_db.read(lambda tx: [len(tx.rows("list_recall_hits", event_id=n)) for n in (7, 8, 12)])
    assert kept == [0, 3, 3]
