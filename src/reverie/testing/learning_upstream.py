"""A model's server for an agent that learns: turns are answered, questions of learning too, each after a time.

    python -m reverie.testing.learning_upstream --port 0 --delay-s 2.0        # prints: listening on http://127.0.0.1:PORT

`GET /calls` tells what was asked: for each call its operation (`turn` for turns), a digest of its messages, when it
began and ended on the server's monotonic clock, and the most background calls that were in flight at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from reverie.testing.fake_upstream import brings_results, completion, stream_frames
from reverie.testing.learning_answers import LearningAnswers, answer_to
from reverie.testing.serving import Endpoint, compact_json, listening_socket

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from reverie.testing.serving import Exchange
    from reverie.types import JsonObject, ToolCall

CALLS_KEPT_MAX = 100_000
TURNS_KEPT_MAX = 1_000
CHUNKS = 4
REPLY = "It is done: I looked at it, did what you asked, and checked the result. Nothing else was changed."


@dataclass(frozen=True, slots=True)
class Fault:
    """What every question of learning gets in place of an answer: a refusal, or with the status 200 this text."""

    text: str
    status: int = 200
    retry_after: str | None = None


@dataclass(slots=True)
class CallLog:
    """What was asked. `background` and `background_max` count questions of learning in flight."""

    calls: list[JsonObject] = field(default_factory=list["JsonObject"])
    background: int = 0
    background_max: int = 0

    def begin(self, op: str, body: JsonObject) -> JsonObject:
        """A call has come in."""
        digest = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()[:16]
        call: JsonObject = {"op": op, "digest": digest, "began_s": time.monotonic(), "ended_s": None}
        if len(self.calls) < CALLS_KEPT_MAX:
            self.calls.append(call)
        if op != "turn":
            self.background += 1
            self.background_max = max(self.background_max, self.background)
        return call

    def end(self, call: JsonObject, *, answered: bool) -> None:
        """It was answered, or its caller left."""
        call["ended_s"] = time.monotonic()
        call["answered"] = answered
        self.background -= call["op"] != "turn"


class LearningUpstream:
    """The server's behaviour. `delay_s` passes before a turn is answered, `learning_delay_s` before a question is.

    A turn that offers the tools of `tool_calls` is answered with these, until it brings results. `fault` is what
    questions of learning get. Both may be changed while the server runs. `turns` are the last thousand turns' bodies.
    """

    def __init__(
        self,
        answers: LearningAnswers | None = None,
        *,
        delay_s: float = 0.0,
        learning_delay_s: float | None = None,
        reply: str = REPLY,
        tool_calls: tuple[ToolCall, ...] = (),
        fault: Fault | None = None,
    ) -> None:
        self.answers = answers or LearningAnswers()
        self.delay_s = delay_s
        self.learning_delay_s = delay_s if learning_delay_s is None else learning_delay_s
        self.log = CallLog()
        self.fault = fault
        self.tool_calls = tool_calls
        self.turns: deque[JsonObject] = deque(maxlen=TURNS_KEPT_MAX)
        self._reply = reply
        self.app: ASGIApp = Starlette(
            routes=[
                Route("/v1/chat/completions", Endpoint(self._chat), methods=["POST"]),
                Route("/v1/models", Endpoint(self._models), methods=["GET"]),
                Route("/calls", Endpoint(self._calls), methods=["GET"]),
            ]
        )

    async def _chat(self, exchange: Exchange) -> None:
        body: JsonObject = json.loads(await exchange.body())
        learned = answer_to(self.answers, body["messages"])
        op, text = learned or ("turn", self._reply)
        call = self.log.begin(op, body)
        answered = False
        try:
            if not await exchange.waited(self.learning_delay_s if learned else self.delay_s):
                return
            if learned:
                await self._tell(exchange, text)
            else:
                self.turns.append(body)
                await self._take_turn(exchange, body, text)
            answered = True
        finally:
            self.log.end(call, answered=answered)

    async def _tell(self, exchange: Exchange, text: str) -> None:
        """Answer a question of learning."""
        fault = self.fault
        if fault is None or fault.status == HTTPStatus.OK:
            await exchange.answer(200, compact_json(completion(text if fault is None else fault.text)))
            return
        error = {"message": fault.text, "type": "refused", "param": None, "code": None}
        await exchange.answer(fault.status, compact_json({"error": error}), fault.retry_after)

    async def _take_turn(self, exchange: Exchange, body: JsonObject, text: str) -> None:
        offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
        calls = () if brings_results(body) else tuple(call for call in self.tool_calls if call.name in offered)
        if not body.get("stream"):
            await exchange.answer(200, compact_json(completion(text, calls)))
            return
        options: Any = body.get("stream_options") or {}
        await exchange.start(200, b"text/event-stream; charset=utf-8")
        for frame in stream_frames(text, CHUNKS, with_usage=bool(options.get("include_usage")), calls=calls):
            await exchange.piece(frame)
        await exchange.end()

    async def _models(self, exchange: Exchange) -> None:
        entry = {"id": "fake-model", "object": "model", "created": 0, "owned_by": "fake"}
        await exchange.answer(200, compact_json({"object": "list", "data": [entry]}))

    async def _calls(self, exchange: Exchange) -> None:
        told = {"calls": self.log.calls, "background_max": self.log.background_max, "now_s": time.monotonic()}
        await exchange.answer(200, compact_json(told))


def main(arguments: list[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m reverie.testing.learning_upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--learning-delay-s", type=float, default=None)
    parser.add_argument("--relation", default="follow_up")
    given = parser.parse_args(arguments)
    upstream = LearningUpstream(
        LearningAnswers(relation=given.relation), delay_s=given.delay_s, learning_delay_s=given.learning_delay_s
    )
    listening = listening_socket(given.port)
    listening.listen()  # a client may connect from now on; its request waits for the loop
    sys.stdout.write(f"listening on http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(upstream.app, log_config=None, lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1:])
