"""What can be looked at and done, and what the surfaces of learning need of the job engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from reverie.jobs.record import JobRecord
    from reverie.learning.feedback.feedback import Submission

Kind = Literal["episodes", "traces", "policies", "world-models", "skills", "feedback", "jobs"]
"""What can be looked at, as it stands in paths and commands."""
KINDS: tuple[Kind, ...] = ("episodes", "traces", "policies", "world-models", "skills", "feedback", "jobs")
Verb = Literal["archive", "unarchive", "enable", "disable", "retry", "cancel"]
"""What can be done to one thing besides editing and deleting it."""


@dataclass(frozen=True, slots=True)
class GivenFeedback:
    """Feedback as a caller gives it. A target may be named as people do: a skill by its name, a session by `main`.

    `agent` is whose skills and sessions such names are; `only` says that it may be about nobody else's things.
    """

    submission: Submission
    agent: str
    only: bool = False


class JobDesk(Protocol):
    """Where jobs are tried again and stopped: `JobBook`, or `Jobs` where the engine runs in this process."""

    async def retry(self, key: str) -> JobRecord | None:
        """Have a job that is dead or cancelled done after all. As it is then; None when there is none."""
        ...

    async def cancel(self, key: str) -> JobRecord | None:
        """Have a job not done. As it is then; None when there is none."""
        ...
