"""What the Codex app-server says becomes values, and what is not understood becomes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.agent.codex.protocol import (
    AgentItem,
    CompactionItem,
    ErrorTold,
    ItemBegan,
    ItemDone,
    NativeThread,
    OtherItem,
    StatusChanged,
    TextPiece,
    ThoughtPiece,
    TokenCount,
    ToolItem,
    ToolServerTold,
    TurnBegan,
    TurnEnded,
    TurnFailure,
    UsageTold,
    UserItem,
    parse_failure,
    parse_item,
    parse_notification,
    parse_thread,
    says_active_elsewhere,
    text_input,
)

IDS = {"threadId": "t", "turnId": "u"}
COUNT = {"totalTokens": 12, "inputTokens": 10, "cachedInputTokens": 4, "outputTokens": 2, "reasoningOutputTokens": 1}


@pytest.mark.parametrize(
    ("method", "params", "event"),
    [
        ("turn/started", {"threadId": "t", "turn": {"id": "u"}}, TurnBegan("t", "u")),
        ("item/started", {**IDS, "item": {"type": "agentMessage", "id": "i", "text": ""}},
         ItemBegan("t", "u", AgentItem("i", ""))),
        ("item/completed", {**IDS, "item": {"type": "userMessage", "id": "i", "clientId": "c"}},
         ItemDone("t", "u", UserItem("i", "c"))),
        ("item/agentMessage/delta", {**IDS, "itemId": "i", "delta": "Hi"}, TextPiece("t", "u", "i", "Hi")),
        ("item/reasoning/summaryTextDelta", {**IDS, "itemId": "i", "delta": "Hm"}, ThoughtPiece("t", "u", "i", "Hm")),
        ("thread/tokenUsage/updated", {**IDS, "tokenUsage": {"last": COUNT, "total": COUNT, "modelContextWindow": 9}},
         UsageTold("t", "u", TokenCount(12, 10, 4, 2, 1), TokenCount(12, 10, 4, 2, 1), 9)),
        ("thread/tokenUsage/updated", {**IDS, "tokenUsage": {"last": COUNT, "total": COUNT}},
         UsageTold("t", "u", TokenCount(12, 10, 4, 2, 1), TokenCount(12, 10, 4, 2, 1), None)),
        ("turn/completed", {"threadId": "t", "turn": {"id": "u", "status": "interrupted", "error": None}},
         TurnEnded("t", "u", "interrupted", None)),
        ("error", {**IDS, "error": {"message": "no", "codexErrorInfo": "other"}, "willRetry": True},
         ErrorTold("t", "u", TurnFailure("no"), will_retry=True)),
        ("thread/status/changed", {"threadId": "t", "status": {"type": "idle"}}, StatusChanged("t", "idle")),
        ("mcpServer/startupStatus/updated", {"threadId": "t", "name": "m", "status": "failed", "error": "refused"},
         ToolServerTold("t", "m", "failed", "refused")),
    ],
)  # fmt: skip
def test_each_notification_that_is_read_has_a_value(method: str, params: dict[str, Any], event: object) -> None:
    """Threads, turns, items, pieces of text, usage and errors, as the app-server of 0.163 tells them."""
    assert parse_notification(method, params) == event


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("thread/goal/updated", {"threadId": "t"}),
        ("turn/completed", {}),
        ("turn/completed", {"threadId": "t", "turn": None}),
        ("item/agentMessage/delta", {**IDS, "itemId": 7, "delta": "Hi"}),
        ("thread/tokenUsage/updated", {**IDS, "tokenUsage": {"last": {}}}),
        ("item/completed", {**IDS, "item": {"id": "i"}}),
        ("mcpServer/startupStatus/updated", {"threadId": None, "name": "m", "status": "ready"}),
    ],
)
def test_what_is_not_understood_is_no_event(method: str, params: dict[str, Any]) -> None:
    """A notification of a later version, and one that is malformed, are left out and break nothing."""
    assert parse_notification(method, params) is None


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ({"type": "userMessage", "id": "i", "clientId": None}, UserItem("i", None)),
        ({"type": "contextCompaction", "id": "i"}, CompactionItem("i")),
        ({"type": "sleep", "id": "i"}, OtherItem("i", "sleep")),
        (
            {"type": "mcpToolCall", "id": "i", "server": "s", "tool": "f", "arguments": {"a": 1},
             "status": "inProgress"},
            ToolItem("i", "s", "f", '{"a": 1}'),
        ),
        (
            {"type": "mcpToolCall", "id": "i", "server": "s", "tool": "f", "arguments": {}, "status": "completed",
             "result": {"content": [{"text": "one"}, {"type": "image"}, {"text": "two"}]}},
            ToolItem("i", "s", "f", "{}", "onetwo"),
        ),
        (
            {"type": "mcpToolCall", "id": "i", "server": "s", "tool": "f", "arguments": {}, "status": "failed",
             "result": None, "error": {"message": "no"}},
            ToolItem("i", "s", "f", "{}", "no", failed=True),
        ),
        (
            {"type": "commandExecution", "id": "i", "command": "ls", "status": "completed", "aggregatedOutput": "a\n",
             "exitCode": 0},
            ToolItem("i", "", "exec_command", '{"cmd": "ls"}', "a\n"),
        ),
        (
            {"type": "commandExecution", "id": "i", "command": "rm x", "status": "declined", "aggregatedOutput": None},
            ToolItem("i", "", "exec_command", '{"cmd": "rm x"}', "", failed=True),
        ),
    ],
)  # fmt: skip
def test_items_have_values(item: dict[str, Any], value: object) -> None:
    """Messages, tools with what came of them, compactions; anything else by its name."""
    assert parse_item(item) == value


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"message": "no", "codexErrorInfo": "serverOverloaded"}, TurnFailure("no", "serverOverloaded")),
        (
            {"message": "no", "codexErrorInfo": {"httpConnectionFailed": {"httpStatusCode": 401}}},
            TurnFailure("no", "httpConnectionFailed", 401),
        ),
        (
            {"message": "no", "codexErrorInfo": {"activeTurnNotSteerable": None}},
            TurnFailure("no", "activeTurnNotSteerable"),
        ),
        ({"codexErrorInfo": None}, TurnFailure("no reason given")),
    ],
)
def test_a_failure_is_a_word_or_an_object_with_one(error: dict[str, Any], failure: TurnFailure) -> None:
    """Codex names why a turn failed, and the status of the model's server where it had one."""
    assert parse_failure(error) == failure


def test_an_overflow_is_told_by_its_kind_or_its_words() -> None:
    """Both Codex's own word and what providers say count."""
    assert TurnFailure("x", "contextWindowExceeded").overflow
    assert TurnFailure("Codex ran out of room in the model's context window.").overflow
    assert not TurnFailure("slow down").overflow


@pytest.mark.parametrize(
    "message",
    ["Invalid image in your last message. Please remove it and try again.", "Image poisoning",
     "The image data you provided does not represent a valid image"],
)  # fmt: skip
def test_an_invalid_image_is_told_by_its_words(message: str) -> None:
    """Codex has no kind for it, and says it in different words while it compacts."""
    assert TurnFailure(message, "badRequest").invalid_image
    assert not TurnFailure("bad request", "badRequest").invalid_image


def test_a_thread_that_is_open_elsewhere() -> None:
    """The app-server says so in words only."""
    assert says_active_elsewhere("thread 01a2 already has an active writer")
    assert not says_active_elsewhere("no rollout found for thread id 01a2")


def test_a_thread_in_an_answer() -> None:
    """Its id, what answers in it, whether it is busy, and where it is kept."""
    answer = {"thread": {"id": "t", "status": {"type": "active"}, "path": "/x.jsonl", "model": "old"}, "model": "new"}
    assert parse_thread(answer) == NativeThread("t", "new", "active", "/x.jsonl")
    assert parse_thread({"thread": {"id": "t"}}) == NativeThread("t")


def test_input_is_text_and_images() -> None:
    """Images follow the text they belong to."""
    assert text_input("Hi", ("data:image/png;base64,AA",)) == [
        {"type": "text", "text": "Hi"},
        {"type": "image", "url": "data:image/png;base64,AA"},
    ]
