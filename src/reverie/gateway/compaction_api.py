"""`/v1/sessions/{key}/compact…`: have a conversation compacted, and look at what was.

    POST  /v1/sessions/{key}/compact             ask for it, `{"focus": "…"}`: 202 with what was asked for
    GET   /v1/sessions/{key}/compactions         those of a session key, the newest first
    GET   /v1/sessions/{key}/compactions/{id}    one of them with its summary; `?expand=true`: and the messages it
                                                 stands for, as they were said, a page after `?after=NUMBER`

Nothing waits for a summary here: it is prepared in the background and adopted by the session's next turn.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response

from reverie.errors import RequestError
from reverie.gateway.body import decode_object, read_body
from reverie.gateway.replies import render
from reverie.gateway.routing import KEY_CHARACTERS_MAX

if TYPE_CHECKING:
    from starlette.requests import Request

    from reverie.gateway.ports import GatewayApp
    from reverie.sessions.compactions import Compaction, Expanded
    from reverie.types import JsonObject, Message

BODY_BYTES_MAX = 64 * 1024
FOCUS_CHARACTERS_MAX = 1_000
SWITCHES = {"true": True, "1": True, "false": False, "0": False, "": False}


class CompactionApi:
    """The endpoints."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def compact(self, request: Request) -> Response:
        """`POST /v1/sessions/{key}/compact`; an empty body asks without a focus.

        Raises:
            RequestError: it is not well formed, or there is nothing to compact.
        """
        key = _key(request)
        read_s = self._app.config.gateway.body_read_s
        raw = await read_body(request.scope, request.receive, bytes_max=BODY_BYTES_MAX, read_s=read_s)
        asked = decode_object(raw) if raw.strip() else {}
        for name in asked:
            if name != "focus":
                raise RequestError(f"There is no field `{name[:100]}` here. Fields: `focus`.", param=name[:100])
        focus = asked.get("focus", "")
        if not isinstance(focus, str) or len(focus) > FOCUS_CHARACTERS_MAX:
            raise RequestError(f"`focus` must be a string of at most {FOCUS_CHARACTERS_MAX} characters.", param="focus")
        return _json(_shown(await self._app.request_compaction(key, focus)), HTTPStatus.ACCEPTED)

    async def listed(self, request: Request) -> Response:
        """`GET /v1/sessions/{key}/compactions`.

        Raises:
            RequestError: the key is too long.
        """
        found = await self._app.compactions_of(_key(request))
        return _json({"object": "list", "data": [_shown(each) for each in found]})

    async def one(self, request: Request) -> Response:
        """`GET /v1/sessions/{key}/compactions/{id}`.

        Raises:
            RequestError: there is none of that id in this session, or a parameter makes no sense.
        """
        key, wanted = _key(request), request.path_params["id"]
        expand, after = _expand(request), _after(request)
        found = await self._app.find_compaction(wanted)
        if found is None or found.key != key:
            message = f"There is no compaction {wanted[:100]!r} of this session: list them with GET …/compactions."
            raise RequestError(message, code="compaction_not_found", status=HTTPStatus.NOT_FOUND)
        shown = {**_shown(found), "summary": found.summary}
        if expand:
            shown["messages"] = _expanded(await self._app.expand_compaction(found, after))
        return _json(shown)


def _shown(compaction: Compaction) -> JsonObject:
    """A compaction without its summary, which may be long."""
    return {
        "object": "reverie.compaction",
        "id": compaction.id,
        "session_key": compaction.key,
        "session_id": compaction.session_id,
        "state": compaction.state,
        "cause": compaction.cause,
        "base_id": compaction.base_id,
        "first_message": compaction.first_seq,
        "last_message": compaction.last_seq,
        "focus": compaction.focus,
        "audit": compaction.audit,
        "memory": compaction.flushed_to,
        "tokens_before": compaction.tokens_before,
        "tokens_after": compaction.tokens_after,
        "attempts": compaction.attempts,
        "error": compaction.error,
        "created_at_ms": compaction.created_at_ms,
        "adopted_at_ms": compaction.adopted_at_ms,
    }


def _expanded(page: Expanded) -> JsonObject:
    listed = [{"number": seq, "said_at_ms": at, **_message(message)} for seq, message, at in page.messages]
    return {"object": "list", "data": listed, "has_more": page.more}


def _message(message: Message) -> JsonObject:
    """A message in OpenAI's terms. Images are counted: each may be megabytes."""
    shown: JsonObject = {"role": message.role, "content": message.text}
    if message.images:
        shown["images"] = len(message.images)
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        shown["tool_call_id"] = message.tool_call_id
    return shown


def _key(request: Request) -> str:
    key: str = request.path_params["key"]
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        raise RequestError(f"A session key has 1 to {KEY_CHARACTERS_MAX} characters.", param="key")
    return key


def _expand(request: Request) -> bool:
    value = request.query_params.get("expand", "").lower()
    if value not in SWITCHES:
        raise RequestError("`expand` must be true or false.", param="expand")
    return SWITCHES[value]


def _after(request: Request) -> int:
    value = request.query_params.get("after", "0")
    if not value.isascii() or not value.isdigit() or len(value) > 18:  # noqa: PLR2004 (what SQLite counts to)
        raise RequestError("`after` must be a message number.", param="after")
    return int(value)


def _json(value: JsonObject, status: int = HTTPStatus.OK) -> Response:
    return Response(render(value), status, media_type="application/json")
