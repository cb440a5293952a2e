"""Abstraction (L3): one call of a model makes a world model of policies of one domain, or adds to one.

It is made of the cluster as it is now: a job for one that has changed since is done by the job for what it became.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import AliasChoices, BaseModel, Field

from reverie.errors import AnswerRefusedError, EmbedderError, JobDeferredError
from reverie.jobs.forgotten import unless_forgotten
from reverie.learning import trail
from reverie.learning.asking.asks import Question
from reverie.learning.policies.clusters import clusters_now, domain_state, settle_cluster
from reverie.learning.policies.induction import plain
from reverie.learning.steering import answer_language
from reverie.learning.worlds.world_models import (
    PARTS,
    TAGS_MAX,
    WorldDraft,
    given_up,
    keep_world,
    merge_target,
    worlds_of,
)
from reverie.llm.prompt_files import read_prompt
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reverie.clock import Clock
    from reverie.config import LearningConfig
    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Asks
    from reverie.learning.policies.clusters import Cluster, DomainState
    from reverie.learning.records import Policy, WorldModel
    from reverie.learning.trail import Outcome
    from reverie.llm.embeddings import Embedder
    from reverie.llm.prompt_files import Prompt
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject, Provenance

SHOWN_MAX = 24
"""Policies of a cluster that the model is shown, those of the highest gain."""
KNOWN_MAX = 8
"""World models of the domain that the model is shown by title, to say which it supersedes."""
DRAFTED_MAX = 16
"""Entries of each kind that one answer may add."""
TITLE_CHARS_MAX = 200
LABEL_CHARS_MAX = 120
DESCRIPTION_CHARS_MAX = 600
BODY_CHARS_MAX = 4_000
TAG_CHARS_MAX = 32
EVIDENCE_MAX = 16
"""Ids that one entry refers to."""
ANSWER_TOKENS = 2_048
TEMPERATURE = 0.15


class EntryAnswer(BaseModel):
    """One statement about the domain."""

    label: str
    description: str
    evidence_ids: list[str] = Field(
        default_factory=list[str], validation_alias=AliasChoices("evidenceIds", "evidence_ids", "evidence")
    )


class AbstractionAnswer(BaseModel):
    """A world model as the model words it."""

    title: str
    domain_tags: list[str] = Field(default_factory=list[str])
    environment: list[EntryAnswer] = Field(default_factory=list[EntryAnswer])
    inference: list[EntryAnswer] = Field(default_factory=list[EntryAnswer])
    constraints: list[EntryAnswer] = Field(default_factory=list[EntryAnswer])
    body: str = ""
    confidence: float = 0.5
    supersedes_world_ids: list[str] = Field(default_factory=list[str])


class AbstractJob:
    """The handler of `abstract`. Its payload is `{"domain": …, "cluster": digest}`; its agent is the job's.

    Built with the database, a clock, the settings of learning, what a model is asked with, and the embedder of world
    models; without one, or when it fails, they are found by their words.
    """

    def __init__(
        self, database: Database, clock: Clock, config: LearningConfig, asks: Asks, embedder: Embedder | None
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._asks = asks
        self._embedder = embedder

    async def handle(self, job: Job) -> JsonObject:
        """Make or extend a world model, or say why not.

        Raises:
            JobDeferredError: the domain changed a short while ago and rests.
        """
        if self._config.mode != "full":
            return {"skipped": self._config.mode}
        cluster = await self._cluster(job)
        if cluster is None:
            return await self._leave(job, "superseded")
        state, worlds = await self._database.read(
            lambda tx: (domain_state(tx, job.agent, cluster.domain), worlds_of(tx, job.agent))
        )
        reason = self._needless(cluster, state, worlds)
        if reason == "unchanged":
            return {"skipped": reason}
        if reason:
            return await self._leave(job, reason, settle=cluster if reason == "archived_by_person" else None)
        self._let_rest(state)
        steps = await self._database.read(lambda tx: _steps(tx, cluster))
        draft = await self._draft(cluster, steps, worlds, job)
        if isinstance(draft, str):
            return await self._leave(job, "llm_failed", wrong=draft, settle=cluster)
        draft = replace(draft, vec=await self._embed(draft))
        return await self._database.write(unless_forgotten(job, lambda tx: self._keep(tx, cluster, draft, job)))

    async def _cluster(self, job: Job) -> Cluster | None:
        """The cluster that was asked for, if there is one like it still."""
        clusters = await clusters_now(self._database, job.agent, self._config.world_models)
        wanted = job.payload["cluster"]
        return await asyncio.to_thread(lambda: next((each for each in clusters if each.digest == wanted), None))

    def _needless(self, cluster: Cluster, state: DomainState, worlds: Sequence[WorldModel]) -> str:
        """Why no model needs to be asked; '' when one does."""
        if cluster.digest in state.settled:
            return "unchanged"
        if given_up([policy.id for policy in cluster.policies], worlds) is not None:
            return "archived_by_person"
        return "" if self._config.world_models.use_llm and self._asks.available else "llm_disabled"

    def _let_rest(self, state: DomainState) -> None:
        until_ms = state.rests_until_ms(self._config.world_models.cooldown_days)
        if until_ms > self._clock.now_ms():
            raise JobDeferredError(until_ms, "cooldown")

    async def _draft(
        self, cluster: Cluster, steps: Sequence[Row], worlds: Sequence[WorldModel], job: Job
    ) -> WorldDraft | str:
        """The world model, or what was wrong with the answers."""
        prompt = await asyncio.to_thread(read_prompt, "reverie.learning", "l3.abstraction")
        known = [world for world in worlds if world.status == "active" and world.domain == cluster.domain][:KNOWN_MAX]
        config = self._config.world_models
        question = Question(
            prompt=prompt,
            text=question_text(cluster, steps, known, config.policy_chars_max, config.trace_chars_max),
            answer=AbstractionAnswer,
            max_tokens=ANSWER_TOKENS,
            temperature=TEMPERATURE,
            check=wrong_with,
        )
        try:
            answer = await self._asks.ask(question, job)
        except AnswerRefusedError as error:
            return error.wrong
        return drafted(answer, cluster, steps, known, prompt)

    async def _embed(self, draft: WorldDraft) -> NDArray[np.float32] | None:
        """Its vector; None when it cannot be had, and then it is found by its words."""
        if self._embedder is None:
            return None
        try:
            return (await self._embedder.embed_passages([f"{draft.title}\n{draft.body}"]))[0]
        except EmbedderError:
            return None

    def _keep(self, tx: Transaction, cluster: Cluster, draft: WorldDraft, job: Job) -> JsonObject:
        now_ms = self._clock.now_ms()
        if cluster.digest in domain_state(tx, cluster.agent, cluster.domain).settled:
            return {"skipped": "unchanged"}
        target = merge_target(draft, worlds_of(tx, cluster.agent), self._config.world_models.cluster_min_similarity)
        world_id = keep_world(tx, draft, target, now_ms)
        settle_cluster(tx, cluster, now_ms, changed=True)
        reason = "abstracted" if target is None else target.reason
        detail = {"domain": cluster.domain, "policies": len(cluster.policies), "cohesion": round(cluster.cohesion, 4),
                  "loose": cluster.loose, "prompt": draft.induced_by}  # fmt: skip
        self._say(tx, job, "learned" if target is None else "changed", reason, world_id, detail)
        return {"world_model": world_id, "made": reason}

    async def _leave(self, job: Job, reason: str, *, wrong: str = "", settle: Cluster | None = None) -> JsonObject:
        outcome = "failed" if wrong else "skipped"

        def write(tx: Transaction) -> None:
            if settle is not None:
                settle_cluster(tx, settle, self._clock.now_ms(), changed=False)
            self._say(tx, job, outcome, reason, str(job.payload["cluster"]), {"wrong": wrong} if wrong else {})

        await self._database.write(write)
        return {outcome: reason}

    def _say(self, tx: Transaction, job: Job, outcome: Outcome, reason: str, ref: str, detail: JsonObject) -> None:
        trail.note(
            tx,
            self._clock.now_ms(),
            agent=job.agent,
            stage=job.kind,
            ref=ref,
            task_id=job.task_id,
            outcome=outcome,
            reason=reason,
            detail=detail,
        )


def question_text(
    cluster: Cluster, steps: Sequence[Row], known: Sequence[WorldModel], policy_chars: int, step_chars: int
) -> str:
    """What the model is shown: the language to answer in, the policies, a step that shows each, and what is known."""
    shown = cluster.policies[:SHOWN_MAX]
    text = {
        "answer_in": answer_language(text for policy in shown for text in (policy.trigger, policy.procedure)),
        "domain": cluster.domain,
        "policies": [_shown(policy, policy_chars) for policy in shown],
        "steps": [_shown_step(step, step_chars) for step in steps],
        "known_worlds": [{"id": world.id, "title": world.title} for world in known],
    }
    return json.dumps(text, ensure_ascii=False)


def wrong_with(answer: AbstractionAnswer) -> str | None:
    """What a world model lacks that says anything: a title, and an entry in one of its three lists."""
    if not plain(answer.title):
        return "title must not be empty"
    if not any(_entries(getattr(answer, part), ()) for part in PARTS):
        return f"at least one of {', '.join(PARTS)} must have an entry"
    return None


def drafted(
    answer: AbstractionAnswer, cluster: Cluster, steps: Sequence[Row], known: Sequence[WorldModel], prompt: Prompt
) -> WorldDraft:
    """The world model that an answer words. What it refers to is what it was shown, and nothing else."""
    shown = cluster.policies[:SHOWN_MAX]
    evidence = {*(policy.id for policy in shown), *(step["id"] for step in steps)}
    episodes = [*(step["episode_id"] for step in steps), *(each for policy in shown for each in policy.source_episodes)]
    owners: list[Provenance] = [*(policy.provenance for policy in shown), *(step["provenance"] for step in steps)]
    worlds = {world.id for world in known}
    tags = (plain(tag).casefold()[:TAG_CHARS_MAX] for tag in answer.domain_tags)
    return WorldDraft(
        agent=cluster.agent,
        title=plain(answer.title)[:TITLE_CHARS_MAX],
        body=plain(answer.body)[:BODY_CHARS_MAX],
        structure={part: _entries(getattr(answer, part), evidence) for part in PARTS},
        domain=cluster.domain,
        tags=tuple(dict.fromkeys(tag for tag in tags if tag))[:TAGS_MAX],
        confidence=min(1.0, max(0.0, answer.confidence)) * cluster.trust,
        members=cluster.digest,
        policies=tuple(policy.id for policy in cluster.policies),
        episodes=tuple(dict.fromkeys(episodes)),
        supersedes=tuple(each for each in answer.supersedes_world_ids if each in worlds),
        induced_by=prompt.id,
        vec=None,
        provenance=least_trusted(owners, default="agent"),
    )


def _entries(entries: Sequence[EntryAnswer], evidence: Container[str]) -> list[JsonObject]:
    """The entries that say something, without what they cannot refer to."""
    plain_entries = [
        {
            "label": plain(entry.label)[:LABEL_CHARS_MAX],
            "description": plain(entry.description)[:DESCRIPTION_CHARS_MAX],
            "evidence": [each for each in dict.fromkeys(entry.evidence_ids) if each in evidence][:EVIDENCE_MAX],
        }
        for entry in entries
    ]
    return [entry for entry in plain_entries if entry["label"] and entry["description"]][:DRAFTED_MAX]


def _steps(tx: Transaction, cluster: Cluster) -> list[Row]:
    """For each policy that is shown the step that shows it best."""
    found = [tx.row("best_step_following", policy_id=policy.id) for policy in cluster.policies[:SHOWN_MAX]]
    return [row for row in found if row is not None]


def _shown(policy: Policy, chars_max: int) -> JsonObject:
    """A policy in at most so many characters: half of them for the procedure, which says most of the world."""
    share = chars_max // 8
    return {
        "id": policy.id,
        "title": policy.title[:share],
        "trigger": policy.trigger[:share],
        "procedure": policy.procedure[: share * 4],
        "verification": policy.verification[:share],
        "boundary": policy.boundary[:share],
        "gain": round(policy.gain, 3),
    }


def _shown_step(step: Row, chars_max: int) -> JsonObject:
    """A step in at most so many characters, half of them for what was reflected on it."""
    share = chars_max // 4
    told = step["summary"] or step["user_text"]
    return {
        "id": step["id"],
        "summary": told[:share],
        "reflection": (step["reflection"] or step["agent_text"])[: share * 2],
    }
