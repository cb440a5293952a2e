"""`reverie memory status` and `reverie memory repair`: how the memory of each agent is, and having it put right.

Both work beside a running server. What the index lacks is then read by the server, which has it.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from reverie.app import open_memory
from reverie.cli.border import COULD_NOT
from reverie.cli.commands.index import index_all
from reverie.cli.commands.status import dreaming_of, dreaming_rows, live_status, vectors_counted
from reverie.cli.opening import check_agent, find_home, open_home
from reverie.cli.output import bold, columns, counted, printable, say, say_json, size_words, warn
from reverie.cli.progress import Progress
from reverie.cli.running import ask, find_server
from reverie.clock import SystemClock
from reverie.config import read_secret
from reverie.doctor import check_vectors, indexed_of, open_patient, probe
from reverie.errors import HomeInUseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.cli.running import RunningServer
    from reverie.config import Config, Home
    from reverie.doctor import Finding, Indexed, Patient
    from reverie.dreaming.audit import AgentAudit
    from reverie.dreaming.repair import RepairReport
    from reverie.dreaming.store_audit import StoreAudit
    from reverie.memory.index import IndexStatistics
    from reverie.types import JsonObject

SYNC_S_MAX = 600.0
"""A server is waited for while it reads files and conversations."""


@dataclass(frozen=True, slots=True)
class StatusFlags:
    """What was given on the command line. `agent` None: all of them."""

    agent: str | None = None
    deep: bool = False
    index: bool = False
    fix: bool = False
    verbose: bool = False
    as_json: bool = False

    @property
    def probes(self) -> bool:
        """Whether vectors and embedder are tried out, and files read."""
        return self.deep or self.index


@dataclass(slots=True)
class AgentStatus:
    """One agent's memory. `indexed` is what was read into the index just now, `repaired` what was put right."""

    agent: str
    workspace: str
    memory: Indexed
    behind: bool
    audit: AgentAudit
    indexed: JsonObject | None = None
    repaired: RepairReport | None = None

    @property
    def dirty(self) -> bool:
        """Whether something is on disk or on record that the index does not have yet, or has no more."""
        return bool(self.memory.differences) or self.behind

    def issues(self) -> list[JsonObject]:
        """What is wrong, each with its code."""
        found = [issue.as_json() for issue in self.audit.issues]
        if self.dirty:
            found.append(
                {
                    "code": "index-dirty",
                    "severity": "warn",
                    "message": f"The index is not in step: {self._differences()}.",
                    "fixable": True,
                }
            )
        return found

    def _differences(self) -> str:
        parts = [f"{found.count:,} {kind}" for kind, found in self.memory.differences.items()]
        return ", ".join(parts + ["messages not read yet"] * self.behind)

    def as_json(self) -> JsonObject:
        """For programs."""
        memory = self.memory
        return {
            "agent": self.agent,
            "workspace": self.workspace,
            "files": {
                "indexed": memory.files,
                "onDisk": memory.on_disk,
                "passages": memory.file_passages,
                "skipped": memory.compared.skipped.count,
                "settling": memory.compared.settling,
                "differences": {
                    kind: {"count": found.count, "names": found.names} for kind, found in memory.differences.items()
                },
            },
            "conversations": {"indexed": memory.conversations, "passages": memory.conversation_passages},
            "passages": memory.passages,
            "vectors": memory.vectors,
            "dirty": self.dirty,
            "audit": self.audit.as_json(),
            "indexedNow": self.indexed,
            "repaired": None if self.repaired is None else self.repaired.as_json(),
            "issues": self.issues(),
        }


@dataclass(slots=True)
class MemoryStatus:
    """Everything that is shown. `words` is how many passages are in the full text; None where nobody counted.

    `probed` is what trying out vectors and embedder found; None: that was not asked for.
    """

    home: str
    server: RunningServer | None
    provider: str
    model: str
    index: IndexStatistics
    dreaming: JsonObject
    agents: list[AgentStatus]
    words: int | None = None
    probed: list[Finding] | None = None

    def as_json(self) -> JsonObject:
        """For programs."""
        index = self.index
        return {
            "home": self.home,
            "server": None if self.server is None else asdict(self.server),
            "provider": self.provider,
            "model": self.model or None,
            "vector": {
                "state": index.vectors_state,
                "reason": index.vectors_reason or None,
                "vectors": index.vectors,
                "waiting": max(0, index.chunks - index.vectors - index.refused_chunks),
                "refused": index.refused_chunks,
                "failure": index.embedder_failure or None,
            },
            "fts": {"state": "ready", "passages": self.words},
            "cache": {
                "entries": index.cache.entries,
                "entriesMax": index.cache.entries_max,
                "bytes": index.cache.bytes,
                "bytesMax": index.cache.bytes_max,
            },
            "dreaming": self.dreaming,
            "agents": [each.as_json() for each in self.agents],
            "probe": None if self.probed is None else [asdict(each) for each in self.probed],
        }


# -- status ------------------------------------------------------------------------------------------------------


async def show_memory_status(given: Path | None, flags: StatusFlags) -> None:
    """Show how the memory of each agent is; with `index` and `fix` bring it in order first.

    Raises:
        ReverieError: there is no such home or agent, it cannot be read, or not be put right.
    """
    home, config = await asyncio.to_thread(find_home, given)
    server = await asyncio.to_thread(find_server, home)
    with Progress(shown=not flags.as_json) as progress:
        async with open_memory(home, config, exclusive=False) as opened:
            agents = _agents(opened, flags.agent)
            status = await _gather(home, config, server, opened, agents, flags)
            dirty = [each.agent for each in status.agents if each.dirty]
        indexed = await _index(home, config, server, dirty, progress) if flags.index and dirty else {}
        if indexed or flags.fix:
            async with open_memory(home, config, exclusive=False) as opened:
                repaired = {agent: await opened.repairer.repair(agent) for agent in agents if flags.fix}
                status = await _gather(home, config, server, opened, agents, flags)
            for each in status.agents:
                each.indexed, each.repaired = indexed.get(each.agent), repaired.get(each.agent)
    if flags.as_json:
        say_json(status.as_json())
    else:
        _show(status, verbose=flags.verbose)


def _agents(opened: OpenMemory, agent: str | None) -> list[str]:
    if agent is None:
        return list(opened.workspaces)
    check_agent(opened, agent)
    return [agent]


async def _gather(
    home: Home,
    config: Config,
    server: RunningServer | None,
    opened: OpenMemory,
    agents: Sequence[str],
    flags: StatusFlags,
) -> MemoryStatus:
    patient = await asyncio.to_thread(lambda: open_patient(home, config, clock=SystemClock(), deep=flags.probes))
    await vectors_counted(opened)
    index = opened.memory.statistics()
    end = await opened.state.read(lambda tx: tx.value("last_position"))
    status = MemoryStatus(
        home=str(home.path),
        server=server,
        provider=config.memory.embedder,
        model="" if opened.embedder is None else opened.embedder.identity.model,
        index=index,
        dreaming=await dreaming_of(opened, await live_status(server, config) if server is not None else None),
        agents=[],
    )
    for agent in agents:
        workspace = opened.workspaces[agent]
        status.agents.append(
            AgentStatus(
                agent=agent,
                workspace=str(workspace),
                memory=await indexed_of(patient, agent, workspace),
                behind=index.log_position < end,
                audit=await opened.repairer.audit(agent),
            )
        )
    if flags.probes:
        status.words = await patient.index.read(lambda tx: tx.value("count_words"))
        status.probed = await _probed(patient)
    return status


async def _probed(patient: Patient) -> list[Finding]:
    identity, findings = await probe(patient)
    return [*findings, *await check_vectors(patient, identity)]


async def _index(
    home: Home, config: Config, server: RunningServer | None, agents: list[str], progress: Progress
) -> dict[str, JsonObject]:
    """Bring the index in step; what was read, by agent.

    Raises:
        HomeInUseError: another process has the home and does not answer.
    """
    if server is not None:
        with progress.step("the server reads what is new"):
            return await asyncio.to_thread(_synced_by, server, config, agents)
    async with open_home(home, config) as opened:
        if not opened.alone:
            raise HomeInUseError("another Reverie process has this home and does not answer: stop it, or try again.")
        report = await index_all(opened.memory, progress, agents)
    return {
        agent: {
            "agent": agent,
            "added": done.added,
            "changed": done.changed,
            "renamed": done.renamed,
            "removed": done.removed,
            "unchanged": done.unchanged,
            "messages": report.messages,
            "vectors": report.vectors,
        }
        for agent, done in report.files.items()
    }


def _synced_by(server: RunningServer, config: Config, agents: list[str]) -> dict[str, JsonObject]:
    gateway = config.gateway
    token = read_secret(gateway.token_env, gateway.token_file)
    return {
        agent: ask(server, "POST", "/v1/memory/sync", token, {"agent": agent}, within_s=SYNC_S_MAX) for agent in agents
    }


# -- repair ------------------------------------------------------------------------------------------------------


async def repair_memory(given: Path | None, *, agent: str | None, dry_run: bool, as_json: bool) -> None:
    """Put recall entries right, and OpenClaw's files of them; with `dry_run` only say what that would come to.

    Ends with exit code 1 when files could not be put right.

    Raises:
        ReverieError: there is no such home or agent, or the rows cannot be written.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_memory(home, config, exclusive=False, embedder=None) as opened:
        with Progress(shown=not as_json) as progress, progress.step("recall entries"):
            reports = [await opened.repairer.repair(each, dry_run=dry_run) for each in _agents(opened, agent)]
    if as_json:
        say_json({"dryRun": dry_run, "agents": [report.as_json() for report in reports]})
    else:
        for report in reports:
            for line in repair_lines(report, dry_run=dry_run):
                say(line)
            if report.problem:
                warn(f"{report.agent}: {printable(report.problem)}")
    if any(report.problem for report in reports):
        raise typer.Exit(COULD_NOT)


def repair_lines(report: RepairReport, *, dry_run: bool = False) -> list[str]:
    """What a repair did, for people."""
    rows, files = report.rows, report.files
    done = [
        _counted(sum(rows.removed.values()), "of no use removed", rows.removed),
        _counted(rows.overflow, "beyond the limit removed"),
        _counted(rows.normalised, "put right"),
        _counted(rows.marked, "marked as promoted"),
    ]
    if files is not None:
        invalid, lock, phases = sum(files.removed_invalid.values()), "a lock that was left behind", "phase-signals.json"
        done += [
            _counted(invalid, "of no use removed from OpenClaw's file", files.removed_invalid),
            _counted(files.removed_overflow, "beyond the limit removed from OpenClaw's file"),
            *([f"OpenClaw's {phases} put right"] if files.rewrote_phases else []),
            *(["OpenClaw's short-term-recall.json put right"] if files.rewrote_store else []),
            *([f"{lock} removed"] if files.removed_stale_lock else []),
            *(f"what held no JSON is now {printable(path)}" for path in files.aside),
        ]
    found = [line for line in done if line]
    what = "would be " * dry_run + ("repaired" if found else "nothing to repair")
    if not found:
        return [f"{report.agent}: nothing to repair ({counted(rows.looked_at, 'entry', 'entries')} looked at)"]
    return [f"{report.agent}: {what}", *(f"  {line}" for line in found)]


def _counted(count: int, what: str, reasons: Mapping[str, int] | None = None) -> str:
    if not count:
        return ""
    why = ", ".join(f"{reason}: {number:,}" for reason, number in sorted((reasons or {}).items()))
    return f"{counted(count, 'entry', 'entries')} {what}" + (f" ({why})" if why else "")


# -- for people --------------------------------------------------------------------------------------------------


def _show(status: MemoryStatus, *, verbose: bool) -> None:
    index, cache = status.index, status.index.cache
    vectors = f"{index.vectors:,}, {index.vectors_state}" + (
        f" ({index.vectors_reason})" if index.vectors_reason else ""
    )
    words = "by words" if status.words is None else f"{counted(status.words, 'passage')} by words"
    rows = [
        ("home", status.home),
        ("embedder", f"{status.provider}{f' ({status.model})' if status.model else ''}"),
        ("vectors", vectors),
        ("full text", words),
        ("cache", f"{cache.entries:,} of {cache.entries_max:,}, {size_words(cache.bytes)}"),
        *dreaming_rows(status.dreaming, served=status.server is not None),
        *(("probe", _finding(each)) for each in status.probed or ()),
    ]
    for line in columns(rows, indent=""):
        say(line)
    for each in status.agents:
        say()
        say(bold(each.agent))
        for line in columns(agent_rows(each, verbose=verbose)):
            say(line)


def agent_rows(each: AgentStatus, *, verbose: bool) -> list[tuple[str, str]]:
    """One agent's memory, for people."""
    memory = each.memory
    talks = counted(memory.conversations, "conversation")
    rows = [
        ("workspace", each.workspace),
        ("notes", f"{memory.files:,} of {counted(memory.on_disk, 'file')}, {counted(memory.file_passages, 'passage')}"),
        ("conversations", f"{talks}, {counted(memory.conversation_passages, 'passage')}"),
        ("vectors", f"{memory.vectors:,} of {counted(memory.passages, 'passage')}"),
        ("index", "NOT in step: --index brings it up to date" if each.dirty else "in step"),
        ("recalls", audit_words(each.audit.rows)),
    ]
    if each.audit.files is not None:
        rows.append(("OpenClaw", audit_words(each.audit.files)))
    if verbose:
        rows += [(kind, printable(str(found))) for kind, found in memory.differences.items()]
        if memory.compared.skipped.count:
            rows.append(("skipped", printable(str(memory.compared.skipped))))
        for audit in (each.audit.rows, each.audit.files):
            if audit is not None:
                rows.append(("store", f"{audit.store_path}{f', changed {audit.updated_at}' * bool(audit.updated_at)}"))
    if each.indexed is not None:
        read = ", ".join(f"{name} {value:,}" for name, value in each.indexed.items() if type(value) is int)
        rows.append(("indexed", read))
    if each.repaired is not None:
        rows += [("repaired", line.strip()) for line in repair_lines(each.repaired)[1:] or ["nothing to repair"]]
        if each.repaired.problem:
            rows.append(("NOT repaired", printable(each.repaired.problem)))
    rows += [
        ("issue", f"{issue['severity']} {issue['code']}: {printable(issue['message'])}") for issue in each.issues()
    ]
    return rows


def audit_words(audit: StoreAudit) -> str:
    """Recall entries in one line."""
    if not audit.exists:
        return "none yet"
    scripts = {name: count for name, count in asdict(audit.scripts).items() if count}
    written = ", ".join(f"{name} {count:,}" for name, count in scripts.items())
    return (
        f"{counted(audit.entries, 'entry', 'entries')}, {audit.promoted:,} promoted, {audit.spaced:,} on several days, "
        f"{audit.tagged:,} with concepts{f' ({written})' if written else ''}"
    )


def _finding(found: Finding) -> str:
    return f"{found.what}{f': {found.cause}' if found.cause else ''}"
