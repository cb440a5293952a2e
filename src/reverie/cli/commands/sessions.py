"""`reverie sessions …`: which conversations there are, what waits in them, ending, taking along, bringing back.

Beside a running server everything is asked of that server, because its queue is in memory too; only an import is
written into the database, and indexed by the server. Without one, the home is opened here.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from reverie.app import open_memory
from reverie.cli.opening import find_home, new_or_old_home, open_home
from reverie.cli.output import counted, printable, say, say_json, size_words, warn
from reverie.cli.progress import Progress
from reverie.cli.running import ask, download, find_server
from reverie.cli.table import show_table
from reverie.clock import iso_minute
from reverie.config import read_secret
from reverie.errors import ConfigError, HomeInUseError, ServerRefusedError, TurnCancelledError, UnknownSessionError
from reverie.memory.workspace import write_error
from reverie.sessions.restore import restore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.cli.running import RunningServer
    from reverie.config import Config
    from reverie.sessions.export import ExportFormat
    from reverie.types import JsonObject

WAITING_SHOWN = 100
TEXT_SHOWN = 2_000
CANCELLED = "cancelled on the command line (reverie sessions cancel)"


class _Source(Protocol):
    """Where sessions are: a server, or a home that is open here. Each answer has the form of `/v1/sessions`."""

    async def listed(self, limit: int, after: str | None) -> JsonObject: ...
    async def one(self, name: str) -> JsonObject: ...
    async def messages(self, name: str, limit: int, before: int | None) -> JsonObject: ...
    async def queue(self, name: str) -> JsonObject: ...
    async def cancel(self, turn_id: str) -> JsonObject: ...
    async def reset(self, name: str) -> JsonObject: ...
    async def compact(self, name: str, focus: str) -> JsonObject: ...
    async def export(self, name: str, form: ExportFormat, write: Callable[[bytes], object]) -> None: ...


class _Served:
    """Through the server that runs on the home."""

    def __init__(self, server: RunningServer, token: str | None) -> None:
        self._server = server
        self._token = token

    async def _ask(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        return await asyncio.to_thread(ask, self._server, method, path, self._token, body)

    async def listed(self, limit: int, after: str | None) -> JsonObject:
        asked = {"limit": limit} | ({"after": after} if after else {})
        return await self._ask("GET", f"/v1/sessions?{urlencode(asked)}")

    async def one(self, name: str) -> JsonObject:
        return await self._ask("GET", _path(name))

    async def messages(self, name: str, limit: int, before: int | None) -> JsonObject:
        asked = {"limit": limit} | ({"before": before} if before else {})
        return await self._ask("GET", f"{_path(name)}/messages?{urlencode(asked)}")

    async def queue(self, name: str) -> JsonObject:
        return await self._ask("GET", f"{_path((await self.one(name))['key'])}/queue")

    async def cancel(self, turn_id: str) -> JsonObject:
        return await self._ask("DELETE", f"/v1/queue/{quote(turn_id, safe='')}")

    async def reset(self, name: str) -> JsonObject:
        return await self._ask("POST", f"{_path(name)}/reset")

    async def compact(self, name: str, focus: str) -> JsonObject:
        key = (await self.one(name))["key"]
        return await self._ask("POST", f"{_path(key)}/compact", {"focus": focus} if focus else None)

    async def export(self, name: str, form: ExportFormat, write: Callable[[bytes], object]) -> None:
        path = f"{_path(name)}/export?{urlencode({'format': form})}"
        await asyncio.to_thread(download, self._server, path, self._token, write)


class _Here:
    """In the home itself, which nobody serves."""

    def __init__(self, opened: OpenMemory, *, alone: bool) -> None:
        self._opened = opened
        self._alone = alone

    async def listed(self, limit: int, after: str | None) -> JsonObject:
        page = await self._opened.directory.page(limit, after)
        return {"object": "list", "data": [asdict(each) for each in page.sessions], "has_more": page.more}

    async def one(self, name: str) -> JsonObject:
        return {"object": "reverie.session", **asdict(await self._opened.directory.find(name))}

    async def messages(self, name: str, limit: int, before: int | None) -> JsonObject:
        session = await self._opened.directory.find(name)
        page = await self._opened.directory.entries(session.id, before, limit)
        data = [{"object": "reverie.entry", **asdict(entry)} for entry in page.entries]
        return {"object": "list", "session_id": session.id, "data": data, "has_more": page.more}

    async def queue(self, name: str) -> JsonObject:
        session = await self._opened.directory.find(name)
        entries = await self._opened.turns.unended_of(session.key, WAITING_SHOWN)
        data = [
            {
                "id": each.turn_id,
                "state": each.state,
                "source": each.source,
                "mode": each.delivery,
                "accepted_at_ms": each.accepted_at_ms,
                "deadline_at_ms": each.deadline_at_ms,
            }
            for each in entries
        ]
        return {"object": "list", "session_key": session.key, "data": data}

    async def cancel(self, turn_id: str) -> JsonObject:
        self._must_be_alone()
        await self._opened.turns.cancel_waiting(turn_id, TurnCancelledError(CANCELLED))
        entry = await self._opened.turns.entry(turn_id)
        if entry is None:
            raise UnknownSessionError(f"There is no message '{turn_id[:200]}'; `reverie sessions queue` shows them.")
        return {"id": entry.turn_id, "state": entry.state}

    async def reset(self, name: str) -> JsonObject:
        self._must_be_alone()
        return {"object": "reverie.session.reset", **(await self._opened.directory.reset(name)).as_json()}

    async def compact(self, name: str, focus: str) -> JsonObject:  # noqa: ARG002 (as the server's)
        message = "a summary is written by a model, beside conversations: start `reverie serve` and ask again."
        raise ServerRefusedError(message)

    async def export(self, name: str, form: ExportFormat, write: Callable[[bytes], object]) -> None:
        session = await self._opened.directory.find(name)
        async for piece in self._opened.directory.pieces(session.id, form):
            await asyncio.to_thread(write, piece)

    def _must_be_alone(self) -> None:
        if not self._alone:
            raise HomeInUseError("another Reverie process has this home and does not answer: stop it, or try again.")


@asynccontextmanager
async def _source(given: Path | None) -> AsyncGenerator[_Source]:
    home, config = await asyncio.to_thread(find_home, given)
    server = await asyncio.to_thread(find_server, home)
    if server is not None:
        yield _Served(server, await _token(config))
        return
    async with open_home(home, config, with_vectors=False) as opened:
        yield _Here(opened.memory, alone=opened.alone)


async def _token(config: Config) -> str | None:
    gateway = config.gateway
    if gateway.auth != "token":
        return None
    return await asyncio.to_thread(read_secret, gateway.token_env, gateway.token_file)


def _path(name: str) -> str:
    return f"/v1/sessions/{quote(name, safe='')}"


# -- commands ----------------------------------------------------------------------------------------------------


async def list_sessions(given: Path | None, *, limit: int, after: str | None, as_json: bool) -> None:
    """Show the sessions used last. Raises `ReverieError` when the home or the server cannot be used."""
    async with _source(given) as source:
        page = await source.listed(limit, after)
    if as_json:
        say_json(page)
        return
    rows = [
        (
            printable(each["key"]),
            f"{each['entries']:,}",
            size_words(each["bytes"]),
            iso_minute(each["last_interaction_at_ms"]),
            "current" if each["ended_at_ms"] is None else f"ended: {each['end_reason']}",
            each["id"],
        )
        for each in page["data"]
    ]
    show_table(("session", "entries", "size", "last used (UTC)", "state", "id"), rows)
    if page["has_more"]:
        warn(f"there are more: --after {page['data'][-1]['id']}")


async def show_session(given: Path | None, name: str, *, limit: int, before: int | None, as_json: bool) -> None:
    """Show a session and its newest entries. Raises `ReverieError` when there is no such session."""
    async with _source(given) as source:
        session = await source.one(name)
        page = await source.messages(name, limit, before)
    if as_json:
        say_json({"session": session, "entries": page["data"], "has_more": page["has_more"]})
        return
    say(f"{printable(session['key'])}  {session['id']}")
    state = "current" if session["ended_at_ms"] is None else f"ended: {session['end_reason']}"
    say(f"{counted(session['entries'], 'entry', 'entries')}, {size_words(session['bytes'])}, {state}")
    for entry in page["data"]:
        say(f"\n{entry['seq']}  {_speaker(entry)}  {iso_minute(entry['created_at_ms'])}")
        say(printable(_shown(entry), lines=True))
    if page["has_more"]:
        warn(f"there are earlier ones: --before {page['data'][0]['seq']}")


async def show_queue(given: Path | None, name: str, *, as_json: bool) -> None:
    """Show what runs and waits in a session. Raises `ReverieError` when there is no such session."""
    async with _source(given) as source:
        queue = await source.queue(name)
    if as_json:
        say_json(queue)
        return
    entries: list[JsonObject] = queue["data"]
    if not entries:
        say("nothing runs or waits")
        return
    keys = ("id", "state", "mode", "source")
    show_table(keys, [tuple(printable(str(each.get(key) or "")) for key in keys) for each in entries])


async def cancel_message(given: Path | None, turn_id: str, *, as_json: bool) -> None:
    """Stop a message that runs or waits. Raises `ReverieError` when it cannot be."""
    async with _source(given) as source:
        entry = await source.cancel(turn_id)
    if as_json:
        say_json(entry)
    else:
        say(f"{turn_id}: {entry.get('state')}")


async def reset_session(given: Path | None, name: str, *, as_json: bool) -> None:
    """End a session; a successor goes on. Raises `ReverieError` when there is no such session."""
    async with _source(given) as source:
        rolled = await source.reset(name)
    if as_json:
        say_json(rolled)
    else:
        say(f"{rolled['ended_id']} has ended; {rolled['session_id']} goes on, with a summary of it")


async def compact_session(given: Path | None, name: str, *, focus: str, as_json: bool) -> None:
    """Have a session compacted by the running server. Raises `ReverieError` when that is not possible."""
    async with _source(given) as source:
        asked = await source.compact(name, focus)
    if as_json:
        say_json(asked)
    else:
        say(f"{asked['id']}: {asked['state']}; the next message finds the summary once it is ready")


async def export_session(
    given: Path | None, name: str, *, form: ExportFormat, output: Path | None, as_json: bool
) -> None:
    """Write a session to a file, whole or not at all, or to standard output.

    Raises:
        ReverieError: there is no such session, or the file cannot be written.
    """
    async with _source(given) as source:
        if output is None:
            await source.export(name, form, sys.stdout.buffer.write)
            await asyncio.to_thread(sys.stdout.buffer.flush)
            return
        temporary = output.with_name(f".{output.name}.tmp")
        try:
            file = await asyncio.to_thread(temporary.open, "wb")
            try:
                with Progress(shown=not as_json) as progress, progress.step("bytes") as advance:

                    def write(piece: bytes) -> None:
                        file.write(piece)
                        advance(len(piece))

                    await source.export(name, form, write)
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(temporary.replace, output)
            if as_json:
                say_json({"file": str(output), "format": form, "bytes": (await asyncio.to_thread(output.stat)).st_size})
        except OSError as error:
            raise write_error(error, output) from error
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)


async def import_sessions(given: Path | None, files: list[Path], *, mine: bool, as_json: bool) -> None:
    """Take in exported sessions, each whole or not at all; a running server indexes them.

    `mine`: the owner vouches for what they say of whose words are whose.

    Raises:
        ImportFileError: a file is no complete export; those before it were taken in.
        ReverieError: the home cannot be used.
    """
    home, config = await asyncio.to_thread(new_or_old_home, given)
    async with open_memory(home, config, exclusive=False, embedder=None) as opened:
        for path in files:
            with Progress(shown=not as_json) as progress, progress.step("entries") as advance:
                now_ms = opened.clock.now_ms()
                done = await restore(opened.state, path, now_ms=now_ms, mine=mine, progress=advance)
            if as_json:
                say_json(asdict(done))
                continue
            nothing = "it was forgotten" if done.forgotten else "nothing, it was there already"
            added = counted(done.added, "entry", "entries") if done.added else nothing
            say(f"{printable(done.key)}  {done.session_id}: {added}")
            if done.ended:
                warn("its key leads to another session now, so it came in as one that has ended")


def check_export_output(output: Path | None, *, as_json: bool) -> None:
    """Refuse `--json` together with an export to standard output, which would mix two things.

    Raises:
        ConfigError: both were asked for.
    """
    if as_json and output is None:
        raise ConfigError("--json", "without --output", "an export to a file; the export itself is JSON Lines already")


def _speaker(entry: JsonObject) -> str:
    return str(entry["speaker"] or entry["role"]) if entry["kind"] == "message" else f"({entry['kind']})"


def _shown(entry: JsonObject) -> str:
    data: dict[str, Any] = entry["data"]
    text: str = entry["text"] if entry["kind"] == "message" else str(data.get("summary") or data.get("cause") or data)
    calls = "".join(f"\n[calls {call['name']}]" for call in data.get("tool_calls", []))
    return (text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}… ({len(text):,} characters)") + calls
