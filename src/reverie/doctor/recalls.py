"""The recall entries of every agent, OpenClaw's files of them, and what was to be forgotten and is still there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from reverie.doctor.finding import Finding, counted, examples
from reverie.dreaming.audit import Rules, audit
from reverie.sessions.reset import zone_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reverie.doctor.patient import Patient
    from reverie.dreaming.store_audit import Issue
    from reverie.storage import Transaction

T = TypeVar("T")
LISTED_MAX = 100
PREFIX = "dreaming.recalls_"


async def check_recalls(patient: Patient) -> list[Finding]:
    """What is wrong with recall entries, and what is left of an interrupted forgetting.

    Raises:
        StorageError: they cannot be read.
    """
    if patient.config is None:
        return []

    async def read(work: Callable[[Transaction], T]) -> T:
        return await patient.state.read(work, queries="state")

    config = patient.config.dreaming
    rules = Rules(config.entries_max, await asyncio.to_thread(zone_named, config.time_zone))
    findings: list[Finding] = []
    entries = 0
    for agent, workspace in (await asyncio.to_thread(patient.workspaces)).items():
        found = await audit(read, agent, workspace, rules, patient.clock.now_ms(), store_path=patient.home.state_db)
        entries += found.rows.entries
        findings += [issue_finding(agent, issue) for issue in found.issues]
        left = await read(
            lambda tx, agent=agent: list(tx.tuples("unfinished_forgetting", agent=agent, limit=LISTED_MAX))
        )
        findings += forgetting_findings(agent, [session for (session,) in left])
    if not findings and entries:
        findings.append(
            Finding("ok", "dreaming.recalls", f"{counted(entries, 'recall entry', 'recall entries')} in order")
        )
    return findings


def issue_finding(agent: str, issue: Issue) -> Finding:
    """What an audit found, as the doctor tells it."""
    return Finding(
        "error" if issue.severity == "error" else "warning",
        PREFIX + issue.code.replace("-", "_"),
        f"{agent}: {issue.message}",
        "written by another program, by older rules, or left by one that was killed",
        "every night of dreaming puts it right, and so does `reverie memory repair`"
        if issue.fixable
        else "look at the file and its permissions; nothing is guessed",
        fixable=issue.fixable,
    )


def forgetting_findings(agent: str, sessions: Sequence[str]) -> list[Finding]:
    """Conversations that were to be forgotten, and stand there still."""
    if not sessions:
        return []
    return [
        Finding(
            "warning",
            "dreaming.forgetting",
            f"{agent}: {counted(len(sessions), 'conversation')} to be forgotten still there: "
            f"{examples(sessions, len(sessions))}",
            "a `reverie memory forget --apply` is under way, or was interrupted",
            f"`reverie memory forget --session {sessions[0]} --agent {agent} --apply` finishes it",
        )
    ]
