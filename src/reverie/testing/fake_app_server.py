"""A Codex app-server within this process, which answers as told: what `AppServer` is given in place of the real one.

    fake = FakeAppServer()
    fake.then("thread/resume", Refuse("no rollout found"))
    server = AppServer(fake, FakeClock())
    thread = await server.start_thread(...)
    fake.child.say("turn/completed", {...})              # what the child tells by itself
    fake.child.die(9)
    fake.calls                                           # every request as (method, params), over all children

What is not scripted is answered as a server would that has nothing to do: threads and turns get ids, the rest `{}`.
With turns that are played (`fake.play(Played("Hello"), …)`), each `turn/start` is followed by its events: the message
becomes an item, the answer comes, the turn ends; an interrupt ends it early.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reverie.errors import CodexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.types import JsonObject


@dataclass(frozen=True, slots=True)
class Result:
    """An answer that works."""

    result: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Refuse:
    """An answer that is an error."""

    message: str
    code: int = -32600


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer at all."""


@dataclass(frozen=True, slots=True)
class Death:
    """The child ends in place of an answer."""

    code: int = 1


@dataclass(frozen=True, slots=True)
class Garbage:
    """A line that is none of the protocol, in place of an answer."""

    line: bytes = b"not json\n"


Scripted = Result | Refuse | Silence | Death | Garbage


@dataclass(frozen=True, slots=True)
class Played:
    """What happens in a turn: the message becomes an item, then `items`, the answer, its usage, the end.

    Not `accepted`: the message never becomes one. `dies_with` ends the child after that. `held_by` keeps the turn from
    ending; messages that are sent into it meanwhile are `consumed`, or not. `error` is what it fails with.
    """

    text: str = "Hello from Codex."
    accepted: bool = True
    items: tuple[JsonObject, ...] = ()
    error: JsonObject | None = None
    tokens: int = 100
    window: int | None = 258_400
    held_by: asyncio.Event | None = None
    consumed: bool = True
    dies_with: int | None = None


class FakeAppServer:
    """What is started, and what its children are asked. With `broken` nothing can be started."""

    def __init__(self, *, broken: bool = False) -> None:
        self.children: list[FakeChild] = []
        self.calls: list[tuple[str, JsonObject]] = []
        self.broken = broken
        self.played: deque[Played] = deque()
        self.plays = False
        self._script: dict[str, deque[Scripted | Callable[[JsonObject], Scripted]]] = {}
        self._threads = self._turns = 0

    async def __call__(self) -> FakeChild:
        """Start a child."""
        if self.broken:
            raise CodexUnavailableError("Codex cannot be started: it is not there")
        child = FakeChild(self, pid=1_000 + len(self.children))
        self.children.append(child)
        return child

    @property
    def child(self) -> FakeChild:
        """The child that was started last."""
        return self.children[-1]

    def then(self, method: str, *answers: Scripted | Callable[[JsonObject], Scripted]) -> None:
        """Answer the next calls of a method so; a function is given the call's parameters."""
        self._script.setdefault(method, deque()).extend(answers)

    def play(self, *turns: Played) -> None:
        """Play the next turns so; later ones in the usual way."""
        self.plays = True
        self.played.extend(turns)

    def called(self, method: str) -> list[JsonObject]:
        """The parameters of each call of a method."""
        return [params for name, params in self.calls if name == method]

    def answer(self, method: str, params: JsonObject) -> Scripted:
        """What a call is answered with."""
        self.calls.append((method, params))
        waiting = self._script.get(method)
        if waiting:
            scripted = waiting.popleft()
            return scripted(params) if callable(scripted) else scripted
        match method:
            case "thread/start" | "thread/fork":
                self._threads += 1
                return Result(thread_result(f"thread-{self._threads}"))
            case "thread/resume" | "thread/read":
                return Result(thread_result(params["threadId"]))
            case "turn/start":
                self._turns += 1
                return Result({"turn": {"id": f"turn-{self._turns}", "status": "inProgress", "items": []}})
            case "turn/steer":
                return Result({"turnId": params["expectedTurnId"]})
            case _:
                return Result()


class FakeChild:
    """One child: it answers what it reads, and says what it is told to say."""

    def __init__(self, server: FakeAppServer, pid: int) -> None:
        self.pid = pid
        self.answers: list[JsonObject] = []
        self.terminated = False
        self.stdout = asyncio.StreamReader()
        self.stderr = asyncio.StreamReader()
        self._server = server
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._read = b""
        self._playing: dict[str, asyncio.Task[None]] = {}
        self._consuming: set[str] = set()
        self._total = 0

    @property
    def stdin(self) -> FakeChild:
        """What it reads: itself, which has `write`, `drain` and `close`."""
        return self

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return not self._exit.done()

    # -- what the other side does ----------------------------------------------------------------------------------

    def write(self, data: bytes, /) -> None:
        """Read bytes, and answer each line that is complete."""
        if not self.alive:
            raise BrokenPipeError
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    async def drain(self) -> None:
        """Nothing is ever left to be written."""

    def close(self) -> None:
        """Its stdin ends, and it with it."""
        self.die(0)

    async def wait(self) -> int:
        """Its exit code."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """SIGTERM."""
        self.terminated = True
        self.die(-15)

    def kill(self) -> None:
        """SIGKILL."""
        self.die(-9)

    # -- what it does --------------------------------------------------------------------------------------------

    def say(self, method: str, params: JsonObject) -> None:
        """Tell something by itself."""
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: JsonObject, number: int = 0) -> None:
        """Ask something; what is answered is added to `answers`."""
        self._send({"id": number, "method": method, "params": params})

    def complain(self, line: str) -> None:
        """Say something on stderr."""
        self.stderr.feed_data(line.encode() + b"\n")

    def write_out(self, raw: bytes) -> None:
        """Say bytes as they are."""
        self.stdout.feed_data(raw)

    def die(self, code: int) -> None:
        """End."""
        if self.alive:
            self._exit.set_result(code)
            for playing in self._playing.values():
                playing.cancel()
            self.stdout.feed_eof()
            self.stderr.feed_eof()

    def _take(self, message: JsonObject) -> None:
        if "method" not in message:
            self.answers.append(message)
        elif "id" in message:
            method: str = message["method"]
            params: JsonObject = message.get("params") or {}
            scripted = self._server.answer(method, params)
            self._answer(message["id"], scripted)
            if self._server.plays and isinstance(scripted, Result):
                self._react(method, params, scripted.result)
        else:
            self._server.calls.append((message["method"], {}))

    def _react(self, method: str, params: JsonObject, result: JsonObject) -> None:
        """Play what follows a call that worked."""
        thread: str = params.get("threadId", "")
        match method:
            case "turn/start":
                played = self._server.played.popleft() if self._server.played else Played()
                turn: str = result["turn"]["id"]
                playing = self._play(played, thread, turn, params["clientUserMessageId"])
                self._playing[thread] = asyncio.create_task(playing)
            case "turn/steer" if thread in self._consuming:
                self.say("item/completed", item_params(thread, params["expectedTurnId"],
                                                       user_item(params["clientUserMessageId"])))  # fmt: skip
            case "turn/interrupt" if (playing := self._playing.pop(thread, None)) is not None:
                playing.cancel()
                self.say("turn/completed", ended_params(thread, params["turnId"], "interrupted"))
            case _:
                pass

    async def _play(self, played: Played, thread: str, turn: str, client_id: str) -> None:
        self.say("turn/started", {"threadId": thread, "turn": {"id": turn}})
        if played.accepted:
            self.say("item/completed", item_params(thread, turn, user_item(client_id)))
        if played.dies_with is not None:
            self.die(played.dies_with)
            return
        for item in played.items:
            self.say("item/started", item_params(thread, turn, {**item, "status": "inProgress"}))
            self.say("item/completed", item_params(thread, turn, item))
        if played.error is None:
            delta = {"threadId": thread, "turnId": turn, "itemId": f"said-{turn}", "delta": played.text}
            self.say("item/agentMessage/delta", delta)
        if played.held_by is not None:
            if played.consumed:
                self._consuming.add(thread)
            await played.held_by.wait()
        if played.error is None:
            said = {"type": "agentMessage", "id": f"said-{turn}", "text": played.text}
            self.say("item/completed", item_params(thread, turn, said))
            self._total += played.tokens
            self.say("thread/tokenUsage/updated", usage_params(thread, turn, played, self._total))
        self._consuming.discard(thread)
        self._playing.pop(thread, None)
        status = "completed" if played.error is None else "failed"
        self.say("turn/completed", ended_params(thread, turn, status, played.error))

    def _answer(self, number: int, scripted: Scripted) -> None:
        match scripted:
            case Result(result):
                self._send({"id": number, "result": result})
            case Refuse(text, code):
                self._send({"id": number, "error": {"code": code, "message": text}})
            case Death(code):
                self.die(code)
            case Garbage(line):
                self.write_out(line)
            case Silence():
                pass

    def _send(self, message: JsonObject) -> None:
        if self.alive:
            self.write_out(json.dumps(message).encode() + b"\n")


# -- what it says --------------------------------------------------------------------------------------------------


def thread_result(thread_id: str, *, model: str = "fake-model", status: str = "idle") -> JsonObject:
    """The answer to whatever gives a thread."""
    return {"thread": {"id": thread_id, "status": {"type": status}, "path": None}, "model": model}


def usage_params(thread_id: str, turn_id: str, played: Played, total: int) -> JsonObject:
    """The parameters of `thread/tokenUsage/updated`."""
    last = {"totalTokens": played.tokens, "inputTokens": played.tokens - 10, "cachedInputTokens": 5, "outputTokens": 10}
    usage = {"last": last, "total": {**last, "totalTokens": total}, "modelContextWindow": played.window}
    return {"threadId": thread_id, "turnId": turn_id, "tokenUsage": usage}


def item_params(thread_id: str, turn_id: str, item: JsonObject) -> JsonObject:
    """The parameters of `item/started` and `item/completed`."""
    return {"threadId": thread_id, "turnId": turn_id, "item": item}


def user_item(client_id: str, item_id: str = "user") -> JsonObject:
    """A message that is part of the thread."""
    return {"type": "userMessage", "id": item_id, "clientId": client_id, "content": []}


def ended_params(
    thread_id: str, turn_id: str, status: str = "completed", error: JsonObject | None = None
) -> JsonObject:
    """The parameters of `turn/completed`."""
    return {"threadId": thread_id, "turn": {"id": turn_id, "status": status, "error": error, "items": []}}
