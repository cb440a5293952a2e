"""How other commands find the server that runs on a home.

The server writes `server.json` into the home once it listens, and removes it when it stops. A file that a crash left
behind misleads nobody: the server counts as running only if it answers.
"""

from __future__ import annotations

import http.client
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reverie.errors import ServerRefusedError
from reverie.memory.workspace import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from reverie.config import Home

ANSWER_S_MAX = 1.0
CALL_S_MAX = 10.0
FILE_BYTES_MAX = 4096
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A page of a transcript holds at least one message, however long."""
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server on a home: its process, and the address under which this machine reaches it."""

    pid: int
    url: str


@contextmanager
def announced(home: Home, url: str) -> Generator[None]:
    """While the block runs, other commands find the server of this process under `url`."""
    path = _path(home)
    write_atomic(path, json.dumps(asdict(RunningServer(os.getpid(), url))) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_server(home: Home) -> RunningServer | None:
    """The server that runs on a home and answers; None when there is none. Takes at most `ANSWER_S_MAX`; blocks."""
    try:
        with _path(home).open(encoding="utf-8") as file:
            held: Any = json.loads(file.read(FILE_BYTES_MAX))
        server = RunningServer(int(held["pid"]), str(held["url"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return server if answers(server.url) else None


def ask(
    server: RunningServer,
    method: str,
    path: str,
    token: str | None,
    body: object = None,
    *,
    within_s: float = CALL_S_MAX,
) -> Any:
    """What a server answers, parsed from JSON; `body` is sent as JSON. Blocks for at most `within_s`.

    Raises:
        ServerRefusedError: it refused, or did not answer as it should.
    """
    parts = urlsplit(server.url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=within_s)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer: Any = json.loads(response.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerRefusedError(f"the server at {server.url} did not answer as it should: {error}") from error
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST:
        raise _refused(server, response.status, answer, token)
    return answer


def download(server: RunningServer, path: str, token: str | None, write: Callable[[bytes], object]) -> None:
    """Hand what a server answers to `write`, piece by piece. Blocks; each piece may take `CALL_S_MAX`.

    Raises:
        ServerRefusedError: it refused, or stopped in the middle.
    """
    parts = urlsplit(server.url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CALL_S_MAX)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status >= http.client.BAD_REQUEST:
            raise _refused(server, response.status, json.loads(response.read(ANSWER_BYTES_MAX)), token)
        while piece := response.read(PIECE_BYTES):
            write(piece)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerRefusedError(f"the server at {server.url} did not answer as it should: {error}") from error
    finally:
        connection.close()


def _refused(server: RunningServer, status: int, answer: Any, token: str | None) -> ServerRefusedError:
    unauthorized = status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}
    hint = "; its token is read from where gateway.token_env or gateway.token_file say"
    hint = hint if unauthorized and not token else ""
    return ServerRefusedError(f"the server at {server.url} refused ({status}): {_refusal(answer)}{hint}")


def _refusal(answer: Any) -> str:
    """The message of an OpenAI error object."""
    try:
        return str(answer["error"]["message"])
    except (KeyError, TypeError):
        return "it gave no reason"


def answers(url: str) -> bool:
    """True when a server says at `url` that it is alive. Blocks for at most `ANSWER_S_MAX`."""
    parts = urlsplit(url)
    try:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S_MAX)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _path(home: Home) -> Path:
    return home.path / "server.json"
