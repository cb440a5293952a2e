"""How a message comes in, and what becomes of it when its session is busy: headers and the rule."""

from __future__ import annotations

import pytest

from reverie.errors import RequestError
from reverie.gateway.arrival import Asked, Choice, OnBusy, arrival_of, decide, inbox_headers, read_arrival
from reverie.sessions.inbox import QueueSettings
from reverie.types import Arrival

WAIT = QueueSettings()
STEER = QueueSettings(mode="steer")


def read(channel: str = "webchat", user: str | None = None, **headers: str) -> Asked:
    """What these headers ask for; underscores stand for dashes."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return read_arrival(inbox_headers(pairs), channel=channel, user=user)


def test_a_request_without_headers_asks_for_nothing() -> None:
    """Everything is left to the session's settings."""
    assert read() == Asked()


def test_every_header() -> None:
    """Each is read, trimmed, and numbers are numbers."""
    assert read(
        x_reverie_source=" ring 7 ",
        idempotency_key="k-1",
        x_reverie_on_busy="Interrupt",
        x_reverie_wait_ms="0",
        x_reverie_deadline_ms="31536000000",
        x_reverie_on_disconnect="CANCEL",
    ) == Asked("ring 7", "k-1", "interrupt", 0, 31_536_000_000, cancels=True)


@pytest.mark.parametrize(
    ("channel", "user", "source"),
    [
        ("webchat", None, ""),
        ("webchat", "  ", ""),
        ("webchat", "Alice", "webchat:Alice"),
        ("telegram", None, "telegram"),
        ("telegram", "42", "telegram:42"),
        ("webchat", "a\x00b" + "c" * 300, "webchat:a?b" + "c" * 244),
    ],
)
def test_who_sent_it(channel: str, user: str | None, source: str) -> None:
    """Without a header of its own the source is channel and user; the plain web chat alone is nobody in particular."""
    assert read(channel, user).source == source


def test_the_key_of_a_message() -> None:
    """Both headers give it, and the standard one wins."""
    assert read(x_reverie_message_id="m").message_key == "m"
    assert read(x_reverie_message_id="m", idempotency_key="i").message_key == "i"
    assert read(idempotency_key="ß" * 255).message_key == "ß" * 255


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("queue", "queue"), ("wait", "wait"), ("reject", "reject"), ("interrupt", "interrupt"), ("steer", "steer"),
        ("followup", "followup"), ("collect", "collect"), ("steering", "steer"), ("steer-backlog", "steer"),
        ("follow-ups", "followup"), ("coalesce", "collect"), ("abort", "interrupt"),
    ],
)  # fmt: skip
def test_modes_and_their_aliases(word: str, mode: str) -> None:
    """`queue` in the header means: whatever the session is set to, but at once."""
    assert read(x_reverie_on_busy=word).on_busy == mode


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "x-reverie-on-busy",
            "later",
            "`x-reverie-on-busy: later` is not valid: one of queue, wait, reject, interrupt, steer, followup, collect.",
        ),
        (
            "x-reverie-wait-ms",
            "3600001",
            "`x-reverie-wait-ms: 3600001` is not valid: a whole number of milliseconds from 0 to 3600000.",
        ),
        (
            "x-reverie-wait-ms",
            "-1",
            "`x-reverie-wait-ms: -1` is not valid: a whole number of milliseconds from 0 to 3600000.",
        ),
        (
            "x-reverie-wait-ms",
            "²",
            "`x-reverie-wait-ms: ²` is not valid: a whole number of milliseconds from 0 to 3600000.",
        ),
        (
            "x-reverie-deadline-ms",
            "0",
            "`x-reverie-deadline-ms: 0` is not valid: a whole number of milliseconds from 1 to 31536000000.",
        ),
        ("x-reverie-on-disconnect", "stop", "`x-reverie-on-disconnect: stop` is not valid: continue or cancel."),
        ("idempotency-key", "a\tb", "`idempotency-key: a\tb` is not valid: at most 255 printable characters."),
        (
            "x-reverie-message-id",
            "x" * 256,
            f"`x-reverie-message-id: {'x' * 100}` is not valid: at most 255 printable characters.",
        ),
        (
            "x-reverie-source",
            "x" * 256,
            f"`x-reverie-source: {'x' * 100}` is not valid: at most 255 printable characters.",
        ),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, message: str) -> None:
    """The refusal names header, value and what is allowed."""
    with pytest.raises(RequestError) as raised:
        read(**{name.replace("-", "_"): value})
    assert (str(raised.value), raised.value.param, raised.value.status) == (message, name, 400)


# -- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wait", "followup", "collect", "steer", "interrupt", "reject"])
@pytest.mark.parametrize("on_busy", [None, "queue", "wait", "reject", "interrupt", "steer", "followup", "collect"])
def test_an_idle_session_answers_as_ever(mode: str, on_busy: OnBusy | None) -> None:
    """Whatever is set and asked, its caller gets the reply, however long that takes."""
    choice = decide(Asked(on_busy=on_busy), QueueSettings(mode=mode), busy=False)  # pyright: ignore[reportArgumentType]
    assert (choice.wait_ms, choice.refuse, choice.reason) == (None, False, "the session is idle")


@pytest.mark.parametrize(
    ("settings", "choice"),
    [
        (WAIT, Choice("followup", 30_000, refuse=False, reason="the session's mode is wait")),
        (STEER, Choice("steer", 0, refuse=False, reason="the session's mode is steer")),
        (QueueSettings("followup"), Choice("followup", 0, refuse=False, reason="the session's mode is followup")),
        (QueueSettings("collect"), Choice("collect", 0, refuse=False, reason="the session's mode is collect")),
        (QueueSettings("interrupt"), Choice("interrupt", 0, refuse=False, reason="the session's mode is interrupt")),
        (QueueSettings("reject"), Choice("followup", 0, refuse=True, reason="the session's mode is reject")),
    ],
)
def test_a_busy_session_treats_a_message_as_it_is_set(settings: QueueSettings, choice: Choice) -> None:
    """Each mode has one outcome, with its reason."""
    assert decide(Asked(), settings, busy=True) == choice


@pytest.mark.parametrize(
    ("asked", "settings", "choice"),
    [
        (Asked(on_busy="queue"), WAIT, Choice("followup", 0, refuse=False, reason="x-reverie-on-busy is queue")),
        (Asked(on_busy="queue"), STEER, Choice("steer", 0, refuse=False, reason="x-reverie-on-busy is queue")),
        (
            Asked(on_busy="queue", wait_ms=5),
            WAIT,
            Choice("followup", 0, refuse=False, reason="x-reverie-on-busy is queue"),
        ),
        (Asked(on_busy="wait"), STEER, Choice("followup", 30_000, refuse=False, reason="x-reverie-on-busy is wait")),
        (
            Asked(on_busy="wait", wait_ms=7),
            STEER,
            Choice("followup", 7, refuse=False, reason="x-reverie-on-busy is wait"),
        ),
        (Asked(wait_ms=7), WAIT, Choice("followup", 7, refuse=False, reason="the session's mode is wait")),
        (Asked(wait_ms=7), STEER, Choice("steer", 7, refuse=False, reason="the session's mode is steer")),
        (Asked(on_busy="reject"), WAIT, Choice("followup", 0, refuse=True, reason="x-reverie-on-busy is reject")),
        (
            Asked(on_busy="interrupt", wait_ms=9),
            WAIT,
            Choice("interrupt", 9, refuse=False, reason="x-reverie-on-busy is interrupt"),
        ),
        (Asked(on_busy="collect"), STEER, Choice("collect", 0, refuse=False, reason="x-reverie-on-busy is collect")),
    ],
)  # fmt: skip
def test_what_a_request_asks_wins(asked: Asked, settings: QueueSettings, choice: Choice) -> None:
    """A header beats the session's setting; a wait that is asked for is waited in every mode that keeps the message."""
    assert decide(asked, settings, busy=True) == choice


def test_what_the_inbox_keeps() -> None:
    """The deadline of the request, else that of the configuration, else none."""
    choice = decide(Asked(), STEER, busy=True)
    asked = Asked("s", "k", deadline_ms=5)

    def kept(asked: Asked, ttl_s: int) -> Arrival:
        return arrival_of(asked, choice, client_model="reverie", waits=False, now_ms=1_000, ttl_s=ttl_s)

    assert kept(asked, 60) == Arrival("s", "k", "steer", 1_005, "reverie", waits=False)
    assert (kept(Asked(), 60).deadline_at_ms, kept(Asked(), 0).deadline_at_ms) == (61_000, None)
