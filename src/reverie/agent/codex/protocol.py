"""What the Codex app-server says, as values: parsed once, at the door. Its words are those of its own protocol.

Only what Reverie reads has a type. A notification that is not known is no event and is counted; one that is known and
cannot be read is treated in the same way. Fields that are not read may come and go with its versions.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from reverie.context.threads import says_overflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.types import JsonObject

OVERLOADED = -32001
"""The app-server has too much to do; asked again later, it may do it."""
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INPUT_CHARS_MAX = 1 << 20
"""All text of a turn's input together."""

TurnStatus = Literal["completed", "interrupted", "failed", "inProgress"]
ThreadActivity = Literal["notLoaded", "idle", "systemError", "active"]

_INVALID_IMAGE = re.compile(r"invalid image|not represent a valid image|image poisoning", re.IGNORECASE)
_ACTIVE_WRITER = re.compile(r"already has an active writer", re.IGNORECASE)


# -- items ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserItem:
    """A message of the person is part of the thread from now on. `client_id` is the sender's own name for it."""

    id: str
    client_id: str | None


@dataclass(frozen=True, slots=True)
class AgentItem:
    """Something the model says; its text is whole once the item is done."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolItem:
    """A tool that the model uses: of an MCP server, or a command (`server` is empty then).

    `arguments` and `output` are text, JSON where the tool's own are JSON. `output` is None until the item is done.
    """

    id: str
    server: str
    tool: str
    arguments: str
    output: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class CompactionItem:
    """Codex puts a summary of its own in the place of the thread's beginning."""

    id: str


@dataclass(frozen=True, slots=True)
class OtherItem:
    """Anything else that happens in a turn."""

    id: str
    kind: str


Item = UserItem | AgentItem | ToolItem | CompactionItem | OtherItem


# -- notifications -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """A turn runs."""

    thread_id: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class ItemBegan:
    """Something in a turn has begun."""

    thread_id: str
    turn_id: str
    item: Item


@dataclass(frozen=True, slots=True)
class ItemDone:
    """Something in a turn is complete, and on disk."""

    thread_id: str
    turn_id: str
    item: Item


@dataclass(frozen=True, slots=True)
class TextPiece:
    """More of what the model says in an item."""

    thread_id: str
    turn_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class ThoughtPiece:
    """More of the model's visible thoughts."""

    thread_id: str
    turn_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens as the model's server counted them."""

    total: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class UsageTold:
    """What a thread has taken: `last` in its last model call, `total` in all. `window`: the model's, where known."""

    thread_id: str
    turn_id: str
    last: TokenCount
    total: TokenCount
    window: int | None


@dataclass(frozen=True, slots=True)
class TurnFailure:
    """Why a turn failed. `kind` is Codex's word for it, `http_status` that of the model's server, where it had one."""

    message: str
    kind: str = "other"
    http_status: int | None = None

    @property
    def overflow(self) -> bool:
        """The thread does not fit the model's window."""
        return self.kind == "contextWindowExceeded" or says_overflow(self.message)

    @property
    def invalid_image(self) -> bool:
        """An image in the thread cannot be read, now or in any later turn."""
        return bool(_INVALID_IMAGE.search(self.message))


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn has ended."""

    thread_id: str
    turn_id: str
    status: TurnStatus
    failure: TurnFailure | None


@dataclass(frozen=True, slots=True)
class ErrorTold:
    """Something went wrong in a turn; with `will_retry` Codex goes on by itself."""

    thread_id: str
    turn_id: str
    failure: TurnFailure
    will_retry: bool


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A thread is busy, or is not any more."""

    thread_id: str
    activity: ThreadActivity


@dataclass(frozen=True, slots=True)
class ToolServerTold:
    """An MCP server of a thread starts, is ready, or could not be reached."""

    thread_id: str
    name: str
    status: str
    error: str


Event = (
    TurnBegan
    | ItemBegan
    | ItemDone
    | TextPiece
    | ThoughtPiece
    | UsageTold
    | TurnEnded
    | ErrorTold
    | StatusChanged
    | ToolServerTold
)
"""What a thread's subscriber hears."""


def parse_notification(method: str, params: JsonObject) -> Event | None:
    """The event that a notification tells; None for one that Reverie does not read, or cannot."""
    parse = _NOTIFICATIONS.get(method)
    if parse is None:
        return None
    try:
        return parse(params)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _turn_began(params: JsonObject) -> Event:
    return TurnBegan(_text(params["threadId"]), _text(params["turn"]["id"]))


def _turn_ended(params: JsonObject) -> Event:
    turn: JsonObject = params["turn"]
    error = turn.get("error")
    failure = None if error is None else parse_failure(error)
    return TurnEnded(_text(params["threadId"]), _text(turn["id"]), turn["status"], failure)


def _item_began(params: JsonObject) -> Event:
    return ItemBegan(_text(params["threadId"]), _text(params["turnId"]), parse_item(params["item"]))


def _item_done(params: JsonObject) -> Event:
    return ItemDone(_text(params["threadId"]), _text(params["turnId"]), parse_item(params["item"]))


def _text_piece(params: JsonObject) -> Event:
    item_id, delta = _text(params["itemId"]), _text(params["delta"])
    return TextPiece(_text(params["threadId"]), _text(params["turnId"]), item_id, delta)


def _thought_piece(params: JsonObject) -> Event:
    item_id, delta = _text(params["itemId"]), _text(params["delta"])
    return ThoughtPiece(_text(params["threadId"]), _text(params["turnId"]), item_id, delta)


def _usage(params: JsonObject) -> Event:
    usage: JsonObject = params["tokenUsage"]
    window = usage.get("modelContextWindow")
    return UsageTold(
        thread_id=_text(params["threadId"]),
        turn_id=_text(params["turnId"]),
        last=_tokens(usage["last"]),
        total=_tokens(usage["total"]),
        window=window if isinstance(window, int) and window > 0 else None,
    )


def _error(params: JsonObject) -> Event:
    failure = parse_failure(params["error"])
    return ErrorTold(_text(params["threadId"]), _text(params["turnId"]), failure, bool(params.get("willRetry")))


def _status(params: JsonObject) -> Event:
    return StatusChanged(_text(params["threadId"]), params["status"]["type"])


def _tool_server(params: JsonObject) -> Event:
    error = params.get("error")
    return ToolServerTold(
        _text(params["threadId"]), _text(params["name"]), _text(params["status"]), error if error is not None else ""
    )


_NOTIFICATIONS: dict[str, Callable[[JsonObject], Event]] = {
    "turn/started": _turn_began,
    "turn/completed": _turn_ended,
    "item/started": _item_began,
    "item/completed": _item_done,
    "item/agentMessage/delta": _text_piece,
    "item/reasoning/summaryTextDelta": _thought_piece,
    "item/reasoning/textDelta": _thought_piece,
    "thread/tokenUsage/updated": _usage,
    "thread/status/changed": _status,
    "mcpServer/startupStatus/updated": _tool_server,
    "error": _error,
}

UNREAD = (
    "thread/started",
    "thread/readState/changed",
    "thread/settings/updated",
    "account/rateLimits/updated",
    "remoteControl/status/changed",
    "turn/diff/updated",
    "turn/plan/updated",
    "item/plan/delta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/fileChange/patchUpdated",
    "item/mcpToolCall/progress",
    "item/reasoning/summaryPartAdded",
    "skills/changed",
    "warning",
    "configWarning",
    "deprecationNotice",
)
"""Notifications that Codex is asked not to send: nobody here reads them."""


def parse_item(item: JsonObject) -> Item:
    """An item of a turn."""
    item_id = _text(item["id"])
    match item["type"]:
        case "userMessage":
            client_id = item.get("clientId")
            return UserItem(item_id, client_id if isinstance(client_id, str) else None)
        case "agentMessage":
            return AgentItem(item_id, _text(item.get("text") or ""))
        case "mcpToolCall":
            return _mcp_item(item_id, item)
        case "commandExecution":
            done = item.get("status") != "inProgress"
            output = _text(item.get("aggregatedOutput") or "") if done else None
            failed = item.get("status") in {"failed", "declined"} or bool(item.get("exitCode"))
            return ToolItem(item_id, "", "exec_command", _json({"cmd": item.get("command")}), output, failed)
        case "contextCompaction":
            return CompactionItem(item_id)
        case kind:
            return OtherItem(item_id, _text(kind))


def _mcp_item(item_id: str, item: JsonObject) -> ToolItem:
    output: str | None = None
    failed = False
    if item.get("status") != "inProgress":
        result: JsonObject = item.get("result") or {}
        parts: list[JsonObject] = result.get("content") or []
        error: JsonObject | None = item.get("error")
        output = "".join(_text(part.get("text") or "") for part in parts)
        if error is not None:
            output, failed = _text(error.get("message") or ""), True
        failed = failed or item.get("status") == "failed"
    return ToolItem(
        item_id, _text(item["server"]), _text(item["tool"]), _json(item.get("arguments") or {}), output, failed
    )


def parse_failure(error: JsonObject) -> TurnFailure:
    """Why a turn failed. What it is called is a word, or an object with the word as its one key."""
    info: Any = error.get("codexErrorInfo")
    kind, status = "other", None
    if isinstance(info, str):
        kind = info
    elif isinstance(info, dict) and info:
        named = cast("JsonObject", info)
        kind = next(iter(named))
        details: Any = named[kind]
        status = cast("JsonObject", details).get("httpStatusCode") if isinstance(details, dict) else None
    return TurnFailure(_text(error.get("message") or "no reason given"), kind, status)


def _tokens(counted: JsonObject) -> TokenCount:
    return TokenCount(
        total=int(counted["totalTokens"]),
        input=int(counted["inputTokens"]),
        cached=int(counted.get("cachedInputTokens") or 0),
        output=int(counted["outputTokens"]),
        reasoning=int(counted.get("reasoningOutputTokens") or 0),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NativeThread:
    """A thread as the app-server has it. `model` is what answers in it, `path` the file it is kept in."""

    id: str
    model: str = ""
    activity: ThreadActivity = "idle"
    path: str | None = None


def parse_thread(result: JsonObject) -> NativeThread:
    """The thread of a `thread/start`, `thread/resume`, `thread/fork` or `thread/read`.

    Raises:
        KeyError, TypeError: it is not in the answer.
    """
    thread: JsonObject = result["thread"]
    path = thread.get("path")
    return NativeThread(
        id=_text(thread["id"]),
        model=result.get("model") or thread.get("model") or "",
        activity=cast("ThreadActivity", (thread.get("status") or {"type": "idle"})["type"]),
        path=path if isinstance(path, str) else None,
    )


def says_active_elsewhere(message: str) -> bool:
    """Whether a refusal says that another process has the thread open."""
    return bool(_ACTIVE_WRITER.search(message))


# -- what is sent --------------------------------------------------------------------------------------------------


def text_input(text: str, images: tuple[str, ...] = ()) -> list[JsonObject]:
    """A message as a turn's input: its text, and its images as data URLs."""
    return [{"type": "text", "text": text}, *({"type": "image", "url": url} for url in images)]
