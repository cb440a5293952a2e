"""What stands at a path: an OpenClaw home, one of its databases, workspaces or session folders.

Nothing is opened but `openclaw.json`, and nothing is written. Agents are named as in OpenClaw, made fit for ours.
Everything here blocks; callers run it on a worker thread.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import ImportFileError
from reverie.importers.openclaw.files import OLD_ROOT_FILE, ROOT_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from reverie.types import JsonObject

MAIN = "main"
PLACES_MAX = 1_000
CONFIG_BYTES_MAX = 4 * 1024 * 1024
_HEADER = b"SQLite format 3\x00"
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the source, and whose it is."""

    path: Path
    agent: str


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to import. `notes` are for people: what could not be looked into."""

    databases: tuple[Place, ...] = ()
    workspaces: tuple[Place, ...] = ()
    sessions: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agents(self) -> tuple[str, ...]:
        """For whom there are notes or conversations, in order of first mention; vectors belong to no agent."""
        return tuple(dict.fromkeys(place.agent for place in (*self.workspaces, *self.sessions)))


def discover(path: Path) -> Found:
    """What stands at a path.

    Raises:
        ImportFileError: nothing of OpenClaw's does; the message says what was looked for.
    """
    path = path.expanduser()
    if not path.exists():
        raise ImportFileError(f"there is nothing at {path}: give the path of an OpenClaw home, for example ~/.openclaw")
    found = _of_file(path) if path.is_file() else _of_folder(path)
    if not (found.databases or found.workspaces or found.sessions):
        raise ImportFileError(
            f"{path} is nothing of OpenClaw's: expected its home (openclaw.json, memory/, workspace/, agents/), a "
            "memory database (*.sqlite), a workspace (MEMORY.md, memory/) or a folder of sessions (*.jsonl)"
        )
    return found


def agent_name(name: str) -> str:
    """A name of OpenClaw's as one that an agent may have here."""
    return _NOT_IN_NAMES.sub("-", name.lower()).strip("-_")[:64] or MAIN


def _of_file(path: Path) -> Found:
    with path.open("rb") as file:
        is_database = file.read(len(_HEADER)) == _HEADER
    return Found(databases=(Place(path, _owner(path)),)) if is_database else Found()


def _of_folder(path: Path) -> Found:
    if _is_home(path):
        return _of_home(path)
    if databases := _bounded(path.glob("*.sqlite")):
        return Found(databases=tuple(Place(file, _owner(file)) for file in databases))
    if _is_workspace(path):
        return Found(workspaces=(Place(path, _workspace_owner(path)),))
    if next(path.glob("*.jsonl*"), None) is not None:
        return Found(sessions=(Place(path, _owner(path)),))
    return Found()


def _is_home(path: Path) -> bool:
    has_database = next((path / "memory").glob("*.sqlite"), None) is not None
    return (path / "openclaw.json").is_file() or has_database or next(path.glob("agents/*/sessions"), None) is not None


def _is_workspace(path: Path) -> bool:
    return (path / "memory").is_dir() or any((path / name).is_file() for name in (*ROOT_FILES, OLD_ROOT_FILE))


def _of_home(home: Path) -> Found:
    configured, notes = _configured_workspaces(home)
    databases = [Place(file, _owner(file)) for pattern in _DATABASES for file in _bounded(home.glob(pattern))]
    beside = [Place(folder, _workspace_owner(folder)) for folder in _bounded(home.glob("workspace*"))]
    known = {place.path.resolve() for place in configured}
    workspaces = [*configured, *(place for place in beside if place.path.resolve() not in known)]
    sessions = [Place(folder, _owner(folder)) for folder in _bounded(home.glob("agents/*/sessions"))]
    return Found(
        tuple(databases),
        tuple(place for place in workspaces if place.path.is_dir() and _is_workspace(place.path)),
        tuple(place for place in sessions if place.path.is_dir()),
        notes,
    )


_DATABASES = ("memory/*.sqlite", "agents/*/*.sqlite", "agents/*/agent/*.sqlite")


def _bounded(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths)[:PLACES_MAX]


def _owner(path: Path) -> str:
    """The agent a path names: `agents/NAME/…`, or a database's own name."""
    parts = path.resolve().parts
    if "agents" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("agents")
        return agent_name(parts[last + 1])
    return agent_name(path.stem) if path.suffix == ".sqlite" else MAIN


def _workspace_owner(path: Path) -> str:
    """`workspace` is the main agent's, `workspace-NAME` another's."""
    name = path.resolve().name
    return agent_name(name.removeprefix("workspace-")) if name.startswith("workspace-") else MAIN


# -- openclaw.json ---------------------------------------------------------------------------------------------------


def _configured_workspaces(home: Path) -> tuple[list[Place], tuple[str, ...]]:
    """The workspaces that openclaw.json names, and what is to be said when it cannot be read (it may be JSON5)."""
    path = home / "openclaw.json"
    if not path.is_file():
        return [], ()
    try:
        with path.open("rb") as file:
            config: Any = json.loads(file.read(CONFIG_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return [], (
            f"{path} is not plain JSON: workspaces elsewhere than beside it must be imported by their own path",
        )
    agents = _object(_object(config).get("agents"))
    places = [Place(folder, MAIN) for folder in _folders(home, _object(agents.get("defaults")))]
    listed: Any = agents.get("list")
    for entry in cast("list[Any]", listed)[:PLACES_MAX] if isinstance(listed, list) else []:
        agent = _object(entry)
        name = agent.get("id")
        if isinstance(name, str):
            own = [Place(folder, agent_name(name)) for folder in _folders(home, agent)]
            places = [*(place for place in places if not own or place.agent != own[0].agent), *own]
    return places, ()


def _folders(home: Path, settings: JsonObject) -> Iterator[Path]:
    """The workspace that a block of settings names; `~/.openclaw` is the home that is read, wherever it stands."""
    value = settings.get("workspace")
    if isinstance(value, str) and value.strip():
        moved = value.strip().removeprefix("~/.openclaw/")
        path = type(home)(value.strip()).expanduser() if moved == value.strip() else home / moved
        yield path if path.is_absolute() else home / path


def _object(value: Any) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {}
