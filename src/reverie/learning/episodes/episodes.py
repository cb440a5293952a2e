"""Episodes: what is decided about messages, applied within a transaction. What the loop and the jobs share.

Where a message goes is `routing.py`, putting it there `placing.py`, learning from it `settling.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.episodes.entries import entry_of
from reverie.learning.episodes.intent import Intent, refined
from reverie.learning.episodes.placing import Placing, asked_of
from reverie.learning.episodes.rows import episode_id_of, find_episode
from reverie.learning.episodes.settling import Settling
from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.config import LearningConfig
    from reverie.learning.episodes.decision import Decision
    from reverie.learning.episodes.ports import Captures, Listens
    from reverie.learning.episodes.relation import Asked, Verdict
    from reverie.storage import Database, Row, Transaction

REDECIDE_WAIT_MS: Final = 60_000
REDECIDE_FACTOR: Final = 4
"""A late decision is looked at again after 1, 4 and 16 minutes: a slow server is not asked when it is slowest."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A user's message of which it is not decided where it belongs, with what that is told by.

    `late`: a model did not answer in time, so that it counts as a new task for now.
    """

    row: Row
    asked: Asked

    @property
    def session_id(self) -> str:
        """Its session."""
        return self.row["session_id"]

    @property
    def seq(self) -> int:
        """Its number."""
        return self.row["seq"]

    @property
    def late(self) -> bool:
        """Whether a model did not answer in time."""
        return self.row["classified_by"] == "timeout"


class Episodes:
    """Puts messages, applies decisions, learns from what is decided. `available`: whether there is a model to ask."""

    def __init__(
        self, config: LearningConfig, captures: Captures, listens: Listens, available: Callable[[], bool]
    ) -> None:
        self.config = config
        self.placing = Placing(config, available)
        self.settling = Settling(config, captures, listens)

    @staticmethod
    def undecided(tx: Transaction, session_id: str, seq: int) -> Undecided | None:
        """A message that is to be decided on; None when it is decided, or gone."""
        row = tx.row("routing_of", session_id=session_id, seq=seq)
        said = tx.row("message_at", session_id=session_id, seq=seq)
        if row is None or said is None or row["state"] != "provisional":
            return None
        return Undecided(row, asked_of(tx, find_episode(tx, row["before_id"]), entry_of(said)))

    async def write(self, database: Database, session_id: str, work: Callable[[Transaction], int]) -> None:
        """Change something of a session, then learn from it, in as many transactions as that takes.

        `work` returns the instant at which it was done.
        """

        def change(tx: Transaction) -> tuple[int, bool]:
            now_ms = work(tx)
            return now_ms, self.settling.settle(tx, session_id, now_ms)

        now_ms, left = await database.write(change)
        while left:
            left = await database.write(lambda tx: self.settling.settle(tx, session_id, now_ms))

    def decide(self, tx: Transaction, undecided: Undecided, decision: Decision | None, now_ms: int) -> int:
        """Apply what was found out about a message, in its row; None: what the rules said stands.

        Nothing happens when it was decided, or was late, in the meantime.
        """
        row = tx.row("routing_of", session_id=undecided.session_id, seq=undecided.seq)
        if row is None or row["state"] != "provisional" or row["classified_by"] == "timeout":
            return now_ms
        if decision is None:
            tx.execute("set_routing_state", id=row["id"], state="decided", attempts=0)
            return now_ms
        late = decision.verdict.classified_by == "timeout"
        again = late and self.config.session.redecide_attempts_max > 0
        tx.execute("decide_routing", id=row["id"], state="provisional" if again else "decided", **_told(row, decision))
        self._put_again(tx, row, decision.verdict, now_ms)
        _refine_episode(tx, row, decision)
        if again:
            self._ask_again(tx, row, 1, now_ms)
        return now_ms

    def correct(self, tx: Transaction, undecided: Undecided, decision: Decision, now_ms: int) -> int:
        """Apply a decision in the place of a late one: a row of its own that corrects it."""
        row = tx.row("routing_of", session_id=undecided.session_id, seq=undecided.seq)
        if row is None or row["id"] != undecided.row["id"] or row["state"] != "provisional":
            return now_ms
        tx.execute("set_routing_state", id=row["id"], state="superseded", attempts=1)
        kept = ("agent", "session_id", "seq", "source", "reason", "action", "forced", "before_id", "episode_id")
        figures = ("gap_ms", "inputs", "heard")
        columns = {name: row[name] for name in kept + figures}
        told = _told(row, decision)
        tx.execute("insert_routing", at=now_ms, state="decided", corrects=row["id"], **columns, **told)
        self._put_again(tx, row, decision.verdict, now_ms)
        _refine_episode(tx, row, decision)
        _tell(tx, row, "changed", "redecided", now_ms)
        return now_ms

    def late_again(self, tx: Transaction, undecided: Undecided, attempt: int, now_ms: int) -> int:
        """A message could not be decided on once more: it is tried again later, or stands when it was tried enough."""
        row = tx.row("routing_of", session_id=undecided.session_id, seq=undecided.seq)
        if row is None or row["state"] != "provisional" or row["attempts"] >= attempt:
            return now_ms
        if attempt >= self.config.session.redecide_attempts_max:
            return self.let_stand(tx, undecided.row, "attempts_ran_out", now_ms)
        tx.execute("set_routing_state", id=row["id"], state="provisional", attempts=1)
        self._ask_again(tx, row, attempt + 1, now_ms)
        return now_ms

    @staticmethod
    def let_stand(tx: Transaction, row: Row, reason: str, now_ms: int) -> int:
        """Let a message stay where it is, for good."""
        tx.execute("set_routing_state", id=row["id"], state="decided", attempts=1)
        _tell(tx, row, "skipped", reason, now_ms)
        return now_ms

    def _put_again(self, tx: Transaction, row: Row, verdict: Verdict, now_ms: int) -> None:
        """Put a message by another relation than the one it was put by."""
        if verdict.relation == row["relation"]:
            return
        if not self.placing.put_again(tx, row["session_id"], row["seq"], now_ms):
            _tell(tx, row, "skipped", "too_much_was_said_since", now_ms)

    @staticmethod
    def _ask_again(tx: Transaction, row: Row, attempt: int, now_ms: int) -> None:
        wait_ms = REDECIDE_WAIT_MS * REDECIDE_FACTOR ** (attempt - 1)
        request = JobRequest(
            kind="redecide",
            key=f"redecide:{row['session_id']}:{row['seq']}:{attempt}",
            lane="interactive",
            payload={"session_id": row["session_id"], "seq": row["seq"], "attempt": attempt},
            not_before_ms=now_ms + wait_ms,
            agent=row["agent"],
            episode_id=row["episode_id"],
        )
        ask_for(tx, request, now_ms)
        _tell(tx, row, "deferred", "decided_again_later", now_ms, {"attempt": attempt, "until": now_ms + wait_ms})


def _told(row: Row, decision: Decision) -> dict[str, Any]:
    """The columns of a routing that a decision says."""
    intent = refined(Intent(**json.loads(row["intent"])), decision.intent)
    return {
        "relation": decision.verdict.relation,
        "confidence": decision.verdict.confidence,
        "classified_by": decision.verdict.classified_by,
        "signal": decision.verdict.signal,
        "duration_ms": decision.duration_ms,
        "intent": json.dumps(intent.as_json()),
        "feedback": json.dumps({} if decision.hidden is None else decision.hidden.as_json()),
    }


def _refine_episode(tx: Transaction, row: Row, decision: Decision) -> None:
    """An episode that begins with the message has the intent of it."""
    intent = refined(Intent(**json.loads(row["intent"])), decision.intent)
    begun = episode_id_of(row["session_id"], row["seq"])
    tx.execute("set_episode_intent", id=begun, intent=json.dumps(intent.as_json()))


def _tell(
    tx: Transaction, row: Row, outcome: Any, reason: str, now_ms: int, detail: dict[str, Any] | None = None
) -> None:
    stage = "redecide" if row["classified_by"] == "timeout" or outcome == "deferred" else "classify"
    note(
        tx,
        now_ms,
        agent=row["agent"],
        stage=stage,
        outcome=outcome,
        reason=reason,
        ref=f"{row['session_id']}:{row['seq']}",
        episode_id=row["episode_id"],
        detail=detail,
    )
