"""A request body as a JSON object."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import RequestError
from reverie.gateway.body import BRACKETS_MAX, COMMAS_MAX, ClientGoneError, decode_object, read_body, run_sized

TOO_MANY = "The request body has too many elements: more than 500000 commas or 150000 opening brackets."


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf {"a": 1}', {"a": 1}),
        (rb'{"a":"\ud83d\ude42"}', {"a": "🙂"}),
        (rb'{"a":"x\ud83d"}', {"a": "x�"}),
        (rb'{"a":"\ude42x \ud83d\ud83d\ude42"}', {"a": "�x �🙂"}),
        (rb'{"a":"\u0000"}', {"a": "�"}),
        (rb'{"a":"\\u0000 \\ud83d"}', {"a": r"\u0000 \ud83d"}),
        (rb'{"a":"\\\u0000","\ud800":1}', {"a": "\\�", "�": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_what_is_read(body: bytes, value: object) -> None:
    """UTF-8 with or without a mark; what JSON can say and text cannot becomes a replacement character."""
    assert decode_object(body) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xef\xbb\xbf", "The request body is empty; send a JSON object."),
        (b"{'a':1}", "The request body is not valid JSON: key must be a string at line 1 column 2."),
        (b'{"a":NaN}', "The request body is not valid JSON: expected value at line 1 column 6."),
        (b'{"a":-Infinity}', "The request body is not valid JSON: invalid number at line 1 column 7."),
        (b'{"a":"b\n"}', None),
        (b'{"a":1}{', "The request body is not valid JSON: trailing characters at line 1 column 8."),
        (b'{"a":' * 1000, None),
        (b"[" * 100_000, None),
        (b'{"a":' + b"9" * 5000 + b"}", None),
        (rb'{"a":"\ud83d', None),
        (b'"x"', "The request body must be a JSON object, not a string."),
        (b"true", "The request body must be a JSON object, not a boolean."),
        (b"1", "The request body must be a JSON object, not a number."),
        (b'{"a":[' + b"0," * COMMAS_MAX + b"0,0]}", TOO_MANY),
        (b'{"a":[' + b"[]," * BRACKETS_MAX + b"0]}", TOO_MANY),
    ],
)
def test_what_is_not_read(body: bytes, message: str | None) -> None:
    """The refusal says what is wrong and where."""
    with pytest.raises(RequestError) as caught:
        decode_object(body)
    assert message is None or str(caught.value) == message
    assert caught.value.status == 400


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON))
def test_json_is_read_as_python_reads_it(value: dict[str, Any]) -> None:
    """Apart from the two characters that text cannot hold."""
    body = json.dumps(value).encode()
    if b"\\u0000" not in body:
        assert decode_object(body) == json.loads(body)


@given(st.binary())
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    """An object or a refusal."""
    with suppress(RequestError):
        assert isinstance(decode_object(body), dict)


@pytest.mark.anyio
async def test_a_caller_who_hangs_up_while_sending() -> None:
    """There is nobody left to answer."""
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    with pytest.raises(ClientGoneError):
        await read_body({"headers": []}, receive, bytes_max=10, read_s=1)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 10_000_000])
async def test_work_on_a_body_is_done_wherever_it_fits(size: int) -> None:
    """Small or large, the result is the same and errors come through."""
    assert await run_sized(size, decode_object, b'{"a":1}') == {"a": 1}
    with pytest.raises(RequestError):
        await run_sized(size, decode_object, b"[")
