"""Learning from what is decided: steps become traces, closed episodes are finished, tasks end. Within a transaction.

A session's messages are learned from in their order, up to the first of which it is not decided where it belongs. An
episode is finished when its end is before that; a task ends when all its episodes are. So no decision that may still
change has any consequence.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Final

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.episodes.decision import HiddenFeedback
from reverie.learning.episodes.entries import entry_of
from reverie.learning.episodes.rows import END, find_episode, goes_on
from reverie.learning.records import episode_of, task_of
from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.config import LearningConfig
    from reverie.learning.episodes.ports import Captures, Listens
    from reverie.learning.records import Episode
    from reverie.learning.said import SaidMessage
    from reverie.storage import Row, Transaction

TAKEN_MAX: Final = 16
"""Messages that become traces in one transaction, so that turns need not wait for it."""
WIDENED: Final = 4
"""Where so many messages make no complete step, the next look takes in so many times more."""
ROWS_MAX: Final = 64
MS_PER_S: Final = 1_000
_ENDED_FOR: Final = {"idle": "idle", "session_end": "session_end", "missed_session_end": "session_end"}


class Settling:
    """Learns from what is decided."""

    def __init__(self, config: LearningConfig, captures: Captures, listens: Listens) -> None:
        self._full = config.mode == "full"
        self._feedback_window_ms = config.reward.feedback_window_s * MS_PER_S
        self._captures = captures
        self._listens = listens

    def settle(self, tx: Transaction, session_id: str, now_ms: int) -> bool:
        """Learn from what is decided in a session; True when something is left for another transaction."""
        hold = tx.value("first_provisional", session_id=session_id) or END
        left = self._take(tx, session_id, hold, now_ms)
        left = self._listen(tx, session_id, hold, now_ms) or left
        if left:
            return True
        left = self._finish_episodes(tx, session_id, hold, now_ms)
        ended = tx.rows("tasks_to_end", session_id=session_id, limit=ROWS_MAX)
        for row in ended:
            self._end_task(tx, row, now_ms)
        return left or len(ended) == ROWS_MAX

    def _take(self, tx: Transaction, session_id: str, hold: int, now_ms: int) -> bool:
        """Have the next messages taken; a look that completes no step is widened until one does, or all were seen."""
        done: int = tx.value("learning_position", session_id=session_id) or 0
        limit = TAKEN_MAX
        while True:
            rows = tx.rows("spanned_messages", session_id=session_id, from_seq=done + 1, before_seq=hold, limit=limit)
            full = len(rows) == limit
            reached = self._take_rows(tx, session_id, rows, hold, now_ms, cut=full)
            if reached > done:
                tx.execute("set_learning_position", session_id=session_id, position=reached, now=now_ms)
                return full
            if not full:
                return False
            limit *= WIDENED

    def _take_rows(
        self, tx: Transaction, session_id: str, rows: Sequence[Row], hold: int, now_ms: int, *, cut: bool
    ) -> int:
        """Have messages taken, episode by episode; the number up to which all are done, 0 for none."""
        runs = [(each, [entry_of(row).message for row in run]) for each, run in groupby(rows, _episode_id)]
        reached = 0
        for number, (episode_id, messages) in enumerate(runs, 1):
            rest = cut and number == len(runs)
            reached = self._take_run(tx, session_id, episode_id, messages, hold, now_ms, cut=rest)
        return reached

    def _take_run(
        self,
        tx: Transaction,
        session_id: str,
        episode_id: str,
        messages: list[SaidMessage],
        hold: int,
        now_ms: int,
        *,
        cut: bool,
    ) -> int:
        """Have the messages of one episode taken; the number up to which they are done."""
        episode = find_episode(tx, episode_id)
        assert episode is not None, "a span has an episode"
        final = not cut and self._has_ended(tx, episode, hold)
        captured = self._captures.take(tx, episode, messages, now_ms, final=final)
        if captured.traces and self._full:
            self._listens.note_outcomes(tx, session_id, captured.traces, now_ms)
        return messages[-1].seq if final else captured.through_seq

    @staticmethod
    def _has_ended(tx: Transaction, episode: Episode, hold: int) -> bool:
        """Whether an episode is closed and that is decided: its end lies before the first undecided message."""
        if episode.state == "open":
            return False
        if not episode.provisional or hold == END:
            return True
        last = tx.value("last_seq_of_episode", episode_id=episode.id)
        boundary = tx.value("next_span", session_id=episode.session_id, seq=last)
        return boundary is not None and boundary < hold

    def _listen(self, tx: Transaction, session_id: str, hold: int, now_ms: int) -> bool:
        """Look at users' messages as feedback on the episode that held the reply before them, if that was read."""
        rows = tx.rows("unheard_routings", session_id=session_id, before_seq=hold, limit=ROWS_MAX)
        for row in rows:
            said = tx.row("message_at", session_id=session_id, seq=row["seq"])
            before = find_episode(tx, row["before_id"])
            if (
                self._full
                and said is not None
                and before is not None
                and goes_on(tx, session_id, row["seq"], said["turn_id"])
            ):
                hidden = HiddenFeedback.of(json.loads(row["feedback"]))
                self._listens.note_message(tx, entry_of(said).message, before, now_ms, hidden=hidden)
            tx.execute("set_heard", session_id=session_id, seq=row["seq"])
        return len(rows) == ROWS_MAX

    def _finish_episodes(self, tx: Transaction, session_id: str, hold: int, now_ms: int) -> bool:
        """Finish the episodes whose end is decided; True when there may be more of them."""
        rows = tx.rows("unsettled_episodes", session_id=session_id, limit=ROWS_MAX)
        for row in rows:
            episode = episode_of(row)
            if not self._has_ended(tx, episode, hold):
                return False
            self._captures.close_window(tx, episode.id, now_ms)
            tx.execute("settle_episode", id=episode.id)
        return len(rows) == ROWS_MAX

    def _end_task(self, tx: Transaction, row: Row, now_ms: int) -> None:
        """A task has ended: it is scored when there was time for feedback."""
        task = task_of(row)
        tx.execute("end_task", id=task.id, at=now_ms, reason=_ENDED_FOR.get(row["last_closed_for"], "topic"))
        if self._full and self._feedback_window_ms:
            ask_for(
                tx,
                JobRequest(
                    kind="reward",
                    key=f"reward:{task.id}:{task.endings + 1}",
                    lane="background",
                    payload={"task_id": task.id, "endings": task.endings + 1},
                    not_before_ms=now_ms + self._feedback_window_ms,
                    agent=task.agent,
                    task_id=task.id,
                ),
                now_ms,
            )
            return
        reason = "only_feedback" if self._full else "lightweight"
        note(
            tx, now_ms, agent=task.agent, stage="reward", outcome="skipped", reason=reason, ref=task.id, task_id=task.id
        )


def _episode_id(row: Row) -> str:
    return row["episode_id"]
