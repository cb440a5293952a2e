"""The Codex runtime: turns run in threads that the Codex app-server keeps, and are sent what those do not know yet.

One object for each agent: it knows the app-server and what that has loaded. The way of one turn through a thread is
`agent/codex/threaded_turn.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import anyio
import structlog

from reverie.agent.codex.app_server import AppServer
from reverie.agent.codex.home import opened, prepare
from reverie.agent.codex.threaded_turn import ThreadedTurn
from reverie.agent.runtimes.chat import CAPABILITIES, PromptFigures
from reverie.config import read_secret
from reverie.context.projection import bootstrap_of
from reverie.errors import (
    CodexError,
    CodexUnavailableError,
    ConfigError,
    RequestError,
)
from reverie.memory.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from reverie.agent.codex.home import MemoryDoor
    from reverie.agent.codex.native_reply import NativeReply
    from reverie.agent.codex.process import Launch
    from reverie.agent.runtimes.runtime import ReadyTurn, Reply
    from reverie.clock import Clock
    from reverie.config import CodexConfig, ThreadsConfig
    from reverie.context.contract import Capability
    from reverie.sessions.bindings import BindingStore
    from reverie.sessions.thread_log import ThreadLog
    from reverie.sessions.turns import TurnStore
    from reverie.types import ImagePart, JsonObject, TurnRequest

log = structlog.get_logger(__name__)

WINDOW_TOKENS = 258_400
"""What Codex's own models read at once, where nothing says otherwise."""
LOADED_MAX = 256
"""Threads that an app-server keeps loaded for us, beside those that are in a turn."""
DOOR_S = 5.0
"""How long the first thread waits for the gateway to listen."""


@dataclass(frozen=True, slots=True)
class CodexSettings:
    """What of the configuration the runtime of one agent needs. `tools` are our memory's, as they are registered."""

    agent: str
    codex: CodexConfig
    threads: ThreadsConfig
    workspace: Path
    tools: tuple[JsonObject, ...]
    citations: str = "auto"


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the runtime keeps what must outlive it."""

    bindings: BindingStore
    log: ThreadLog
    turns: TurnStore


PROJECTS: frozenset[Capability] = frozenset({"thread-bootstrap-projection"})
CODEX_CAPABILITIES = CAPABILITIES | PROJECTS


class CodexRuntime:
    """Answers the turns of one agent. `thread_compacted` is called with the session whose thread Codex compacted."""

    def __init__(
        self,
        settings: CodexSettings,
        server: AppServer,
        stores: Stores,
        clock: Clock,
        *,
        door: MemoryDoor | None = None,
        thread_compacted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.server = server
        self.stores = stores
        self.clock = clock
        self.door = door
        self.thread_compacted = thread_compacted
        self._figures = PromptFigures()
        self._door_seen = False
        self._loaded: OrderedDict[str, tuple[int, dict[str, str]]] = OrderedDict()
        self._wanted: OrderedDict[str, None] = OrderedDict()

    @property
    def model(self) -> str:
        """What answers, unless a request asks for another."""
        return self.settings.codex.model or "codex"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it does for a context engine."""
        return CODEX_CAPABILITIES

    @property
    def window_tokens(self) -> int | None:
        """What its model reads at once."""
        return self.settings.codex.context_tokens or WINDOW_TOKENS

    def figures(self) -> PromptFigures:
        """What prompts have cost since the start, as Codex tells."""
        return self._figures

    def spent(self, answer: NativeReply) -> None:
        """A turn has ended, with an answer or without: what it cost is counted."""
        was, usage = self._figures, answer.usage
        self._figures = PromptFigures(
            was.calls + answer.calls,
            was.prompt_tokens + usage.prompt_tokens,
            was.cached_tokens + usage.cached_tokens,
        )

    def offered_tools(self, request: TurnRequest) -> tuple[JsonObject, ...]:  # noqa: ARG002 (a runtime's operation)
        """None: Codex has our tools from our own server, and counts them itself."""
        return ()

    async def answer(self, turn: ReadyTurn) -> Reply:
        """The reply.

        Raises:
            RequestError: Codex cannot serve such a request.
            ContextTooLongError: the message alone is too large.
            CodexError: no reply came; the session goes on in the same thread with its next turn.
            StorageError: what must be on record could not be written.
        """
        bootstrap = bootstrap_of(turn.context)
        _check(turn.request, bootstrap.prompt.images)
        held = await self.stores.bindings.acquire(turn.begun.session.id)
        native = ThreadedTurn(self, turn, bootstrap, held)
        try:
            return await native.reply()
        except BaseException:  # also cancelled: the next turn must not wait for a lease that nobody renews
            with anyio.CancelScope(shield=True):
                await self.stores.bindings.release(native.held)
            raise

    async def door_opened(self) -> None:
        """Wait, for the first thread, until our memory can be reached: turns may run before the gateway listens."""
        if self.door is None or self._door_seen:
            return
        self._door_seen = True
        if not await opened(self.door, DOOR_S):
            log.warning("Codex will not reach the memory tools: nothing answers there", action="codex_door_shut",
                        url=self.door.url)  # fmt: skip

    def loaded_with(self, thread_id: str) -> dict[str, str] | None:
        """The parts of the instructions that a thread was loaded with by the child that runs; None: it was not."""
        starts, parts = self._loaded.get(thread_id, (0, {}))
        process = self.server.statistics().process
        return parts if process.pid is not None and starts == process.starts else None

    async def note_loaded(self, thread_id: str, parts: dict[str, str]) -> None:
        """A thread is loaded. One that is loaded already keeps the instructions that it has.

        Those that were used longest ago are let go, beyond `LOADED_MAX`: the app-server unloads them in time.
        """
        if self.loaded_with(thread_id) is None:
            self._loaded[thread_id] = (self.server.statistics().process.starts, parts)
        self._loaded.move_to_end(thread_id)
        idle = [each for each in self._loaded if not self.server.is_followed(each)]
        for each in idle[:-LOADED_MAX]:
            await self.let_go(each)

    async def let_go(self, thread_id: str) -> None:
        """A thread is not gone on with, or not for a while: the app-server may unload it."""
        known = self.loaded_with(thread_id) is not None
        self._loaded.pop(thread_id, None)
        if known:
            with suppress(CodexError):
                await self.server.unsubscribe(thread_id)

    def want_compaction(self, session_id: str) -> None:
        """A person wants a session compacted: its thread is, before its next turn."""
        self._wanted[session_id] = None
        while len(self._wanted) > LOADED_MAX:
            self._wanted.popitem(last=False)

    def takes_compaction(self, session_id: str) -> bool:
        """Whether that was wanted; asked once."""
        wanted = session_id in self._wanted
        self._wanted.pop(session_id, None)
        return wanted


def _check(request: TurnRequest, images: Sequence[ImagePart]) -> None:
    """Refuse what Codex cannot do, before anything begins.

    Raises:
        RequestError: it forces a tool of the client's, or brings an image by its address.
    """
    if request.tool_choice not in (None, "auto", "none"):
        message = (
            f"The agent '{request.session.agent}' runs on Codex, which uses its own tools and none of a client's: "
            "leave `tool_choice` out."
        )
        raise RequestError(message, param="tool_choice")
    if any(not image.url.startswith("data:") for image in images):
        raise RequestError(
            f"The agent '{request.session.agent}' runs on Codex, which takes images as `data:` URLs only.",
            param="messages",
        )


def open_codex(
    home: Path,
    settings: CodexSettings,
    stores: Stores,
    clock: Clock,
    *,
    door: MemoryDoor | None,
    thread_compacted: Callable[[str], None],
    launch: Launch | None = None,
) -> CodexRuntime:
    """The runtime of one agent, whose Codex has its home at `home`; nothing is started yet.

    Files are written: call it on a thread. `launch` takes the place of the installed Codex.

    Raises:
        ConfigError: Codex is not installed.
        HomeReadOnlyError: its home cannot be written.
    """
    codex = settings.codex
    key = read_secret(codex.api_key_env, codex.api_key_file) if codex.base_url is not None else None
    try:
        launch = launch or prepare(home, settings.agent, codex, key=key, door=door)
    except CodexUnavailableError as error:
        raise ConfigError(f"agents.{settings.agent}.runtime", "codex", str(error)) from error
    server = AppServer(launch, clock, approvals=codex.approvals, version=version("reverie"), hide=redacted)
    return CodexRuntime(settings, server, stores, clock, door=door, thread_compacted=thread_compacted)
