"""Turn requests and messages as JSON for the database, and back. The only place that knows their stored form."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reverie.types import Arrival, ImagePart, Message, SessionKey, ToolCall, TurnRequest

if TYPE_CHECKING:
    from reverie.types import JsonObject


def dump(value: object) -> str:
    """Compact JSON; text stays readable."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def encode_request(request: TurnRequest) -> str:
    """A turn request as JSON, enough to run it after a restart."""
    return dump(asdict(request))


def decode_request(text: str) -> TurnRequest:
    """The turn request of a stored turn."""
    data: JsonObject = json.loads(text)
    data["session"] = SessionKey(**data["session"])
    data["messages"] = tuple(_message(message) for message in data["messages"])
    data["client_tools"] = tuple(data["client_tools"])
    data["arrival"] = Arrival(**data.get("arrival", {}))
    return TurnRequest(**data)


def _message(data: JsonObject) -> Message:
    data["images"] = tuple(ImagePart(**image) for image in data["images"])
    data["tool_calls"] = tuple(ToolCall(**call) for call in data["tool_calls"])
    return Message(**data)


def encode_extra(message: Message, lead: str = "", *, joined: bool = False) -> str:
    """What a message has besides role and text, as JSON; `{}` for most.

    `lead` is sent before its text; one that is `joined` is sent as one message with the next.
    """
    extra: dict[str, Any] = {"lead": lead} if lead else {}
    if joined:
        extra["joined"] = True
    if message.tool_calls:
        extra["tool_calls"] = [asdict(call) for call in message.tool_calls]
    if message.images:
        extra["images"] = [asdict(image) for image in message.images]
    if message.tool_call_id is not None:
        extra["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        extra["name"] = message.name
    return dump(extra)


def decode_message(role: Any, text: str, extra_json: str) -> Message:
    """A transcript row as the message that a model is sent."""
    return decode_entry(role, text, extra_json)[0]


def decode_entry(role: Any, text: str, extra_json: str) -> tuple[Message, bool]:
    """A transcript row as the message that a model is sent, and whether it is sent as one with the next."""
    if extra_json == "{}":
        return Message(role=role, text=text), False
    extra: JsonObject = json.loads(extra_json)
    message = Message(
        role=role,
        text=f"{extra.get('lead', '')}{text}",
        images=tuple(ImagePart(**image) for image in extra.get("images", ())),
        tool_calls=tuple(ToolCall(**call) for call in extra.get("tool_calls", ())),
        tool_call_id=extra.get("tool_call_id"),
        name=extra.get("name"),
    )
    return message, bool(extra.get("joined"))
