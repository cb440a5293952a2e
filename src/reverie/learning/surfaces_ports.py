"""What the surfaces of learning need of its other parts, where changing a row is not all there is to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from reverie.learning.records import Polarity
    from reverie.types import JsonObject

Kind = Literal["episodes", "traces", "policies", "world-models", "skills", "feedback", "jobs"]
"""What can be looked at, as it stands in paths and commands."""
KINDS: tuple[Kind, ...] = ("episodes", "traces", "policies", "world-models", "skills", "feedback", "jobs")
Verb = Literal["archive", "unarchive", "enable", "disable", "retry", "cancel"]
"""What can be done to one thing besides editing and deleting it."""
TargetKind = Literal["turn_id", "trace_id", "episode_id", "task_id", "skill", "session"]


class SkillFolder(Protocol):
    """The files `skills/<name>/SKILL.md` of an agent, which follow a change made here."""

    async def publish(self, skill_id: str) -> None:
        """Write the file of a skill as its row says now; without a file when it is archived or disabled.

        Raises:
            HomeError: the file could not be written.
        """
        ...

    async def withdraw(self, agent: str, name: str) -> None:
        """Remove the folder of a skill that is no more; nothing happens when there is none.

        Raises:
            HomeError: it could not be removed.
        """
        ...


class JobDesk(Protocol):
    """The engine that runs jobs, where it runs in this process."""

    async def retry(self, key: str) -> bool:
        """Have a job that is dead or cancelled run again; False when it is in another state."""
        ...

    async def cancel(self, key: str) -> bool:
        """Stop a job that has not ended; False when it has."""
        ...


@dataclass(frozen=True, slots=True)
class FeedbackTarget:
    """What feedback is about, as far as that is known: the ids of everything around it."""

    agent: str
    session_id: str | None = None
    turn_id: str | None = None
    task_id: str | None = None
    episode_id: str | None = None
    trace_id: str | None = None
    skill_id: str | None = None


@dataclass(frozen=True, slots=True)
class GivenFeedback:
    """Explicit feedback. `magnitude` is 0 to 1. `key` is the caller's: sent again, it is the same feedback.

    `named` is which field said what it is about, `name` what that field held.
    """

    agent: str
    named: TargetKind
    name: str
    polarity: Polarity
    magnitude: float
    text: str = ""
    key: str | None = None


class FeedbackDesk(Protocol):
    """Takes feedback: one transaction with its row and its job."""

    async def submit(self, given: GivenFeedback, target: FeedbackTarget) -> JsonObject:
        """Keep it and ask for what follows from it; when this returns, it is durable. Waits for nothing else.

        Returns `{"id", "accepted"}`; `accepted` is False when it was given before.

        Raises:
            StorageError: it could not be kept.
        """
        ...
