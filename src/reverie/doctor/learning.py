"""Learning: whether jobs were given up, whether work stands still, and whether the job engine's file is sound.

That file can be deleted while no server runs: what is wanted stands in `state.db`, and the engine is handed it anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import apsw

from reverie.doctor.finding import Finding, counted
from reverie.storage.waiting import BUSY_TIMEOUT_MS

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.doctor.patient import Patient
    from reverie.storage import Row, Transaction

HOUR_MS = 3_600_000
STILL_MS = 24 * HOUR_MS
"""Work that could have been done for so long, and was not, stands still."""
NAMED_MAX = 3
LANES = ("interactive", "background", "idle")
ERROR_CHARS_MAX = 160


async def check_learning(patient: Patient) -> list[Finding]:
    """What is in the way of learning; nothing for a home that has learned nothing.

    Raises:
        StorageError: the jobs cannot be read.
    """
    now_ms = patient.clock.now_ms()

    def work(tx: Transaction) -> tuple[list[Row], int, int]:
        dead = tx.rows("newest_dead_jobs", limit=NAMED_MAX)
        total = sum(tx.value("jobs_in_state", lane=lane, state="dead") or 0 for lane in LANES)
        oldest = [tx.value("oldest_due_job", lane=lane, now=now_ms) for lane in LANES]
        return dead, total, min((at for at in oldest if at is not None), default=now_ms)

    dead, total, oldest_ms = await patient.state.read(work, queries="state")
    damage = await asyncio.to_thread(_damage, patient.home.jobs_db)
    return learning_findings(dead, total, now_ms - oldest_ms, damage)


def learning_findings(dead: list[Row], total: int, oldest_ms: int, damage: str) -> list[Finding]:
    """What is told of jobs that were given up, newest first, of the longest wait, and of the engine's file."""
    findings: list[Finding] = []
    if total:
        named = "; ".join(f"{row['key']}: {(row['error'] or '')[:ERROR_CHARS_MAX]}" for row in dead)
        findings.append(
            Finding(
                "warning",
                "learning.dead_jobs",
                f"{counted(total, 'job')} of learning failed too often: {named}",
                "each was tried as often as `learning.jobs.attempts_max` allows",
                "`reverie learning jobs --status dead` lists them; `reverie learning jobs retry KEY` tries one again",
            )
        )
    if oldest_ms >= STILL_MS:
        findings.append(
            Finding(
                "warning",
                "learning.still",
                f"a job of learning could have been done for {oldest_ms // HOUR_MS} hours",
                "no server has run since, or it cannot start the job engine",
                "run `reverie serve`, or look for `jobs` in its log",
            )
        )
    if damage:
        findings.append(
            Finding(
                "error",
                "learning.engine_damaged",
                f"the file of the job engine is damaged ({damage})",
                "the disk, or a program that wrote into it",
                "stop the server and move jobs.db away: what is to be done stands in state.db and is begun anew",
            )
        )
    return findings


def _damage(path: Path) -> str:
    """What SQLite says is wrong with a file; '' for one that is sound, in use or not there."""
    if not path.exists():
        return ""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error as error:
        return str(error)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        said = str(connection.pragma("quick_check(1)"))
    except apsw.BusyError:
        return ""
    except apsw.Error as error:
        return str(error)
    finally:
        connection.close()
    return "" if said == "ok" else said
