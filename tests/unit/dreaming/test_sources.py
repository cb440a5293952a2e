"""Passages read anew from where they come from."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from reverie.dreaming.sources import LiveSources, LiveText, said_before
from reverie.testing.fake_transcripts import FakeTranscripts
from reverie.types import least_trusted

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.types import Provenance

pytestmark = pytest.mark.anyio
MAY_8_MS = 1_683_554_160_000


class Programs:
    """Says that a program wrote the lines that begin with a star."""

    async def of_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:
        return tuple("untrusted" if line.startswith("*") else "owner" for line in text.splitlines())


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "memory" / "dreaming").mkdir(parents=True)
    (tmp_path / "memory" / ".dreams").mkdir()
    (tmp_path / "memory" / "2026-04-01.md").write_text(
        "# Day\r\n\r\nThe kiln.\r\n* a page\r\n", encoding="utf-8", newline=""
    )
    for name in ("MEMORY.md", "memory/dreaming/2026-04-01.md", "memory/.dreams/2026-04-01.md", "2026-04-02.md"):
        (tmp_path / name).write_text("Not to be read.\n", encoding="utf-8")
    return tmp_path


def sources(notes: Path, talk: FakeTranscripts | None = None, **more: Any) -> LiveSources:
    return LiveSources({"main": notes}, talk or FakeTranscripts(), bytes_max=1_000, zone=UTC, **more)


async def test_a_note_is_read_whole(notes: Path) -> None:
    """With whose words each line is; a path as older entries spell it leads to the same file and stays as it is."""
    live = sources(notes, authors=Programs())
    lines = ("# Day", "", "The kiln.", "* a page")
    whose: tuple[Provenance, ...] = ("owner", "owner", "owner", "untrusted")

    assert await live.read("main", "memory/2026-04-01.md", 3, 3) == LiveText("memory/2026-04-01.md", 1, lines, whose)
    found = await live.read("main", "./2026-04-01.md", 3, 3)
    assert found is not None
    assert found == LiveText("2026-04-01.md", 1, lines, whose)
    assert (found.trust(1, 3), found.trust(3, 4), found.trust(2, 2), found.trust(4, 5), found.trust(0, 1)) == (
        "owner", "untrusted", "untrusted", "untrusted", "untrusted",
    )  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "memory/2026-04-09.md", "MEMORY.md", "memory/dreaming/2026-04-01.md", "memory/.dreams/2026-04-01.md",
        "2026-04-02.md", "../memory/2026-04-09.md", "/etc/memory/2026-04-09.md", "memory/../MEMORY.md", "",
    ],
)  # fmt: skip
async def test_nothing_else_is_read(notes: Path, path: str) -> None:
    """Neither long-term memory nor what dreaming wrote, nothing hidden and nothing outside of the notes."""
    assert await sources(notes).read("main", path, 1, 1) is None


async def test_what_cannot_be_read_is_not_there(notes: Path) -> None:
    """A link, a file that is too large, another agent's."""
    (notes / "memory" / "2026-05-01.md").symlink_to(notes / "MEMORY.md")
    (notes / "memory" / "2026-05-02.md").write_text("x" * 1_001, encoding="utf-8")

    assert await sources(notes).read("main", "memory/2026-05-01.md", 1, 1) is None
    assert await sources(notes).read("main", "memory/2026-05-02.md", 1, 1) is None
    assert await sources(notes).read("other", "memory/2026-04-01.md", 1, 1) is None


class Miscounting:
    """Gives too few answers."""

    async def of_lines(self, agent: str, text: str) -> tuple[Provenance, ...]:
        return ("owner",)


async def test_lines_of_unknown_authors_are_untrusted(notes: Path) -> None:
    """Where the answer does not fit the file, nothing of it is trusted."""
    found = await sources(notes, authors=Miscounting()).read("main", "memory/2026-04-01.md", 1, 1)

    assert found is not None
    assert found.trust(1, 1) == "untrusted"


async def test_messages_are_read_by_their_numbers(notes: Path) -> None:
    """Only those of people and models, of this agent; each with who said it and when, and whose words it is."""
    talk = FakeTranscripts()
    talk.say("I live in Lisbon.", created_at_ms=MAY_8_MS)
    talk.say("{}", role="tool")
    talk.say("Noted.", role="assistant", created_at_ms=MAY_8_MS)
    talk.say(
        "Hi!",
        session_id="s2",
        speaker="Caroline",
        said_on="1:56 pm on 8 May, 2023",
        created_at_ms=MAY_8_MS,
        origin="import",
    )
    live = sources(notes, talk)

    assert await live.read("main", "sessions/s1", 1, 3) == LiveText(
        "sessions/s1", 1, ("I live in Lisbon.", "", "Noted."), ("owner", "untrusted", "agent"),
        ("(8 May 2023) User: ", "", "(8 May 2023) Assistant: "),
    )  # fmt: skip
    assert await live.read("main", "sessions/s2", 1, 1) == LiveText(
        "sessions/s2", 1, ("Hi!",), ("untrusted",), ("(8 May 2023) Caroline: ",)
    )
    for path, first, last in (("s1", 2, 2), ("s1", 4, 4), ("s1", 0, 1), ("s1", 1, 50), ("s1", 3, 2), ("s9", 1, 1)):
        assert await live.read("main", f"sessions/{path}", first, last) is None
    assert await live.read("other", "sessions/s1", 1, 1) is None


async def test_who_said_it_and_when() -> None:
    """The day is the person's own; of an import what its source said; a name that leads the text stands once."""
    talk = FakeTranscripts()
    late = talk.say("Hello.", created_at_ms=MAY_8_MS + 12 * 3_600_000)
    vague = talk.say("Hello.", speaker="Jon", said_on="last spring\n", created_at_ms=MAY_8_MS, origin="import")
    elsewhere = talk.say(
        "Hello.", speaker="Jon", said_on="2023-05-07T23:00-07:00", created_at_ms=MAY_8_MS, origin="import"
    )
    undated = talk.say("Jon: Hello.", speaker="Jon", created_at_ms=MAY_8_MS, origin="import")

    assert said_before(late, ZoneInfo("Asia/Tokyo")) == "(9 May 2023) User: "
    assert said_before(vague, UTC) == "(last spring) Jon: "
    assert said_before(elsewhere, UTC) == "(2023-05-07T23:00-07:00) Jon: "
    assert said_before(undated, UTC) == ""


def test_the_least_trusted_counts() -> None:
    """Of several; of none whoever is said."""
    assert least_trusted(["owner", "agent"]) == "agent"
    assert least_trusted(["system", "untrusted", "owner"]) == "untrusted"
    assert (least_trusted([]), least_trusted([], default="untrusted")) == ("owner", "untrusted")
