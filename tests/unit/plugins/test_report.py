"""What status and doctor tell of plugins."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from reverie.config import PluginConfig
from reverie.doctor.plugins import plugin_findings
from reverie.errors import ConfigError
from reverie.plugins.contract import GROUP
from reverie.plugins.event_log import RecordedFailure
from reverie.plugins.found import OfferedPlugin, choose
from reverie.plugins.report import RECENT_MS, NamedPlugin, named_plugins

NOW = 10 * RECENT_MS


def offer(name: str, package: str) -> OfferedPlugin:
    """A plugin of a package."""
    return OfferedPlugin(name, package, "1.2", EntryPoint(name, "m:C", GROUP))


def test_the_plugins_of_a_configuration() -> None:
    """Their packages, and what went wrong within a day."""
    configs = {"a": PluginConfig(conversation_access=True), "b": PluginConfig(enabled=False)}
    failures = [
        RecordedFailure(NOW - 1, "k", "a", "after_turn", "OSError: full"),
        RecordedFailure(NOW - 2, "k", "a", "after_turn", "OSError: busy"),
        RecordedFailure(NOW - RECENT_MS, "k", "a", "after_turn", "OSError: old"),
    ]

    assert named_plugins(configs, {"a": (offer("a", "p"),)}, failures, NOW) == (
        NamedPlugin("a", enabled=True, conversation_access=True, packages=("p 1.2",), failures=2,
                    last_failure="after_turn: OSError: full"),
        NamedPlugin("b", enabled=False, conversation_access=False, packages=(), failures=0, last_failure=""),
    )  # fmt: skip


def named(name: str, *packages: str, enabled: bool = True, failures: int = 0) -> NamedPlugin:
    """A plugin as it is reported."""
    return NamedPlugin(name, enabled, name == "seer", packages, failures, "after_turn: OSError: full" * bool(failures))


def test_all_is_well() -> None:
    """One line for all of them; nothing where there are none or all are off."""
    (found,) = plugin_findings([named("seer", "p 1"), named("other", "p 1")])

    assert (found.severity, found.check) == ("ok", "plugins.installed")
    assert found.what == "seer (sees conversations), other: no failure within a day"
    assert plugin_findings([named("off", enabled=False)]) == plugin_findings([]) == []


def test_what_is_wrong() -> None:
    """A name that nobody offers, one that several offer, one that fails; each with what to do."""
    missing, double, failing = plugin_findings(
        [named("gone"), named("two", "p 1", "q 2"), named("bad", "p 1", failures=3)]
    )

    assert (missing.severity, missing.check, missing.what) == (
        "error", "plugins.missing", "gone is offered by no installed package",
    )  # fmt: skip
    assert (double.check, double.what) == ("plugins.ambiguous", "two is offered by p 1 and q 2")
    assert (failing.severity, failing.check) == ("warning", "plugins.failing")
    assert failing.what == "bad failed 3 times within a day, last in after_turn: OSError: full"
    assert "set plugins.bad.enabled to false" in failing.remedy


def test_a_name_that_is_not_offered_tells_what_is() -> None:
    """So that a slip of the pen is seen at once."""
    with pytest.raises(ConfigError, match=r"an installed plugin \(there are: diary\); install its package"):
        choose(["dairy"], {"diary": (offer("diary", "p"),)})
