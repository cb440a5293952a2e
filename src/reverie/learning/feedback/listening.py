"""What a follower tells of as it reads: a message that may judge a reply, and how calls of tools ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.learning.feedback.bursts import Bursts
    from reverie.learning.feedback.feedback import Feedback, Feedbacks, HiddenFeedback
    from reverie.learning.records import Episode, Trace
    from reverie.learning.said import SaidMessage
    from reverie.storage import Transaction


class Listening:
    """Hands on what a follower tells of, within the follower's transaction."""

    def __init__(self, feedbacks: Feedbacks, bursts: Bursts) -> None:
        self._feedbacks = feedbacks
        self._bursts = bursts

    def note_message(
        self,
        tx: Transaction,
        message: SaidMessage,
        episode: Episode,
        now_ms: int,
        *,
        hidden: HiddenFeedback | None = None,
    ) -> Feedback | None:
        """A user's message, and the episode that holds the reply before it: see `Feedbacks.note_message`."""
        return self._feedbacks.note_message(tx, message, episode, now_ms, hidden=hidden)

    def note_outcomes(self, tx: Transaction, session_id: str, traces: Sequence[Trace], now_ms: int) -> tuple[str, ...]:
        """New traces of a session: see `Bursts.note_outcomes`."""
        return self._bursts.note_outcomes(tx, session_id, traces, now_ms)
