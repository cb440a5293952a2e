"""START of learning: which job does what, and everything that it is done with, put together.

    job         asked for by               does                                                  calls of a model
    classify    a new message              where it belongs: the same task, or a new one         1, or 2
    redecide    an answer that was late    looks at that again                                   1
    window      12 steps, or an end        vectors; what each step contributed                   1
    reward      a task's end               how it went; what each step was worth                 1
    feedback    a thumb, a correction      lets it count; makes an experience of it              0 or 1
    repair      a burst of failures        what to prefer and what to avoid with a tool          1
    trials      a score                    how the skills did that were used                     0
    associate   a score                    which policies the good steps follow; what is new     0
    induce      steps of two tasks alike   a policy of them                                      1
    abstract    policies that changed      what holds in their domain                            1
    skill       a policy that changed      a guide, checked against the steps it was made of     1 or 2

Before all of them comes the `Follower`: it reads what was said, puts it into episodes, and keeps every step. It needs
no model. What a job may spend, and when, is decided in one place, the `ModelDoor`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from reverie.jobs.engine import Jobs
from reverie.jobs.executor import Executor
from reverie.learning.asking import budget
from reverie.learning.asking.foreground import Foreground
from reverie.learning.asking.journal import PRUNED_MAX, prune
from reverie.learning.asking.model_door import ModelDoor
from reverie.learning.asking.permits import Permits
from reverie.learning.asking.provider import Provider
from reverie.learning.asking.storm_alarm import StormAlarm
from reverie.learning.credit.reflection import WindowJob
from reverie.learning.credit.reward import RewardJob
from reverie.learning.credit.trace_feedback import Revaluation
from reverie.learning.episodes.classification import RelationJob
from reverie.learning.episodes.episodes import Episodes
from reverie.learning.episodes.follower import Follower
from reverie.learning.episodes.redecision import Redecision
from reverie.learning.feedback.bursts import Bursts
from reverie.learning.feedback.experience import Experiences
from reverie.learning.feedback.feedback import Feedbacks
from reverie.learning.feedback.job import FeedbackJob
from reverie.learning.feedback.listening import Listening
from reverie.learning.feedback.repair import RepairJob
from reverie.learning.policies.association import AssociateJob
from reverie.learning.policies.induction import InduceJob
from reverie.learning.skills.crystallisation import SkillJob
from reverie.learning.skills.skills import Skills, thumb
from reverie.learning.skills.trials import TrialsJob
from reverie.learning.steps.capture import Capture
from reverie.learning.worlds.abstraction import AbstractJob
from reverie.learning.worlds.world_models import move_confidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.clock import Clock
    from reverie.config import Home, LearningConfig
    from reverie.jobs.request import Handler
    from reverie.learning.skills.files import SkillFiles
    from reverie.llm.circuit import UpstreamCircuit
    from reverie.llm.client import Model
    from reverie.llm.embeddings import Embedder
    from reverie.storage import Database, Transaction


CLASSIFY: Final = "turn.classify"
"""The operation that tells where a message belongs. While it rests rules decide, and no job is asked for."""


DAY_MS: Final = 86_400_000
TIDY_BREATH_S: Final = 0.05
ASKING: Final = frozenset({"redecide", "window", "reward", "repair", "induce", "abstract", "skill"})
"""Kinds of jobs that do nothing without the model: while one may not ask, none of its kind is tried."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What learning stands on. `provider` names the model's server and the model, without any secret."""

    home: Home
    state: Database
    clock: Clock
    config: LearningConfig
    model: Model | None
    embedder: Embedder | None
    skill_files: SkillFiles
    provider: str = ""
    circuit: UpstreamCircuit | None = None


@dataclass(frozen=True, slots=True)
class Learning:
    """Learning in a process that serves. `foreground` is told of every turn."""

    config: LearningConfig
    state: Database
    clock: Clock
    follower: Follower
    jobs: Jobs
    feedbacks: Feedbacks
    skills: Skills
    skill_files: SkillFiles
    foreground: Foreground
    alarm: StormAlarm
    provider: Provider
    said: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something was said that is not followed yet."""

    # -- a bystander of the turns (`sessions.queue`) -----------------------------------------------------------------

    def turn_begins(self) -> None:
        """Calls of idle work are broken off."""
        self.foreground.began()

    def turn_heard(self) -> None:
        """Where a message belongs is looked at while it is answered."""
        self.said.set()

    def turn_ended(self) -> None:
        """What was done can be kept, and work may go on."""
        self.foreground.ended()
        self.said.set()

    # -- work --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to run jobs, unless nothing is to be learned. The budget may be another one than it was before.

        Raises:
            StorageError: the home cannot be written.
        """
        await self.follower.start()
        if self.config.mode != "off":
            await self.jobs.release(budget.SECTION)
            await self.jobs.start()

    async def stop(self) -> None:
        """End; what runs has a moment, then it waits for the next start."""
        if self.config.mode != "off":
            await self.jobs.stop()

    async def follow(self) -> None:
        """Read what was said since, all of it; then let what follows from it begin."""
        self.said.clear()
        while await self.follower.follow():
            self.jobs.wake()
        self.jobs.wake()

    async def close_idle(self) -> None:
        """End what nothing was said in for long."""
        while await self.follower.close_idle():
            self.jobs.wake()
        self.jobs.wake()

    async def tidy(self) -> None:
        """Drop answers of models, and what was spent, of long ago: in whatever mode, a piece at a time."""
        now_ms = self.clock.now_ms()
        before_ms = now_ms - round(self.config.jobs.keep_days * DAY_MS)
        while await prune(self.state, before_ms, now_ms) >= PRUNED_MAX:  # noqa: ASYNC110 (each round drops a piece)
            await asyncio.sleep(TIDY_BREATH_S)

    async def recover(self) -> None:
        """End what ended while no process ran."""
        while await self.follower.recover():
            self.jobs.wake()


def put_together(ground: Ground) -> Learning:
    """Everything of learning, over an open home. Nothing runs yet."""
    state, clock, config = ground.state, ground.clock, ground.config
    foreground = Foreground(clock)
    alarm = StormAlarm(clock, config.jobs.storm_factor, config.jobs.storm_floor)
    executor = Executor(ground.home.path)
    provider = Provider(
        state,
        clock,
        ground.provider,
        pause_s=config.jobs.pause_s,
        probe_s=config.model_timeout_s,
        circuit=ground.circuit,
    )
    door = ModelDoor(
        ground.model if config.mode == "full" else None,
        state,
        clock,
        config,
        provider=provider,
        permits=Permits(state, clock, config.background_llm_concurrency, executor.name),
        foreground=foreground,
        alarm=alarm,
    )
    feedbacks = Feedbacks(state, clock, config)

    def can_classify() -> bool:
        return door.available and not door.rests(CLASSIFY)

    episodes = Episodes(config, Capture(config), Listening(feedbacks, Bursts(config)), can_classify)
    jobs = Jobs(
        state,
        clock,
        config.jobs,
        handlers_of(ground, door, episodes),
        foreground,
        engine_file=ground.home.jobs_db,
        executor=executor,
        on_started=lambda _: alarm.job_started(),
        alike=ASKING,
    )
    return Learning(
        config=config,
        state=state,
        clock=clock,
        follower=Follower(state, clock, episodes),
        jobs=jobs,
        feedbacks=feedbacks,
        skills=Skills(state, clock, config.skills, ground.skill_files),
        skill_files=ground.skill_files,
        foreground=foreground,
        alarm=alarm,
        provider=provider,
    )


def handlers_of(ground: Ground, door: ModelDoor, episodes: Episodes) -> Mapping[str, Handler]:
    """Who does each kind of job."""
    state, clock, config, embedder = ground.state, ground.clock, ground.config, ground.embedder
    files = ground.skill_files
    experiences = Experiences(state, clock, config.feedback, door, embedder)
    feedback = FeedbackJob(
        state,
        clock,
        config,
        experiences,
        revalue=Revaluation(config),
        skill_thumb=partial(_skill_thumb, config=config),
        world_thumb=partial(_world_thumb, config=config),
    )
    return {
        "classify": RelationJob(state, clock, episodes, door).handle,
        "redecide": Redecision(state, clock, episodes, door).handle,
        "window": WindowJob(state, clock, config, door, embedder).handle,
        "reward": RewardJob(state, clock, config, door).handle,
        "feedback": feedback.handle,
        "repair": RepairJob(state, clock, config, door).handle,
        "trials": TrialsJob(state, clock, config, files).handle,
        "associate": AssociateJob(state, clock, config, door).handle,
        "induce": InduceJob(state, clock, config, door).handle,
        "abstract": AbstractJob(state, clock, config, door, embedder).handle,
        "skill": SkillJob(state, clock, config, door, files, embedder).handle,
    }


def _skill_thumb(tx: Transaction, thing_id: str, now_ms: int, *, up: bool, config: LearningConfig) -> object:
    return thumb(tx, thing_id, config.skills, now_ms, up=up)


def _world_thumb(tx: Transaction, thing_id: str, now_ms: int, *, up: bool, config: LearningConfig) -> object:
    return move_confidence(tx, thing_id, up=up, delta=config.world_models.confidence_delta, now_ms=now_ms)
