"""The plugins that the configuration names: whether a package offers them, and whether they fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding, counted
from reverie.plugins.event_log import RecordedFailure
from reverie.plugins.found import offered_plugins
from reverie.plugins.report import FAILURES_MAX, NamedPlugin, named_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.doctor.patient import Patient


async def check_plugins(patient: Patient) -> list[Finding]:
    """What is wrong with plugins. Nothing of their code is loaded.

    Raises:
        StorageError: the record of their failures cannot be read.
    """
    configs = {} if patient.config is None else patient.config.plugins
    if not configs:
        return []
    rows = await patient.state.read(
        lambda tx: tx.rows("newest_plugin_failures", limit=FAILURES_MAX), queries="state"
    )  # fmt: skip
    offered = await asyncio.to_thread(offered_plugins)
    failures = [RecordedFailure(**row) for row in rows]
    return plugin_findings(named_plugins(configs, offered, failures, patient.clock.now_ms()))


def plugin_findings(plugins: Sequence[NamedPlugin]) -> list[Finding]:
    """What is told of the plugins of a configuration; of those that are switched off nothing."""
    findings: list[Finding] = []
    used = [plugin for plugin in plugins if plugin.enabled]
    for plugin in used:
        times = counted(plugin.failures, "time")
        if len(plugin.packages) != 1:
            offers = " and ".join(plugin.packages) or "no installed package"
            findings.append(
                Finding(
                    "error",
                    "plugins.missing" if not plugin.packages else "plugins.ambiguous",
                    f"{plugin.name} is offered by {offers}",
                    "the configuration names it, and the server refuses to start",
                    f"install the one package that offers it, or set plugins.{plugin.name}.enabled to false",
                )
            )
        elif plugin.failures:
            findings.append(
                Finding(
                    "warning",
                    "plugins.failing",
                    f"{plugin.name} failed {times} within a day, last in {plugin.last_failure}",
                    "its own code, or what it depends on; turns went on without it",
                    f"see the server's log, ask whoever made it, or set plugins.{plugin.name}.enabled to false",
                )
            )
    if used and not findings:
        names = ", ".join(
            f"{each.name} (sees conversations)" if each.conversation_access else each.name for each in used
        )
        findings.append(Finding("ok", "plugins.installed", f"{names}: no failure within a day"))
    return findings
