"""What every test runs under: asyncio, and a guard that fails it when our code blocks the event loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Iterator


os.environ.setdefault("REVERIE_LEARNING__MODE", "off")
"""Learning asks the model by itself, which other tests do not expect: those that are about it switch it on."""


@pytest.fixture
def anyio_backend() -> str:
    """Tests that are coroutines run on asyncio, the loop the server runs on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """A blocking call of `reverie` on the event loop is an error. A logged traceback may read its source lines."""
    with blockbuster_ctx("reverie") as guard:
        for name in ("io.TextIOWrapper.read", "io.BufferedReader.read", "os.stat"):
            guard.functions[name].can_block_in("linecache.py", {"updatecache", "checkcache"})
        yield guard


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Logs as plain lines of every level, without the coloured tracebacks that read every source file they mention.

    For each test, because a command that one runs in this process configures them too.
    """
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
