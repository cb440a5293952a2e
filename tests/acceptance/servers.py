"""The real server as a process, its home, and the fake model behind it.

Everything here looks at Reverie from the outside: over HTTP, through its exit codes and its log, and by reading its
databases as files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apsw
import openai

from reverie.testing.fake_upstream import FakeUpstream, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from reverie.testing.fake_upstream import Plan, ReceivedRequest

T = TypeVar("T")

START_S_MAX = 25.0
WAIT_S_MAX = 15.0
PAUSE_S = 0.01

WITHOUT_MEMORY = {
    "REVERIE_MEMORY__EMBEDDER": "none",
    "REVERIE_MEMORY__RECALL_HITS": "0",
    "REVERIE_MEMORY__TOOLS": "false",
    "REVERIE_MEMORY__WATCH": "false",
}
"""Settings for tests of the wire: nothing is added to what a client sends, and the server starts faster."""


def until(check: Callable[[], T], what: str, *, within_s: float = WAIT_S_MAX) -> T:
    """Ask again and again until the answer is true, and return it. Fails with `what` when it never is."""
    deadline = time.monotonic() + within_s
    while True:
        if answer := check():
            return answer
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(PAUSE_S)


@dataclass
class Answer:
    """An HTTP answer of any status."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """What the assistant said."""
        assert self.status == 200, (self.status, self.body[:1000])
        return self.json["choices"][0]["message"]["content"]

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error object, which has exactly four fields."""
        error = self.json["error"]
        assert self.json.keys() == {"error"}
        assert error.keys() == {"message", "type", "param", "code"}
        return error


@dataclass
class Server:
    """A home and the process that serves it. Not started until `start` is called.

    It takes a free port at each start. `wrapper` is put before its command line, to run it with less than it needs;
    with `mounts_of_its_own` it sees another home under the same path, which `seen_home` reaches.
    """

    home: Path
    arguments: list[str] = field(default_factory=list[str])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    wrapper: list[str] = field(default_factory=list[str])
    mounts_of_its_own: bool = False
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log_file.read_text(errors="replace")

    @property
    def workspace(self) -> Path:
        """The Markdown of its only agent."""
        return self.home / "agents" / "main" / "workspace"

    @property
    def seen_home(self) -> Path:
        """The home as the running process sees it."""
        return Path(f"/proc/{self.pid}/root{self.home}") if self.mounts_of_its_own else self.home

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def command(self, *arguments: str) -> list[str]:
        """A command line of `reverie`."""
        return [sys.executable, "-m", "reverie", *arguments]

    def spawn(self) -> Server:
        """Start the process and return at once."""
        assert self.process is None
        serve = self.command("serve", "--home", str(self.home), "--port", "0", *self.arguments)
        with self._log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, *serve],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.variables(),
                start_new_session=True,
            )
        return self

    def start(self) -> Server:
        """Start it and wait until it is ready."""
        self.spawn()
        until(self._is_ready, f"the server is ready:\n{self.log}", within_s=START_S_MAX)
        return self

    def refused(self) -> tuple[int, str]:
        """Start it, expecting that it refuses to; its exit code and what it printed this time."""
        before = len(self.log) if self._log_file.exists() else 0
        self.spawn()
        assert self.process is not None
        code = self.process.wait(START_S_MAX)
        self.process = None
        return code, self.log[before:]

    def stop(self, *, with_signal: int = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(with_signal)
        code = self.process.wait(20)
        self.process = None
        return code

    def kill(self) -> None:
        """Kill -9."""
        self.stop(with_signal=signal.SIGKILL)

    def destroy(self) -> None:
        """Kill whatever still runs of it, children included."""
        if self.process is not None:
            with suppress(ProcessLookupError):  # it has ended, or leads no group
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            self.process = None

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run another command of `reverie` on this home, to its end."""
        with self.begin(*arguments) as process:
            try:
                out, err = process.communicate(stdin, timeout=25)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start another command of `reverie` on this home."""
        command = self.command(*arguments, "--home", str(self.home))
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=self.variables())

    # -- requests ------------------------------------------------------------------------------------------------

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET a path."""
        return self._send(urllib.request.Request(f"{self.url}{path}", headers=headers or {}))

    def post(self, path: str, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
        """POST bytes, or a value as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        return self._send(urllib.request.Request(f"{self.url}{path}", data=data, headers=all_headers))

    def chat(self, text: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """One turn in the main session unless `user` says otherwise."""
        body = {"model": "reverie", "user": "main", "messages": [{"role": "user", "content": text}], **fields}
        return self.post("/v1/chat/completions", body, headers)

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    # -- looking from the outside --------------------------------------------------------------------------------

    def transcript(self, session: str = "agent:main:main") -> list[tuple[str, str]]:
        """Role and text of every message of a session key, as the database has them."""
        sql = (
            "SELECT role, text FROM messages JOIN sessions ON sessions.id = session_id "
            "WHERE key = ? AND kind = 'message' ORDER BY seq"
        )
        return self._query(sql, (session,))

    def session_id(self, session: str) -> str:
        """The id of a session key's current transcript."""
        return self._query("SELECT id FROM sessions WHERE key = ? AND ended_at IS NULL", (session,))[0][0]

    def message_count(self) -> int:
        """How many messages there are in all transcripts; 0 as long as there is no database."""
        try:
            return self._query("SELECT count(*) FROM messages", ())[0][0]
        except apsw.Error:  # it is just being made
            return 0

    def turn_states(self, session: str = "agent:main:main") -> list[str]:
        """The states of a session's turns in order of arrival."""
        sql = "SELECT state FROM turns JOIN sessions ON sessions.id = session_id WHERE key = ? ORDER BY position"
        return [row[0] for row in self._query(sql, (session,))]

    def recall_kinds(self) -> list[str]:
        """By which doors memory was searched, in order."""
        return [row[0] for row in self._query("SELECT kind FROM recall_events ORDER BY id", ())]

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """What a query of `state.db` gives."""
        return self._query(sql, values)

    def figure(self, name: str) -> float:
        """A figure of `/metrics`, by its name without `reverie_`."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"reverie_{name} "))

    def memory_kib(self, field_name: str = "VmRSS") -> int:
        """The process's resident memory, now or at its peak (`VmHWM`)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field_name}:"):
                return int(line.split()[1])
        raise AssertionError(f"no {field_name} of {self.pid}")

    def _query(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if not self.mounts_of_its_own:
            return _rows(self.home / "state.db", sql, values)
        with tempfile.TemporaryDirectory() as copy:  # SQLite would look for the path itself, outside of the mount
            for file in self.seen_home.glob("state.db*"):
                shutil.copy(file, copy)
            return _rows(Path(copy) / "state.db", sql, values)

    @property
    def _log_file(self) -> Path:
        return self.home.parent / f"{self.home.name}.log"

    def variables(self) -> dict[str, str]:
        """The environment of its processes: ours without the settings of whoever runs the tests."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REVERIE_")}
        ours = {"REVERIE_UPSTREAM__DETECT": "false", "REVERIE_LEARNING__MODE": "off"}
        return {**inherited, **ours, **self.environment}

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended at once:\n{self.log}"
        try:
            announced = json.loads((self.seen_home / "server.json").read_text(encoding="utf-8"))
            if announced["pid"] != self.process.pid:  # of a server that was killed before
                return False
            self.url = announced["url"]
            return self.get("/readyz").status == 200
        except (OSError, ValueError):
            return False


def _rows(database: Path, sql: str, values: Sequence[Any]) -> list[Any]:
    with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(5_000)
        return list(connection.execute(sql, values))


@dataclass
class WithUpstream:
    """A server and the fake upstream behind it."""

    server: Server
    upstream: FakeUpstream

    @property
    def asked(self) -> list[ReceivedRequest]:
        """The chat requests that the model got."""
        return [request for request in self.upstream.requests if request.path == "/v1/chat/completions"]


@contextmanager
def upstream_for(server: Server, plan: Plan) -> Generator[WithUpstream]:
    """Put a fake upstream behind a server that is not started yet."""
    upstream = FakeUpstream(plan)
    with serve_in_thread(upstream.app) as address:
        server.arguments += ["--upstream", f"{address}/v1", "--model", "fake-model"]
        yield WithUpstream(server, upstream)


SUPERVISOR = """
import os, sys
import reverie.cli.commands.serve
from reverie.cli.main import main
while True:
    child = os.fork()
    if not child:
        main()
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
"""
"""Starts the server again whenever it is killed. It has loaded the program once, so that a start takes no second."""


@dataclass
class Supervised(Server):
    """A server that is started again as soon as it is killed. `pid` is the process that serves now."""

    serving_pid: int = 0

    @property
    def pid(self) -> int:
        """The process that serves, not the supervisor."""
        return self.serving_pid

    def command(self, *arguments: str) -> list[str]:
        """The supervisor, with the arguments of its child."""
        return [sys.executable, "-c", SUPERVISOR, *arguments]

    def wait_for_next(self, *, ready: bool = True) -> None:
        """Wait until another process than the last one serves; with `ready` False until it is about to."""
        until(lambda: self._is_next(ready=ready), f"the server runs again:\n{self.log[-5_000:]}")

    def _is_next(self, *, ready: bool) -> bool:
        try:
            announced = json.loads((self.home / "server.json").read_text(encoding="utf-8"))
            if announced["pid"] == self.serving_pid:
                return False
            self.url = announced["url"]
            answers = not ready or self.get("/readyz").status == 200
        except (OSError, ValueError):
            return False
        if answers:
            self.serving_pid = announced["pid"]
        return answers


@contextmanager
def supervised(server: Server) -> Generator[Supervised]:
    """The same server under a supervisor; both are gone at the end."""
    made = Supervised(server.home, server.arguments, server.environment)
    made.spawn()
    try:
        made.wait_for_next()
        yield made
    finally:
        made.destroy()


@contextmanager
def server_at(home: Path) -> Generator[Server]:
    """A server that answers offline, not started yet; whatever runs of it at the end is killed."""
    server = Server(home)
    try:
        yield server
    finally:
        server.destroy()


def sdk(server: Server) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20)


def said_by_user(request: ReceivedRequest) -> list[str]:
    """The texts of the user's messages in a request that the model got."""
    return [message["content"] for message in request.body["messages"] if message["role"] == "user"]
