"""Association (L2): the good steps of a task that was scored follow the policies they show, or wait for others.

Then the policies that were touched are measured anew, policies are asked for where enough steps wait, and world models
where a group of policies has changed. No model is asked here. Everything is read anew from the database, so that
several scorings of one task lose nothing, and running twice changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from reverie.learning import trail
from reverie.learning.policies.buckets import bucket_of
from reverie.learning.policies.clusters import ask_for_worlds
from reverie.learning.policies.matching import Nearest
from reverie.learning.policies.measuring import decide, measure
from reverie.learning.policies.policies import each_page, follow
from reverie.learning.policies.pool import DAY_MS, ask_for_policies, candidate_id, prune
from reverie.learning.records import ToolUse, task_of
from reverie.learning.vectors import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.policies.buckets import Bucket
    from reverie.learning.policies.matching import Near
    from reverie.learning.records import Task
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject

T = TypeVar("T")

STEPS_MAX = 1_000
"""Steps of one task that are looked at, the most valuable ones."""
TOUCHED_MAX = 500
"""Policies that are measured after one task."""
AT_ONCE = 25
"""Steps or policies that one transaction is about: other writes wait for it."""
DECIDED_MAX = 100
"""Untouched candidates that one run decides on; the rest at the next."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step as it is associated. `linked`: it follows a policy already."""

    id: str
    task_id: str
    episode_id: str
    bucket: Bucket
    vec: NDArray[np.float32]
    linked: bool


@dataclass(frozen=True, slots=True)
class Matched:
    """A step and the policy it comes nearest to."""

    step: Step
    near: Near | None


class AssociateJob:
    """The handler of `associate`. Its payload is `{"task_id": …}`.

    Built with the database, a clock, the settings of learning, and what a model is asked with: where there is none, no
    policy and no world model is asked for, and what waits is found when there is one.
    """

    def __init__(self, database: Database, clock: Clock, config: LearningConfig, asks: Asks) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks

    async def handle(self, job: Job) -> JsonObject:
        """Associate the steps of a task. Returns how many follow a policy anew, wait, and what was asked for."""
        if self._config.mode != "full":
            return {"skipped": self._config.mode}
        task = await self._database.read(lambda tx: _task(tx, str(job.payload["task_id"])))
        if task is None:
            return {"skipped": "no_task"}
        steps = await self._database.read(lambda tx: _steps(tx, task.id, self._config.policies.min_trace_value))
        matched = await self._match(task.agent, [step for step in steps if not step.linked])
        linked, waiting = await self._place(task, matched)
        touched = await self._measure(task, job)
        asked = await self._ask_for_policies(task, job)
        worlds = await ask_for_worlds(
            self._database, task.agent, self._config, job, self._clock.now_ms(), available=self._asks.available
        )
        done = {"steps": len(steps), "linked": linked, "waiting": waiting, "policies": touched, "inductions": asked,
                "abstractions": worlds}  # fmt: skip
        await self._note(task, job, done)
        return done

    async def _match(self, agent: str, steps: Sequence[Step]) -> tuple[Matched, ...]:
        """The policy nearest to each step, of all of the agent: 500 are held at a time."""
        if not steps:
            return ()
        nearest = Nearest([step.vec for step in steps], [step.bucket for step in steps])
        await each_page(self._database, agent, nearest.see)
        best = await asyncio.to_thread(nearest.best)
        return tuple(Matched(step, near) for step, near in zip(steps, best, strict=True))

    async def _place(self, task: Task, matched: Sequence[Matched]) -> tuple[int, int]:
        """Have steps follow their policy or wait; returns how many of each."""
        now_ms = self._clock.now_ms()
        least = self._config.policies.min_similarity
        near = [each for each in matched if each.near is not None and each.near.score >= least]
        far = [each for each in matched if each.near is None or each.near.score < least]
        linked = 0
        for some in in_parts(near, AT_ONCE):
            linked += await self._database.write(lambda tx, some=some: _link(tx, some))
        expires_ms = now_ms + round(self._config.policies.candidate_ttl_days * DAY_MS)
        for some in in_parts(far, AT_ONCE):
            await self._database.write(lambda tx, some=some: _keep(tx, task, some, now_ms, expires_ms))
        await self._database.write(lambda tx: prune(tx, task.agent, now_ms))
        return linked, len(far)

    async def _measure(self, task: Task, job: Job) -> int:
        """Measure the policies that steps of the task follow, and decide on candidates that nothing touched."""
        touched = await self._database.read(
            lambda tx: [row["policy_id"] for row in tx.rows(
                "policies_of_task", task_id=task.id, after="", limit=TOUCHED_MAX)]
        )  # fmt: skip
        untouched = await self._database.read(lambda tx: _to_decide(tx, task.agent, self._config))
        await self._each(touched, measure, job)
        await self._each([each for each in untouched if each not in set(touched)], decide, job)
        return len(touched)

    async def _each(self, policy_ids: Sequence[str], move: Callable[..., bool], job: Job) -> None:
        """Measure policies or decide on them, 25 in one transaction."""
        now_ms = self._clock.now_ms()
        skills = makes_skills(self._config, self._asks)
        for some in in_parts(policy_ids, AT_ONCE):
            await self._database.write(
                lambda tx, some=some: [move(tx, each, self._config, job, now_ms, skills=skills) for each in some]
            )

    async def _ask_for_policies(self, task: Task, job: Job) -> int:
        if not (self._config.policies.use_llm and self._asks.available):
            return 0
        now_ms = self._clock.now_ms()
        asked = await ask_for_policies(self._database, task.agent, self._config.policies, job, now_ms)
        await self._each(asked.followed, measure, job)
        return asked.policies

    async def _note(self, task: Task, job: Job, done: JsonObject) -> None:
        """Say what became of the steps: with the task, where a person looks for why."""
        disabled = not (self._config.policies.use_llm and self._asks.available)
        reason = "llm_disabled" if disabled and done["waiting"] else "associated" if done["steps"] else "no_good_steps"
        outcome = "changed" if done["linked"] or done["waiting"] else "skipped"
        await self._database.write(
            lambda tx: trail.note(
                tx,
                self._clock.now_ms(),
                agent=task.agent,
                stage=job.kind,
                ref=task.id,
                task_id=task.id,
                outcome=outcome,
                reason=reason,
                detail=done,
            )
        )


def makes_skills(config: LearningConfig, asks: Asks) -> bool:
    """Whether skills are to be asked for: there is a model to make them, and a person has not switched that off."""
    return config.skills.use_llm and asks.available


def in_parts(things: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Things in their order, at most so many at once."""
    return (things[start : start + most] for start in range(0, len(things), most))


def _task(tx: Transaction, task_id: str) -> Task | None:
    row = tx.row("find_task", id=task_id)
    return None if row is None else task_of(row)


def _steps(tx: Transaction, task_id: str, value_min: float) -> tuple[Step, ...]:
    rows = tx.rows("steps_of_task", task_id=task_id, value_min=value_min, limit=STEPS_MAX)
    vectors = [(row, unpack(row["vec_summary"])) for row in rows]
    return tuple(_step(row, vec) for row, vec in vectors if vec is not None)


def _step(row: Row, vec: NDArray[np.float32]) -> Step:
    tools = [ToolUse(**call) for call in json.loads(row["tool_calls"])]
    bucket = bucket_of(json.loads(row["tags"]), tools, json.loads(row["signatures"]), row["reflection"])
    return Step(row["id"], row["task_id"], row["episode_id"], bucket, vec, bool(row["linked"]))


def _to_decide(tx: Transaction, agent: str, config: LearningConfig) -> list[str]:
    rows = tx.rows(
        "policies_to_decide",
        agent=agent,
        activate_gain=config.policies.activate_gain,
        activate_support=config.policies.activate_support,
        archive_gain=config.policies.archive_gain,
        limit=DECIDED_MAX,
    )
    return [row["id"] for row in rows]


def _link(tx: Transaction, matched: Sequence[Matched]) -> int:
    return sum(follow(tx, [each.step.id], each.near.policy_id) for each in matched if each.near is not None)


def _keep(tx: Transaction, task: Task, matched: Sequence[Matched], now_ms: int, expires_ms: int) -> None:
    for each in matched:
        step = each.step
        kept = candidate_id(step.bucket.signature, step.id)
        tx.execute("drop_other_candidates", trace_id=step.id, id=kept)
        tx.execute(
            "keep_candidate",
            id=kept,
            agent=task.agent,
            signature=step.bucket.signature,
            trace_id=step.id,
            episode_id=step.episode_id,
            task_id=step.task_id,
            similarity=each.near.score if each.near is not None else 0.0,
            now=now_ms,
            expires_at=expires_ms,
        )
