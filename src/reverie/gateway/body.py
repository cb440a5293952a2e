"""A request body: read within bounds of size and time, then decoded as one JSON object.

Two characters that JSON can carry and text cannot are replaced by U+FFFD instead of refusing the message: half a
surrogate pair (a client cut a string inside an emoji) and NUL. Everything else that is not JSON is refused with its
line and column. The decoder takes no `NaN`, no `Infinity`, nesting up to 200 and integers up to 4,300 digits.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio import to_thread
from pydantic_core import from_json

from reverie.errors import RequestError, ReverieError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope

    from reverie.types import JsonObject

T = TypeVar("T")

INLINE_BYTES_MAX = 128 * 1024
"""Bodies up to this size are decoded on the event loop (well under 5 ms); larger ones on a thread."""

COMMAS_MAX = 500_000
BRACKETS_MAX = 150_000
"""A body with more elements would hold the interpreter for about 100 ms, whichever thread decodes it. Commas and
opening brackets bound their number; those within text count too, which only megabytes of it would notice."""

_ESCAPE = re.compile(
    rb"\\(?:"
    rb"(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<unsound>u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)"
    rb"|.)",
    re.DOTALL,
)


class BodyTooLargeError(RequestError):
    """The body is larger than the limit."""

    status = 413

    def __init__(self) -> None:
        super().__init__("Payload too large")


class BodyTimeoutError(RequestError):
    """The body did not arrive in time."""

    status = 408

    def __init__(self) -> None:
        super().__init__("Request body timeout")


class ClientGoneError(ReverieError):
    """The caller hung up before the request was complete; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, bytes_max: int, read_s: float) -> bytes:
    """The whole body.

    Raises:
        BodyTooLargeError: it is declared larger than `bytes_max` (nothing was read), or turned out to be.
        BodyTimeoutError: it was not complete after `read_s` seconds.
        RequestError: it is compressed.
        ClientGoneError: the caller hung up.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > bytes_max:
            raise BodyTooLargeError
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise RequestError("Compressed request bodies are not supported; send the JSON as it is.", status=415)
    try:
        with anyio.fail_after(read_s):
            return await _collect(receive, bytes_max)
    except TimeoutError:
        raise BodyTimeoutError from None


async def _collect(receive: Receive, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the caller hung up while sending the request")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise BodyTooLargeError
        if part:
            parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def run_sized(size: int, function: Callable[..., T], *args: Any) -> T:
    """Call `function(*args)`: here when the body it works on is small, on a thread when it is not."""
    if size <= INLINE_BYTES_MAX:
        return function(*args)
    return await to_thread.run_sync(partial(function, *args))


def decode_object(body: bytes) -> JsonObject:
    """The JSON object a body holds.

    Raises:
        RequestError: it is not UTF-8, not JSON (with line and column), not an object, or has too many elements.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if not body:
        raise RequestError("The request body is empty; send a JSON object.")
    if len(body) > BRACKETS_MAX:
        _check_elements(body)
    if b"\\u0000" in body:
        body = _mend(body)
    value = _decode(body)
    if not isinstance(value, dict):
        raise RequestError(f"The request body must be a JSON object, not {_kind(value)}.")
    return value  # pyright: ignore[reportUnknownVariableType] (a JSON object's keys are strings)


def _check_elements(body: bytes) -> None:
    if body.count(b",") > COMMAS_MAX or body.count(b"[") + body.count(b"{") > BRACKETS_MAX:
        limits = f"more than {COMMAS_MAX} commas or {BRACKETS_MAX} opening brackets"
        raise RequestError(f"The request body has too many elements: {limits}.")


def _decode(body: bytes) -> object:
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        mended = _mend(body)
        if mended != body:
            return _decode(mended)
        what = "UTF-8" if "unicode code point" in str(error) else "JSON"
        raise RequestError(f"The request body is not valid {what}: {error}.") from None


def _mend(body: bytes) -> bytes:
    """Replace what is not text, half surrogate pairs and NUL, by U+FFFD. Escaped backslashes are stepped over."""
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match["unsound"] else match[0], body)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "an array"
