"""Recall entries, OpenClaw's files of them, and what was to be forgotten, as the doctor sees them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from reverie.app import forgetter_of, open_memory
from reverie.config import load_config
from reverie.dreaming.forgetting import Selection, Surroundings
from reverie.dreaming.openclaw_store import STORE
from reverie.testing import FakeEmbedder
from tests.integration.doctor.conftest import finding, fixed, wrong

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Ward

pytestmark = pytest.mark.anyio

ENTRY = (
    "INSERT INTO recall_entries (agent, key, path, start_line, end_line, snippet, recall_count, daily_count, "
    "grounded_count, total_score, max_score, first_recalled_at, last_recalled_at, queries, user_queries, days, tags, "
    "claim_hash, provenance, light_hits, rem_hits) VALUES ('main', ?, 'memory/2026-05-04.md', 3, 3, ?, 1, 0, 0, 0.5, "
    "0.5, 1700000000000, 1700000000000, '[\"a\"]', '[\"a\"]', '[\"2023-11-14\"]', '[\"drum\"]', '', 'owner', 0, 0)"
)


async def test_entries_that_are_no_use_are_repaired(ward: Ward) -> None:
    """They are told with the reason; --fix removes them, and the others stay."""
    ward.sql("state.db", ENTRY, "k1", "The drum squeaked all day.")
    ward.sql("state.db", ENTRY, "k2", "")
    seen = await ward.examine()
    treated = await ward.treat()

    assert wrong(seen) == [("warning", "dreaming.recalls_recall_store_invalid")]
    assert "empty: 1" in finding(seen, "dreaming.recalls_recall_store_invalid").what
    assert fixed(treated) == ["dreaming.recalls_recall_store_invalid"]
    assert ward.sql("state.db", "SELECT key FROM recall_entries") == [("k1",)]
    assert finding(await ward.examine(), "dreaming.recalls").what == "1 recall entry in order"


async def test_files_of_openclaw_are_repaired(ward: Ward) -> None:
    """What holds no JSON is an error; --fix puts it aside, and a clean file takes its place."""
    ward.note(STORE, "{")
    seen = await ward.examine()
    treated = await ward.treat()

    assert wrong(seen) == [("error", "dreaming.recalls_recall_store_unreadable")]
    assert not seen.ok
    assert fixed(treated) == ["dreaming.recalls_recall_store_unreadable"]
    assert treated.ok
    text = await asyncio.to_thread((ward.workspace / STORE).read_text)
    assert json.loads(text)["entries"] == {}


async def test_an_interrupted_forgetting_is_told(ward: Ward) -> None:
    """The conversation still stands though it was to go: the remedy is the command that finishes it."""
    ((session,),) = ward.sql("state.db", "SELECT id FROM sessions")
    ward.sql("state.db", "INSERT INTO forgotten VALUES ('main', 'session', ?, 1)", session)
    seen = await ward.examine()

    assert wrong(seen) == [("warning", "dreaming.forgetting")]
    assert f"--session {session} --agent main --apply" in finding(seen, "dreaming.forgetting").remedy
    assert fixed(await ward.treat()) == []


async def test_what_was_forgotten_is_not_missing(ward: Ward) -> None:
    """A note that stays on disk though it is forgotten is in step with the index, and --fix brings nothing back."""
    config = await asyncio.to_thread(load_config, ward.home)
    async with open_memory(ward.home, config, embedder=FakeEmbedder()) as opened:
        forgetter = await forgetter_of(opened, Surroundings(alone=True))
        await forgetter.apply("main", Selection(source="memory/2026-05-04.md"))
        await forgetter.apply("main", Selection(participant="Vera"))

    assert wrong(await ward.examine()) == []
    assert await ward.found("drum squeaked") == []
    ward.deep = True
    assert wrong(await ward.examine()) == []
