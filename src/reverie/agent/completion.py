"""Asking the model on behalf of a context engine: at the pace of background work, bounded, from the engine's loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.errors import UpstreamMalformedError
from reverie.llm.client import ModelRequest, TextDelta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.llm.client import Model
    from reverie.types import Message

ANSWER_CHARS_MAX = 64_000
"""What is longer is cut: the engine asked for a number of tokens."""


class ModelCompletion:
    """`EngineContext.complete`. `loop` is the one on which the model is called."""

    def __init__(self, model: Model, loop: asyncio.AbstractEventLoop) -> None:
        self._model = model
        self._loop = loop

    async def __call__(self, messages: Sequence[Message], *, max_tokens: int = 1_024) -> str:
        """The model's answer. Cancelling this ends the call.

        Raises:
            UpstreamError: it did not answer, or with nothing.
        """
        asked = self._ask(tuple(messages), max_tokens)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._loop))

    async def _ask(self, messages: tuple[Message, ...], max_tokens: int) -> str:
        request = ModelRequest(messages, stream=False, sampling={"max_tokens": max_tokens}, lane="background")
        parts: list[str] = []
        async for event in self._model.respond(request):
            if isinstance(event, TextDelta) and sum(map(len, parts)) < ANSWER_CHARS_MAX:
                parts.append(event.text)
        text = "".join(parts)[:ANSWER_CHARS_MAX].strip()
        if not text:
            raise UpstreamMalformedError("the model's answer was empty")
        return text
