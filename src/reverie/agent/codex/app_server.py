"""What can be asked of a Codex app-server, with values in and out; the child behind it comes and goes.

One app-server serves all sessions of an agent. What happens in a thread is heard by whoever subscribed to it: events
wait in a line of its own, so that a thread which nobody reads holds up no other. Such a line is bounded: one that
overflows ends with an error rather than with a gap.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from reverie.agent.codex.approvals import answer_to
from reverie.agent.codex.process import ChildProcess
from reverie.agent.codex.protocol import UNREAD, parse_notification, parse_thread
from reverie.errors import CodexDiedError, CodexError, CodexNotAskedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from reverie.agent.codex.approvals import Approvals
    from reverie.agent.codex.process import Launch, ProcessStatistics
    from reverie.agent.codex.protocol import Event, NativeThread
    from reverie.agent.codex.rpc import RpcConnection
    from reverie.clock import Clock
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

EVENTS_MAX = 20_000
"""Events of one thread that may wait to be read. A long answer has a few thousand."""
REQUEST_S = 30.0
THREAD_S = 60.0
"""How long a thread may take to be opened: its whole history is read from the disk."""


@dataclass(frozen=True, slots=True)
class ThreadOptions:
    """How a thread is started or resumed. What is None is Codex's own to choose."""

    cwd: str
    approval_policy: str
    sandbox: str
    model: str | None = None
    developer_instructions: str | None = None
    config: JsonObject = field(default_factory=dict[str, Any])

    def params(self) -> JsonObject:
        """As the app-server takes it."""
        named: JsonObject = {
            "cwd": self.cwd,
            "approvalPolicy": self.approval_policy,
            "sandbox": self.sandbox,
            "model": self.model,
            "developerInstructions": self.developer_instructions,
            "config": self.config or None,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """What a turn is run with, where it differs from its thread."""

    model: str | None = None
    effort: str | None = None
    output_schema: JsonObject | None = None

    def params(self) -> JsonObject:
        """As the app-server takes it."""
        named: JsonObject = {"model": self.model, "effort": self.effort, "outputSchema": self.output_schema}
        return {name: value for name, value in named.items() if value is not None}


class Subscription:
    """The events of one thread, in order. Only one task may read it."""

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self._events: asyncio.Queue[Event | CodexError] = asyncio.Queue(EVENTS_MAX)
        self._end: CodexError | None = None

    async def next(self) -> Event:
        """The next event.

        Raises:
            CodexDiedError: the app-server has ended.
            CodexError: events came faster than they were read, and some are lost.
        """
        if self._end is not None:
            raise self._end
        event = await self._events.get()
        if isinstance(event, CodexError):
            self._end = event
            raise event
        return event

    def tell(self, event: Event | CodexError) -> None:
        """Put an event behind the others."""
        if self._end is not None:
            return
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            while not self._events.empty():
                self._events.get_nowait()
            lost = CodexError(f"{EVENTS_MAX} events of a Codex thread waited to be read; the turn cannot be followed")
            self._events.put_nowait(lost)


@dataclass(frozen=True, slots=True)
class AppServerStatistics:
    """How an app-server fares. `unread` are the notifications that mean nothing here."""

    process: ProcessStatistics
    subscriptions: int
    unread: int


class AppServer:
    """The app-server of one agent, started with first use. Leave it with `aclose`. `version` is ours.

    A server that was idle for a long time and one that died are the same to a caller: the next request starts one.
    """

    def __init__(
        self,
        launch: Launch,
        clock: Clock,
        *,
        approvals: Approvals = "deny",
        version: str = "0",
        hide: Callable[[str], str] = str,
    ) -> None:
        self._approvals: Approvals = approvals
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._unread = 0
        self._process = ChildProcess(
            launch,
            greet=partial(_greet, version),
            notified=self._notified,
            asked=self._asked,
            ended=self._ended,
            clock=clock,
            hide=hide,
        )

    async def aclose(self) -> None:
        """End it."""
        await self._process.aclose()

    async def kill(self, reason: str) -> None:
        """End the child that runs, because it does not do what it must; the next use starts another."""
        await self._process.kill(reason)

    def statistics(self) -> AppServerStatistics:
        """How it fares."""
        count = sum(len(each) for each in self._subscriptions.values())
        return AppServerStatistics(self._process.statistics(), count, self._unread)

    # -- threads -------------------------------------------------------------------------------------------------

    async def start_thread(self, options: ThreadOptions) -> NativeThread:
        """A thread that knows nothing. It is on disk once its first turn was accepted.

        Raises:
            CodexError: it was not started.
        """
        return await self._thread("thread/start", options.params())

    async def resume_thread(self, thread_id: str, options: ThreadOptions) -> NativeThread:
        """A thread as it was left, from memory or from disk.

        Raises:
            CodexRefusedError: there is none, it cannot be read, or another process has it.
            CodexError: no answer came.
        """
        return await self._thread("thread/resume", {"threadId": thread_id, **options.params(), "excludeTurns": True})

    async def fork_thread(self, thread_id: str, options: ThreadOptions) -> NativeThread:
        """A thread with the history of another, which stays as it is. It is not kept on disk.

        Raises:
            CodexError: it was not made.
        """
        params = {"threadId": thread_id, **options.params(), "excludeTurns": True, "ephemeral": True}
        return await self._thread("thread/fork", params)

    async def read_thread(self, thread_id: str) -> NativeThread:
        """What is known of a thread, whether it is loaded or not.

        Raises:
            CodexError: it cannot be read.
        """
        return await self._thread("thread/read", {"threadId": thread_id})

    async def unsubscribe(self, thread_id: str) -> None:
        """Let a thread be unloaded when nothing happens in it for a while.

        Raises:
            CodexError: no answer came.
        """
        await self._request("thread/unsubscribe", {"threadId": thread_id})

    async def compact(self, thread_id: str) -> None:
        """Have a thread's beginning summarised; that it is done is told as an item of a turn of its own.

        Raises:
            CodexError: it was refused, or no answer came.
        """
        await self._request("thread/compact/start", {"threadId": thread_id})

    # -- turns ---------------------------------------------------------------------------------------------------

    async def start_turn(
        self, thread_id: str, content: list[JsonObject], client_id: str, options: TurnOptions | None = None
    ) -> str:
        """Begin a turn; its id. Its message is part of the thread only once a `UserItem` with `client_id` is done.

        Raises:
            CodexRefusedError: it was not begun.
            CodexError: no answer came: it may have begun.
        """
        chosen = (options or TurnOptions()).params()
        params = {"threadId": thread_id, "input": content, "clientUserMessageId": client_id, **chosen}
        answer = await self._request("turn/start", params)
        return _id_of(answer.get("turn"), "turn/start")

    async def steer(self, thread_id: str, turn_id: str, content: list[JsonObject], client_id: str) -> None:
        """Hand a message to a turn that runs. It is accepted then, and read only when its `UserItem` comes.

        Raises:
            CodexRefusedError: the turn has ended, is another, or takes none.
            CodexError: no answer came: it may have been accepted.
        """
        params = {"threadId": thread_id, "expectedTurnId": turn_id, "input": content}
        await self._request("turn/steer", {**params, "clientUserMessageId": client_id})

    async def interrupt(self, thread_id: str, turn_id: str) -> None:
        """Stop a turn; that it has stopped is told by its `TurnEnded`.

        Raises:
            CodexRefusedError: no such turn runs.
            CodexError: no answer came.
        """
        await self._request("turn/interrupt", {"threadId": thread_id, "turnId": turn_id})

    @contextmanager
    def subscribed(self, thread_id: str) -> Generator[Subscription]:
        """What happens in a thread from now on."""
        subscription = Subscription(thread_id)
        self._subscriptions.setdefault(thread_id, []).append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[thread_id].remove(subscription)
            if not self._subscriptions[thread_id]:
                del self._subscriptions[thread_id]

    def is_followed(self, thread_id: str) -> bool:
        """Whether somebody hears what happens in a thread."""
        return thread_id in self._subscriptions

    # -- the connection ------------------------------------------------------------------------------------------

    async def _request(self, method: str, params: JsonObject, *, within_s: float | None = None) -> JsonObject:
        within_s = REQUEST_S if within_s is None else within_s
        connection = await self._process.connection()
        try:
            return await connection.request(method, params, within_s=within_s)
        except CodexNotAskedError:  # it ended a moment ago, and nobody had noticed yet
            connection = await self._process.connection()
            return await connection.request(method, params, within_s=within_s)

    async def _thread(self, method: str, params: JsonObject) -> NativeThread:
        answer = await self._request(method, params, within_s=THREAD_S)
        try:
            return parse_thread(answer)
        except (KeyError, TypeError) as error:
            raise CodexError(f"the Codex app-server answered {method} without a thread") from error

    def _notified(self, method: str, params: JsonObject) -> None:
        event = parse_notification(method, params)
        if event is None:
            self._unread += 1
            return
        for subscription in self._subscriptions.get(event.thread_id, ()):
            subscription.tell(event)

    def _asked(self, method: str, params: JsonObject) -> JsonObject:
        return answer_to(method, params, self._approvals)

    def _ended(self, why: str) -> None:
        """The child is gone: every thread's subscriber is told."""
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.tell(CodexDiedError(why))


async def _greet(version: str, connection: RpcConnection) -> None:
    """What a connection begins with."""
    client = {"name": "reverie", "title": "Reverie", "version": version}
    capabilities = {"experimentalApi": False, "requestAttestation": False, "optOutNotificationMethods": list(UNREAD)}
    greeting = {"clientInfo": client, "capabilities": capabilities}
    await connection.request("initialize", greeting, within_s=REQUEST_S)
    await connection.notify("initialized")


def _id_of(turn: object, method: str) -> str:
    found: Any = turn.get("id") if isinstance(turn, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(found, str):
        raise CodexError(f"the Codex app-server answered {method} without an id")
    return found
