"""`/v1/models`."""

from __future__ import annotations

import pytest

from reverie.gateway.models import model_ids
from tests.unit.gateway.scripted_app import ScriptedApp, client_of, config

pytestmark = pytest.mark.anyio


async def test_the_list() -> None:
    """Our names, then OpenClaw's, each agent once, the default one first."""
    async with client_of(ScriptedApp(config=config(agents={"beta": {}}))) as client:
        response = await client.get("/v1/models")
    entries = ",".join(
        f'{{"id":"{name}","object":"model","created":0,"owned_by":"{owner}","permission":[]}}'
        for name, owner in [
            ("reverie", "reverie"),
            ("reverie/main", "reverie"),
            ("reverie/beta", "reverie"),
            ("openclaw", "openclaw"),
            ("openclaw/default", "openclaw"),
            ("openclaw/main", "openclaw"),
            ("openclaw/beta", "openclaw"),
        ]
    )
    assert (response.status_code, response.text) == (200, f'{{"object":"list","data":[{entries}]}}')


def test_no_name_twice() -> None:
    """An agent called `default` is listed once."""
    assert model_ids(("main", "default")) == (
        "reverie",
        "reverie/main",
        "reverie/default",
        "openclaw",
        "openclaw/default",
        "openclaw/main",
    )


@pytest.mark.parametrize("model", ["reverie", "openclaw/default", "openclaw%2Fmain", "OpenClaw:Main", "agent:main"])
async def test_one_model(model: str) -> None:
    """Every form that a chat completion takes is found, as it was written."""
    name = model.replace("%2F", "/")
    owner = "openclaw" if name.startswith("openclaw") else "reverie"
    async with client_of(ScriptedApp()) as client:
        response = await client.get(f"/v1/models/{model}")
    assert response.text == (f'{{"id":"{name}","object":"model","created":0,"owned_by":"{owner}","permission":[]}}')


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/", 400, "Missing model id."),
        ("/v1/models/gpt-5", 400, "Invalid model id."),
        ("/v1/models/reverie/nobody", 404, "Model 'reverie/nobody' not found."),
        ("/v1/models/reverie/a/b", 400, "Invalid model id."),
    ],
)
async def test_no_such_model(path: str, status: int, message: str) -> None:
    """Badly written and unknown are told apart."""
    async with client_of(ScriptedApp()) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["error"]["message"]) == (status, message)


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
async def test_models_are_read_only(method: str) -> None:
    """Other methods are told so."""
    async with client_of(ScriptedApp()) as client:
        response = await client.request(method, "/v1/models")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
