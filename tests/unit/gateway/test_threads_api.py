"""`/v1/threads`: pages, names, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gateway.scripted_app import ScriptedApp, client_of, config

pytestmark = pytest.mark.anyio

SHOWN = {
    "session_key": "agent:main:main", "session_id": "0001-a", "agent": "main", "runtime": "codex",
    "thread_id": "thr_1", "state": "active", "scope": "session", "engine": "reverie", "epoch": "e1", "model": "gpt-5",
    "tokens": 86_000, "token_source": "last", "window": 258_400, "covered_through": 12, "asked": False, "held": False,
    "cleared_for": None, "ignored": "", "created_at_ms": 1, "updated_at_ms": 2, "last": None,
}  # fmt: skip


async def asked(app: ScriptedApp, method: str, path: str, status: int = 200, **sent: Any) -> Any:
    async with client_of(app, host="127.0.0.1") as client:
        response = await client.request(method, path, **sent)
    assert response.status_code == status, response.text
    return response.json()


async def test_a_page_of_threads() -> None:
    """Those used last, with a word whether there are more."""
    app = ScriptedApp()

    assert await asked(app, "GET", "/v1/threads?limit=1&after=0001-z") == {
        "object": "list", "data": [SHOWN], "has_more": False,
    }  # fmt: skip
    assert app.threads.asked == [(1, "0001-z")]


@pytest.mark.parametrize("name", ["main", "agent:main:main", "agent%3Amain%3Amain"])
async def test_one_thread(name: str) -> None:
    """By the key of its session, encoded or not, or the rest of it; ten decisions unless more are asked for."""
    app = ScriptedApp()

    assert await asked(app, "GET", f"/v1/threads/{name}") == {
        "object": "reverie.thread", "thread": SHOWN, "session_key": "agent:main:main", "session_id": "0001-a",
        "parts": {"client": "c"}, "fingerprints": {}, "decisions": [], "churn": None,
    }  # fmt: skip
    assert app.threads.asked[0][1] == 10


async def test_asking_for_another_thread() -> None:
    """The next turn begins it; a body has no place here."""
    app = ScriptedApp()

    done = await asked(app, "POST", "/v1/threads/main/rotate")
    assert done == {"object": "reverie.thread.rotate", **SHOWN, "asked": True}
    refused = await asked(app, "POST", "/v1/threads/main/rotate", 400, json={"why": "so"})
    assert "empty body" in refused["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/threads/nobody", 404, "session_not_found"),
        ("POST", "/v1/threads/other/rotate", 409, "no_thread"),
        ("GET", "/v1/threads?limit=0", 400, None),
        ("GET", "/v1/threads?limit=" + "0" * 19 + "5" + "0" * 5_000, 400, None),
        ("GET", "/v1/threads/main?limit=many", 400, None),
        ("GET", f"/v1/threads/{'x' * 600}", 400, None),
    ],
)
async def test_what_is_refused(method: str, path: str, status: int, code: str | None) -> None:
    """With a code where a program could act on it."""
    error = (await asked(ScriptedApp(), method, path, status))["error"]

    assert code in {None, error["code"]}


async def test_it_is_guarded() -> None:
    """As everything below `/v1`."""
    app = ScriptedApp(config=config(gateway={"auth": "token"}))
    async with client_of(app, token="t", host="127.0.0.1") as client:
        assert (await client.get("/v1/threads")).status_code == 401
