"""Acceptance tests start the real process, talk to it with real clients, kill it and start it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import WITHOUT_MEMORY, server_at, upstream_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.servers import Server, WithUpstream


@pytest.fixture
def blockbuster() -> None:
    """These tests run the server in a process of its own; the test itself may block."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that answers offline, on an empty home, not started yet."""
    with server_at(tmp_path / "home") as made:
        yield made


@pytest.fixture
def connected(server: Server) -> Iterator[WithUpstream]:
    """A running server with memory, and a fake upstream behind it that echoes."""
    with upstream_for(server, Plan(echo=True)) as both:
        server.start()
        yield both


@pytest.fixture(scope="module")
def wire_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithUpstream]:
    """One running server without memory for all tests of a module that only look at the wire."""
    with server_at(tmp_path_factory.mktemp("wire") / "home") as made:
        made.environment |= WITHOUT_MEMORY
        with upstream_for(made, Plan()) as both:
            made.start()
            yield both


@pytest.fixture
def wire(wire_server: WithUpstream) -> WithUpstream:
    """The shared server without memory, its upstream as new. Each test has sessions of its own."""
    wire_server.upstream.plan = Plan(echo=True)
    wire_server.upstream.requests.clear()
    return wire_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an acceptance test."""
    for item in items:
        if "acceptance" in item.path.parts:
            item.add_marker(pytest.mark.acceptance)
