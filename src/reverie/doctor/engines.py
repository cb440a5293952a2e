"""The context engines that the configuration names: whether they are offered, suit their agents, and serve.

What an engine demands stands in its code, so the code of those that are named is loaded, as the server does; nothing
is made of it, and it is given a bounded time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from reverie.agent.runtimes.chat import CAPABILITIES
from reverie.doctor.finding import Finding, counted
from reverie.engines.event_log import RecordedQuarantine
from reverie.engines.found import announced_info, offered_engines
from reverie.engines.isolation import BusyError, Isolated, LateError, RaisedError
from reverie.engines.report import QUARANTINES_MAX, named_engines
from reverie.engines.runtime import LOAD_S_MAX, chosen_engines

if TYPE_CHECKING:
    from reverie.config import Config
    from reverie.context.contract import Capability, EngineInfo
    from reverie.doctor.patient import Patient
    from reverie.engines.found import OfferedEngine
    from reverie.engines.report import NamedEngine

REMEDY = "set context.engine, or the agent's, to another one"


async def check_engines(patient: Patient) -> list[Finding]:
    """What is wrong with context engines; nothing is told while the built-in one is the only one.

    Raises:
        StorageError: the record of their failures cannot be read.
    """
    config = patient.config
    chosen = {} if config is None else chosen_engines(config, config.agent_names())
    if config is None or not chosen:
        return []
    rows = await patient.state.read(
        lambda tx: tx.rows("newest_engine_quarantines", limit=QUARANTINES_MAX), queries="state"
    )
    offered = await asyncio.to_thread(offered_engines)
    quarantines = [RecordedQuarantine(**row) for row in rows]
    findings: list[Finding] = []
    for engine in named_engines(chosen, offered, quarantines, patient.clock.now_ms()):
        offers = offered.get(engine.name, ())
        loaded = await _loaded(offers[0]) if len(offers) == 1 else None
        findings.append(engine_finding(engine, loaded, offered_capabilities(config)))
    return findings


def offered_capabilities(config: Config) -> frozenset[Capability]:
    """What the runtime of these settings does for an engine."""
    completes: frozenset[Capability] = (
        frozenset() if config.upstream.base_url is None else frozenset({"runtime-llm-complete"})
    )
    return CAPABILITIES | completes


def engine_finding(
    engine: NamedEngine, loaded: EngineInfo | str | None, capabilities: frozenset[Capability]
) -> Finding:
    """What is told of an engine. `loaded`: who it says it is, why that cannot be told, or nothing of either."""
    if len(engine.packages) != 1:
        offers = " and ".join(engine.packages) or "no installed package"
        check = "engines.missing" if not engine.packages else "engines.ambiguous"
        cause = "the configuration names it; the built-in engine serves in its place"
        return Finding("error", check, f"{engine.name} is offered by {offers}", cause, f"install it, or {REMEDY}")
    if isinstance(loaded, str):
        return Finding("error", "engines.broken", f"{engine.name} cannot be loaded: {loaded}",
                       "its own code, or what it depends on; the built-in engine serves in its place",
                       f"ask whoever made it, or {REMEDY}")  # fmt: skip
    missing = () if loaded is None else loaded.missing("agent-run", capabilities)
    if loaded is not None and missing:
        said = loaded.host_requirements["agent-run"].unsupported_message
        cause = "the runtime of its agents does not have it, and the server refuses to start"
        return Finding(
            "error", "engines.unsupported", f"{engine.name} needs {', '.join(missing)}: {said}", cause, REMEDY
        )
    if engine.quarantines:
        times = counted(engine.quarantines, "time")
        return Finding("warning", "engines.quarantined",
                       f"{engine.name} was put out of service {times} within a day, last by {engine.last}",
                       "its own code, or what it depends on; turns went on with the built-in engine",
                       f"see the server's log and start it again, ask whoever made it, or {REMEDY}")  # fmt: skip
    agents = ", ".join(engine.agents)
    return Finding("ok", "engines.installed", f"{engine.name} ({engine.packages[0]}) serves {agents}")


async def _loaded(offered: OfferedEngine) -> EngineInfo | str | None:
    """Who an engine says it is, without making one; the reason where its code cannot be loaded."""
    isolated = await Isolated.open(offered.name)
    try:
        found: Any = await isolated.call(announced_info, offered, within_ms=int(LOAD_S_MAX * 1000))
    except RaisedError as error:
        return error.words.told(private=False)
    except (LateError, BusyError) as error:
        return str(error)
    finally:
        await isolated.close()
    return found
