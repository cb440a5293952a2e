"""`state.db`, the record of conversations: what in it contradicts itself. Nothing in it is repaired by guessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.config import SessionsConfig
from reverie.doctor.finding import Finding, counted, examples, size_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.doctor.patient import Patient
    from reverie.storage import Row, Transaction

SESSIONS_SAMPLED = 500
LISTED_MAX = 100
UNLIMITED = 2**62
BACKUP = "compare with a backup and restore it if that one is right; what is there now is never changed by --fix"


@dataclass(frozen=True, slots=True)
class _Facts:
    oversized: list[Row]
    unfinished: list[Row]
    miscounted: list[Row]
    sequences: Mapping[str, int]
    last: Mapping[str, int]


async def check_state(patient: Patient) -> list[Finding]:
    """Turns without an end, sessions whose count is wrong, numbers that would be given out twice.

    Raises:
        StorageError: the file cannot be read.
    """
    turn_s_max = 600.0 if patient.config is None else patient.config.gateway.turn_s_max
    before = patient.clock.now_ms() - int(1000 * turn_s_max)
    limits = SessionsConfig() if patient.config is None else patient.config.sessions
    facts = await patient.state.snapshot(lambda tx: _facts(tx, before, limits))
    findings = [
        *size_findings(facts.oversized),
        *turn_findings(facts.unfinished, served=patient.held_by is not None),
        *session_findings(facts.miscounted),
        *sequence_findings(facts.sequences, facts.last),
    ]
    return findings or [
        Finding(
            "ok", "state.rows", f"turns have ended, and the {SESSIONS_SAMPLED} sessions used last count their messages"
        )
    ]


def size_findings(oversized: list[Row]) -> list[Finding]:
    """Current sessions whose transcripts have passed `sessions.alarm_bytes` or `sessions.alarm_messages`."""
    if not oversized:
        return []
    named = [f"{row['key']} ({row['entries']:,} entries, {size_words(row['bytes'])})" for row in oversized]
    return [
        Finding(
            "warning",
            "state.session_size",
            f"{counted(len(oversized), 'session')} larger than expected: {examples(named, len(named))}",
            "one session is used for everything, for example by a client that always sends the same `user`",
            "`reverie sessions reset KEY` begins anew with a summary, `sessions.reset.mode` does so by itself; or "
            "raise sessions.alarm_bytes and sessions.alarm_messages",
        )
    ]


def turn_findings(unfinished: list[Row], *, served: bool) -> list[Finding]:
    """Turns that should have ended long ago."""
    if not unfinished:
        return []
    more = " or more" * (len(unfinished) == LISTED_MAX)
    named = examples([row["id"] for row in unfinished], len(unfinished))
    what = f"{counted(len(unfinished), 'turn')}{more} not ended: {named}"
    if served:
        return [
            Finding(
                "warning",
                "state.unfinished",
                what,
                "they wait or run for longer than gateway.turn_s_max",
                "look into the server's log; a restart ends what hangs, and goes on with what waits",
            )
        ]
    return [
        Finding(
            "note",
            "state.unfinished",
            what,
            "the server was killed, or the machine was switched off",
            "nothing to do: the next start answers those that waited and marks the others as failed",
        )
    ]


def session_findings(miscounted: list[Row]) -> list[Finding]:
    """Sessions that disagree with their messages."""
    if not miscounted:
        return []
    named = [f"{row['id']} says {row['said']}, has {row['counted']}, the last is {row['last']}" for row in miscounted]
    return [
        Finding(
            "warning",
            "state.message_count",
            f"{counted(len(miscounted), 'session')} of the {SESSIONS_SAMPLED} used last: {examples(named, len(named))}",
            "messages were deleted or added by another program",
            BACKUP,
        )
    ]


def sequence_findings(sequences: Mapping[str, int], last: Mapping[str, int]) -> list[Finding]:
    """Tables whose next number is not beyond their last row."""
    wrong = [
        f"{table} ({sequences.get(table, 0):,}, the last row is {row:,})"
        for table, row in last.items()
        if row > sequences.get(table, 0)
    ]
    if not wrong:
        return []
    return [
        Finding(
            "warning",
            "state.sequence",
            f"numbers may be given out twice: {', '.join(wrong)}",
            "another program wrote to sqlite_sequence, or copied the tables into a new file",
            BACKUP,
        )
    ]


def _facts(tx: Transaction, before: int, limits: SessionsConfig) -> _Facts:
    return _Facts(
        tx.rows(
            "large_sessions",
            sessions=SESSIONS_SAMPLED,
            bytes_max=limits.alarm_bytes or UNLIMITED,
            entries_max=limits.alarm_messages or UNLIMITED,
            limit=LISTED_MAX,
        ),
        tx.rows("old_unfinished_turns", before=before, limit=LISTED_MAX),
        tx.rows("miscounted_sessions", sessions=SESSIONS_SAMPLED, limit=LISTED_MAX),
        {row["name"]: row["seq"] for row in tx.rows("sequences")},
        {"messages": int(tx.value("last_message")), "recall_events": int(tx.value("last_recall_event"))},
    )
