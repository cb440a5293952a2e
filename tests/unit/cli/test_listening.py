"""Taking the server's address."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from reverie.cli.listening import address_of, take_port
from reverie.errors import ListenError

EVERYWHERE = "0.0.0.0"  # noqa: S104 (what is tested is that it is handled)


def test_a_free_port() -> None:
    """Port 0 takes a free one, and the address names it."""
    with closing(take_port("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert port > 0
        assert address_of(taken, "127.0.0.1") == f"http://127.0.0.1:{port}"


def test_every_address() -> None:
    """What listens on every address is reached through this machine's own."""
    with closing(take_port(EVERYWHERE, 0)) as taken:
        assert address_of(taken, EVERYWHERE) == f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_address_of_ipv6() -> None:
    """An IPv6 address stands in brackets."""
    with closing(take_port("127.0.0.1", 0)) as taken:
        assert address_of(taken, "fe80::1") == f"http://[fe80::1]:{taken.getsockname()[1]}"


def test_port_in_use() -> None:
    """A port that another program listens on is named, with what to do."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]

        with pytest.raises(ListenError) as refused:
            take_port("127.0.0.1", port)

    assert str(refused.value) == (
        f"port {port} on 127.0.0.1 is in use by another program: stop it, or choose another with --port."
    )


def test_foreign_address() -> None:
    """An address that is not this machine's is named."""
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 is not an address of this machine"):
        take_port("192.0.2.1", 0)


def test_host_that_is_no_host() -> None:
    """A host that cannot be is named."""
    with pytest.raises(ListenError, match="the host 'not a host' is not known"):
        take_port("not a host", 0)
