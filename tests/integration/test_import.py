"""Importing conversations into a real database: once, whole, and never into somebody else's session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import ImportFileError
from reverie.importers.conversations import ImportReport, import_conversations, session_key
from reverie.sessions.store import SessionStore
from reverie.storage import STATE, Database
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

DAY_MS = 1_683_504_000_000  # 2023-05-08


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncGenerator[SessionStore]:
    """The sessions of an empty home."""
    clock = FakeClock()
    database = await Database.open(tmp_path / "state.db", STATE, now_ms=clock.now_ms())
    yield SessionStore(database, clock)
    await database.aclose()


def turns(session: str, *texts: str) -> list[dict[str, Any]]:
    """A session in which two people talk."""
    return [
        {"session": session, "speaker": ("Vera", "assistant")[n % 2], "text": text, "when": "2023-05-08"}
        for n, text in enumerate(texts)
    ]


def write(path: Path, *histories: tuple[str, Sequence[dict[str, Any]]]) -> Path:
    """A file with these histories."""
    path.write_text("".join(json.dumps({"name": n, "turns": t}) + "\n" for n, t in histories), encoding="utf-8")
    return path


async def run(path: Path, sessions: SessionStore, **options: Any) -> ImportReport:
    """Import a file for the agent `main`."""
    return await import_conversations(path, sessions, agent="main", now_ms=0, **options)


async def transcripts(sessions: SessionStore) -> dict[str, list[str]]:
    """What is recorded: the texts of every session by its key."""
    recorded: dict[str, list[str]] = {}
    for session in await sessions.list_sessions():
        recorded[session.key] = [line.text for line in await sessions.read_lines(session.id, 1, 10_000)]
    return recorded


async def test_sessions_are_recorded(tmp_path: Path, sessions: SessionStore) -> None:
    """Each session of a history becomes one past session, with speakers, dates and order kept."""
    path = write(tmp_path / "a.jsonl", ("talk", turns("S1", "Hi", "Hello") + turns("S2", "Again")))

    report = await run(path, sessions)

    assert report == ImportReport(histories=1, sessions=2, messages_added=3)
    logged = await sessions.messages_after(0, 10)
    assert [(m.position, m.seq, m.role, m.text, m.speaker, m.said_on, m.created_at_ms, m.origin) for m in logged] == [
        (1, 1, "user", "Hi", "Vera", "2023-05-08", DAY_MS, "import"),
        (2, 2, "assistant", "Hello", "assistant", "2023-05-08", DAY_MS, "import"),
        (3, 1, "user", "Again", "Vera", "2023-05-08", DAY_MS, "import"),
    ]
    listed = {
        session.key: (session.title, session.last_interaction_at_ms) for session in await sessions.list_sessions()
    }
    assert listed == {
        session_key("main", "talk", "S1").value: ("talk: S1", DAY_MS),
        session_key("main", "talk", "S2").value: ("talk: S2", DAY_MS),
    }


async def test_twice_adds_nothing(tmp_path: Path, sessions: SessionStore) -> None:
    """The same file again: every message is found present."""
    path = write(tmp_path / "a.jsonl", ("talk", turns("S1", "Hi", "Hello")), ("other", turns("S1", "Hi")))
    await run(path, sessions)
    before = await transcripts(sessions)

    report = await run(path, sessions)

    assert report == ImportReport(histories=2, sessions=2, messages_present=3)
    assert await transcripts(sessions) == before


async def test_longer_conversation_gains_the_rest(tmp_path: Path, sessions: SessionStore) -> None:
    """A conversation that went on since the last import gains what is new."""
    await run(write(tmp_path / "a.jsonl", ("talk", turns("S1", "Hi", "Hello"))), sessions)

    report = await run(write(tmp_path / "a.jsonl", ("talk", turns("S1", "Hi", "Hello", "More"))), sessions)

    assert report == ImportReport(histories=1, sessions=1, messages_added=1, messages_present=2)
    assert await transcripts(sessions) == {"agent:main:import:talk:S1": ["Hi", "Hello", "More"]}


async def test_interrupted_import_goes_on(tmp_path: Path, sessions: SessionStore) -> None:
    """An import that was cut off is finished by the next one, without duplicates and in order."""
    path = write(tmp_path / "a.jsonl", ("one", turns("S1", "a", "b") + turns("S2", "c")), ("two", turns("S1", "d")))

    def interrupt(report: ImportReport) -> None:
        if report.sessions == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await run(path, sessions, progress=interrupt)
    report = await run(path, sessions)

    assert report == ImportReport(histories=2, sessions=3, messages_added=1, messages_present=3)
    assert await transcripts(sessions) == {
        "agent:main:import:one:S1": ["a", "b"],
        "agent:main:import:one:S2": ["c"],
        "agent:main:import:two:S1": ["d"],
    }


async def test_cut_off_inside_a_session(tmp_path: Path, sessions: SessionStore) -> None:
    """A session that was recorded in part is completed."""
    texts = [f"message {n}" for n in range(1_200)]
    await run(write(tmp_path / "part.jsonl", ("talk", turns("S1", *texts[:700]))), sessions)

    report = await run(write(tmp_path / "a.jsonl", ("talk", turns("S1", *texts))), sessions)

    assert report == ImportReport(histories=1, sessions=1, messages_added=500, messages_present=700)
    assert await transcripts(sessions) == {"agent:main:import:talk:S1": texts}


async def test_namesakes_stay_apart(tmp_path: Path, sessions: SessionStore) -> None:
    """Different conversations of one name, in one file or in two, are not joined; each import finds its own again."""
    first = write(tmp_path / "a.jsonl", ("chat", turns("1", "Hi", "Hello")), ("chat", turns("1", "Hi", "Good day")))
    second = write(tmp_path / "b.jsonl", ("chat", turns("1", "What time is it?")))
    await run(first, sessions)
    await run(second, sessions)

    again = [await run(first, sessions), await run(second, sessions)]

    assert [(report.messages_added, report.messages_present) for report in again] == [(0, 4), (0, 1)]
    assert await transcripts(sessions) == {
        "agent:main:import:chat:1": ["Hi", "Hello"],
        "agent:main:import:chat:1~2": ["Hi", "Good day"],
        "agent:main:import:chat:1~3": ["What time is it?"],
    }


async def test_broken_line_keeps_what_stood_before(tmp_path: Path, sessions: SessionStore) -> None:
    """Histories before a broken line are imported; after it is repaired, the rest follows."""
    path = write(tmp_path / "a.jsonl", ("one", turns("S1", "a")))
    good = path.read_text(encoding="utf-8")
    path.write_text(good + "{broken\n", encoding="utf-8")
    with pytest.raises(ImportFileError, match=r"a\.jsonl line 2 is not JSON"):
        await run(path, sessions)

    write(path, ("one", turns("S1", "a")), ("two", turns("S1", "b")))
    report = await run(path, sessions)

    assert report == ImportReport(histories=2, sessions=2, messages_added=1, messages_present=1)


async def test_progress(tmp_path: Path, sessions: SessionStore) -> None:
    """Whoever waits is told after each session."""
    path = write(tmp_path / "a.jsonl", ("one", turns("S1", "a") + turns("S2", "b", "c")))
    seen: list[tuple[int, int]] = []

    def note(report: ImportReport) -> None:
        seen.append((report.sessions, report.messages_added))

    await run(path, sessions, progress=note)

    assert seen == [(1, 1), (2, 3)]
