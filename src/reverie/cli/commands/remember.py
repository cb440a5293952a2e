"""`reverie remember`: a note into today's file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.cli.opening import check_agent, new_or_old_home, open_home
from reverie.cli.output import say, say_json
from reverie.clock import utc_date
from reverie.memory.append import append_note

if TYPE_CHECKING:
    from pathlib import Path


async def remember_note(given: Path | None, text: str, *, agent: str, as_json: bool) -> None:
    """Append a note and index it; beside a running server that server indexes it. One that stands there is kept once.

    Raises:
        ReverieError: the home cannot be used, or the note not be written.
    """
    home, config = await asyncio.to_thread(new_or_old_home, given)
    async with open_home(home, config) as opened:
        check_agent(opened.memory, agent)
        date = utc_date(opened.memory.clock.now_ms())
        note = await asyncio.to_thread(append_note, opened.memory.workspaces[agent], text, date)
        if opened.alone:
            await opened.memory.memory.sync_workspace(agent, [note.path])
    lines = f"L{note.start_line}" if note.start_line == note.end_line else f"L{note.start_line}-L{note.end_line}"
    if as_json:
        held = {"path": note.path, "lines": [note.start_line, note.end_line], "appended": note.appended}
        say_json({"citation": f"{note.path}#{lines}", **held})
    else:
        say(f"{note.path}#{lines}")
