"""Finding context engines among the installed packages, and making them.

A package offers an engine by an entry point of the group `reverie.context_engines`; nothing is loaded that the
configuration does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from reverie.context.contract import (
    ALIASES,
    BUILT_IN,
    GROUP,
    OPTIONAL_OPERATIONS,
    REQUIRED_OPERATIONS,
    EngineInfo,
    HostRequirement,
)
from reverie.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from reverie.context.contract import EngineContext


@dataclass(frozen=True, slots=True)
class OfferedEngine:
    """An engine that an installed package offers."""

    name: str
    package: str
    version: str
    entry: EntryPoint


def offered_engines() -> dict[str, tuple[OfferedEngine, ...]]:
    """Every engine of the installed packages, by name. Reads the packages' metadata; loads none of them."""
    found: dict[str, tuple[OfferedEngine, ...]] = {}
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else "?"
        version = entry.dist.version if entry.dist else "?"
        found[entry.name] = (*found.get(entry.name, ()), OfferedEngine(entry.name, package, version, entry))
    return found


def the_one(name: str, offers: tuple[OfferedEngine, ...]) -> OfferedEngine:
    """Of what is offered under a name, the engine.

    Raises:
        EngineError: no package offers it, or several do.
    """
    match offers:
        case (one,):
            return one
        case ():
            raise EngineError(f"no installed package offers a context engine {name!r}: install it, or choose another")
        case several:
            packages = ", ".join(sorted(each.package for each in several))
            raise EngineError(f"the context engine {name!r} is offered by several packages ({packages}): keep one")


@dataclass(frozen=True, slots=True)
class MadeEngine:
    """An engine that was made, as far as its host looks at it: who it is, and its operations by name."""

    info: EngineInfo
    operations: Mapping[str, Callable[..., Any]]


def make_engine(offered: OfferedEngine, context: EngineContext) -> MadeEngine:
    """Load an engine's code and make it. Runs its code, so it may take its time and raise anything.

    Raises:
        EngineError: what the entry point names does not make a context engine.
    """
    factory: Any = offered.entry.load()
    if not callable(factory):
        raise EngineError(f"{offered.entry.value} is nothing that can be called to make an engine")
    made = factory(context)
    info = checked_info(made, offered.entry.value)
    found = {name: getattr(made, name, None) for name in (*REQUIRED_OPERATIONS, *OPTIONAL_OPERATIONS)}
    operations = {name: operation for name, operation in found.items() if callable(operation)}
    for name in REQUIRED_OPERATIONS:
        if name not in operations:
            raise EngineError(f"what {offered.entry.value} makes has no operation `{name}`")
    return MadeEngine(info, operations)


def announced_info(offered: OfferedEngine) -> EngineInfo | None:
    """Who an engine says it is, without making one; None where only a made one tells. Loads its code.

    Raises:
        EngineError: what it says is not an `EngineInfo`.
    """
    named: Any = offered.entry.load()
    said = getattr(named, "info", None)
    return checked_info(named, offered.entry.value) if isinstance(said, EngineInfo) else None


def checked_info(engine: object, place: str) -> EngineInfo:
    """What an engine says of itself.

    Raises:
        EngineError: it says nothing, or takes the built-in engine's name.
    """
    info = getattr(engine, "info", None)
    if not isinstance(info, EngineInfo):
        raise EngineError(f"what {place} makes has no `info` of the class EngineInfo")
    words: tuple[Any, ...] = (info.id, info.name, info.version)
    if not all(isinstance(word, str) for word in words) or info.turn_maintenance not in {"foreground", "background"}:
        raise EngineError(f"the `info` of what {place} makes is not as EngineInfo says")
    if not info.id.strip() or info.id in {BUILT_IN, *ALIASES}:
        raise EngineError(f"what {place} makes calls itself {info.id!r}: an engine has an id of its own")
    needs: Any = info.host_requirements
    if not isinstance(needs, Mapping) or not all(map(_is_requirement, cast("Mapping[Any, Any]", needs).values())):
        raise EngineError(f"`host_requirements` of what {place} makes must name a HostRequirement for each operation")
    return info


def _is_requirement(need: object) -> bool:
    if not isinstance(need, HostRequirement):
        return False
    capabilities: Any = need.required_capabilities
    words: Any = need.unsupported_message
    return (
        isinstance(capabilities, frozenset)
        and all(isinstance(each, str) for each in cast("frozenset[Any]", capabilities))
        and isinstance(words, str)
    )
