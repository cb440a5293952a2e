"""Finding plugins among the installed packages, and making them.

A package offers a plugin by an entry point of the group `reverie.plugins`; nothing is loaded that the configuration
does not name. A name that nobody offers is an error of the configuration. A plugin that cannot be loaded is reported,
and everything else goes on: a broken package must not keep a service from starting.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from reverie.errors import ConfigError, PluginError
from reverie.plugins.contract import GROUP, Plugin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

    from reverie.config import PluginConfig
    from reverie.plugins.contract import PluginContext

HOOKS = ("before_turn", "after_turn", "on_compaction", "on_reset")


@dataclass(frozen=True, slots=True)
class OfferedPlugin:
    """A plugin that an installed package offers."""

    name: str
    package: str
    version: str
    entry: EntryPoint


def offered_plugins() -> dict[str, tuple[OfferedPlugin, ...]]:
    """Every plugin of the installed packages, by name. Reads the packages' metadata; loads none of them."""
    found: dict[str, tuple[OfferedPlugin, ...]] = {}
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else "?"
        version = entry.dist.version if entry.dist else "?"
        found[entry.name] = (*found.get(entry.name, ()), OfferedPlugin(entry.name, package, version, entry))
    return found


def chosen_plugins(configs: Mapping[str, PluginConfig]) -> list[OfferedPlugin]:
    """The plugins that the configuration names, in its order.

    Raises:
        ConfigError: no installed package offers one of them, or several do.
    """
    wanted = [name for name, config in configs.items() if config.enabled]
    return choose(wanted, offered_plugins()) if wanted else []


def choose(wanted: Iterable[str], offered: Mapping[str, tuple[OfferedPlugin, ...]]) -> list[OfferedPlugin]:
    """Of what is offered, what is wanted. Raises what `chosen_plugins` raises."""
    chosen: list[OfferedPlugin] = []
    for name in wanted:
        match offered.get(name, ()):
            case (one,):
                chosen.append(one)
            case ():
                known = ", ".join(sorted(offered)) or "none"
                allowed = (
                    f"the name of an installed plugin (there are: {known}); install its package, or remove the table"
                )
                raise ConfigError("plugins", name, allowed)
            case several:
                packages = ", ".join(sorted(each.package for each in several))
                raise ConfigError("plugins", name, f"offered by one package only, not by several ({packages})")
    return chosen


def make_plugin(offered: OfferedPlugin, context: PluginContext) -> Plugin:
    """Load a plugin's code and make it. Runs its code, so it may take its time and raise anything.

    Raises:
        PluginError: what the entry point names is not a class derived from `Plugin`.
    """
    kind: Any = offered.entry.load()
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise PluginError(f"{offered.entry.value} is not a class derived from reverie.plugins.Plugin")
    return kind(context)


def hooks_of(plugin: Plugin) -> frozenset[str]:
    """The hooks that a plugin overrides: it is not called for the others."""
    return frozenset(hook for hook in HOOKS if getattr(type(plugin), hook) is not getattr(Plugin, hook))
