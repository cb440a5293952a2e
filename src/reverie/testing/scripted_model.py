"""A model that says what the test wrote down, and remembers what it was asked.

    with ScriptedModel(reply("Hello ", "there"), reply(calls=[ToolCall("1", "memory_search", "{}")])) as model:
        ...
    model.requests[0].messages

A call that was not written down fails, and so does leaving the block with replies that nobody asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import anyio

from reverie.llm.client import Completed, ReasoningText, TextDelta
from reverie.types import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from types import TracebackType

    from reverie.errors import ReverieError
    from reverie.llm.client import ModelEvent, ModelRequest
    from reverie.types import FinishReason, ToolCall


@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """One answer, step by step: a text is a delta, an `anyio.Event` is waited for, an error is raised there."""

    steps: tuple[str | ReasoningText | anyio.Event | ReverieError, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage | None = None
    model: str | None = None


def reply(
    *steps: str | ReasoningText | anyio.Event | ReverieError,
    calls: Iterable[ToolCall] = (),
    finish: FinishReason | None = None,
    usage: Usage | None = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15),  # noqa: B008 (frozen)
    model: str | None = None,
) -> ScriptedReply:
    """A scripted answer. Without `finish` it ends with `tool_calls` if it has calls, else with `stop`."""
    tool_calls = tuple(calls)
    return ScriptedReply(steps, tool_calls, finish or ("tool_calls" if tool_calls else "stop"), usage, model)


class UnexpectedCallError(AssertionError):
    """The model was called more often than the test wrote down."""


class UnusedReplyError(AssertionError):
    """The model was called less often than the test wrote down."""


class ScriptedModel:
    """A `Model` that gives scripted answers in order; a plain text or an error stands for a whole answer.

    `requests` are the calls so far. `cancelled` counts the calls that were left before their end. `otherwise` makes
    an answer when the script is used up; without it such a call raises `UnexpectedCallError`.
    """

    def __init__(
        self,
        *replies: ScriptedReply | str | ReverieError,
        name: str = "scripted",
        otherwise: Callable[[ModelRequest], ScriptedReply | str] | None = None,
    ) -> None:
        self.requests: list[ModelRequest] = []
        self.cancelled = 0
        self.closed = False
        self._name = name
        self._otherwise = otherwise
        self._script: deque[ScriptedReply] = deque(_as_reply(each) for each in replies)

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def remaining(self) -> int:
        """Replies that nobody has asked for yet."""
        return len(self._script)

    def add(self, *replies: ScriptedReply | str | ReverieError) -> None:
        """Write down further answers."""
        self._script.extend(_as_reply(each) for each in replies)

    async def respond(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """The next answer of the script.

        Raises:
            UnexpectedCallError: the script is used up.
        """
        self.requests.append(request)
        scripted = self._next(request)
        ended = False
        try:
            for step in scripted.steps:
                if isinstance(step, anyio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    ended = True
                    raise step
                else:
                    yield TextDelta(step) if isinstance(step, str) else step
            ended = True
            yield Completed(
                scripted.finish_reason,
                scripted.tool_calls,
                scripted.usage,
                scripted.model or request.model_override or self._name,
            )
        finally:
            self.cancelled += not ended

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def verify(self) -> None:
        """Check that every reply was asked for.

        Raises:
            UnusedReplyError: some were not.
        """
        if self._script:
            raise UnusedReplyError(f"{len(self._script)} scripted replies were never asked for: {list(self._script)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.verify()

    def _next(self, request: ModelRequest) -> ScriptedReply:
        if self._script:
            return self._script.popleft()
        if self._otherwise is not None:
            return _as_reply(self._otherwise(request))
        last = request.messages[-1].text if request.messages else ""
        raise UnexpectedCallError(f"call {len(self.requests)} of the model was not written down; it ended {last!r}")


def _as_reply(each: ScriptedReply | str | ReverieError) -> ScriptedReply:
    return each if isinstance(each, ScriptedReply) else reply(each)
