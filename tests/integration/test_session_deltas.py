"""A long conversation is imported while turns run: everything is indexed, in order, a bounded piece at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.importers.conversations import PastSession, import_session
from reverie.memory.transcripts import FOLLOW_MESSAGES_MAX
from reverie.sessions.store import PastMessage
from reverie.testing import ScriptedModel, reply
from reverie.types import Message, SessionKey, TurnRequest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
MESSAGES = 10_000
TURNS = 12


async def test_ten_thousand_messages_beside_turns(tmp_path: Path) -> None:
    """Lines of the import and of the turns stand in the index once each, in order, read 200 at a time at most."""
    limits: list[int] = []

    def tracer(sql: str, bindings: Any) -> None:
        if "messages.id > :position" in sql:
            limits.append(bindings["limit"])

    config = await asyncio.to_thread(load_config, Home(tmp_path), {})
    said = tuple(
        PastMessage("user" if n % 2 else "assistant", f"message number {n} of the walrus", "", "", n)
        for n in range(MESSAGES)
    )
    with ScriptedModel(*(reply(f"answer {n}") for n in range(TURNS))) as model:
        async with open_app(Home(tmp_path), config, model=model, embedder=None, tracer=tracer) as app:
            importing = asyncio.create_task(
                import_session(app.open.sessions, "main", "past", PastSession("long", said))
            )
            for number in range(TURNS):
                request = TurnRequest(
                    f"t{number}", SessionKey("main", "agent:main:main"), (Message("user", f"question {number}"),)
                )
                feed = await app.submit(request)
                [event async for event in feed.follow()]
            imported = await importing
            assert imported is not None
            session_id, added = imported
            await app.open.memory.follow_transcripts()
            lines = await app.open.memory.database.read(lambda tx: _lines(tx, session_id))
            statistics = app.open.memory.statistics()
            last = await app.open.sessions.last_position()
    assert (added, lines) == (MESSAGES, list(range(1, MESSAGES + 1)))
    assert statistics.log_position == last == MESSAGES + 2 * TURNS
    assert statistics.chunks == MESSAGES + 2 * TURNS
    assert limits
    assert max(limits) <= FOLLOW_MESSAGES_MAX


def _lines(tx: Any, session_id: str) -> list[int]:
    """The lines of a session's chunks in the order they were added."""
    agent_id = tx.value("find_agent", agent="main")
    document_id = tx.value("find_session_document", agent_id=agent_id, path=f"sessions/{session_id}")
    return [row[1] for row in sorted(tx.tuples("list_document_chunks", document_id=document_id))]
