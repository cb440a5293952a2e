"""`/v1/learning/…` and `/v1/feedback`: what was learned, why, changing it, and saying how an answer was.

    GET     /v1/learning/status               spend, queues, pauses, alarms, counts
    GET     /v1/learning/{kind}               a page; `?agent=`, `?status=`, `?q=`, `?after=`, `?limit=`
    GET     /v1/learning/{kind}/{id}          one of them, whole
    GET     /v1/learning/{kind}/{id}/explain  why it is there, and what happened
    PATCH   /v1/learning/{kind}/{id}          edit it
    DELETE  /v1/learning/{kind}/{id}          delete it
    POST    /v1/learning/{kind}/{id}/{verb}   archive, unarchive; skills: enable, disable; jobs: retry, cancel
    POST    /v1/feedback                      202 at once

`{kind}` is one of `episodes`, `traces`, `policies`, `world-models`, `skills`, `feedback`, `jobs`. A skill is also found
by its name.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import PlainTextResponse, Response

from reverie.errors import RequestError
from reverie.gateway.body import decode_object, read_body
from reverie.gateway.feedback_body import read_feedback
from reverie.gateway.memory_api import agent_of
from reverie.gateway.queue_api import whole_number
from reverie.gateway.replies import render
from reverie.gateway.routing import known_agent, routing_headers
from reverie.learning.surfaces.edits import DELETABLE, EDITABLE, VERBS
from reverie.learning.surfaces.pages import LISTED, LISTED_MAX, PageRequest
from reverie.learning.surfaces.ports import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from reverie.gateway.ports import GatewayApp
    from reverie.learning.surfaces.ports import Kind, Verb
    from reverie.types import JsonObject

ID_CHARACTERS_MAX = 512
BODY_BYTES_MAX = 256 * 1024
PAGE_PARAMETERS = frozenset({"agent", "status", "q", "after", "limit"})
ITEM_PARAMETERS = frozenset({"agent"})


class LearningApi:
    """The endpoints."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def status(self, request: Request) -> Response:
        """`GET /v1/learning/status`.

        Raises:
            RequestError: a parameter is not one.
            StorageError: it cannot be read.
        """
        _check_parameters(request, ())
        return _json(await self._app.learning.status())

    async def listed(self, request: Request) -> Response:
        """`GET /v1/learning/{kind}`.

        Raises:
            RequestError: there is no such kind, or a parameter makes no sense.
            UnknownLearnedError: there is no row `after`.
        """
        _check_parameters(request, PAGE_PARAMETERS)
        kind, given = _kind(request), request.query_params
        of_all = kind == "jobs" and not given.get("agent")
        asked = PageRequest(
            kind=kind,
            agent="" if of_all else self._agent(request),
            status=given.get("status", ""),
            q=given.get("q", "").strip(),
            after=given.get("after", ""),
            limit=whole_number(request, "limit", 1, LISTED_MAX, default=LISTED),
        )
        return _json(await self._app.learning.page(asked))

    async def one(self, request: Request) -> Response:
        """`GET`, `PATCH` or `DELETE /v1/learning/{kind}/{id}`; a kind that is not edited or deleted answers 405.

        Raises:
            RequestError: there is no such kind, or the changes make no sense.
            UnknownLearnedError: there is no such thing.
            StorageError, HomeError: it could not be written.
        """
        _check_parameters(request, ITEM_PARAMETERS)
        kind, name = _kind(request), _id(request)
        learning = self._app.learning
        methods = _methods(kind)
        if request.method not in methods:
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": ", ".join(methods)})
        if request.method == "PATCH":
            changes = decode_object(await self._body(request))
            return _json(await learning.edit(kind, name, changes, self._agent(request)))
        if request.method == "DELETE":
            return _json(await learning.delete(kind, name, self._agent(request)))
        return _json(await learning.show(kind, name, self._agent(request)))

    async def explain(self, request: Request) -> Response:
        """`GET /v1/learning/{kind}/{id}/explain`.

        Raises:
            RequestError: there is no such kind.
            UnknownLearnedError: there is no such thing.
        """
        _check_parameters(request, ITEM_PARAMETERS)
        return _json(await self._app.learning.explain(_kind(request), _id(request), self._agent(request)))

    async def act(self, request: Request) -> Response:
        """`POST /v1/learning/{kind}/{id}/{verb}`; the body is empty.

        Raises:
            RequestError: there is no such kind, that cannot be done to it, or the body is not empty.
            UnknownLearnedError: there is no such thing.
            LearnedStateError: a job is in no state for it.
            StorageError, HomeError: it could not be written.
        """
        _check_parameters(request, ITEM_PARAMETERS)
        kind, verb = _kind(request), cast("Verb", request.url.path.rpartition("/")[2])
        if verb not in VERBS[kind]:
            listed = ", ".join(f"`{each}`" for each in VERBS[kind]) or "nothing"
            raise RequestError(f"What can be done to a thing of the kind `{kind}`: {listed}.", status=404)
        if (await self._body(request)).strip() not in {b"", b"{}"}:
            raise RequestError("There are no fields here: send an empty body.")
        return _json(await self._app.learning.act(kind, _id(request), verb, self._agent(request)))

    async def feedback(self, request: Request) -> Response:
        """`POST /v1/feedback`: 202 once it is kept; what follows from it happens in the background.

        Raises:
            RequestError: it is not well formed.
            UnknownFeedbackTargetError: what it is about does not exist.
            MessageKeyReusedError: its key stands for other feedback.
            StorageError: it could not be kept.
        """
        body = decode_object(await self._body(request))
        given = read_feedback(body, self._agent(request, body.get("agent")))
        return _json(await self._app.learning.give_feedback(given), HTTPStatus.ACCEPTED)

    async def _body(self, request: Request) -> bytes:
        read_s = self._app.config.gateway.body_read_s
        return await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)

    def _agent(self, request: Request, given: Any = None) -> str:
        """Whose: as the body or the query says, else the headers, else the default.

        Raises:
            RequestError: `agent` is no text.
            UnknownModelError: there is no such agent.
        """
        agents = self._app.agents()
        named = request.query_params.get("agent") if given is None else given
        if named is not None and not isinstance(named, str):
            raise RequestError("`agent` must be a string.", param="agent")
        if named:
            return known_agent(named, agents, "agent")
        return agent_of(routing_headers(request.scope["headers"]), agents)


def _methods(kind: Kind) -> list[str]:
    return ["GET", *(["PATCH"] if kind in EDITABLE else []), *(["DELETE"] if kind in DELETABLE else [])]


def _kind(request: Request) -> Kind:
    kind: Any = request.path_params["kind"]
    if kind not in KINDS:
        listed = ", ".join(f"`{each}`" for each in KINDS)
        raise RequestError(f"There are no `{kind[:100]}`. What is learned: {listed}.", code="unknown_url", status=404)
    return kind


def _id(request: Request) -> str:
    name: str = request.path_params["id"]
    if not 0 < len(name) <= ID_CHARACTERS_MAX:
        raise RequestError(f"An id has 1 to {ID_CHARACTERS_MAX} characters.", param="id")
    return name


def _check_parameters(request: Request, known: Collection[str]) -> None:
    """A misspelt filter must not be silently ignored."""
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(f"`{each}`" for each in sorted(known)) or "none"
            raise RequestError(f"There is no parameter `{name[:100]}` here: {listed}.", param=name[:100])


def _json(value: JsonObject, status: int = HTTPStatus.OK) -> Response:
    return Response(render(value), status, media_type="application/json")
