"""What a model sees of memory, and what is remembered about it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from reverie.clock import utc_date
from reverie.config import MemoryConfig
from reverie.errors import EmbedderError
from reverie.memory.recall import RecallEvidence
from reverie.memory.tool_contracts import NOTE, Asker
from reverie.memory.tools import MemoryTools
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder
from reverie.types import SearchHit, ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from reverie.memory.index import IndexStatistics, MemoryExcerpt, MemoryIndex, SearchQuery, SearchResult, SyncReport

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
    answer = await tools_of(memory, evidence, **settings).call(ToolCall("c1", name, text), asker)
    return json.loads(answer.text)


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


async def test_memory_get_reads_a_skill_that_no_search_finds(open_index: OpenIndex) -> None:
    """A skill is read by the path under which it is recalled, as words of anybody; it is no memory."""
    async with open_index() as memory:
        memory.write("skills/deploy/SKILL.md", "---\nname: deploy\n---\nPress the green lever.\n")
        memory.write("skills/deploy/notes.md", "Press the red lever.\n")
        await memory.index.sync_workspace("main")
        read = await call(memory, "memory_get", {"path": "skills/deploy/SKILL.md", "from": 4})
        beside = await call(memory, "memory_get", {"path": "skills/deploy/notes.md"})
        found = await call(memory, "memory_search", {"query": "green lever"})
    assert (read["path"], read["text"], read["provenance"]) == (
        "skills/deploy/SKILL.md",
        "Press the green lever.",
        "untrusted",
    )
    assert beside["error"] == "path required"
    assert found["results"] == []


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


# -- search: deadline, cooldown, what it was looked up by --------------------------------------------------------------


@dataclass
class SlowIndex:
    """An index whose searches never end, over one that answers everything else."""

    index: MemoryIndex
    searches: int = 0
    hangs: bool = True

    async def search(self, query: SearchQuery) -> SearchResult:
        """Wait for ever, unless it has recovered."""
        self.searches += 1
        if self.hangs:
            await asyncio.Event().wait()
        return await self.index.search(query)

    async def get(self, agent: str, path: str, from_line: int | None = None, lines: int | None = None) -> MemoryExcerpt:
        """As the index does."""
        return await self.index.get(agent, path, from_line, lines)

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """As the index does."""
        return await self.index.sync_workspace(agent, paths)

    async def follow_transcripts(self) -> int:
        """As the index does."""
        return await self.index.follow_transcripts()

    def statistics(self) -> IndexStatistics:
        """As the index does."""
        return self.index.statistics()


async def test_a_search_that_takes_too_long_is_not_repeated(open_index: OpenIndex) -> None:
    """After the deadline the same failure comes at once, for that agent, until the cooldown ends; then it recovers."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        slow = SlowIndex(memory.index)
        tools = tools_of(memory, index=slow, tool_s_max=0.5, tool_cooldown_s=60)
        first = await tools.answer("memory_search", {"query": "Luna"}, ASKER)
        memory.clock.advance(seconds=59)
        second = await tools.answer("memory_search", {"query": "something else"}, ASKER)
        searches = slow.searches
        memory.clock.advance(seconds=2)
        slow.hangs = False
        third = await tools.answer("memory_search", {"query": "Luna"}, ASKER)

    assert first["error"] == "memory search did not finish within 0.5 s"
    assert (first["disabled"], first["unavailable"], first["results"]) == (True, True, [])
    assert first["action"].endswith("Searches are tried again after 60 s.")
    assert second == first
    assert searches == 1
    assert [result["path"] for result in third["results"]] == ["MEMORY.md"]


async def test_what_nobody_indexed_yet_is_found(open_index: OpenIndex) -> None:
    """A search without hits compares index and files once, and looks again; beside another process it does not."""
    async with open_index() as memory:
        memory.write("memory/a.md", "The walrus is called Otto.\n")
        memory.transcripts.say("The zebra is called Emma.")
        beside = await call(memory, "memory_search", {"query": "walrus"}, owns_index=False)
        walrus = await call(memory, "memory_search", {"query": "walrus"})
        zebra = await call(memory, "memory_search", {"query": "zebra", "corpus": "sessions"})
        nothing = await call(memory, "memory_search", {"query": "giraffe"})

    assert beside["results"] == []
    assert [result["path"] for result in walrus["results"]] == ["memory/a.md"]
    assert [result["corpus"] for result in zebra["results"]] == ["sessions"]
    assert (nothing["results"], "error" in nothing) == ([], False)


async def test_what_a_search_was_looked_up_by(open_index: OpenIndex) -> None:
    """Words and meaning, and whose; with an embedder that fails, words alone and why."""
    embedder = FakeEmbedder(dims=32)
    async with open_index(embedder=embedder) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
        both = await call(memory, "memory_search", {"query": "Luna"})
        embedder.error = EmbedderError("insufficient_quota")
        words = await call(memory, "memory_search", {"query": "Luna"})

    assert (both["provider"], both["model"], both["mode"]) == ("fake", "bag-of-words", "hybrid")
    assert {"fallback", "partial", "warning"}.isdisjoint(both)
    assert (words["mode"], words["fallback"]["from"], words["partial"]) == ("fts-only", "fake", True)
    assert "insufficient_quota" in words["warning"]
    assert "account" in words["action"]
    assert [result["path"] for result in words["results"]] == ["MEMORY.md"]


async def test_paused_vectors_leave_the_words(open_index: OpenIndex) -> None:
    """What the words find is answered, with a warning that names the command to run."""
    async with open_index(embedder=FakeEmbedder(dims=32)) as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await memory.index.sync_workspace("main")
        await memory.index.settle()
    async with open_index(embedder=FakeEmbedder(dims=16)) as memory:
        answer = await call(memory, "memory_search", {"query": "Luna"})
        state = memory.index.statistics().vectors_state

    assert state == "paused"
    assert [result["path"] for result in answer["results"]] == ["MEMORY.md"]
    assert answer["warning"].startswith("semantic: ")
    assert "`reverie index --rebuild`" in answer["action"]
    assert (answer["mode"], answer["fallback"]["from"]) == ("fts-only", "fake")
    assert "unavailable" not in answer


async def test_the_wiki_is_empty_and_says_so(open_index: OpenIndex) -> None:
    """A corpus that is not kept here is no error."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        answer = await call(memory, "memory_search", {"query": "Luna", "corpus": "wiki"})

    assert answer["results"] == []
    assert "no wiki" in answer["warning"]
    assert "error" not in answer


@pytest.mark.parametrize(("key", "shown"), [("agent:main:main", True), ("agent:main:slack:channel:1", False)])
async def test_citations_follow_the_session(open_index: OpenIndex, key: str, shown: bool) -> None:  # noqa: FBT001 (a table)
    """Where others read along, neither the snippet nor the result names its source as a citation."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        answer = await call(memory, "memory_search", {"query": "Luna"}, asker=Asker("main", session_key=key))
        (result,) = answer["results"]

    assert ("Source:" in result["snippet"], "citation" in result, answer["citations"]) == (shown, shown, "auto")


async def test_evidence_that_cannot_be_written_costs_nothing(open_index: OpenIndex, state_db: Database) -> None:
    """The answer does not depend on it."""
    async with open_index() as memory:
        memory.write("MEMORY.md", "Luna is a cat.\n")
        await state_db.aclose()
        evidence = RecallEvidence(state_db, memory.clock, 100)
        answer = await call(memory, "memory_search", {"query": "Luna"}, evidence)
    assert [result["path"] for result in answer["results"]] == ["MEMORY.md"]


# -- append ------------------------------------------------------------------------------------------------------------


async def test_a_note_is_found_when_the_call_returns(open_index: OpenIndex) -> None:
    """It stands in the file of the day, once, and memory_search and memory_get know it."""
    async with open_index() as memory:
        added = await call(memory, "memory_append", {"text": "The walrus is called Otto."})
        found = await call(memory, "memory_search", {"query": "walrus"}, owns_index=False)
        again = await call(memory, "memory_append", {"text": "The walrus is called Otto."})
        read = await call(memory, "memory_get", {"path": added["path"], "from": added["startLine"], "lines": 1})
        day = added["path"]

    assert day == f"memory/{utc_date(memory.clock.now_ms())}.md"
    assert added == {
        "path": day, "startLine": 3, "endLine": 3, "appended": True, "citation": f"{day}#L3", "indexed": True,
    }  # fmt: skip
    assert [result["path"] for result in found["results"]] == [day]
    assert again == added | {"appended": False, "reason": "this note stands there already"}
    assert read["text"] == "The walrus is called Otto."


@pytest.mark.parametrize(
    ("mode", "path", "error"),
    [
        ("off", None, "notes may not be added"),
        ("daily", "MEMORY.md", "path required: notes go to memory/"),
        ("daily", "memory/people.md", "path required: notes go to memory/"),
        ("any", "AGENTS.md", "path required: notes go to MEMORY.md or memory/"),
        ("any", "../x.md", "path required:"),
    ],
)
async def test_where_notes_may_not_go(open_index: OpenIndex, mode: str, path: str | None, error: str) -> None:
    """The answer says what the settings allow, and nothing is written."""
    async with open_index() as memory:
        asked = {"text": "x"} if path is None else {"text": "x", "path": path}
        answer = await call(memory, "memory_append", asked, append=mode)

        assert (answer["appended"], answer.get("disabled", False)) == (False, mode == "off")
        assert answer["error"].startswith(error)
        assert answer["action"]
        assert [file for file in memory.workspace.rglob("*.md") if file.is_file()] == []


async def test_where_notes_may_go(open_index: OpenIndex) -> None:
    """With `any`, every file of the memory; the day's own name is fine with `daily`."""
    async with open_index() as memory:
        day = f"memory/{utc_date(memory.clock.now_ms())}.md"
        trust: dict[str, Any] = {"append": "any", "append_trust": "agent"}
        lasting = await call(memory, "memory_append", {"text": "A.", "path": "MEMORY.md"}, **trust)
        nested = await call(memory, "memory_append", {"text": "B.", "path": "memory/people/bo.md"}, append="any")
        daily = await call(memory, "memory_append", {"text": "C.", "path": f"./{day}"}, append="daily")

    assert [answer["path"] for answer in (lasting, nested, daily)] == ["MEMORY.md", "memory/people/bo.md", day]
    assert all(answer["appended"] for answer in (lasting, nested, daily))


async def test_notes_are_bounded(open_index: OpenIndex) -> None:
    """A call's text and the file it goes to have a largest size."""
    async with open_index() as memory:
        limits: dict[str, Any] = {"append_bytes_max": 700, "append_file_bytes_max": 1_024}
        long = await call(memory, "memory_append", {"text": "x" * 701}, **limits)
        first = await call(memory, "memory_append", {"text": "x" * 700}, **limits)
        second = await call(memory, "memory_append", {"text": "y" * 700}, **limits)

    assert long["error"].startswith("text has 701 bytes, more than memory.append_bytes_max (700)")
    assert first["appended"] is True
    assert "is full: it takes notes up to 1,024 bytes" in second["error"]


async def test_beside_another_process_the_answer_says_who_indexes(open_index: OpenIndex) -> None:
    """The note is on disk; that it is found is up to whoever has the home."""
    async with open_index() as memory:
        answer = await call(memory, "memory_append", {"text": "The walrus is called Otto."}, owns_index=False)
        assert (answer["appended"], answer["indexed"]) == (True, False)
        assert "Another process" in answer["warning"]
        assert (memory.workspace / answer["path"]).read_text().endswith("The walrus is called Otto.\n")


async def test_a_note_that_is_saved_but_not_indexed(open_index: OpenIndex) -> None:
    """When the index cannot be written the note is not lost, and not said to be."""
    async with open_index() as memory:
        await memory.index_db.aclose()
        answer = await call(memory, "memory_append", {"text": "The walrus is called Otto."})
        assert (answer["appended"], answer["indexed"]) == (True, False)
        assert "saved but not indexed yet" in answer["warning"]


async def test_many_notes_at_once_all_arrive(open_index: OpenIndex) -> None:
    """Twenty calls at the same time, each on lines of its own."""
    async with open_index() as memory:
        tools = tools_of(memory)
        texts = [f"note number {number}" for number in range(20)]
        answers = await asyncio.gather(*(tools.answer("memory_append", {"text": text}, ASKER) for text in texts))
        lines = (memory.workspace / answers[0]["path"]).read_text().splitlines()

    assert [lines[answer["startLine"] - 1] for answer in answers] == texts


# -- the index ---------------------------------------------------------------------------------------------------------


async def test_status_and_sync(open_index: OpenIndex) -> None:
    """What the index holds, and what a comparison with the files changed; names as JSON has them."""
    async with open_index() as memory:
        memory.write("memory/a.md", "The walrus is called Otto.\n")
        (memory.workspace / "memory/link.md").symlink_to(memory.workspace / "memory/a.md")
        tools = tools_of(memory)
        report = await tools.sync("main")
        status = tools.status("main")

    assert report.pop("tookMs") >= 0
    assert report == {
        "agent": "main", "added": 1, "changed": 0, "removed": 0, "renamed": 0, "unchanged": 0, "chunksAdded": 1,
        "chunksReused": 0, "chunksRemoved": 0, "broken": [], "messages": 0,
        "skipped": [{"path": "memory/link.md", "reason": "a symbolic link: not followed"}],
    }  # fmt: skip
    wanted = {"agent": "main", "provider": "none", "memoryDocuments": 1, "chunks": 1, "vectorsState": "off"}
    assert {key: status[key] for key in wanted} == wanted
    assert status["append"] == "daily"
