"""What is examined: a home, its settings as far as they can be read, and what the caller knows of its surroundings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import filelock

from reverie.app import choose_embedder
from reverie.doctor.reading import LookedAt
from reverie.dreaming.openclaw_lock import is_alive
from reverie.memory.generation_files import GenerationFiles
from reverie.storage import EMBEDDINGS, INDEX, STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import Config, Home
    from reverie.llm.embeddings import Embedder


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What only the network knows.

    `server_url` is the running server's address, empty when none answers; `metrics` what it counts, by name without
    `reverie_`; `upstream_url` the model's server, empty when none is configured, and `upstream_problem` why it does not
    answer, empty when it does.
    """

    server_url: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    upstream_url: str = ""
    upstream_problem: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """A home under examination. `config` is None when the settings are not valid, for the reason `config_problem`.

    `live` is the file of the index that is searched; `held_by` the process that has the home, None when nobody has,
    0 when somebody has whose number is not known. `make_embedder` gives a new embedder of the settings.
    """

    home: Home
    config: Config | None
    config_problem: str
    clock: Clock
    deep: bool
    surroundings: Surroundings
    live: Path
    held_by: int | None
    make_embedder: Callable[[], Embedder | None]

    @property
    def files(self) -> GenerationFiles:
        """The index files of the home."""
        return GenerationFiles(self.home.path)

    @property
    def state(self) -> LookedAt:
        """`state.db`, to be read."""
        return LookedAt(self.home.state_db, STATE)

    @property
    def index(self) -> LookedAt:
        """The live index, to be read."""
        return LookedAt(self.live, INDEX)

    @property
    def cache(self) -> LookedAt:
        """`embeddings.db`, to be read."""
        return LookedAt(self.home.embeddings_db, EMBEDDINGS)

    @property
    def embedding_is_free(self) -> bool:
        """Whether texts may be embedded without asking: nobody charges for it, or the person asked for everything."""
        return self.config is not None and (self.deep or self.config.memory.embedder != "openai")

    def workspaces(self) -> dict[str, Path]:
        """Each agent's folder, the default agent's first. Blocks; makes nothing."""
        if self.config is None:
            return {}
        found = sorted(path.parent.name for path in (self.home.path / "agents").glob("*/workspace") if path.is_dir())
        names = dict.fromkeys([*self.config.agent_names(), *found])
        return {name: self.home.workspace(self.config, name) for name in names}


def open_patient(
    home: Home,
    config: Config | None,
    *,
    clock: Clock,
    config_problem: str = "",
    deep: bool = False,
    surroundings: Surroundings | None = None,
    make_embedder: Callable[[], Embedder | None] | None = None,
) -> Patient:
    """A home to be examined. Blocks; changes nothing.

    Raises:
        HomeReadOnlyError: the home cannot be read.
    """

    def configured() -> Embedder | None:
        return None if config is None else choose_embedder(config.memory)

    return Patient(
        home=home,
        config=config,
        config_problem=config_problem,
        clock=clock,
        deep=deep,
        surroundings=surroundings or Surroundings(),
        live=GenerationFiles(home.path).live(),
        held_by=holder(home),
        make_embedder=make_embedder or configured,
    )


def holder(home: Home) -> int | None:
    """The process that has the home, 0 when its number is not known; None when nobody has it. Blocks."""
    noted = noted_process(home)
    if not home.lock_file.exists() or (noted and not is_alive(noted)):  # a lock ends with its process
        return None
    lock = filelock.FileLock(home.lock_file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return noted
    except OSError:  # a home that may only be read is nobody's to take
        return None
    lock.release()
    return None


def noted_process(home: Home) -> int:
    """The process that took the home last, from its note; 0 when there is none."""
    try:
        return int((home.path / "reverie.pid").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
