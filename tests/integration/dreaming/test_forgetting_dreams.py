"""Forgetting meets dreaming, OpenClaw's files, and a memory of real size."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from reverie.dreaming.openclaw_store import PHASES, STORE
from reverie.importers.conversations import PastSession, import_session
from reverie.memory.index import SearchQuery
from reverie.sessions.store import PastMessage
from reverie.testing import FakeClock, reply
from tests.integration.dreaming.forgetting_world import DAY, KEPT, MAIN, NOTE, SECRET, traces, world

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

DREAMING = {"mode": "off", "time_zone": "UTC", "recalls_min": 1, "queries_min": 1, "score_min": 0.0}
DAY_MS = 86_400_000
MESSAGES = 10_000
LAG_S_MAX = 1.0
"""How long the event loop may be held up, on a machine that runs the other tests as well."""


async def test_what_a_night_made_of_it_goes_too(tmp_path: Path) -> None:
    """Reports, the diary, MEMORY.md and the records of the night hold nothing of a conversation any more."""
    clock = FakeClock()
    async with world(tmp_path, clock=clock, dreaming=DREAMING) as here:
        await here.say(f"We decided that the {SECRET} valve is closed at noon.", answer=f"The {SECRET} valve, at noon.")
        await here.write(NOTE, f"# {DAY}\n\nThe {KEPT} is made in the old cellar by Ines.\n")
        await here.settle()
        for question in ("Who closes the valve?", "When is the valve closed?", "What is made in the cellar?"):
            found = await here.app.open.memory.search(SearchQuery(question, "main"))
            await here.app.open.recalls.record("main", question, found.hits)
        clock.advance(days=1)
        await here.app.dreaming.dream()
        dreamt = await asyncio.to_thread(traces, tmp_path)
        done = await here.forget(session=MAIN)
        again = await here.forget(session=MAIN)
        left = await asyncio.to_thread(traces, tmp_path)
        kept = await here.read("MEMORY.md") + await here.read(NOTE)

    assert {name for name in dreamt if name.endswith(".md")}
    assert left == {}
    assert done.counts["sessions"] == 1
    assert again.counts == {}
    assert KEPT in kept


async def test_a_night_that_was_stopped_tells_nothing_of_it(tmp_path: Path) -> None:
    """An entry of the diary that waits to be written is told anew, of what is left."""
    clock = FakeClock()
    async with world(tmp_path, clock=clock, dreaming=DREAMING) as here:
        await here.say(f"We decided that the {SECRET} valve is closed at noon.", answer="Noted.")
        await here.settle()
        state = here.app.open.state
        run = {"id": "r1", "cause": "manual", "due_at": 1, "holder": "me", "lease_until": 1, "now": 1}
        await state.write(lambda tx: tx.execute("insert_dream_run", **run))
        for step, report in (
            ("entry", {"by": "rules", "text": f"a {SECRET}"}),
            ("rem", {"themes": [SECRET], "truths": 1}),
            ("light", {"staged": 1}),
        ):
            row = {"run_id": "r1", "agent": "main", "step": step, "done_at": 1, "report": json.dumps(report)}
            await state.write(lambda tx, row=row: tx.execute("put_dream_step", **row))
        await here.forget(session=MAIN)
        steps = await here.rows("SELECT step, report FROM dream_steps ORDER BY step")

    assert steps == [("light", '{"staged": 1}'), ("rem", '{"truths":1}')]
    assert await asyncio.to_thread(traces, tmp_path) == {}


async def test_forgetting_waits_for_the_step_of_a_night(tmp_path: Path) -> None:
    """What a step has read is not removed under its hands."""
    async with world(tmp_path) as here:
        await here.say(f"The {SECRET} is closed.")
        async with here.app.open.dreaming:
            forgetting = asyncio.ensure_future(here.forget(session=MAIN))
            done, _ = await asyncio.wait([forgetting], timeout=0.2)
            waited = not done and len(await here.rows("SELECT id FROM sessions")) == 1
        await forgetting

    assert waited


async def test_openclaws_files_lose_its_entries(tmp_path: Path) -> None:
    """Those of the note go from both files, and the others stay; copies of conversations are named."""

    def recalled(path: str, text: str) -> dict[str, Any]:
        return {
            "key": f"memory:{path}:3:3", "path": path, "startLine": 3, "endLine": 3, "source": "memory",
            "snippet": text, "recallCount": 1,
        }  # fmt: skip

    other = "memory/2025-12-31.md"
    entries = [recalled(NOTE, f"The {SECRET} is closed."), recalled(other, f"The {KEPT} is in the cellar.")]
    store = {"version": 1, "entries": {each["key"]: each for each in entries}}
    phases = {"version": 1, "entries": {each["key"]: {"key": each["key"], "lightHits": 2} for each in entries}}
    async with world(tmp_path) as here:
        await here.write(NOTE, f"# {DAY}\n\nThe {SECRET} is closed.\n")
        await here.write(STORE, json.dumps(store))
        await here.write(PHASES, json.dumps(phases))
        await here.write("memory/.dreams/session-corpus/2026-01-01.txt", "[main/sessions/a.jsonl#L1] User: Hello\n")
        planned = await here.plan(source=NOTE)
        unchanged = json.loads(await here.read(STORE))
        await here.say("Hello.")
        told = await here.plan(session=MAIN)
        done = await here.forget(source=NOTE)
        left = [list(json.loads(await here.read(name))["entries"]) for name in (STORE, PHASES)]

    assert planned.counts == done.counts
    assert done.counts["openclaw"] == 1
    assert unchanged == store
    assert left == [[f"memory:{other}:3:3"]] * 2
    assert any("session-corpus" in remark for remark in told.traces.remarks)
    assert not any("session-corpus" in remark for remark in planned.traces.remarks)
    assert list(await asyncio.to_thread(traces, tmp_path)) == [f"agents/main/workspace/{NOTE}"]


async def test_ten_thousand_messages(tmp_path: Path) -> None:
    """Half of a long history goes within seconds; turns are answered meanwhile, and nothing of it is left."""

    def message(number: int) -> PastMessage:
        word, who = (SECRET, "Jonas") if number % 2 else (KEPT, "Ayo")
        text = f"The {word} number {number} stands in row {number % 97}."
        return PastMessage("user", text, who, "", 1_700_000_000_000 + number * 1000)

    past = PastSession("s1", tuple(map(message, range(MESSAGES))))
    async with world(tmp_path) as here:
        await import_session(here.app.open.sessions, "main", "talk", past)
        await here.app.open.memory.follow_transcripts()
        await here.settle()
        assert await asyncio.to_thread(traces, tmp_path)
        lag, running = [0.0], True

        async def watch() -> None:
            while running:
                before = time.monotonic()
                await asyncio.sleep(0.005)
                lag.append(time.monotonic() - before)

        watching = asyncio.create_task(watch())
        started = time.monotonic()
        forgetting = asyncio.create_task(here.forget(participant="Jonas"))
        await asyncio.sleep(0.05)
        here.model.add(reply("Still here."))
        await asyncio.wait_for(here.say("Are you there?", key="agent:main:other"), 20)
        done = await forgetting
        took_s = time.monotonic() - started
        running = False
        await watching
        counts = await here.rows("SELECT count(*), sum(text = '') FROM messages")

    assert done.counts["messages"] == MESSAGES // 2
    assert counts == [(MESSAGES + 2, MESSAGES // 2)]
    assert took_s < 60
    assert max(lag) < LAG_S_MAX
    assert await asyncio.to_thread(traces, tmp_path) == {}
