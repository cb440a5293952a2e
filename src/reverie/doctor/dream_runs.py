"""The runs of dreaming: whether they come when they are due, and whether they succeed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding
from reverie.dreaming.status import MISSED_MAX, read_dreaming, status_of
from reverie.sessions.reset import zone_named

if TYPE_CHECKING:
    from reverie.doctor.patient import Patient
    from reverie.dreaming.status import DreamingStatus


async def check_dreaming(patient: Patient) -> list[Finding]:
    """What is wrong with the runs of dreaming.

    Raises:
        StorageError: their record cannot be read.
    """
    if patient.config is None:
        return []
    config = patient.config.dreaming
    schedule, runs = await patient.state.read(read_dreaming, queries="state")
    zone = await asyncio.to_thread(zone_named, config.time_zone)
    status = status_of(config, zone, schedule, runs, patient.clock.now_ms())
    return dreaming_findings(status, served=bool(patient.surroundings.server_url))


def dreaming_findings(status: DreamingStatus, *, served: bool) -> list[Finding]:
    """What is told of dreaming; of one that is switched off nothing."""
    findings: list[Finding] = []
    last, failed = status.last, status.failed_in_a_row
    if last is not None and last.state == "failed":
        findings.append(
            Finding(
                "warning",
                "dreaming.failed",
                "the last sweep failed" + (f", {failed:,} in a row" if failed > 1 else ""),
                last.error or "its record does not say why",
                "remove the cause; `reverie memory dream` tries again now",
            )
        )
    if status.missed >= MISSED_MAX:
        findings.append(_missed(status, served=served))
    if not findings and last is not None and status.blocked is None:
        findings.append(Finding("ok", "dreaming.runs", "the last sweep came to its end"))
    return findings


def _missed(status: DreamingStatus, *, served: bool) -> Finding:
    what = f"{MISSED_MAX} firings or more in a row did not come ({status.cron} in {status.time_zone})"
    if served:
        return Finding(
            "warning",
            "dreaming.missed",
            what,
            "the server cannot begin a sweep, or one does not end",
            "`reverie status` says what is in its way, the server's log why",
        )
    return Finding(
        "note",
        "dreaming.missed",
        what,
        "no server ran on this home",
        "nothing to do: the next start makes up for them, once",
    )
