"""Server-sent events of a chat completion: bytes in, parsed chunks out, however the bytes were cut.

Works on bytes and splits at the line ends LF, CRLF and CR alone, so a character that arrives in two pieces is whole
again before it is decoded, and U+2028 inside a text is not a line end. More tolerant than the standard, because
servers are less careful than it: events need no blank line between them, `data:` needs no space, comments and unknown
fields are skipped, and an `error:` field (llama.cpp) counts as an error object.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import UpstreamMalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverie.types import JsonObject

LINE_BYTES_MAX = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class EventStreamParser:
    """Collects one stream. `done` turns true at `[DONE]`; what follows is ignored."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self.done = False
        self._line_bytes_max = line_bytes_max
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0
        self._spread: list[bytes] = []
        self._spread_bytes = 0
        self._started = False

    def feed(self, data: bytes) -> Iterator[JsonObject]:
        """The chunks that these bytes complete.

        Raises:
            UpstreamMalformedError: a line is longer than the bound, or an event is not a JSON object.
        """
        for line in () if self.done else self._lines(data):
            chunk = self._read(line)
            if chunk is not None:
                yield chunk
            if self.done:
                return

    def end(self) -> Iterator[JsonObject]:
        """The chunk of a last line without a line end. An event cut off in its middle gives nothing."""
        return self.feed(b"\n")

    def _lines(self, data: bytes) -> list[bytes]:
        """Whole lines. A CR at the very end waits: its LF may be in the next piece."""
        if b"\n" not in data and b"\r" not in data:
            self._hold(data)
            return []
        if self._unfinished:
            data = b"".join((*self._unfinished, data))
            self._unfinished = []
            self._unfinished_bytes = 0
        if not self._started:
            self._started = True
            data = data.removeprefix(_BOM)
        if b"\r" in data:
            cut = len(data) - 1 if data.endswith(b"\r") else len(data)
            data = data[:cut].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + data[cut:]
        *lines, rest = data.split(b"\n")
        if rest:
            self._hold(rest)
        return lines

    def _hold(self, data: bytes) -> None:
        self._unfinished.append(data)
        self._unfinished_bytes += len(data)
        if self._unfinished_bytes > self._line_bytes_max:
            message = f"a line of the model's reply is longer than {self._line_bytes_max} bytes"
            raise UpstreamMalformedError(message)

    def _read(self, line: bytes) -> JsonObject | None:
        if line.startswith(b"data:"):
            value = line[5:].strip()
            if value == b"[DONE]":
                self.done = True
                return None
            return self._event(value) if value else None
        if line.startswith(b"error:"):
            return {"error": self._parsed(line[6:].strip())}
        if not line and self._spread:
            value, self._spread = b"\n".join(self._spread), []
            return self._parsed(value)
        return None

    def _event(self, value: bytes) -> JsonObject | None:
        """The JSON of a `data:` line. One that is not complete is spread over several, up to an empty line."""
        if not self._spread:
            try:
                return self._parsed(value)
            except UpstreamMalformedError:
                pass
        self._spread.append(value)
        self._spread_bytes = self._spread_bytes + len(value) if len(self._spread) > 1 else len(value)
        if self._spread_bytes > self._line_bytes_max:
            raise _not_json(value)
        return None

    @staticmethod
    def _parsed(value: bytes) -> JsonObject:
        try:
            parsed: Any = json.loads(value.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise _not_json(value) from None
        if not isinstance(parsed, dict):
            raise _not_json(value)
        return cast("JsonObject", parsed)


def _not_json(value: bytes) -> UpstreamMalformedError:
    shown = value[:120].decode("utf-8", "replace")
    return UpstreamMalformedError(f"the model's reply holds an event that is not a JSON object: {shown!r}")
