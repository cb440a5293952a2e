"""Abstraction: what a model is shown of a cluster, and what is made of its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reverie.config import WorldModelsConfig
from reverie.learning.policies.clusters import clusters_of
from reverie.learning.worlds.abstraction import AbstractionAnswer, drafted, question_text, wrong_with
from reverie.llm.prompt_files import Prompt
from tests.learning_rows import unit
from tests.unit.learning.learned import policy, world

PROMPT = Prompt("l3.abstraction@1", "…")


def step(trace_id: str, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"id": trace_id, "episode_id": "ep_step", "summary": "s", "user_text": "u",
                              "agent_text": "a", "reflection": "r", "value": 0.5, "provenance": "agent"}  # fmt: skip
    return {**values, **fields}


def answer(**fields: Any) -> AbstractionAnswer:
    given: dict[str, Any] = {"title": "Alpine", "environment": [{"label": "musl", "description": "It has musl."}]}
    return AbstractionAnswer.model_validate({**given, **fields})


def test_policies_and_steps_are_shown_within_their_characters() -> None:
    """800 characters of a policy and 500 of a step at most, at most 24 policies, and what is known by title."""
    long = dict.fromkeys(("title", "trigger", "procedure", "verification", "boundary"), "x" * 5000)
    cluster = clusters_of([policy(f"po_{n}", **long) for n in range(30)], WorldModelsConfig())[0]
    shown = json.loads(
        question_text(
            cluster, [step("tr_1", summary="y" * 900, reflection="z" * 900)], [world(title="known")], 800, 500
        )
    )

    assert len(shown["policies"]) == 24
    assert sum(len(text) for text in shown["policies"][0].values() if isinstance(text, str)) <= 800 + len("po_00")
    assert shown["steps"] == [{"id": "tr_1", "summary": "y" * 125, "reflection": "z" * 250}]
    assert shown["known_worlds"] == [{"id": "wm_1", "title": "known"}]
    assert (shown["answer_in"], shown["domain"]) == ("English", "_|_")


def test_answer_becomes_a_world_model() -> None:
    """Ids that were not shown are dropped, tags are at most six, a loose cluster lowers the confidence."""
    config = WorldModelsConfig(min_policies=2, cluster_min_similarity=0.9)
    policies = [policy("po_1", vec=unit(1, 0), source_episodes=("ep_1",)), policy("po_2", vec=unit(0, 1))]
    cluster = clusters_of(policies, config)[0]
    given = answer(
        domain_tags=["A", "b", "c", "d", "e", "f", "g", "a"],
        inference=[{"label": "**why**", "description": "so", "evidenceIds": ["po_1", "tr_1", "po_nowhere"]}],
        constraints=[{"label": "", "description": "nothing"}],
        confidence=0.8,
        supersedes_world_ids=["wm_1", "wm_made_up"],
    )

    made = drafted(given, cluster, [step("tr_1", provenance="untrusted")], [world()], PROMPT)

    assert made.structure == {
        "environment": [{"label": "musl", "description": "It has musl.", "evidence": []}],
        "inference": [{"label": "why", "description": "so", "evidence": ["po_1", "tr_1"]}],
        "constraints": [],
    }
    assert made.tags == ("a", "b", "c", "d", "e", "f")
    assert made.confidence == pytest.approx(0.8 * (0.6 + 0.4 * 0.5**0.5))
    assert (made.policies, made.episodes, made.supersedes) == (("po_1", "po_2"), ("ep_step", "ep_1"), ("wm_1",))
    assert (made.members, made.induced_by, made.provenance) == (cluster.digest, "l3.abstraction@1", "untrusted")


def test_at_most_sixteen_entries_are_taken_of_an_answer() -> None:
    """Those beyond are dropped."""
    cluster = clusters_of([policy()], WorldModelsConfig())[0]
    many = answer(environment=[{"label": f"l{n}", "description": "d"} for n in range(20)])

    assert len(drafted(many, cluster, [], [], PROMPT).structure["environment"]) == 16


def test_world_model_says_something() -> None:
    """It needs a title, and an entry in one of its three lists."""
    assert wrong_with(answer()) is None
    assert wrong_with(answer(title=" ")) == "title must not be empty"
    empty = answer(environment=[{"label": "x", "description": ""}])
    assert wrong_with(empty) == "at least one of environment, inference, constraints must have an entry"
