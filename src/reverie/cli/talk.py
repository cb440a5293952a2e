"""Two ways to talk to an agent from the terminal: within this process, or through a server that runs.

Both give the reply as it comes, and afterwards the memories that were used for it, as the evidence of recall in
state.db names them. Of a server whose home is elsewhere only the citations in its reply are known.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2

from reverie.app import open_app
from reverie.errors import ReverieError
from reverie.gateway.replies import QUEUED
from reverie.gateway.routing import RoutingRules, header_value, route
from reverie.llm.event_stream import EventStreamParser
from reverie.sessions.events import ReplyDelta, TurnFailed, TurnFinished
from reverie.storage import STATE, Database
from reverie.types import Message, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from reverie.app import App
    from reverie.config import Config, Home
    from reverie.storage.database import Transaction
    from reverie.types import JsonObject, SessionKey

MEMORIES_MAX = 10
EVENTS_SEEN = 200
"""How many of the newest searches are looked through for those of one turn."""

CONNECT_S = 10.0
SILENCE_S_MAX = 120.0
"""A server that works says so much more often, even while the model is silent."""

WAITS = "(queued: this session is busy; the reply follows)\n"
"""What a person reads whose message waits. It is no part of the reply."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ERROR_BYTES_MAX = 64 * 1024
_CITATION = re.compile(r"\[([^\[\]\s]+#L\d+(?:-L\d+)?)\]")


@dataclass(frozen=True, slots=True)
class UsedMemory:
    """A memory that stood before the model when it answered, with the beginning of its text where that is known."""

    citation: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply."""

    text: str
    memories: tuple[UsedMemory, ...] = ()


class Talk(Protocol):
    """Something that answers."""

    @property
    def where(self) -> str:
        """What it is, for people."""
        ...

    async def ask(self, key: str, text: str, said: Callable[[str], None]) -> Answer:
        """Send a message into a session; `said` is given the reply piece by piece.

        To stop waiting does not stop the turn: it finishes and is recorded.

        Raises:
            ReverieError: there is no answer; the message says why.
        """
        ...


# -- within this process ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalTalk:
    """Runs turns here."""

    app: App
    agent: str | None
    where: str = "in this process"

    async def ask(self, key: str, text: str, said: Callable[[str], None]) -> Answer:
        """See `Talk`."""
        request = TurnRequest(f"chatcmpl_{uuid4()}", self._session(key), (Message("user", text),), stream=True)
        feed = await self.app.submit(request)
        async for event in feed.follow():
            match event:
                case ReplyDelta(piece):
                    said(piece)
                case TurnFailed():
                    raise event.error
                case TurnFinished():
                    return Answer(event.text, await used_memories(self.app.open.state, feed.turn_id))
                case _:
                    pass
        raise AssertionError("a feed ends with a terminal event")

    def _session(self, key: str) -> SessionKey:
        """The same decision as for a request that names its session in a header."""
        model = f"reverie/{self.agent}" if self.agent else "reverie"
        rules = RoutingRules.of(self.app.agents(), self.app.config.sessions)
        return route({"x-reverie-session-key": key}, model=model, user=None, rules=rules, request_id="").session


@asynccontextmanager
async def talk_here(home: Home, config: Config, agent: str | None) -> AsyncGenerator[Talk]:
    """Open a home and talk to it. Raises what `open_app` raises."""
    async with open_app(home, config) as app:
        yield LocalTalk(app, agent)


# -- through a server ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpTalk:
    """Asks a server. `state` is the database of its home, when that is here."""

    client: httpx2.AsyncClient
    agent: str | None
    state: Database | None
    where: str

    async def ask(self, key: str, text: str, said: Callable[[str], None]) -> Answer:
        """See `Talk`."""
        model = f"reverie/{self.agent}" if self.agent else "reverie"
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
        headers = {"x-reverie-session-key": header_value(key)}
        pieces: list[str] = []
        try:
            async with self.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
                if not response.is_success:
                    raise ReverieError(await _refusal(response))
                turn_id = response.headers.get("x-reverie-turn-id", "")
                async for piece in _pieces(response):
                    if piece == QUEUED and not pieces:
                        said(WAITS)
                        break
                    pieces.append(piece)
                    said(piece)
            if not pieces:
                async for piece in self._later(turn_id):
                    pieces.append(piece)
                    said(piece)
        except httpx2.HTTPError as error:
            raise ReverieError(f"{self.where} broke off ({error or type(error).__name__})") from error
        return Answer("".join(pieces), await self._memories(turn_id, "".join(pieces)))

    async def _later(self, turn_id: str) -> AsyncIterator[str]:
        """The reply to a message that was queued, as it comes."""
        headers = {"accept": "text/event-stream"}
        async with self.client.stream("GET", f"/v1/queue/{turn_id}", headers=headers) as response:
            if not response.is_success:
                raise ReverieError(await _refusal(response))
            async for piece in _pieces(response):
                yield piece

    async def _memories(self, turn_id: str, reply: str) -> tuple[UsedMemory, ...]:
        if self.state is not None:
            return await used_memories(self.state, turn_id)
        return tuple(UsedMemory(citation) for citation in dict.fromkeys(_CITATION.findall(reply)))


@asynccontextmanager
async def talk_through(url: str, token: str | None, agent: str | None, home: Home | None) -> AsyncGenerator[Talk]:
    """Talk to a server; `home` is its home, when that is on this machine."""
    state = None if home is None else await Database.open(home.state_db, STATE, now_ms=0)
    try:
        async with await asyncio.to_thread(_client, url, token) as client:
            yield HttpTalk(client, agent, state, f"the server at {url}")
    finally:
        if state is not None:
            await state.aclose()


def _client(url: str, token: str | None) -> httpx2.AsyncClient:
    """A client for a server; made in a thread, because it reads certificates."""
    return httpx2.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {token}"} if token else {},
        timeout=httpx2.Timeout(SILENCE_S_MAX, connect=CONNECT_S),
        trust_env=urlsplit(url).hostname not in LOOPBACK,
    )


async def _pieces(response: httpx2.Response) -> AsyncIterator[str]:
    """The reply's text as it comes."""
    parser = EventStreamParser()
    async for data in response.aiter_bytes():
        for chunk in parser.feed(data):
            if chunk.get("error"):
                raise ReverieError(_error_message(chunk))
            text = _find(chunk, "choices", 0, "delta", "content")
            if isinstance(text, str):
                yield text


async def _refusal(response: httpx2.Response) -> str:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > ERROR_BYTES_MAX:
            break
    try:
        return _error_message(json.loads(body))
    except ValueError:
        return f"status {response.status_code}: is this the address of a Reverie server?"


def _error_message(answer: Any) -> str:
    message = _find(answer, "error", "message") or _find(answer, "error")
    return str(message or "the server answered with an error it does not explain")


def _find(value: Any, *path: str | int) -> Any:
    """What stands at a path in parsed JSON; None when nothing does."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


# -- memories --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """Memories in the order in which they were surfaced, each once."""

    found: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, row: JsonObject) -> None:
        start, end = row["start_line"], row["end_line"]
        lines = f"L{start}" if start == end else f"L{start}-L{end}"
        self.found.setdefault(f"{row['path']}#{lines}", row["snippet"])


async def used_memories(state: Database, turn_id: str) -> tuple[UsedMemory, ...]:
    """What recall and the memory tools surfaced for one turn, at most `MEMORIES_MAX`."""

    def work(tx: Transaction) -> _Seen:
        seen = _Seen()
        events = [event for event in tx.rows("list_recall_events", limit=EVENTS_SEEN) if event["turn_id"] == turn_id]
        for event in reversed(events):
            for row in tx.rows("list_recall_hits", event_id=event["id"]):
                seen.add(row)
        return seen

    found = (await state.read(work)).found
    return tuple(UsedMemory(citation, excerpt) for citation, excerpt in list(found.items())[:MEMORIES_MAX])
