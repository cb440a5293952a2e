"""`/v1/sessions`: pages, names, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gateway.scripted_app import ScriptedApp, client_of

pytestmark = pytest.mark.anyio

SHOWN = {
    "id": "0001-a", "key": "agent:main:main", "agent": "main", "origin": "live", "title": "", "started_at_ms": 1000,
    "last_interaction_at_ms": 2000, "ended_at_ms": None, "end_reason": None, "parent": None, "entries": 2,
    "bytes": 10, "compactions": 0, "epoch": 1,
}  # fmt: skip


async def get(app: ScriptedApp, path: str, status: int = 200) -> Any:
    async with client_of(app, host="127.0.0.1") as client:
        response = await client.get(path)
    assert response.status_code == status, response.text
    return response.json()


async def test_a_page_of_sessions() -> None:
    """Those used last, with a word whether there are more."""
    app = ScriptedApp()
    page = await get(app, "/v1/sessions?limit=1&after=0001-z")

    assert page == {"object": "list", "data": [SHOWN], "has_more": True}
    assert app.directory.asked == [(1, "0001-z")]


@pytest.mark.parametrize("name", ["main", "agent:main:main", "agent%3Amain%3Amain"])
async def test_one_session(name: str) -> None:
    """By its key, encoded or not, or the rest of its key."""
    assert await get(ScriptedApp(), f"/v1/sessions/{name}") == {"object": "reverie.session", **SHOWN}


async def test_entries_of_a_session() -> None:
    """A page of the transcript, with the bounds that were asked for."""
    app = ScriptedApp()
    page = await get(app, "/v1/sessions/main/messages?limit=7&before=9")

    assert (page["session_id"], page["has_more"], len(page["data"])) == ("0001-a", False, 1)
    assert page["data"][0]["text"] == "grüße"
    assert app.directory.asked == [("0001-a", 9, 7)]


async def test_a_reset_tells_both_sessions() -> None:
    """Which one ended and which goes on."""
    async with client_of(ScriptedApp(), host="127.0.0.1") as client:
        done = await client.post("/v1/sessions/main/reset")
        refused = await client.post("/v1/sessions/main/reset", json={"why": "so"})

    assert done.json() == {
        "object": "reverie.session.reset", "ended_id": "0001-a", "session_id": "0002-b", "reason": "manual",
        "messages": 2,
    }  # fmt: skip
    assert refused.status_code == 400


@pytest.mark.parametrize(
    ("form", "kind"), [("jsonl", "application/jsonl"), ("markdown", "text/markdown; charset=utf-8")]
)
async def test_an_export_comes_as_it_is_read(form: str, kind: str) -> None:
    """In the form that was asked for."""
    async with client_of(ScriptedApp(), host="127.0.0.1") as client:
        response = await client.get(f"/v1/sessions/main/export?format={form}")

    assert (response.text, response.headers["content-type"]) == (f"0001-a{form}", kind)


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("/v1/sessions/none", 404, None),
        ("/v1/sessions?limit=0", 400, "limit"),
        ("/v1/sessions?limit=" + "0" * 19 + "5" + "0" * 5_000, 400, "limit"),
        ("/v1/sessions?limit=201", 400, "limit"),
        ("/v1/sessions/main/messages?before=x", 400, "before"),
        ("/v1/sessions/main/export?format=pdf", 400, "format"),
        ("/v1/sessions/" + "k" * 513, 400, "key"),
    ],
)
async def test_what_makes_no_sense_is_refused(path: str, status: int, param: str | None) -> None:
    """With the field's name, or 404 for a session that is not there."""
    assert (await get(ScriptedApp(), path, status))["error"]["param"] == param
