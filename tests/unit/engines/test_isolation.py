"""One engine on threads of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from reverie.engines.isolation import BusyError, Isolated, LateError, RaisedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def isolated() -> AsyncGenerator[Isolated]:
    """The threads of an engine."""
    threads = await Isolated.open("x")
    yield threads
    await threads.close()


async def test_functions_and_coroutines_run_elsewhere(isolated: Isolated) -> None:
    """Neither on the thread of the event loop."""

    async def coroutine() -> str:
        return threading.current_thread().name

    names = {
        await isolated.call(lambda: threading.current_thread().name, within_ms=5_000),
        await isolated.call(coroutine, within_ms=5_000),
    }
    assert names == {"plugin-engine-x", "plugin-engine-x-1"}


async def test_what_it_raises_is_told_without_its_words(isolated: Isolated) -> None:
    """They may quote a conversation."""

    def fails() -> None:
        raise ValueError("a secret")

    with pytest.raises(RaisedError) as raised:
        await isolated.call(fails, within_ms=5_000)

    assert str(raised.value).startswith("ValueError in test_isolation.py, line ")
    assert not raised.value.gave_up


async def test_a_late_one_is_not_waited_for(isolated: Isolated) -> None:
    """The event loop goes on, and so does the caller."""
    done = threading.Event()
    with pytest.raises(LateError, match="took longer than 20 ms"):
        await isolated.call(lambda: done.wait(10), within_ms=20)
    done.set()


async def test_one_that_never_had_its_turn_says_nothing_of_the_engine(isolated: Isolated) -> None:
    """Four functions run at once; a fifth waits in line, within its deadline."""
    done = threading.Event()
    held = [asyncio.create_task(isolated.call(lambda: done.wait(10), within_ms=10_000)) for _ in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(BusyError):
        await isolated.call(lambda: None, within_ms=30)
    done.set()

    assert await asyncio.gather(*held) == [True] * 4
    assert await isolated.call(lambda: "free", within_ms=5_000) == "free"
