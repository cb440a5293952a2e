"""`/v1/sessions/{key}/compact…`: what is asked, and the bytes of the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reverie.errors import NothingToCompactError
from reverie.sessions.compactions import Compaction
from tests.unit.gateway.scripted_app import ScriptedApp, client_of

pytestmark = pytest.mark.anyio

KEY = "agent:main:main"
MADE = Compaction(
    id="cmp_1", session_id="s1", key=KEY, agent="main", state="adopted", cause="manual", base_id=None, first_seq=1,
    last_seq=2, focus="the boat", summary="## Decisions\n- none", audit={"passed": True}, flushed_to="memory/x.md",
    tokens_before=900, tokens_after=100, attempts=0, error=None, created_at_ms=7, adopted_at_ms=9,
)  # fmt: skip
SHOWN = (
    b'{"object":"reverie.compaction","id":"cmp_1","session_key":"agent:main:main","session_id":"s1","state":"adopted",'
    b'"cause":"manual","base_id":null,"first_message":1,"last_message":2,"focus":"the boat","audit":{"passed":true},'
    b'"memory":"memory/x.md","tokens_before":900,"tokens_after":100,"attempts":0,"error":null,"created_at_ms":7,'
    b'"adopted_at_ms":9'
)


async def send(app: ScriptedApp, method: str, path: str, **options: Any) -> Any:
    async with client_of(app, host="127.0.0.1:8377") as client:
        return await client.request(method, f"/v1/sessions/{path}", **options)


async def test_asking_for_a_compaction_is_answered_at_once() -> None:
    """202 with what was asked for; the summary is not waited for."""
    app = ScriptedApp(compactions=[MADE])
    answer = await send(app, "POST", f"{KEY}/compact", json={"focus": "the boat"})

    assert (answer.status_code, answer.content) == (202, SHOWN + b"}")
    assert app.compaction_asked == [(KEY, "the boat")]


async def test_an_empty_body_asks_without_a_focus() -> None:
    """Any key is taken as it is, also one with a slash."""
    app = ScriptedApp(compactions=[MADE])
    answer = await send(app, "POST", "a%2Fb%20c/compact")

    assert answer.status_code == 202
    assert app.compaction_asked == [("a/b c", "")]


async def test_nothing_to_compact_is_a_conflict() -> None:
    """The caller is told why."""
    app = ScriptedApp(refusal=NothingToCompactError("Too short."))
    answer = await send(app, "POST", f"{KEY}/compact")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "nothing_to_compact"


@pytest.mark.parametrize("body", [{"focus": 1}, {"focus": "x" * 1_001}, {"fokus": "x"}])
async def test_a_body_that_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    """The field is named."""
    answer = await send(ScriptedApp(compactions=[MADE]), "POST", f"{KEY}/compact", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(body))


async def test_the_list_has_no_summaries() -> None:
    """They may be long; the one wanted is asked for by its id."""
    answer = await send(ScriptedApp(compactions=[MADE]), "GET", f"{KEY}/compactions")

    assert answer.content == b'{"object":"list","data":[' + SHOWN + b"}]}"


async def test_one_compaction_with_the_messages_it_stands_for() -> None:
    """A page of them, as they were said."""
    app = ScriptedApp(compactions=[replace(MADE, last_seq=3)])
    answer = await send(app, "GET", f"{KEY}/compactions/cmp_1?expand=true&after=1")

    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert answer.json()["summary"] == "## Decisions\n- none"
    assert answer.json()["messages"] == {
        "object": "list",
        "data": [{"number": 2, "said_at_ms": 6, "role": "assistant", "content": "", "tool_calls": [call]}],
        "has_more": True,
    }
    plain = await send(app, "GET", f"{KEY}/compactions/cmp_1")
    assert "messages" not in plain.json()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{KEY}/compactions/cmp_2", 404),
        ("agent:main:other/compactions/cmp_1", 404),
        (f"{KEY}/compactions/cmp_1?expand=perhaps", 400),
        (f"{KEY}/compactions/cmp_1?after=-1", 400),
        ("x" * 513 + "/compactions", 400),
    ],
)
async def test_what_is_not_there_or_not_well_formed_is_refused(path: str, status: int) -> None:
    """A compaction of another session is none of this one."""
    assert (await send(ScriptedApp(compactions=[MADE]), "GET", path)).status_code == status


async def test_another_site_cannot_compact() -> None:
    """The same door as the memory's: a Host that names another machine is refused."""
    async with client_of(ScriptedApp(compactions=[MADE]), host="elsewhere.example") as client:
        assert (await client.post(f"/v1/sessions/{KEY}/compact")).status_code == 403
