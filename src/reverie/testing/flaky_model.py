"""A model as they are in the field: slow, and now and then refusing, silent, or answering nonsense.

    model = FlakyModel(lambda request: '{"score": 1}', delay_s=0.8, faults=("ok", "rate_limited", "malformed"))
    model.calls, model.in_flight_max

The faults are gone through one call after the other, and then nothing goes wrong any more; `faults_for_ever` begins
with the first one again.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import anyio

from reverie.errors import UpstreamRefusedError, UpstreamUnreachableError
from reverie.llm.client import Completed, TextDelta
from reverie.types import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable

    from reverie.llm.client import ModelEvent, ModelRequest

Fault = Literal[
    "ok", "malformed", "broken_json", "rate_limited", "key_refused", "no_quota", "server_error", "unreachable", "silent"
]
"""What becomes of a call. `malformed`: no JSON at all; `broken_json`: the answer without its last bracket; `silent`:
nothing comes until the caller leaves."""

_STATUSES: dict[str, tuple[int, str, str]] = {
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "key_refused": (401, "authentication_error", "upstream_auth"),
    "no_quota": (402, "insufficient_quota", "insufficient_quota"),
    "server_error": (500, "api_error", "upstream_error"),
}


class FlakyModel:
    """A `Model` that answers by a function, after a time, and fails as told.

    `calls` are the requests so far, `in_flight_max` the most at one time, `cancelled` those that were left.
    """

    def __init__(
        self,
        answer: Callable[[ModelRequest], str],
        *,
        delay_s: float = 0.0,
        faults: Iterable[Fault] = (),
        faults_for_ever: bool = False,
        retry_after: str | None = None,
        name: str = "flaky",
    ) -> None:
        self.calls: list[ModelRequest] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.cancelled = 0
        self.delay_s = delay_s
        self._answer = answer
        self._faults: deque[Fault] = deque(faults)
        self._for_ever = faults_for_ever
        self._retry_after = retry_after
        self._name = name

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    def fail(self, *faults: Fault) -> None:
        """Write down what becomes of further calls."""
        self._faults.extend(faults)

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self._faults.clear()

    async def respond(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """The answer, or what goes wrong with it.

        Raises:
            UpstreamRefusedError, UpstreamUnreachableError: as told.
        """
        self.calls.append(request)
        fault = self._next()
        with self._counted():
            await anyio.sleep(self.delay_s)
            if fault == "silent":
                await anyio.sleep_forever()
            self._raise(fault)
            text = self._text(fault, request)
        prompt = sum(len(message.text) for message in request.messages) // 4
        yield TextDelta(text)
        yield Completed("stop", (), Usage(prompt, len(text) // 4, prompt + len(text) // 4), self._name)

    async def aclose(self) -> None:
        """Nothing is to be released."""

    def _next(self) -> Fault:
        if not self._faults:
            return "ok"
        fault = self._faults.popleft()
        if self._for_ever:
            self._faults.append(fault)
        return fault

    @contextmanager
    def _counted(self) -> Generator[None]:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    def _text(self, fault: Fault, request: ModelRequest) -> str:
        if fault == "malformed":
            return "I would rather talk about something else."
        text = self._answer(request)
        return text.rstrip()[:-1] if fault == "broken_json" else text

    def _raise(self, fault: Fault) -> None:
        if fault == "unreachable":
            raise UpstreamUnreachableError("cannot connect to the flaky model")
        if fault in _STATUSES:
            status, kind, code = _STATUSES[fault]
            raise UpstreamRefusedError(
                f"the flaky model answered HTTP {status}",
                upstream_status=status,
                status=status,
                kind=kind,
                code=code,
                retry_after=self._retry_after,
            )
