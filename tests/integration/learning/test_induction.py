"""Induction: one call makes a policy, adds to one, or says why there is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from reverie.errors import AnswerRefusedError, UpstreamUnreachableError
from reverie.learning.policies.policies import edit_policy, set_policy_status
from reverie.learning.vectors import unpack
from reverie.testing import ScriptedAsks
from tests.integration.learning.policies_world import NOW, POLICY, World, learned_world
from tests.learning_rows import seed, unit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PROMPT = "l2.induction"
BUCKET = "docker|pip|shell|_"


async def two_tasks(here: World) -> str:
    """Two tasks that show the same; returns the job that is asked for."""
    here.worked("a", value=0.3, vec_summary=unit(1, 0, 0))
    here.worked("b", value=0.4, vec_summary=unit(1, 1, 0), provenance="untrusted")
    await here.associate("a")
    await here.associate("b")
    (key,) = here.keys("induce")
    return key


def kept(here: World, policy_id: str) -> dict[str, Any]:
    return next(row for row in here.rows("policies") if row["id"] == policy_id)


async def test_call_makes_a_policy(tmp_path: Path) -> None:
    """A candidate with the answer's words, the middle of its evidence, links from it, and a gain that activates it."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        here.asks.add(PROMPT, {**POLICY, "caveats": ["needs root"], "support_trace_ids": ["tr_a", "tr_b"]})

        done = await here.run(key)

        (policy,) = here.rows("policies")
        assert done == {"policy": policy["id"], "made": "induced"}
        assert {name: policy[name] for name in ("title", "trigger_text", "procedure", "boundary", "verification")} == {
            "title": POLICY["title"],
            "trigger_text": POLICY["trigger"],
            "procedure": POLICY["action"],
            "boundary": "needs root",
            "verification": "",
        }
        assert (policy["signature"], policy["induced_by"], policy["provenance"]) == (
            BUCKET, "l2.induction@1", "untrusted")  # fmt: skip
        assert (json.loads(policy["source_episodes"]), json.loads(policy["source_traces"])) == (
            ["ep_b", "ep_a"], ["tr_b", "tr_a"])  # fmt: skip
        middle = unit(1, 0, 0) + unit(1, 1, 0)
        vec = unpack(policy["vec"])
        assert vec is not None
        assert np.allclose(vec, middle / np.linalg.norm(middle))
        # 0.35 with, none without: the pool's mean stands for the others, 0.35. No gain, so it stays a candidate.
        assert (round(policy["gain"], 9), policy["support"], policy["status"]) == (0.0, 2, "candidate")
        assert [(row["trace_id"], row["policy_id"]) for row in here.rows("trace_policy_links")] == [
            ("tr_a", policy["id"]), ("tr_b", policy["id"])]  # fmt: skip
        assert {row["policy_id"] for row in here.rows("l2_candidates")} == {policy["id"]}
        assert here.reasons("induce") == ["induced"]


async def test_good_policy_is_active_at_once_and_has_the_next_stages_asked_for(tmp_path: Path) -> None:
    """0.9 alone in the world is 0.4 above the baseline of 0.5: a skill and a world model may be made of it."""
    async with learned_world(tmp_path) as here:
        here.worked("a", value=0.9)
        await here.associate("a")
        here.asks.add(PROMPT, POLICY)

        (done,) = await here.run_all("induce")

        policy = kept(here, done["policy"])
        assert (policy["gain"], policy["support"], policy["status"]) == (pytest.approx(0.4), 1, "active")
        assert (len(here.keys("skill")), len(here.keys("abstract"))) == (1, 1)


async def test_best_step_of_each_episode_is_shown(tmp_path: Path) -> None:
    """One pack for each episode, the step of the highest value; the others of the bucket follow if they are near."""
    async with learned_world(tmp_path) as here:
        here.worked("a", value=0.3)
        here.trace("a_best", "a", value=0.4, session_id="s_a")
        here.trace("a_far", "a", value=0.2, session_id="s_a", vec_summary=unit(0, 0, 1))
        here.worked("b", value=0.3)
        await here.associate("a")
        await here.associate("b")
        here.asks.add(PROMPT, POLICY)

        await here.run_all("induce")

        (asked,) = here.asks.asked
        assert [pack["id"] for pack in json.loads(asked.text)["steps"]] == ["tr_a_best", "tr_b"]
        assert asked.temperature == 0.1
        assert [row["trace_id"] for row in here.rows("trace_policy_links")] == ["tr_a", "tr_a_best", "tr_b"]
        assert [row["trace_id"] for row in here.rows("l2_candidates") if row["policy_id"] is None] == ["tr_a_far"]


async def test_running_twice_makes_one_policy_with_one_call(tmp_path: Path) -> None:
    """A second run finds what the first one made: the same rows, no second call."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        here.asks.add(PROMPT, POLICY)
        first = await here.run(key)
        before = here.everything()

        again = await here.run(key)

        assert again == {"policy": first["policy"], "made": "before"}
        assert here.everything() == before
        assert len(here.asks.asked) == 1


async def test_duplicate_becomes_part_of_the_policy_that_is_there(tmp_path: Path) -> None:
    """Nearly the same words: no new row; the steps follow the old one, which learns the verification it lacked."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        seed(here.path, "policies", id="po_old", title="Install build headers before pip!", procedure="old words",
             vec=unit(0, 0, 1), source_episodes=["ep_0"], provenance="owner", boundary="")  # fmt: skip
        here.asks.add(PROMPT, {**POLICY, "verification": "pip exits with zero"})

        done = await here.run(key)
        before = here.everything()
        again = await here.run(key)

        policy = kept(here, "po_old")
        assert done == {"policy": "po_old", "made": "duplicate"}
        assert again == {"policy": "po_old", "made": "before"}
        assert here.everything() == before
        assert len(here.rows("policies")) == 1
        assert [json.loads(row["value"])["times"] for row in here.rows("learning_marks")] == [1]
        assert (policy["procedure"], policy["verification"]) == ("old words", "pip exits with zero")
        assert json.loads(policy["source_episodes"]) == ["ep_0", "ep_b", "ep_a"]
        assert (policy["provenance"], policy["support"]) == ("untrusted", 2)


async def test_edited_policy_keeps_its_text(tmp_path: Path) -> None:
    """A policy that a person edited takes in the steps and not one word."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        seed(here.path, "policies", id="po_old", title="x", vec=unit(0, 0, 1), provenance="owner")
        await here.database.write(lambda tx: edit_policy(tx, "po_old", {"title": POLICY["title"]}, NOW))
        here.asks.add(PROMPT, {**POLICY, "verification": "pip exits with zero", "boundary": "only alpine"})

        await here.run(key)

        policy = kept(here, "po_old")
        assert (policy["title"], policy["verification"], policy["boundary"]) == (POLICY["title"], "", "")
        assert (policy["provenance"], policy["support"]) == ("owner", 2)


async def test_opposite_boundary_makes_another_policy(tmp_path: Path) -> None:
    """What the old one forbids and the new one allows is kept apart."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        seed(here.path, "policies", id="po_old", title=POLICY["title"], boundary="never in alpine", vec=unit(0, 0, 1))
        here.asks.add(PROMPT, {**POLICY, "boundary": "in alpine"})

        done = await here.run(key)

        assert (done["made"], len(here.rows("policies"))) == ("induced", 2)


async def test_what_a_person_gave_up_is_not_made_again(tmp_path: Path) -> None:
    """A duplicate of an archived policy leaves it archived, without followers; its steps wait no longer."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        seed(here.path, "policies", id="po_old", title=POLICY["title"], vec=unit(1, 0, 0))
        await here.database.write(lambda tx: set_policy_status(tx, "po_old", "archived", NOW))
        here.asks.add(PROMPT, POLICY)

        done = await here.run(key)

        assert done == {"policy": "po_old", "made": "archived_duplicate"}
        assert (kept(here, "po_old")["status"], here.rows("trace_policy_links")) == ("archived", [])
        assert {row["policy_id"] for row in here.rows("l2_candidates")} == {"po_old"}


async def test_policy_of_another_agent_is_no_duplicate(tmp_path: Path) -> None:
    """Agents do not learn from each other's policies."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        seed(here.path, "policies", id="po_theirs", agent="other", title=POLICY["title"], vec=unit(1, 0, 0))
        here.asks.add(PROMPT, POLICY)

        done = await here.run(key)

        assert done["made"] == "induced"
        assert {row["policy_id"] for row in here.rows("trace_policy_links")} == {done["policy"]}


async def test_policy_that_came_to_be_meanwhile_needs_no_call(tmp_path: Path) -> None:
    """What another job made since this one was asked for takes in the steps."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        seed(here.path, "policies", id="po_new", title="new", signature=BUCKET, vec=unit(1, 0.4, 0))

        done = await here.run(key)

        assert done == {"policy": "po_new", "made": "known_already"}
        assert (here.asks.asked, kept(here, "po_new")["support"]) == ([], 2)


async def test_refused_answer_is_a_reason_and_no_exception(tmp_path: Path) -> None:
    """`llm_failed`, noted with what was wrong; the same evidence is not asked about again."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        here.asks.add(PROMPT, AnswerRefusedError("l2.induction@1", "no title"))

        done = await here.run(key)
        await here.associate("b")

        assert done == {"failed": "llm_failed"}
        assert (here.rows("policies"), here.keys("induce")) == ([], [key])
        assert here.reasons("induce") == ["llm_failed"]


async def test_answer_without_an_action_is_refused(tmp_path: Path) -> None:
    """The check says what is missing."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        here.asks.add(PROMPT, {**POLICY, "action": " "})

        assert await here.run(key) == {"failed": "llm_failed"}


async def test_failing_server_is_left_to_the_engine(tmp_path: Path) -> None:
    """What is no fault of the answer is raised, and nothing was written."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        before = here.everything()
        here.asks.add(PROMPT, UpstreamUnreachableError("gone"))

        with pytest.raises(UpstreamUnreachableError):
            await here.run(key)

        assert here.everything() == before


@pytest.mark.parametrize("settings", [{"policies": {"use_llm": False}}, {}])
async def test_without_a_model_there_is_a_reason(tmp_path: Path, settings: dict[str, Any]) -> None:
    """`llm_disabled`, whether it is switched off or there is none."""
    async with learned_world(tmp_path) as asking:
        key = await two_tasks(asking)
    async with learned_world(tmp_path, **settings) as here:
        here.asks = ScriptedAsks(available=False)

        assert await here.run(key) == {"skipped": "llm_disabled"}
        assert here.reasons("induce") == ["llm_disabled"]


async def test_evidence_that_is_gone_makes_nothing(tmp_path: Path) -> None:
    """Steps that were archived since are no evidence."""
    async with learned_world(tmp_path) as here:
        key = await two_tasks(here)
        here.change("UPDATE traces SET archived_at = 1")

        assert await here.run(key) == {"skipped": "no_evidence"}


async def test_lightweight_does_nothing(tmp_path: Path) -> None:
    """A job that was asked for before is passed over."""
    async with learned_world(tmp_path) as asking:
        key = await two_tasks(asking)
    async with learned_world(tmp_path, mode="lightweight") as here:
        assert await here.run(key) == {"skipped": "lightweight"}
