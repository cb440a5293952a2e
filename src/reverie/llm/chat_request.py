"""A `ModelRequest` as the JSON body of `POST /chat/completions`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from reverie.llm.cache_hints import add_hints

if TYPE_CHECKING:
    from reverie.llm.cache_hints import CacheHints
    from reverie.llm.client import ModelRequest
    from reverie.types import JsonObject, Message

_NAME_CHARS_MAX = 64
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


def request_body(
    request: ModelRequest, *, model: str, stream: bool, usage_in_stream: bool, hints: CacheHints = "off"
) -> bytes:
    """The body, UTF-8. Sampling parameters stand as the client sent them; ours win over theirs of the same name."""
    body: JsonObject = {
        **request.sampling,
        "model": model,
        "messages": [render_message(message) for message in request.messages],
        "stream": stream,
    }
    body.pop("stream_options", None)
    if stream and usage_in_stream:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = request.tools
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
    add_hints(body, request, hints)
    # A lone surrogate cannot be written as UTF-8: it becomes "?" instead of failing the call.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def body_size_estimate(request: ModelRequest) -> int:
    """About how many characters the body has: enough to tell whether rendering it takes noticeable time."""
    return sum(len(message.text) + sum(len(image.url) for image in message.images) for message in request.messages)


def render_message(message: Message) -> JsonObject:
    """One entry of `messages`. A user's images follow its text; a call without arguments gets the empty object."""
    rendered: JsonObject = {"role": message.role, "content": _content(message)}
    if message.name and (name := _wire_name(message.name)):
        rendered["name"] = name
    if message.tool_call_id is not None:
        rendered["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        rendered["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.tool_calls
        ]
    return rendered


def _content(message: Message) -> str | list[JsonObject] | None:
    if message.images:
        parts: list[JsonObject] = [{"type": "text", "text": message.text}] if message.text else []
        for image in message.images:
            url: dict[str, Any] = {"url": image.url}
            if image.detail:
                url["detail"] = image.detail
            parts.append({"type": "image_url", "image_url": url})
        return parts
    return None if message.tool_calls and not message.text else message.text


def _wire_name(name: str) -> str:
    """A speaker's name in the alphabet that servers accept; empty when nothing of it is left."""
    return _NOT_IN_NAME.sub("_", name).strip("_")[:_NAME_CHARS_MAX]
