"""The memory tools of a running server, over its `/v1/memory/…`."""

from __future__ import annotations

import asyncio
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httpx2

from reverie.errors import RequestError, ReverieError
from reverie.memory.tool_contracts import APPEND, GET, SEARCH, refused_answer, unknown_tool

if TYPE_CHECKING:
    from reverie.memory.tool_contracts import Asker
    from reverie.types import JsonObject

CALL_S_MAX = 60.0
_PATHS = {SEARCH: "search", GET: "get", APPEND: "append"}


class RemoteTools:
    """The tools of the server at `url`. `token` is what it wants to be shown, if anything; `transport` is for tests."""

    def __init__(
        self,
        url: str,
        token: str | None,
        offered: tuple[JsonObject, ...],
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._transport = transport
        self._offered = offered
        self._fields = dict.fromkeys(_PATHS, ("path", "text")) | {
            tool["function"]["name"]: tuple(tool["function"]["parameters"]["properties"]) for tool in offered
        }
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def definitions(self) -> tuple[JsonObject, ...]:
        """The tools as functions in OpenAI's format."""
        return self._offered

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """Have the server run a tool; its refusal, and that it cannot be reached, are answers too."""
        if name not in _PATHS:
            return unknown_tool(name)
        known = {key: arguments[key] for key in self._fields[name] if key in arguments}
        try:
            async with await asyncio.to_thread(self._client) as client:
                path, body = f"/v1/memory/{_PATHS[name]}", {**known, "agent": asker.agent}
                response = await client.post(path, json=body, headers=self._headers)
                answer: Any = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            failure = f"the server at {self._url} did not answer as it should ({type(error).__name__})"
            return refused_answer(name, arguments, ReverieError(failure))
        held = cast("JsonObject", answer) if isinstance(answer, dict) else {"error": dict[str, Any]()}
        refused = held.get("error")
        if not isinstance(refused, dict):
            return held
        return refused_answer(name, arguments, as_error(response.status_code, cast("JsonObject", refused)))

    def _client(self) -> httpx2.AsyncClient:
        """A client for a server of this machine, which speaks plain HTTP: no certificates are read.

        Call it on a thread: the first one loads the client's package.
        """
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx2.AsyncClient(
            base_url=self._url, timeout=CALL_S_MAX, trust_env=False, verify=trust, transport=self._transport
        )


def as_error(status: int, failure: JsonObject) -> ReverieError:
    """What the server refused, as the error that it was there."""
    message = str(failure.get("message", "the server gave no reason"))
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}:
        where = "the variable that gateway.token_env names, or gateway.token_file"
        return ReverieError(f"the server wants its token ({message}): give it to `reverie mcp` too, in {where}")
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return RequestError(message, param=failure.get("param"), code=failure.get("code"))
    return ReverieError(message)
