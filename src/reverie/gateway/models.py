"""`GET /v1/models` and `/v1/models/{id}`: the agents that can be addressed, under our names and OpenClaw's.

Order: `reverie`, `reverie/<agent>` for each agent, the default one first; then `openclaw`, `openclaw/default` and
`openclaw/<agent>` in the same order, as OpenClaw lists them. The first entry is the one to use when a client offers
a choice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from reverie.errors import RequestError, UnknownModelError
from reverie.gateway.replies import listing, model_object, render
from reverie.gateway.routing import agent_of_model

if TYPE_CHECKING:
    from starlette.requests import Request

    from reverie.gateway.ports import GatewayApp

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def model_ids(agents: tuple[str, ...]) -> tuple[str, ...]:
    """Every `model` that is listed; each once."""
    ours = ("reverie", *(f"reverie/{agent}" for agent in agents))
    openclaws = ("openclaw", "openclaw/default", *(f"openclaw/{agent}" for agent in agents))
    return tuple(dict.fromkeys((*ours, *openclaws)))


class Models:
    """Both endpoints."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def list_all(self, request: Request) -> Response:  # noqa: ARG002 (an endpoint's signature)
        """`GET /v1/models`."""
        return _json(listing([model_object(model_id) for model_id in model_ids(self._app.agents())]))

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/models/{id}`: any form of `model` that a chat completion takes.

        Raises:
            RequestError: there is no id, or it is not well formed.
            UnknownModelError: there is no such agent.
        """
        model_id: str = request.path_params["model_id"]
        if not model_id.strip():
            raise RequestError("Missing model id.", param="model")
        if _BAD_ESCAPE.search(request.scope.get("raw_path") or b""):
            raise RequestError("Invalid model id.", param="model")
        try:
            agent_of_model(model_id, self._app.agents())
        except UnknownModelError:
            raise UnknownModelError(f"Model '{model_id}' not found.", param="model", code="model_not_found") from None
        except RequestError:
            raise RequestError("Invalid model id.", param="model") from None
        return _json(model_object(model_id))


def _json(value: object) -> Response:
    return Response(render(value), media_type="application/json")
