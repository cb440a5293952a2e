"""What episodes need of the stages beside them: somebody who keeps their steps, and somebody who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.learning.episodes.decision import HiddenFeedback
    from reverie.learning.records import Episode, Trace
    from reverie.learning.said import SaidMessage
    from reverie.storage import Transaction


class Captured(Protocol):
    """What became of messages: the traces they were made into, and the number up to which they are done."""

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The new traces."""
        ...

    @property
    def through_seq(self) -> int:
        """Later messages are given again, with what follows them."""
        ...


class Captures(Protocol):
    """What makes traces of messages, within a transaction."""

    def take(
        self, tx: Transaction, episode: Episode, messages: Sequence[SaidMessage], now_ms: int, *, final: bool = False
    ) -> Captured:
        """Make traces of the steps that are complete. `final`: the episode has ended, so that all are."""
        ...

    def close_window(self, tx: Transaction, episode_id: str, now_ms: int) -> object:
        """An episode has ended: what of it waits for further steps is reflected on as it is."""
        ...


class Listens(Protocol):
    """What looks for feedback and for bursts of failures, within a transaction."""

    def note_message(
        self,
        tx: Transaction,
        message: SaidMessage,
        episode: Episode,
        now_ms: int,
        *,
        hidden: HiddenFeedback | None = None,
    ) -> object:
        """A user's message, and the episode that holds the reply before it. `hidden` is what a model found in it."""
        ...

    def note_outcomes(self, tx: Transaction, session_id: str, traces: Sequence[Trace], now_ms: int) -> object:
        """New traces of a session."""
        ...
