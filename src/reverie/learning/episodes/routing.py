"""Where a message goes: into the episode before it, or into a new one. Pure decisions, each with its reason.

An episode that is full never takes another entry, whatever a relation says: then another episode of the same task
continues it, and the limit is the reason. A group of one message with tool calls and their results is never cut: it
goes whole into the next episode, and where it alone is larger than a limit that one episode is, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from reverie.learning.episodes.relation import HARD_GAP_MS

if TYPE_CHECKING:
    from reverie.config import LearningSessionConfig
    from reverie.learning.episodes.relation import Relation

Site = Literal["none", "open_episode", "recovered_open_topic", "closed_episode"]
"""What stands before a message: nothing, an open episode that was followed, one that was open when the process began,
or one that is closed."""
Limit = Literal["turn_limit", "step_limit", "token_limit"]
Action = Literal[
    "append_to_open_episode",
    "close_open_and_start_new_task",
    "close_open_and_start_new_episode",
    "reopen_previous_episode",
    "start_new_task_episode",
    "start_new_episode",
]
"""`…_new_task` begins another task, `…_new_episode` goes on with the task in another episode."""
STALE_MS_MIN: Final = 4 * 3_600_000
HARD_TIMEOUT: Final = "hard_timeout_before_new_turn"


@dataclass(frozen=True, slots=True)
class Load:
    """What an episode holds, or what is to be added to it as one piece."""

    entries: int = 0
    steps: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one episode may hold."""

    entries: int
    steps: int
    tokens: int

    @classmethod
    def of(cls, config: LearningSessionConfig) -> Limits:
        """As configured."""
        return cls(config.max_turns_per_episode, config.max_steps_per_episode, config.max_tokens_per_episode)


@dataclass(frozen=True, slots=True)
class Routing:
    """What decides beside the relation: the limits, the mode, and the pauses."""

    limits: Limits
    mode: Literal["merge_follow_ups", "episode_per_turn"]
    merge_max_gap_ms: int

    @classmethod
    def of(cls, config: LearningSessionConfig) -> Routing:
        """As configured."""
        return cls(Limits.of(config), config.follow_up_mode, config.merge_max_gap_ms)

    @property
    def hard_gap_ms(self) -> int | None:
        """After a longer pause a message that corrects nothing is a new task, without a model; None: after none."""
        return max(HARD_GAP_MS, self.merge_max_gap_ms) if self.merge_max_gap_ms else None

    @property
    def stale_ms(self) -> int:
        """After such a pause an open episode that this process did not follow is over."""
        return max(2 * self.merge_max_gap_ms, STALE_MS_MIN)


@dataclass(frozen=True, slots=True)
class Route:
    """What is done with a message, and why. `forced` is the limit that forced a boundary."""

    action: Action
    reason: str
    forced: Limit | None = None


def limit_reached(held: Load, added: Load, limits: Limits) -> Limit | None:
    """The limit that an episode would exceed with what is to be added; an empty one takes anything."""
    if held.entries == 0:
        return None
    if held.entries + added.entries > limits.entries:
        return "turn_limit"
    if held.steps + added.steps > limits.steps:
        return "step_limit"
    if held.tokens + added.tokens > limits.tokens:
        return "token_limit"
    return None


def route(
    site: Site, relation: Relation, gap_ms: int | None, held: Load, tokens: int, rules: Routing, *, worth: bool = True
) -> Route:
    """Where a user's message of so many tokens goes.

    `held` is what the episode before it holds. The reply it will have is a step, so an episode without room for one
    more step is full. Without `worth` the task before it was not worth a score and never gets one, so nothing goes on
    with it.
    """
    if site == "none":
        return Route("start_new_task_episode", "first")
    if site == "recovered_open_topic" and gap_ms is not None and gap_ms > rules.stale_ms:
        return Route("close_open_and_start_new_task", HARD_TIMEOUT)
    why = _why_apart(relation, gap_ms, rules) if worth else "task_of_no_worth"
    closed = site == "closed_episode"
    if why is not None:
        return Route("start_new_task_episode" if closed else "close_open_and_start_new_task", why)
    limit = limit_reached(held, Load(1, 1, tokens), rules.limits)
    if limit is not None:
        return Route("start_new_episode" if closed else "close_open_and_start_new_episode", limit, limit)
    return Route("reopen_previous_episode" if closed else "append_to_open_episode", relation)


def _why_apart(relation: Relation, gap_ms: int | None, rules: Routing) -> str | None:
    """Why a message is not part of what was before; None when it is."""
    if relation == "revision":
        return None
    if relation == "new_task":
        return "new_task"
    if rules.mode == "episode_per_turn":
        return "episode_per_turn"
    if rules.merge_max_gap_ms and gap_ms is not None and gap_ms > rules.merge_max_gap_ms:
        return "merge_gap"
    return None
