"""The stored form of requests and messages."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from reverie.sessions.codec import decode_entry, decode_request, encode_extra, encode_request
from reverie.types import Arrival, ImagePart, Message, SessionKey, ToolCall, TurnRequest

if TYPE_CHECKING:
    from typing import Any

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
CALLS = st.lists(st.builds(ToolCall, TEXT, TEXT, TEXT), max_size=2).map(tuple)
IMAGES = st.lists(st.builds(ImagePart, TEXT, st.none() | TEXT), max_size=2).map(tuple)
MESSAGES = st.builds(
    Message, st.sampled_from(["user", "assistant", "tool"]), TEXT, IMAGES, CALLS, st.none() | TEXT, st.none() | TEXT
)
REQUESTS = st.builds(
    TurnRequest,
    turn_id=TEXT,
    session=st.builds(SessionKey, TEXT, TEXT),
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    instructions=TEXT,
    stream=st.booleans(),
    model_override=st.none() | TEXT,
    client_tools=st.just(({"type": "function", "function": {"name": "f"}},)) | st.just(()),
    tool_choice=st.none() | st.just("auto") | st.just({"type": "function"}),
    sampling=st.dictionaries(TEXT, st.integers(), max_size=2),
    arrival=st.builds(
        Arrival,
        TEXT,
        st.none() | TEXT,
        st.sampled_from(["followup", "steer", "collect", "interrupt"]),
        st.none() | st.integers(0, 2**50),
        TEXT,
        st.booleans(),
    ),
)


@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request: TurnRequest) -> None:
    """Whatever it holds, every field of it."""
    assert decode_request(encode_request(request)) == request


@given(message=MESSAGES, lead=TEXT, joined=st.booleans())
def test_a_message_comes_back_with_what_stands_before_it(*, message: Message, lead: str, joined: bool) -> None:
    """Its own text is stored without the lead."""
    extra = encode_extra(message, lead, joined=joined)
    read, is_joined = decode_entry(message.role, message.text, extra)

    assert (read.text, is_joined) == (f"{lead}{message.text}", joined)
    others: list[str] = [field.name for field in fields(Message) if field.name != "text"]
    stored: dict[str, Any] = {name: getattr(read, name) for name in others}
    assert stored == {name: getattr(message, name) for name in others}
