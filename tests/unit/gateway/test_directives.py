"""`/queue` within a message."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.errors import RequestError
from reverie.gateway.directives import Directive, Stripped, settings_sentence, strip_directives
from reverie.gateway.queue_settings import checked_settings
from reverie.sessions.inbox import QueueSettings
from reverie.types import ImagePart, Message, ToolCall

PICTURE = ImagePart("data:image/png;base64,AA==")


def user(text: str) -> Message:
    """Something a person says."""
    return Message("user", text)


@pytest.mark.parametrize(
    ("text", "left", "changes"),
    [
        ("/queue steer", "", {"mode": "steer"}),
        ("/QUEUE Steer-Backlog", "", {"mode": "steer"}),
        (
            "/queue collect debounce:2s cap:25 drop:oldest",
            "",
            {"mode": "collect", "debounce_ms": 2000, "cap": 25, "drop": "old"},
        ),
        ("/queue debounce:500 hello", "hello", {"debounce_ms": 500}),
        ("/queue debounce:1m", "", {"debounce_ms": 60_000}),
        ("please /queue followup and hurry", "please and hurry", {"mode": "followup"}),
        ("first line\n/queue wait\nsecond line", "first line\nsecond line", {"mode": "wait"}),
        ("/queue interrupt steer now", "steer now", {"mode": "interrupt"}),
        ("/queue default", "", None),
        ("/queue reset", "", None),
        ("so /queue Clear", "so", None),
        ("/queue what? /queue collect", "/queue what?", {"mode": "collect"}),
    ],
)
def test_a_directive_is_read_and_taken_out(text: str, left: str, changes: dict[str, Any] | None) -> None:
    """Mode and options in any case; what else is said stays."""
    stripped = strip_directives([user(text)])
    assert stripped == Stripped((user(left),) if left else (), Directive(changes), says_more=bool(left))


@pytest.mark.parametrize(
    "text",
    [
        "/queue", "/queue up here", "the /queues steer", "a/queue steer", "/queue steer!", "/queue cap", "/q steer",
        "queue steer",
    ],
)  # fmt: skip
def test_people_may_speak_of_queues(text: str) -> None:
    """Without a word that it knows, nothing is a directive."""
    assert strip_directives([user(text)]) == Stripped((user(text),), None, says_more=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/queue cap:0", "`cap`: 0 is not valid: 1 ≤ cap ≤ 10000."),
        ("/queue steer cap:many", "`cap`: many is not valid: 1 ≤ cap ≤ 10000."),
        ("/queue debounce:soon", "`debounce:soon` is not valid: a duration such as 500ms, 2s or 1m."),
        ("/queue debounce:11m", "`debounce_ms`: 660000 is not valid: 0 ≤ debounce_ms ≤ 600000."),
        ("/queue drop:all", "`drop`: all is not valid: Input should be 'new', 'old' or 'summarize'."),
    ],
)
def test_a_value_out_of_range_is_refused(text: str, message: str) -> None:
    """The refusal names the setting, the value and what is allowed."""
    with pytest.raises(RequestError) as raised:
        strip_directives([user(text)])
    assert str(raised.value) == message


def test_earlier_directives_are_taken_out_and_not_obeyed() -> None:
    """A history that is sent again is recognised: the transcript has neither directives nor our answers to them."""
    call = ToolCall("1", "f", "{}")
    answer = Message("assistant", settings_sentence(QueueSettings()))
    messages = [
        user("/queue steer"),
        answer,
        user("hi /queue cap:0"),
        Message("assistant", "hello"),
        Message("assistant", answer.text, tool_calls=(call,)),
        user("and now?"),
    ]
    assert strip_directives(messages) == Stripped(
        (user("hi"), Message("assistant", "hello"), messages[4], messages[5]), None, says_more=True
    )


def test_an_image_says_something() -> None:
    """A directive beside an image leaves a message to be answered."""
    stripped = strip_directives([Message("user", "/queue steer", images=(PICTURE,))])
    assert stripped.messages == (Message("user", "User sent image(s) with no text.", images=(PICTURE,)),)
    assert stripped.says_more


def test_the_settings_in_a_sentence() -> None:
    """How long is waited is said where it matters."""
    assert [settings_sentence(settings) for settings in (QueueSettings(), QueueSettings("steer", 1, 2, 3, "old"))] == [
        (
            "[queue] Messages that find this session busy: mode wait (up to 30000 ms), debounce 500 ms, cap 20, "
            "drop new."
        ),
        "[queue] Messages that find this session busy: mode steer, debounce 2 ms, cap 3, drop old.",
    ]


def test_an_unknown_setting_is_refused() -> None:
    """Its name comes back, with those there are."""
    with pytest.raises(RequestError) as raised:
        checked_settings({"speed": 1})
    assert (str(raised.value), raised.value.param) == (
        "There is no setting `speed` here. Settings: `mode`, `wait_ms`, `debounce_ms`, `cap`, `drop`.",
        "speed",
    )
