"""Forgetting, in a home where words have left their traces everywhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from reverie.dreaming.forgetting import Options
from reverie.testing import reply
from reverie.types import Message
from tests.integration.dreaming.forgetting_world import (
    DAY,
    KEPT,
    MAIN,
    NOTE,
    SECRET,
    promoted_entry,
    search_call,
    traces,
    world,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.dreaming.forgetting_world import World

pytestmark = pytest.mark.anyio


async def everywhere(here: World) -> str:
    """Leave traces of a conversation everywhere; returns its id."""
    await here.say(f"We decided that the {SECRET} valve is closed at noon.", answer=f"The {SECRET} valve, at noon.")
    await here.say(f"Remember: the {SECRET} valve belongs to Petra.", answer="It does.")
    await here.say(f"The {KEPT} is in the cellar.")
    session = await here.session()
    await here.settle()
    here.model.add(search_call("Who owns the valve?"), reply("Petra does."))
    await here.turn(Message("user", "Who owns the valve that we spoke of?"), key="agent:main:other")
    await here.compacted()
    await here.say("And now?")
    await here.settle()
    place = f"sessions/{session.id}:1-1"
    entry = promoted_entry(f"memory:{place.replace('-', ':')}", f"The {SECRET} valve is closed at noon.", place)
    section = f"# Long-Term Memory\n\nMine: {KEPT}.\n\n## Promoted From Short-Term Memory ({DAY})\n\n{entry}"
    await here.write("MEMORY.md", section)
    return session.id


async def test_a_forgotten_session_is_in_no_file_any_more(tmp_path: Path) -> None:
    """Not in the databases, their logs, the notes, the reports, or MEMORY.md; what was not of it stays."""
    async with world(tmp_path) as here:
        session_id = await everywhere(here)
        before = await asyncio.to_thread(traces, tmp_path)
        planned = await here.plan(session=MAIN)
        unchanged = await asyncio.to_thread(traces, tmp_path)
        done = await here.forget(session=MAIN)
        print(before, planned.counts, done.counts)
        for e in planned.traces.edits: print(e.diff)
        assert session_id
        assert await asyncio.to_thread(traces, tmp_path) == {}
