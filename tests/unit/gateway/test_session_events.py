"""`/v1/sessions/{key}/events`, to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.sessions.events import ReasoningDelta, ReplyDelta, ToolFinished, ToolStarted
from reverie.sessions.store import SessionEvent
from reverie.types import ToolCall
from tests.unit.gateway.scripted_app import ASSEMBLED, ScriptedApp, client_of

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

URL = "/v1/sessions/k/events"
CALL = ToolCall("call_1", "memory_search", '{"query":"x"}')


def recorded(seq: int, kind: str, key: str = "k") -> SessionEvent:
    """An event on record."""
    return SessionEvent(seq, key, "chatcmpl_1", 1_767_225_600_000 + seq, kind, {"source": "ü"})


def event(seq: int, kind: str) -> dict[str, Any]:
    """That event as it is told."""
    at = f"2026-01-01T00:00:00.{seq:03}Z"
    return {"seq": seq, "kind": kind, "turn_id": "chatcmpl_1", "at": at, "data": {"source": "ü"}}


def frame(seq: int, kind: str) -> str:
    """That event in a stream."""
    return (
        f'id: {seq}\nevent: {kind}\ndata: {{"seq":{seq},"kind":"{kind}","turn_id":"chatcmpl_1",'
        f'"at":"2026-01-01T00:00:00.{seq:03}Z","data":{{"source":"ü"}}}}\n\n'
    )


async def get(app: ScriptedApp, url: str, **headers: str) -> httpx2.Response:
    """One request; a stream ends because the server is stopping."""
    app.readiness.reasons.add("draining")
    async with client_of(app, host="127.0.0.1") as client:
        with anyio.fail_after(10):
            return await client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Follower:
    """An application in which things happen, and the server stops when the script is over."""

    def __init__(self, app: ScriptedApp) -> None:
        self.app = app

    async def text(self, url: str = URL) -> str:
        """All that is told until then."""
        told: list[str] = []

        async def follow() -> None:
            async with client_of(self.app, host="127.0.0.1") as client:
                told.append((await client.get(url)).text)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                while self.app.happening:
                    await anyio.sleep(0.005)
                self.app.readiness.reasons.add("draining")
        return told[0]


async def test_what_happened_and_what_happens() -> None:
    """Recorded events with their numbers, live ones without; what says nothing to a reader is left out."""
    app = ScriptedApp(recorded=[recorded(1, "turn.queued"), recorded(2, "turn.running"), recorded(3, "x", key="other")])
    app.happening = [
        "recorded",
        ASSEMBLED,
        ReplyDelta("Grüße"),
        ReplyDelta(""),
        ReasoningDelta("hm"),
        ToolStarted(CALL),
        ToolFinished(CALL, "[]"),
    ]
    assert await Follower(app).text() == (
        frame(1, "turn.queued")
        + frame(2, "turn.running")
        + 'event: reply.delta\ndata: {"text":"Grüße"}\n\n'
        + 'event: reasoning.delta\ndata: {"text":"hm"}\n\n'
        + 'event: tool.started\ndata: {"id":"call_1","name":"memory_search","arguments":"{\\"query\\":\\"x\\"}"}\n\n'
        + 'event: tool.finished\ndata: {"id":"call_1","name":"memory_search"}\n\n'
    )


async def test_coming_back() -> None:
    """Whoever names the last event it saw gets what came after it; the header of a reconnecting browser wins."""
    app = ScriptedApp(recorded=[recorded(seq, "turn.queued") for seq in (1, 2, 3)])
    assert (await get(app, f"{URL}?after=2")).text == frame(3, "turn.queued")
    assert (await get(app, f"{URL}?after=0", last_event_id="1")).text == "".join(
        frame(seq, "turn.queued") for seq in (2, 3)
    )


async def test_events_that_are_no_longer_kept() -> None:
    """The gap is announced before what is left; who asks for nothing in particular misses nothing."""
    app = ScriptedApp(recorded=[recorded(7, "turn.queued")], oldest=5)
    assert (await get(app, f"{URL}?after=3")).text == (
        'event: gap\ndata: {"after":3,"oldest":5}\n\n' + frame(7, "turn.queued")
    )
    assert (await get(app, f"{URL}?after=4")).text == frame(7, "turn.queued")
    assert (await get(app, URL)).text == frame(7, "turn.queued")


async def test_more_than_a_page() -> None:
    """Everything is told, in pages."""
    app = ScriptedApp(recorded=[recorded(seq, "turn.queued") for seq in range(1, 451)])
    assert (await get(app, URL)).text.count("id: ") == 450


async def test_a_page_of_what_was_recorded() -> None:
    """As one JSON object, with the number to go on from."""
    app = ScriptedApp(recorded=[recorded(seq, "turn.queued") for seq in (1, 2, 3)])
    first = await get(app, f"{URL}?follow=false&limit=2")
    rest = await get(app, f"{URL}?follow=false&after=2&limit=2")
    nothing = await get(app, f"{URL}?follow=false&after=3")
    assert first.json() == {
        "object": "list",
        "data": [event(1, "turn.queued"), event(2, "turn.queued")],
        "after": 2,
        "has_more": True,
        "oldest": 1,
    }
    assert (rest.json()["after"], rest.json()["has_more"]) == (3, False)
    assert (nothing.json()["data"], nothing.json()["after"]) == ([], 3)


@pytest.mark.parametrize(
    ("query", "header", "param"),
    [
        ("?after=-1", "", "after"),
        ("?after=9223372036854775808", "", "after"),
        ("?follow=maybe", "", "follow"),
        ("?follow=false&limit=0", "", "limit"),
        ("", "x", "Last-Event-ID"),
    ],
)
async def test_bad_parameters(query: str, header: str, param: str) -> None:
    """The refusal names them."""
    response = await get(ScriptedApp(), URL + query, **({"last_event_id": header} if header else {}))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
