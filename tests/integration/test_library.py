"""The library: memory without a server, on real files."""

from __future__ import annotations

import asyncio
import doctest
from typing import TYPE_CHECKING, Any

import pytest

import reverie
import reverie.library
from reverie.errors import ConfigError, EmbedderError, HomeInUseError, MemoryPathError
from reverie.library import AddedConversation, Memory, Note
from reverie.memory.index import MemoryExcerpt
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.types import SearchHit

pytestmark = pytest.mark.anyio

TODAY = "memory/2026-01-01.md"


def opened(home: Path, **options: Any) -> Any:
    """The memory of a home, on a clock that stands still."""
    doubles: dict[str, Any] = {"clock": FakeClock(), "embedder": FakeEmbedder()}
    return Memory.open(home, **doubles | options)


def places(hits: list[SearchHit]) -> list[str]:
    """Where hits stand."""
    return [hit.path for hit in hits]


def test_the_example_in_the_documentation() -> None:
    """The example of the class does what it says, with the embedder that is bundled."""
    result = doctest.testmod(reverie.library, raise_on_error=True)

    assert (result.attempted > 0, result.failed) == (True, 0)


def test_public_name() -> None:
    """`from reverie import Memory` is this class."""
    assert reverie.Memory is Memory


async def test_a_note_is_found_at_once(tmp_path: Path) -> None:
    """A note is written into today's file and is found when `add` returns."""
    async with opened(tmp_path) as memory:
        first = await memory.add("The dentist is in Linden Street.")
        second = await memory.add("Two lines:\nthe second one.")

        assert (first, second) == (Note(TODAY, 3, 3), Note(TODAY, 5, 6))
        assert (first.citation, second.citation) == (f"{TODAY}#L3", f"{TODAY}#L5-L6")
        text = await asyncio.to_thread((memory.workspace / TODAY).read_text, encoding="utf-8")
        assert text == "# 2026-01-01\n\nThe dentist is in Linden Street.\n\nTwo lines:\nthe second one.\n"
        assert places(await memory.search("dentist", limit=1)) == [TODAY]


async def test_a_note_has_its_vector_at_once(tmp_path: Path) -> None:
    """With a quick embedder a note is found by its meaning too when `add` returns."""
    embedder = FakeEmbedder()
    async with opened(tmp_path, embedder=embedder) as memory:
        await memory.settle()
        before = embedder.passages
        await memory.add("The dentist is in Linden Street.")

        assert embedder.passages == before + 1
        (hit,) = await memory.search("dentist", limit=1)
        assert hit.parts["similarity"] > 0


async def test_a_slow_embedder_delays_nothing(tmp_path: Path) -> None:
    """While the embedder is busy a note is found by its words; its vector follows."""
    hold = asyncio.Event()
    embedder = FakeEmbedder(hold=hold)  # pyright: ignore[reportArgumentType] (an asyncio event waits alike)
    async with opened(tmp_path, embedder=embedder) as memory:
        await memory.add("The dentist is in Linden Street.")

        assert embedder.passages == 0
        hold.set()
        await memory.settle()
        assert embedder.passages > 0


async def test_a_failing_embedder_costs_meaning_only(tmp_path: Path) -> None:
    """When the embedder fails, notes are written and found by their words; `settle` says what is wrong."""
    async with opened(tmp_path, embedder=FakeEmbedder(error=EmbedderError("broken"))) as memory:
        await memory.add("The dentist is in Linden Street.")

        assert places(await memory.search("dentist", limit=1)) == [TODAY]
        with pytest.raises(EmbedderError):
            await memory.settle()


async def test_without_an_embedder(tmp_path: Path) -> None:
    """Without an embedder memory works by words alone."""
    async with opened(tmp_path, embedder=None) as memory:
        await memory.add("The dentist is in Linden Street.")

        assert places(await memory.search("dentist", limit=1)) == [TODAY]


async def test_many_at_once(tmp_path: Path) -> None:
    """Notes added side by side all arrive, each in lines of its own."""
    async with opened(tmp_path) as memory:
        notes = await asyncio.gather(*(memory.add(f"Note number {n}.") for n in range(20)))

        lines = {note.start_line for note in notes}
        text = await asyncio.to_thread((memory.workspace / TODAY).read_text, encoding="utf-8")
    assert len(lines) == 20
    assert all(f"Note number {n}.\n" in text for n in range(20))


async def test_reopened(tmp_path: Path) -> None:
    """What was added is found the next time; so is what a person wrote meanwhile."""
    async with opened(tmp_path) as memory:
        await memory.add("The dentist is in Linden Street.")
        workspace = memory.workspace
    await asyncio.to_thread((workspace / "MEMORY.md").write_text, "The plumber is called Brown.\n", encoding="utf-8")

    async with opened(tmp_path) as memory:
        assert places(await memory.search("dentist", limit=1)) == [TODAY]
        assert places(await memory.search("plumber", limit=1)) == ["MEMORY.md"]


async def test_excerpts(tmp_path: Path) -> None:
    """A hit's path leads to its lines; what is not there is empty; outside is refused."""
    async with opened(tmp_path) as memory:
        note = await memory.add("one\ntwo\nthree")

        assert await memory.get(TODAY, note.start_line + 1, 1) == MemoryExcerpt(TODAY, 4, 4, "two", cut=False)
        assert (await memory.get("memory/1999-01-01.md")).text == ""
        with pytest.raises(MemoryPathError):
            await memory.get("../../state.db")


async def test_conversation(tmp_path: Path) -> None:
    """A conversation is recorded once, is found, and gains what is said later."""
    conversation: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My bicycle is green.", "when": "2025-12-24"},
        {"speaker": "assistant", "text": "Noted."},
    ]
    async with opened(tmp_path) as memory:
        added = await memory.add_conversation(conversation, session="bikes")
        again = await memory.add_conversation(
            [*conversation, {"role": "user", "content": "And fast."}], session="bikes"
        )

        assert added == AddedConversation(added.path, 2, 0, {"instructions": 1})
        assert again == AddedConversation(added.path, 1, 2, {"instructions": 1})
        assert added.path.startswith("sessions/")
        (hit,) = await memory.search("green bicycle", limit=1, sources=["sessions"])
        assert (hit.path, hit.start_line, hit.speaker, hit.when) == (added.path, 1, "user", "2025-12-24")
        assert (await memory.get(added.path, 3)).text == "user: And fast."


async def test_agents_are_apart(tmp_path: Path) -> None:
    """An agent that does not exist yet is made, and does not see another one's memory."""
    async with opened(tmp_path) as memory:
        await memory.add("The dentist is in Linden Street.")

    async with opened(tmp_path, agent="work") as memory:
        assert memory.workspace == tmp_path / "agents" / "work" / "workspace"
        assert await memory.search("dentist", sources=["memory"], min_score=0.5) == []


@pytest.mark.parametrize("agent", ["", "../x", "Work", "a b"])
async def test_names_of_agents(tmp_path: Path, agent: str) -> None:
    """An agent's name is a plain word; nothing outside the home can be reached by it."""
    with pytest.raises(ConfigError):
        async with opened(tmp_path, agent=agent):
            pass


async def test_searches_are_evidence(tmp_path: Path) -> None:
    """What a search returned is recorded, as coming from the library."""
    async with opened(tmp_path) as memory:
        await memory.add("The dentist is in Linden Street.")
        hits = await memory.search("dentist")

    database = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    (event,) = await database.read(lambda tx: tx.rows("list_recall_events", limit=10))
    await database.aclose()
    assert (event["kind"], event["query"], event["hits"]) == ("api", "dentist", len(hits))


async def test_a_home_is_open_once(tmp_path: Path) -> None:
    """A second process or object is refused, and told who has the home."""
    async with opened(tmp_path):
        with pytest.raises(HomeInUseError, match="is in use by another Reverie"):
            async with opened(tmp_path):
                pass


async def test_blank_note(tmp_path: Path) -> None:
    """A note needs some text."""
    async with opened(tmp_path) as memory:
        with pytest.raises(MemoryPathError, match="a note needs some text"):
            await memory.add("  \n ")
