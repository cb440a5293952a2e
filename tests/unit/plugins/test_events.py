"""What plugins are told: metadata always, the conversation in one field."""

from __future__ import annotations

from dataclasses import fields, replace

from reverie.errors import TurnCancelledError
from reverie.plugins import TurnEnded, TurnExchange, TurnInput, TurnStarting
from reverie.plugins.events import TurnResult, characters, turn_ended, turn_starting, withheld
from reverie.types import Arrival, ImagePart, Message, SessionKey, ToolCall, Turn, TurnRequest, Usage

CALL = ToolCall("c1", "weather", '{"city":"Oslo"}')
PICTURE = Message("user", "What is this?", images=(ImagePart("data:image/png;base64,AAAA"),))
REQUEST = TurnRequest(
    "t1",
    SessionKey("main", "agent:main:telegram:direct:+49 151"),
    (Message("user", "earlier"), Message("assistant", "indeed"), PICTURE),
    arrival=Arrival(source="+49 151"),
)
TURN = Turn("t1", "s1", REQUEST, "running", 5)


def test_a_turn_that_begins() -> None:
    """Only its new input is told; images are counted."""
    told = turn_starting(TURN, history_messages=2, now_ms=7)

    shown = TurnInput("agent:main:telegram:direct:+49 151", "+49 151", (replace(PICTURE, images=()),))
    assert told == TurnStarting("t1", "s1", "main", 7, 5, 2, 1, 1, 0, shown)


def test_a_turn_that_was_answered() -> None:
    """The answer, the calls for the client, and what it cost."""
    usage = Usage(10, 5, 15)
    result = TurnResult("answered", "A picture.", (CALL,), "m1", "tool_calls", usage, recalled=2)
    told = turn_ended(TURN, result, 9)

    exchange = TurnExchange(
        "agent:main:telegram:direct:+49 151", "+49 151", (replace(PICTURE, images=()),), "A picture.", (CALL,), ""
    )
    assert told == TurnEnded(
        "t1", "s1", "main", 9, 5, "answered", "m1", "tool_calls", usage, 1, 1, 1, 2, None, exchange
    )


def test_a_turn_that_was_not_answered() -> None:
    """A code for machines is metadata; the words, which may quote, are not."""
    told = turn_ended(TURN, TurnResult("cancelled", "A pic", error=TurnCancelledError("you said stop")), 9)

    assert (told.state, told.error_code) == ("cancelled", "turn_cancelled")
    assert told.conversation is not None
    assert (told.conversation.reply, told.conversation.error) == ("A pic", "you said stop")
    unknown = turn_ended(TURN, TurnResult("failed", error=ValueError("x")), 9)
    assert unknown.error_code == "ValueError"


def test_messages_that_were_collected_or_steered_belong_to_the_turn() -> None:
    """Those it carries stand before its own, those that came while it ran behind."""
    carried = replace(TURN, id="t0", request=replace(REQUEST, messages=(Message("user", "and this?"),)))
    late = Message("user", "quickly")
    told = turn_ended(replace(TURN, carries=(carried,)), TurnResult("answered", "ok", steered=(late,)), 9)

    assert told.conversation is not None
    assert [message.text for message in told.conversation.messages] == ["and this?", "What is this?", "quickly"]
    assert (told.input_messages, told.input_images) == (3, 1)


def test_without_the_grant_only_metadata_is_left() -> None:
    """Every other field is as it was."""
    told = turn_starting(TURN, history_messages=2, now_ms=7)
    bare = withheld(told)

    assert bare.conversation is None
    assert [f.name for f in fields(told) if getattr(bare, f.name) != getattr(told, f.name)] == ["conversation"]
    assert "+49" not in repr(bare)


def test_the_size_of_an_event_is_its_text() -> None:
    """However deep the text stands."""
    ended = turn_ended(TURN, TurnResult("answered", "x" * 1_000, (CALL,)), 9)

    assert characters(withheld(ended)) < 100
    assert 1_000 + len(CALL.arguments) < characters(ended) < 1_200
