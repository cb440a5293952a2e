"""The socket of the server: taken before anything else, so that a port in use is known at once."""

from __future__ import annotations

import errno
import os
import socket

from reverie.errors import ListenError


def take_port(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not listening yet. Port 0 takes a free one.

    Raises:
        ListenError: the address cannot be used; the message says which and why.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"the host {host!r} is not known ({error}): choose another with --host.") from error
    family, kind, protocol, _, address = found[0]
    taken = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ListenError(_refused(host, port, error)) from error
    return taken


def address_of(taken: socket.socket, host: str) -> str:
    """The URL under which this machine reaches what listens there."""
    port = taken.getsockname()[1]
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 (compared with, not bound to)
        host = "[::1]" if taken.family == socket.AF_INET6 else "127.0.0.1"
    elif ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}"


def _refused(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use by another program: stop it, or choose another with --port."
        case errno.EACCES | errno.EPERM:
            return f"port {port} needs more rights than this process has: choose one above 1023 with --port."
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine: choose another with --host."
        case _:
            return f"{host} port {port} cannot be listened on: {error.strerror or error}."
