"""JSON-RPC over two streams of lines, without the version header: requests, answers, notifications, both ways.

    request      one line out; its answer, an error, a deadline that passes, or the end of the connection
    notified     what comes without having been asked for is handed to `notified`, in order, and never waited for
    asked        a question of the other side is answered with what `asked` gives, at once

Bounds: a line is at most `LINE_BYTES_MAX` long, at most `PENDING_MAX` requests wait, each at most as long as it says. A
line that is no JSON object ends the connection, because what follows cannot be trusted either.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, cast

import stamina
import structlog

from reverie.agent.codex.protocol import METHOD_NOT_FOUND, OVERLOADED
from reverie.errors import CodexDiedError, CodexError, CodexNotAskedError, CodexOverloadedError, CodexRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

LINE_BYTES_MAX = 32 * 1024 * 1024
PENDING_MAX = 1_000
OVERLOAD_TRIES = 6
OVERLOAD_S_MAX = 20.0
OVERLOAD_WAIT_S, OVERLOAD_WAIT_S_MAX, OVERLOAD_JITTER_S = 0.1, 4.0, 0.5


class LineReader(Protocol):
    """Where lines come from."""

    async def readline(self) -> bytes:
        """The next line with its end; what is left at the end of the stream, and then nothing."""
        ...


class LineWriter(Protocol):
    """Where lines go."""

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        ...

    async def drain(self) -> None:
        """Wait until more can be taken."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class NotAnsweredError(Exception):
    """Raised by `asked` for a question that has no answer here."""


class RpcConnection:
    """One connection. `read` reads it until it ends, and only meanwhile anything is answered."""

    def __init__(
        self,
        reader: LineReader,
        writer: LineWriter,
        *,
        notified: Callable[[str, JsonObject], None],
        asked: Callable[[str, JsonObject], JsonObject],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._notified = notified
        self._asked = asked
        self._ids = count(1)
        self._pending: dict[int, asyncio.Future[JsonObject]] = {}
        self._why_it_ended = "the Codex app-server is gone"
        self.ended = False

    async def read(self) -> None:
        """Read until the other side ends, or says what cannot be understood."""
        try:
            while (line := await self._reader.readline()) and self._read(line):
                pass
        except (ValueError, OSError) as error:
            log.warning("the Codex app-server sent a line that cannot be read", action="codex_unreadable",
                        cause=type(error).__name__)  # fmt: skip
        finally:
            self.ended = True

    def close(self, why: str) -> None:
        """Nothing is answered any more: whoever waits is told why."""
        self.ended = True
        self._why_it_ended = why
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(CodexDiedError(why))
                waiting.exception()  # whoever waits has it; one who left is no defect
        self._writer.close()

    async def request(self, method: str, params: JsonObject, *, within_s: float) -> JsonObject:
        """Ask, and wait for the answer. A server that has too much to do is asked again, a few times.

        Raises:
            CodexOverloadedError: it had too much to do each time.
            CodexRefusedError: it answered with an error.
            CodexDiedError: the connection ended first.
            CodexError: it did not answer in time, or too many requests wait.
        """
        retries = stamina.retry_context(
            on=CodexOverloadedError,
            attempts=OVERLOAD_TRIES,
            timeout=OVERLOAD_S_MAX,
            wait_initial=OVERLOAD_WAIT_S,
            wait_max=OVERLOAD_WAIT_S_MAX,
            wait_jitter=OVERLOAD_JITTER_S,
        )
        async for attempt in retries:
            with attempt:
                return await self._request_once(method, params, within_s)
        raise AssertionError("the last attempt returns or raises")

    async def notify(self, method: str) -> None:
        """Tell something that has no answer.

        Raises:
            CodexDiedError: the connection has ended.
        """
        await self._send({"method": method})

    async def _request_once(self, method: str, params: JsonObject, within_s: float) -> JsonObject:
        if len(self._pending) >= PENDING_MAX:
            raise CodexError(f"{PENDING_MAX} requests to the Codex app-server wait already; this one was not made")
        number = next(self._ids)
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            async with asyncio.timeout(within_s):
                await self._send({"id": number, "method": method, "params": params})
                return await answer
        except TimeoutError as error:
            raise CodexError(f"the Codex app-server did not answer {method} within {within_s:g} s") from error
        finally:
            self._pending.pop(number, None)

    async def _send(self, message: JsonObject) -> None:
        if self.ended:
            raise CodexNotAskedError(self._why_it_ended)
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        try:
            self._writer.write(line)
            await self._writer.drain()
        except OSError as error:
            self.ended = True
            raise CodexNotAskedError(self._why_it_ended) from error

    def _read(self, line: bytes) -> bool:
        """Take in one line; False when the connection makes no sense any more."""
        if not line.strip():
            return True
        parsed: Any = json.loads(line)
        if not isinstance(parsed, dict):
            log.warning("the Codex app-server sent a line that is no message", action="codex_unreadable")
            return False
        message = cast("JsonObject", parsed)
        method = message.get("method")
        if not isinstance(method, str):
            self._answered(message)
        elif "id" in message:
            self._answer(message["id"], method, message.get("params") or {})
        else:
            self._notified(method, message.get("params") or {})
        return True

    def _answered(self, message: JsonObject) -> None:
        number = message.get("id")
        waiting = self._pending.get(number) if isinstance(number, int) else None
        if waiting is None or waiting.done():  # its asker left
            return
        error = message.get("error")
        if isinstance(error, dict):
            waiting.set_exception(_refusal(cast("JsonObject", error)))
        else:
            result = message.get("result")
            waiting.set_result(cast("JsonObject", result) if isinstance(result, dict) else {})

    def _answer(self, number: object, method: str, params: JsonObject) -> None:
        try:
            reply: JsonObject = {"id": number, "result": self._asked(method, params)}
        except NotAnsweredError:
            reply = {"id": number, "error": {"code": METHOD_NOT_FOUND, "message": f"{method} is not answered here"}}
        self._writer.write(json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _refusal(error: JsonObject) -> CodexRefusedError:
    code = error.get("code")
    number = code if isinstance(code, int) else 0
    message = f"the Codex app-server refused: {str(error.get('message') or 'it gave no reason')[:1_000]}"
    kind = CodexOverloadedError if number == OVERLOADED else CodexRefusedError
    return kind(message, rpc_code=number)
