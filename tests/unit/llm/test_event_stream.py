"""The parser of server-sent events: however the bytes are cut, the same chunks come out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import UpstreamMalformedError
from reverie.llm.event_stream import EventStreamParser

STREAM = (
    b": a comment first\r\n\r\n"
    b'data: {"n": 1, "text": "caf\xc3\xa9 \xf0\x9f\x8d\xb5 \xe2\x80\xa8 \xe6\x97\xa5\xe6\x9c\xac"}\r\n\r\n'
    b'data:{"n": 2}\n'
    b'event: message\nid: 7\nretry: 100\ndata:   {"n": 3}  \n\n'
    b'data: {"n":\ndata: 4}\n\n'
    b": keep-alive\n\n"
    b'data: {"n": 5}\r\rdata:\n\n'
    b'data: {"n": 6}\n\ndata: [DONE]\n\ndata: {"n": 7}\n\n'
)
CHUNKS: list[dict[str, Any]] = [{"n": 1, "text": "café 🍵 \u2028 日本"}, *({"n": n} for n in range(2, 7))]


def parse(pieces: list[bytes]) -> tuple[list[dict[str, Any]], bool]:
    """The chunks of a stream that arrives in these pieces, and whether it was done."""
    parser = EventStreamParser()
    chunks = [chunk for piece in pieces for chunk in parser.feed(piece)]
    return [*chunks, *parser.end()], parser.done


def test_a_stream_in_one_piece() -> None:
    """Comments, CRLF, a missing space, events without blank lines and events over two lines are all read."""
    assert parse([STREAM]) == (CHUNKS, True)


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_split_gives_the_same_chunks(cuts: list[int]) -> None:
    """A stream cut anywhere, even within a character or between CR and LF, gives the same chunks."""
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert parse(pieces) == (CHUNKS, True)


def test_byte_by_byte() -> None:
    """A stream that arrives one byte at a time is read whole."""
    assert parse([STREAM[at : at + 1] for at in range(len(STREAM))]) == (CHUNKS, True)


def test_a_last_line_without_an_end() -> None:
    """The last event counts even when the server does not end its line."""
    assert parse([b'data: {"n": 1}\n\ndata: {"n": 2}']) == ([{"n": 1}, {"n": 2}], False)


def test_an_event_cut_off_in_its_middle_gives_nothing() -> None:
    """Half an event at the end of a stream is dropped; that the stream ended early is told elsewhere."""
    assert parse([b'data: {"n": 1}\n\ndata: {"n": ']) == ([{"n": 1}], False)


def test_a_byte_order_mark_is_skipped() -> None:
    """A stream may begin with a byte order mark."""
    assert parse([b"\xef\xbb", b'\xbfdata: {"n": 1}\n\n']) == ([{"n": 1}], False)


def test_broken_utf8_is_replaced() -> None:
    """Bytes that are no UTF-8 become replacement characters instead of failing the reply."""
    assert parse([b'data: {"n": "a\xffb"}\n\n']) == ([{"n": "a\ufffdb"}], False)


def test_the_error_field_of_llama_cpp() -> None:
    """A line `error: {…}` is an error object."""
    assert parse([b'error: {"code": 500, "message": "no"}\n\n']) == (
        [{"error": {"code": 500, "message": "no"}}],
        False,
    )


@pytest.mark.parametrize("event", [b"{not json}", b"[1, 2]", b'"text"', b"[" * 100_000])
def test_an_event_that_is_no_object_is_refused(event: bytes) -> None:
    """An event that is not a JSON object is an error once it has ended."""
    with pytest.raises(UpstreamMalformedError, match="not a JSON object"):
        parse([b"data: " + event + b"\n\n"])


def test_a_line_is_bounded() -> None:
    """A line that never ends is refused at the bound, and is not collected beyond it."""
    parser = EventStreamParser(line_bytes_max=100)
    assert [chunk for _ in range(100) for chunk in parser.feed(b"x")] == []
    with pytest.raises(UpstreamMalformedError, match="longer than 100 bytes"):
        list(parser.feed(b"x"))


def test_an_event_over_many_lines_is_bounded() -> None:
    """An event spread over lines that never becomes complete is refused at the bound."""
    parser = EventStreamParser(line_bytes_max=100)
    assert [chunk for _ in range(33) for chunk in parser.feed(b"data: [1,\n")] == []
    with pytest.raises(UpstreamMalformedError, match="not a JSON object"):
        list(parser.feed(b"data: [1,\n"))
