"""`POST /v1/embeddings`: the vectors that memory itself uses.

`model` addresses an agent, as everywhere, or is the embedder's own name. The embedder is the configured one; asking
for another model or for other dimensions is refused, since vectors of two models must never meet.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from anyio import to_thread
from starlette.responses import Response

from reverie.errors import RequestError
from reverie.gateway.body import decode_object, read_body, run_sized
from reverie.gateway.replies import embeddings
from reverie.gateway.routing import agent_of_model, routing_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from reverie.gateway.ports import EmbedderIdentity, GatewayApp
    from reverie.types import JsonObject

BODY_BYTES_MAX = 5 * 1024 * 1024
INPUTS_MAX = 128
INPUT_CHARACTERS_MAX = 8_192
TOTAL_CHARACTERS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class _Asked:
    model: str
    texts: tuple[str, ...]
    encoding: Literal["float", "base64"]


class Embeddings:
    """The endpoint."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def create(self, request: Request) -> Response:
        """Embed the texts of one request.

        Raises:
            RequestError: it is not well formed, beyond the limits, or there is no embedder.
            EmbedderError: a text could not be embedded.
        """
        read_s = self._app.config.gateway.body_read_s
        raw = await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)
        body = await run_sized(len(raw), decode_object, raw)
        embedder = self._app.embedder
        if embedder is None:
            message = 'This server has no embedder (memory.embedder = "none").'
            raise RequestError(message, param="model", code="embedder_disabled")
        headers = routing_headers(request.scope["headers"])
        asked = read_request(body, headers, embedder.identity, self._app.agents())
        vectors = await embedder.embed_passages(asked.texts)
        return Response(await to_thread.run_sync(_render, vectors, asked), media_type="application/json")


def read_request(
    body: JsonObject, headers: Mapping[str, str], identity: EmbedderIdentity, agents: tuple[str, ...]
) -> _Asked:
    """What a body asks of this embedder.

    Raises:
        RequestError: it is not well formed, beyond the limits, or asks for another model.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise RequestError("`model` is required and must be a string.", param="model")
    if model != identity.model:
        agent_of_model(model, agents)
    for name in ("x-reverie-model", "x-openclaw-model"):
        if headers.get(name, identity.model).rpartition("/")[2] != identity.model.rpartition("/")[2]:
            raise RequestError(f"This server embeds with '{identity.model}' only.", param=name)
    if body.get("dimensions") not in (None, identity.dims):  # a tuple: the value may be unhashable
        raise RequestError(f"`dimensions` must be {identity.dims}, or be left out.", param="dimensions")
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64", None):  # as above
        raise RequestError("`encoding_format` must be `float` or `base64`.", param="encoding_format")
    return _Asked(model, _texts(body.get("input")), "base64" if encoding == "base64" else "float")


def _texts(given: object) -> tuple[str, ...]:
    entries: list[Any] = [given] if isinstance(given, str) else cast("list[Any]", given)
    if not isinstance(given, str | list) or not all(isinstance(entry, str) for entry in entries):
        raise RequestError("`input` must be a string or an array of strings.", param="input")
    if not 1 <= len(entries) <= INPUTS_MAX:
        raise RequestError(f"`input` must hold 1 to {INPUTS_MAX} texts.", param="input")
    if not all(entry.strip() for entry in entries):
        raise RequestError("`input` must not hold an empty text.", param="input")
    if max(map(len, entries)) > INPUT_CHARACTERS_MAX:
        raise RequestError(f"Each text of `input` may have at most {INPUT_CHARACTERS_MAX} characters.", param="input")
    if sum(map(len, entries)) > TOTAL_CHARACTERS_MAX:
        raise RequestError(f"`input` may have at most {TOTAL_CHARACTERS_MAX} characters in all.", param="input")
    return tuple(entries)


def _render(vectors: NDArray[np.float32], asked: _Asked) -> bytes:
    """The answer; on a thread, since 128 vectors are tens of thousands of numbers."""
    if asked.encoding == "base64":
        rows: list[Any] = [b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]
    else:
        rows = vectors.tolist()
    return embeddings(rows, asked.model)
