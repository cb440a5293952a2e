"""The child process: started with first use, watched, restarted within bounds, ended with us.

    connection()   the live one; a child is started when there is none
    it ends        everybody who waits for it is told at once, with the last thing that it said on stderr
    it ends often  the next start waits longer each time; after `DEATHS_MAX` within `DEATHS_S` nobody waits for another:
                   the caller is told when it will be tried again
    we end         its stdin closes, which ends it, also when we are killed

It has a session of its own at the system: a Ctrl-C at the terminal is for us to handle, and running turns may finish.
What it writes on stderr goes to the log, shortened and without secrets.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog
from stamina.instrumentation import get_on_retry_hooks

from reverie.agent.codex.rpc import LINE_BYTES_MAX, RpcConnection
from reverie.errors import CodexError, CodexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from reverie.agent.codex.rpc import LineReader, LineWriter
    from reverie.clock import Clock
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

START_S_MAX = 30.0
LAST_WORDS_S = 0.25
"""How long those who wait for a child that has ended wait for its exit code and its last words."""
STOP_S = 2.0
"""How long a child may take to end by itself, and then after being told to; afterwards it is killed."""
DEATHS_MAX = 5
DEATHS_S = 300.0
WAIT_S_FIRST, WAIT_S_MAX = 0.2, 30.0
STDERR_CHARS_MAX = 500
STDERR_LINES_KEPT = 5
PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "CODEX_CA_CERTIFICATE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
)  # fmt: skip
"""All of our environment that a child is given. Our own tokens and keys are not part of it."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LEVEL = re.compile(r"\s(ERROR|WARN|INFO|DEBUG|TRACE)\s")


class Child(Protocol):
    """A process with its three streams."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    @property
    def stdin(self) -> LineWriter:
        """What it reads."""
        ...

    @property
    def stdout(self) -> LineReader:
        """What it answers."""
        ...

    @property
    def stderr(self) -> LineReader:
        """What it complains of."""
        ...

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


class Launch(Protocol):
    """How a child is started."""

    async def __call__(self) -> Child:
        """Start one.

        Raises:
            CodexUnavailableError: it cannot be started.
        """
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, in which folder, and what is added to the part of our environment that it is given."""

    binary: Path
    arguments: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]

    async def __call__(self) -> Child:
        """Start it."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                str(self.binary),
                *self.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.folder,
                env={**passed, **self.environment},
                limit=LINE_BYTES_MAX,
                start_new_session=True,
            )
        except OSError as error:
            cause = error.strerror or str(error)
            raise CodexUnavailableError(f"Codex cannot be started: {self.binary}: {cause}") from error
        return _AsyncioChild(process)


class _AsyncioChild:
    """A child of asyncio's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.stdin: LineWriter = process.stdin
        self.stdout: LineReader = process.stdout
        self.stderr: LineReader = process.stderr

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        return await self._process.wait()

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """What became of the children so far. `pid` is that of the one that runs."""

    pid: int | None
    starts: int
    deaths: int


def restart_wait_s(deaths: int) -> float:
    """How long to wait before a start, after so many deaths in a row lately."""
    return 0.0 if deaths < 2 else min(WAIT_S_MAX, WAIT_S_FIRST * 2 ** (deaths - 2))  # noqa: PLR2004 (the first is free)


class ChildProcess:
    """One child at a time. Leave it with `aclose`.

    `greet` is awaited with each new connection before anybody else has it: a child that does not answer it is none.
    `notified` and `asked` hear what the child says by itself, `ended` why one is gone. `hide` takes secrets out of what
    is logged.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        greet: Callable[[RpcConnection], Awaitable[None]],
        notified: Callable[[str, JsonObject], None],
        asked: Callable[[str, JsonObject], JsonObject],
        ended: Callable[[str], None],
        clock: Clock,
        hide: Callable[[str], str] = str,
    ) -> None:
        self._launch = launch
        self._greet = greet
        self._notified = notified
        self._asked = asked
        self._ended = ended
        self._clock = clock
        self._hide = hide
        self._starting = asyncio.Lock()
        self._running: _Running | None = None
        self._deaths: deque[float] = deque(maxlen=DEATHS_MAX)
        self._starts = self._died = 0
        self._closed = False

    def statistics(self) -> ProcessStatistics:
        """What became of the children so far."""
        running = self._running
        alive = running is not None and not running.connection.ended
        return ProcessStatistics(running.child.pid if running and alive else None, self._starts, self._died)

    async def connection(self) -> RpcConnection:
        """A connection to the child that runs; one is started if there is none.

        Raises:
            CodexUnavailableError: it cannot be started, or has died too often of late.
        """
        running = self._running
        if running is not None and running.greeted and not running.connection.ended:
            return running.connection
        async with self._starting:
            running = self._running
            if running is None or running.connection.ended:
                running = await self._start()
            return running.connection

    async def kill(self, reason: str) -> None:
        """End a child that does not do what it must; the next use starts another."""
        running = self._running
        if running is not None and not running.connection.ended:
            log.warning("the Codex app-server is ended", action="codex_killed", pid=running.child.pid, cause=reason)
            running.reason = reason
            running.child.kill()
            await asyncio.wait([running.watch])

    async def aclose(self) -> None:
        """End the child and start no other."""
        self._closed = True
        async with self._starting:
            if self._running is not None:
                await self._running.stop()

    async def _start(self) -> _Running:
        if self._closed:
            raise CodexUnavailableError("Reverie is stopping; Codex is not started any more.")
        if self._running is not None:
            await asyncio.wait([self._running.watch])
        lately = self._died_lately()
        if lately >= DEATHS_MAX:
            again_s = max(1, round(DEATHS_S - (self._clock.monotonic_s() - self._deaths[0])))
            raise CodexUnavailableError(
                f"Codex ended {lately} times within {DEATHS_S / 60:.0f} minutes; it is started again in {again_s} s at "
                "the earliest. The log has what it said (action codex_died)."
            )
        await asyncio.to_thread(
            get_on_retry_hooks
        )  # loads what logs retries; the first one would do it on the event loop
        await asyncio.sleep(restart_wait_s(lately))
        self._starts += 1
        running = self._running = _Running(await self._launch(), self._notified, self._asked, self._shown, self._gone)
        await self._greeted(running)
        log.info("the Codex app-server runs", action="codex_started", pid=running.child.pid, starts=self._starts)
        return running

    async def _greeted(self, running: _Running) -> None:
        try:
            async with asyncio.timeout(START_S_MAX):
                await self._greet(running.connection)
        except (CodexError, TimeoutError) as error:
            self._deaths.append(self._clock.monotonic_s())
            cause = str(error) or f"it did not answer within {START_S_MAX:g} s"
            raise CodexUnavailableError(f"Codex does not start: {cause}") from error
        else:
            running.greeted = True
        finally:
            if not running.greeted:
                await running.stop()

    def _died_lately(self) -> int:
        """How often a child has died of late."""
        now = self._clock.monotonic_s()
        return sum(1 for died_s in self._deaths if now - died_s < DEATHS_S)

    def _gone(self, running: _Running) -> None:
        """A child has ended."""
        why = running.why_it_ended()
        if not running.stopping:
            self._died += 1
            self._deaths.append(self._clock.monotonic_s())
            log.error("the Codex app-server has ended", action="codex_died", pid=running.child.pid, cause=why)
        self._ended(why)

    def _shown(self, line: bytes) -> str:
        """A line of stderr as it may be logged."""
        return self._hide(_COLOURS.sub("", line.decode("utf-8", "replace")).strip())[:STDERR_CHARS_MAX]


class _Running:
    """A child, from its start to its end."""

    def __init__(
        self,
        child: Child,
        notified: Callable[[str, JsonObject], None],
        asked: Callable[[str, JsonObject], JsonObject],
        shown: Callable[[bytes], str],
        gone: Callable[[_Running], None],
    ) -> None:
        self.child = child
        self.reason = ""
        self.greeted = self.stopping = False
        self._shown = shown
        self._gone = gone
        self._code: int | None = None
        self._said: deque[str] = deque(maxlen=STDERR_LINES_KEPT)
        self.connection = RpcConnection(child.stdout, child.stdin, notified=notified, asked=asked)
        self.watch = asyncio.create_task(self._live(), name="codex")

    async def stop(self) -> None:
        """Let it end: what it reads ends."""
        self.stopping = True
        self.child.stdin.close()
        await asyncio.wait([self.watch])

    def why_it_ended(self) -> str:
        """What to tell those who wait for it."""
        if self.stopping and self.greeted:
            return "Reverie is stopping, and Codex with it"
        what = self.reason or ("it ended" if self._code is None else f"it ended with code {self._code}")
        said = f"; it said: {self._said[-1]}" if self._said else ""
        return f"the Codex app-server is gone: {what}{said}"

    async def _live(self) -> None:
        """Read what it says until it ends; then whoever waits for it is told why."""
        complaining = asyncio.create_task(self._read_stderr(), name="codex-stderr")
        exiting = asyncio.create_task(self.child.wait(), name="codex-exit")
        try:
            await self.connection.read()
            await asyncio.wait([complaining, exiting], timeout=LAST_WORDS_S)
            self._code = exiting.result() if exiting.done() else None
        finally:
            self.connection.close(self.why_it_ended())
            self._gone(self)
            await self._end(exiting)
            complaining.cancel()

    async def _end(self, exiting: asyncio.Task[int]) -> None:
        """One that does not end by itself is ended."""
        for end in (self.child.terminate, self.child.kill):
            if (await asyncio.wait([exiting], timeout=STOP_S))[0]:
                return
            end()
        if not (await asyncio.wait([exiting], timeout=STOP_S))[0]:
            log.error("a Codex app-server cannot be ended", action="codex_left", pid=self.child.pid)
            exiting.cancel()

    async def _read_stderr(self) -> None:
        """What it complains of: the log has it, and the last lines are kept."""
        with suppress(OSError):
            while line := await self._next_complaint():
                shown = self._shown(line)
                if not shown:
                    continue
                level = _LEVEL.search(f" {shown} ")
                grave = level is not None and level[1] == "ERROR"
                if grave or level is None:
                    self._said.append(shown)
                (log.warning if grave else log.debug)("Codex says", action="codex_stderr", line=shown)

    async def _next_complaint(self) -> bytes:
        try:
            return await self.child.stderr.readline()
        except ValueError:  # longer than any line may be; the rest of it follows
            return b"(a line too long to be read)\n"
