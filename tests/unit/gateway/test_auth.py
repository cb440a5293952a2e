"""Who may call."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.config import GatewayConfig
from reverie.errors import ConfigError
from reverie.gateway.auth import ADDRESSES_MAX, Guard, check_exposure, is_foreign_page, is_local_direct
from reverie.gateway.server import create_gateway
from reverie.testing import FakeClock
from tests.unit.gateway.scripted_app import ScriptedApp, client_of, config

TOKEN = "correct horse"
UNAUTHORIZED = b'{"error":{"message":"Unauthorized","type":"unauthorized"}}'


def guarded() -> ScriptedApp:
    """An application in mode `token`."""
    return ScriptedApp(config=config(gateway={"auth": "token"}))


def scope_of(address: str = "10.0.0.9", **headers: str) -> dict[str, Any]:
    """The ASGI scope of a request."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (address, 1), "headers": pairs}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        (f"Bearer {TOKEN}", 200),
        (f"bEARER  {TOKEN} ", 200),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer", 401),
        ("Bearer ü", 401),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/reverie", "/metrics"])
async def test_the_token_opens_every_guarded_path(path: str, authorization: str | None, status: int) -> None:
    """The scheme may be written in any case; everything else is refused."""
    headers = {"authorization": authorization.encode()} if authorization is not None else {}
    async with client_of(guarded(), token=TOKEN) as client:
        response = await client.get(path, headers=headers)  # pyright: ignore[reportArgumentType] (bytes are allowed)
    assert response.status_code == status
    if status == 401:
        assert (response.content, response.headers["www-authenticate"]) == (UNAUTHORIZED, "Bearer")


@pytest.mark.anyio
async def test_nothing_of_a_stranger_is_read() -> None:
    """The check comes before the body, and a refused request makes no turn."""
    app = guarded()
    async with client_of(app, token=TOKEN) as client:
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            response = await client.post(path, content=b"{nonsense")
            assert (response.status_code, response.content) == (401, UNAUTHORIZED)
    assert app.requests == []


@pytest.mark.anyio
async def test_probes_need_no_token() -> None:
    """Whoever watches over the server has no secret."""
    async with client_of(guarded(), token=TOKEN) as client:
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.anyio
async def test_guessing_is_stopped() -> None:
    """After twenty failures in a minute an address is refused, token or not, until the minute is over."""
    app = guarded()
    good = {"authorization": f"Bearer {TOKEN}"}
    async with client_of(app, token=TOKEN, address="10.0.0.9") as client:
        statuses = [(await client.get("/v1/models")).status_code for _ in range(20)]
        app.clock.advance(seconds=15.5)
        refused = await client.get("/v1/models", headers=good)
        app.clock.advance(seconds=45)
        allowed = await client.get("/v1/models", headers=good)
    assert statuses == [401] * 20
    assert (refused.status_code, refused.content, refused.headers["retry-after"]) == (
        429,
        (
            b'{"error":{"message":"Too many failed authentication attempts. Please try again later.",'
            b'"type":"rate_limited"}}'
        ),
        "45",
    )
    assert allowed.status_code == 200


def test_addresses_are_counted_apart() -> None:
    """One that fails does not close the door for another."""
    guard = Guard(TOKEN, FakeClock())
    for _ in range(21):
        guard.refusal(scope_of("10.0.0.9"))
    assert guard.refusal(scope_of("10.0.0.8", authorization=f"Bearer {TOKEN}")) is None


def test_the_table_of_addresses_is_bounded() -> None:
    """The address that failed longest ago is forgotten."""
    guard = Guard(TOKEN, FakeClock())
    for _ in range(21):
        guard.refusal(scope_of("first"))
    for number in range(ADDRESSES_MAX):
        guard.refusal(scope_of(f"address {number}"))
    assert guard.refusal(scope_of("first", authorization=f"Bearer {TOKEN}")) is None


@pytest.mark.parametrize(
    ("origin", "foreign"),
    [
        ("https://evil.example", True),
        ("http://localhost.evil.example", True),
        ("null", True),
        ("http://[broken", True),
        ("http://localhost:3000", False),
        ("http://127.0.0.1", False),
        ("http://[::1]:8377", False),
        ("app://obsidian.md", False),
        ("chrome-extension://abc", False),
    ],
)
def test_pages_of_other_sites(origin: str, *, foreign: bool) -> None:
    """A browser names the page; desktop programs and extensions belong to the owner."""
    assert is_foreign_page(scope_of(origin=origin)) is foreign


@pytest.mark.anyio
async def test_a_page_of_another_site_cannot_use_an_open_server() -> None:
    """Without a token, what the owner's browser is told to do by a stranger is refused."""
    app = ScriptedApp()
    async with client_of(app) as client:
        response = await client.post("/v1/chat/completions", headers={"origin": "https://evil.example"})
    assert (response.status_code, response.json()["error"]["code"], app.requests) == (403, "foreign_origin", [])


@pytest.mark.parametrize(
    ("scope", "local"),
    [
        (scope_of("127.0.0.1"), True),
        (scope_of("::1"), True),
        (scope_of("10.0.0.9"), False),
        (scope_of("127.0.0.1", x_forwarded_for="10.0.0.9"), False),
        (scope_of("127.0.0.1", forwarded="for=10.0.0.9"), False),
        ({"client": None, "headers": []}, False),
    ],
)
def test_who_is_on_this_machine(scope: dict[str, Any], *, local: bool) -> None:
    """A connection through a proxy is not."""
    assert is_local_direct(scope) is local


@pytest.mark.parametrize(
    ("settings", "token", "key"),
    [
        ({}, None, None),
        ({"host": "localhost"}, None, None),
        ({"host": "::1"}, None, None),
        ({"host": "0.0.0.0", "auth": "token"}, "t", None),  # noqa: S104 (what is tested)
        ({"auth": "token"}, None, "gateway.auth"),
        ({"auth": "token"}, "", "gateway.auth"),
        ({"host": "0.0.0.0"}, None, "gateway.host"),  # noqa: S104 (as above)
        ({"host": "0.0.0.0"}, "t", "gateway.host"),  # noqa: S104 (as above)
        ({"host": "reverie.example"}, None, "gateway.host"),
    ],
)
def test_an_open_door_is_not_built(settings: dict[str, Any], token: str | None, key: str | None) -> None:
    """An address that others can reach needs token mode and a token, and token mode needs a token."""
    gateway = GatewayConfig.model_validate(settings)
    if key is None:
        check_exposure(gateway, token)
        return
    with pytest.raises(ConfigError) as caught:
        check_exposure(gateway, token)
    assert caught.value.key == key


def test_a_gateway_checks_its_own_exposure() -> None:
    """Whoever builds it cannot forget."""
    with pytest.raises(ConfigError):
        create_gateway(ScriptedApp(config=config(gateway={"host": "0.0.0.0"})))  # noqa: S104 (what is tested)
