"""What a model said of a message: where it belongs, what kind it is, and what it says of the last reply."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reverie.learning.episodes.intent import Intent
    from reverie.learning.episodes.relation import Verdict
    from reverie.types import JsonObject


@dataclass(frozen=True, slots=True)
class HiddenFeedback:
    """What a model found a message to say of the reply before it; magnitude and confidence are 0 to 1.

    A magnitude of 0 says that it is nothing.
    """

    polarity: Literal["neutral", "positive", "negative", "mixed"]
    magnitude: float
    confidence: float

    @classmethod
    def of(cls, kept: JsonObject) -> HiddenFeedback | None:
        """As it is kept with a routing; None for nothing."""
        return cls(**kept) if kept else None

    def as_json(self) -> JsonObject:
        """As it is kept with a routing."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a model said of a message. A decision that came too late has no more than its verdict."""

    verdict: Verdict
    intent: Intent | None = None
    hidden: HiddenFeedback | None = None
    duration_ms: int = 0
