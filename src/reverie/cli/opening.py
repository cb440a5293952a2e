"""How a command gets at a home: alone if nobody serves it, else beside the server that does.

Only the process that has taken the home may index. Beside it, a command reads, and writes what the other one then
indexes by itself.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.app import UNSET, open_memory
from reverie.config import load_config, resolve_home
from reverie.errors import ConfigError, HomeError, HomeInUseError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.config import Config, Home


@dataclass(frozen=True, slots=True)
class Opened:
    """A home that a command has opened. `alone` is False beside another process."""

    memory: OpenMemory
    alone: bool


@asynccontextmanager
async def open_home(home: Home, config: Config, *, with_vectors: bool = True) -> AsyncGenerator[Opened]:
    """Open a home, alone if possible. Raises what `open_memory` raises, except that it may be in use.

    Without vectors the embedder and the stored vectors are not loaded: for a command that neither indexes nor searches.
    """
    embedder = UNSET if with_vectors else None
    async with AsyncExitStack() as stack:
        try:
            memory = await stack.enter_async_context(open_memory(home, config, embedder=embedder))
        except HomeInUseError:
            memory = await stack.enter_async_context(open_memory(home, config, exclusive=False, embedder=embedder))
            yield Opened(memory, alone=False)
        else:
            yield Opened(memory, alone=True)


def find_home(given: Path | None) -> tuple[Home, Config]:
    """A home that exists already, and its settings.

    Raises:
        HomeError: there is none.
        ConfigError: its settings are not valid.
    """
    home = resolve_home(given)
    if not home.path.is_dir():
        raise HomeError(f"there is no Reverie home at {home.path}: `reverie serve` makes one, --home names another.")
    return home, load_config(home)


def new_or_old_home(given: Path | None) -> tuple[Home, Config]:
    """A home that may have to be made, and its settings. Raises `ConfigError` when those are not valid."""
    home = resolve_home(given)
    return home, load_config(home)


def check_agent(memory: OpenMemory, agent: str) -> None:
    """Refuse an agent that this home does not have.

    Raises:
        ConfigError: there is no such agent.
    """
    if agent not in memory.workspaces:
        raise ConfigError("--agent", agent, f"one of this home's agents ({', '.join(memory.workspaces)})")
