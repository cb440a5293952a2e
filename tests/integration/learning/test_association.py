"""Association: steps follow policies or wait; policies are measured; what is asked for is bounded."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from reverie.jobs.request import Job
from reverie.learning.policies.measuring import measure
from reverie.learning.policies.pool import candidate_id
from reverie.testing import ScriptedAsks
from tests.integration.learning.policies_world import NOW, World, learned_world
from tests.learning_rows import seed, unit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

BUCKET = "docker|pip|shell|_"
DAY_MS = 86_400_000


def add_policy(here: World, policy_id: str = "po_1", **columns: Any) -> None:
    seed(here.path, "policies", id=policy_id, **{"signature": BUCKET, "vec": unit(1, 0, 0), **columns})


def linked(here: World) -> list[tuple[str, str]]:
    return [(row["trace_id"], row["policy_id"]) for row in here.rows("trace_policy_links")]


def waiting(here: World) -> list[str]:
    return sorted(row["trace_id"] for row in here.rows("l2_candidates") if row["policy_id"] is None)


async def test_step_that_is_near_follows_its_policy(tmp_path: Path) -> None:
    """From a score of 0.65 on a step is linked, below it waits in its bucket for 30 days."""
    async with learned_world(tmp_path) as here:
        add_policy(here)
        here.task("a")
        here.trace("near", "a", vec_summary=unit(0.50, math.sqrt(0.75), 0))
        here.trace("far", "a", vec_summary=unit(0.49, math.sqrt(1 - 0.49**2), 0))

        done = await here.associate("a")

        assert linked(here) == [("tr_near", "po_1")]
        assert (done["linked"], done["waiting"], done["policies"]) == (1, 1, 1)
        (kept,) = here.rows("l2_candidates")
        assert {**kept, "similarity": round(kept["similarity"], 4)} == {
            "id": candidate_id(BUCKET, "tr_far"), "agent": "main", "signature": BUCKET, "trace_id": "tr_far",
            "episode_id": "ep_a", "task_id": "ta_a", "similarity": 0.64, "policy_id": None,
            "asked": kept["asked"], "at": NOW, "expires_at": NOW + 30 * DAY_MS,
        }  # fmt: skip


async def test_worthless_steps_and_those_without_vector_are_left_alone(tmp_path: Path) -> None:
    """A value of 0.005 and a vector of the summary are needed; an archived step counts as none."""
    async with learned_world(tmp_path) as here:
        add_policy(here)
        here.task("a")
        here.trace("least", "a", value=0.005)
        here.trace("less", "a", value=0.0049)
        here.trace("blind", "a", vec_summary=None)
        here.trace("gone", "a", archived_at=1)

        await here.associate("a")

        assert (linked(here), waiting(here)) == ([("tr_least", "po_1")], [])


async def test_archived_policies_and_those_without_vector_are_not_followed(tmp_path: Path) -> None:
    """Nor those that no step can follow, because they say what a person prefers."""
    async with learned_world(tmp_path, policies={"inductions_max": 0}) as here:
        add_policy(here, "po_archived", status="archived")
        add_policy(here, "po_blind", vec=None)
        add_policy(here, "po_preference", type="preference")
        add_policy(here, "po_no_skill", skill_eligible=0)
        here.worked("a")

        await here.associate("a")

        assert (linked(here), waiting(here)) == ([], ["tr_a"])


async def test_policy_of_another_agent_is_never_followed(tmp_path: Path) -> None:
    """However near it is, and a bucket of another agent's steps is not counted either."""
    async with learned_world(tmp_path) as here:
        add_policy(here, agent="other")
        here.worked("theirs", value=0.3, agent="other")
        here.worked("mine", value=0.3)
        await here.associate("theirs")

        await here.associate("mine")

        assert linked(here) == [("tr_theirs", "po_1")]
        assert (waiting(here), here.keys("induce")) == (["tr_mine"], [])


async def test_nearest_of_many_policies_is_found(tmp_path: Path) -> None:
    """All of an agent are gone through, page by page: the last of 501 is found."""
    async with learned_world(tmp_path) as here:
        for number in range(500):
            add_policy(here, f"po_{number:04}", vec=unit(0, 1, number))
        add_policy(here, "po_zzzz")
        here.worked("a")

        await here.associate("a")

        assert linked(here) == [("tr_a", "po_zzzz")]


async def test_gain_is_exact_and_decides_on_the_policy(tmp_path: Path) -> None:
    """Two steps of 0.8 and 0.6 beside one of 0.2: 0.7 minus (0.2 + 0.5·5)/6, from two tasks."""
    async with learned_world(tmp_path) as here:
        add_policy(here, status="candidate")
        here.worked("a", value=0.8)
        here.worked("b", value=0.6)
        here.worked("other", value=0.2, tags=["git"], vec_summary=unit(0, 0, 1))
        await here.associate("a")
        await here.associate("other")
        first = here.rows("policies")[0]

        await here.associate("b")

        (policy,) = here.rows("policies")
        # First: 0.8 with, 0.6 and 0.2 without, all three pooled: 0.5333, clamped to 0.5.
        raw = 0.8 - (0.8 + 0.5 * 5) / 7
        assert (first["gain"], first["support"], first["status"]) == (pytest.approx(raw), 1, "active")
        # Then: 0.7 with, 0.2 without, pooled 0.5333 again.
        second = 0.7 - (0.2 + 0.5 * 5) / 6
        assert policy["gain"] == pytest.approx(0.4 * second + 0.6 * raw)
        assert (policy["support"], policy["status"]) == (2, "active")


async def test_three_steps_are_weighed_by_the_best(tmp_path: Path) -> None:
    """From three steps on the softmax with tau 0.5, alone in the world beside a baseline of 0.4667."""
    async with learned_world(tmp_path) as here:
        add_policy(here, status="candidate")
        here.task("a")
        for name, value in (("x", 0.9), ("y", 0.4), ("z", 0.1)):
            here.trace(name, "a", value=value)

        await here.associate("a")

        (policy,) = here.rows("policies")
        assert policy["gain"] == pytest.approx(0.679932332 - 1.4 / 3, abs=1e-8)
        assert policy["support"] == 1


async def test_bad_policies_are_given_up_for_good(tmp_path: Path) -> None:
    """Below a gain of -0.05 a policy is archived, and stays so whatever comes."""
    async with learned_world(tmp_path, policies={"inductions_max": 0}) as here:
        add_policy(here)
        here.worked("a", value=0.1)
        for number in range(6):
            here.worked(f"better{number}", value=0.9, tags=["git"], vec_summary=unit(0, 0, 1))

        await here.associate("a")
        archived = here.rows("policies")[0]
        here.worked("b", value=0.9)
        await here.associate("b")

        assert (archived["status"], archived["archived_at"]) == ("archived", NOW)
        assert here.rows("policies")[0] == archived
        assert linked(here) == [("tr_a", "po_1")]
        assert "low_gain" in here.reasons("associate")


async def test_values_that_fell_count_against_the_policies_they_follow(tmp_path: Path) -> None:
    """A step that is worth nothing any more still belongs to its policy, whose gain is read anew from the links."""
    async with learned_world(tmp_path) as here:
        add_policy(here)
        here.worked("a", value=0.8)
        await here.associate("a")
        here.change("UPDATE traces SET value = -0.6, r_human = -0.6")

        await here.associate("a")

        raw_before, raw = 0.8 - 0.5, -0.6 - 0.2
        assert here.rows("policies")[0]["gain"] == pytest.approx(0.4 * raw + 0.6 * raw_before)
        assert here.rows("policies")[0]["status"] == "archived"


async def test_untouched_candidates_are_decided_on(tmp_path: Path) -> None:
    """A candidate whose gain is known and sufficient becomes active though no step touched it; others wait."""
    async with learned_world(tmp_path) as here:
        known = {"status": "candidate", "gain_known": 1, "vec": None}
        add_policy(here, "po_bad", gain=-0.06, support=1, **known)
        add_policy(here, "po_new", status="candidate", vec=None)
        add_policy(here, "po_ready", gain=0.02, support=1, **known)
        add_policy(here, "po_weak", gain=0.01, support=1, **known)
        here.worked("a", value=0.3)

        await here.associate("a")

        assert [(row["id"], row["status"], row["gain"]) for row in here.rows("policies")] == [
            ("po_bad", "archived", -0.06), ("po_new", "candidate", 0.0), ("po_ready", "active", 0.02),
            ("po_weak", "candidate", 0.01)]  # fmt: skip


async def test_running_twice_changes_nothing(tmp_path: Path) -> None:
    """The same rows, gains and jobs after a second run, though a gain is smoothed with what it was."""
    async with learned_world(tmp_path) as here:
        add_policy(here, status="candidate", gain=0.1, gain_known=1)
        for name in ("a", "b"):
            here.worked(name, value=0.7)
            here.trace(f"{name}_far", name, tags=["git", "log"], vec_summary=unit(0, 1, 0), session_id=f"s_{name}")
            await here.associate(name)
        before = here.everything()

        again = [await here.associate(name) for name in ("a", "b", "a")]

        assert here.everything() == before
        assert [(each["linked"], each["inductions"]) for each in again] == [(0, 0)] * 3
        assert here.asks.asked == []


async def test_waiting_again_is_waiting_longer(tmp_path: Path) -> None:
    """A step that waits already is one row; its time begins anew. What has expired is dropped."""
    async with learned_world(tmp_path) as here:
        here.worked("a", value=0.3)
        await here.associate("a")
        here.clock.advance(days=10)
        await here.associate("a")
        (refreshed,) = here.rows("l2_candidates")
        here.clock.advance(days=30)
        here.worked("b", value=0.3, tags=["git"])

        await here.associate("b")

        assert (refreshed["at"], refreshed["expires_at"]) == (NOW, NOW + 40 * DAY_MS)
        assert waiting(here) == ["tr_b"]


async def test_step_waits_in_one_bucket(tmp_path: Path) -> None:
    """When its tags become others it waits in the bucket they name, and no longer in the old one."""
    async with learned_world(tmp_path) as here:
        here.worked("a", value=0.3)
        await here.associate("a")
        here.change("""UPDATE traces SET tags = '["git"]'""")

        await here.associate("a")

        assert [row["signature"] for row in here.rows("l2_candidates")] == ["git|_|shell|_"]


async def test_bucket_needs_so_many_different_tasks(tmp_path: Path) -> None:
    """With three needed the second task asks for nothing, nor do many steps of one; the third does."""
    async with learned_world(tmp_path, policies={"min_episodes": 3}) as here:
        here.worked("a", value=0.3)
        here.trace("a2", "a", value=0.3, session_id="s_a")
        here.trace("a3", "a", value=0.3, session_id="s_a")
        here.worked("b", value=0.3)
        await here.associate("a")
        await here.associate("b")
        before = here.keys("induce")
        here.worked("c", value=0.3)

        await here.associate("c")

        assert (before, len(here.keys("induce"))) == ([], 1)


async def test_two_tasks_or_one_that_went_well_are_enough(tmp_path: Path) -> None:
    """By default two different tasks, or a single one from a value of 0.5 on."""
    async with learned_world(tmp_path) as here:
        here.worked("low", value=0.49)
        low = await here.associate("low")
        here.worked("second", value=0.1)
        second = await here.associate("second")
        here.worked("alone", value=0.5, tags=["git"], vec_summary=unit(0, 1, 0))
        alone = await here.associate("alone")

        assert (low["inductions"], second["inductions"], alone["inductions"]) == (0, 1, 1)
        assert sorted(row["payload"] for row in here.rows("job_requests")) == [
            '{"signature": "docker|pip|shell|_", "traces": ["tr_low", "tr_second"]}',
            '{"signature": "git|_|shell|_", "traces": ["tr_alone"]}',
        ]


async def test_steps_that_nothing_tells_apart_need_to_mean_the_same(tmp_path: Path) -> None:
    """Without tag, tool and error two good steps about different things are no policy, and one is never enough."""
    async with learned_world(tmp_path) as here:
        for name, vec in (("a", unit(1, 0, 0)), ("b", unit(0, 1, 0))):
            here.task(name)
            here.trace(name, name, vec_summary=vec, tags=[], tool_calls=[], value=0.9)
            assert (await here.associate(name))["inductions"] == 0

        here.task("c")
        here.trace("c", "c", vec_summary=unit(0.1, 1, 0), tags=[], tool_calls=[], value=0.9)
        assert (await here.associate("c"))["inductions"] == 1

        (asked,) = [row for row in here.rows("job_requests") if row["kind"] == "induce"]
        assert sorted(json.loads(asked["payload"])["traces"]) == ["tr_b", "tr_c"]


async def test_hundred_ready_buckets_ask_for_three_policies(tmp_path: Path) -> None:
    """The best three are asked for, the rest wait for the next run, which asks for three more."""
    async with learned_world(tmp_path) as here:
        here.task("a")
        for number in range(100):
            here.trace(f"{number:02}", "a", value=0.5 + number / 250, tags=[f"tag{number:02}"],
                       vec_summary=unit(1, number, number * number))  # fmt: skip

        first = await here.associate("a")
        asked = [json.loads(row["payload"]) for row in here.rows("job_requests") if row["kind"] == "induce"]
        second = await here.associate("a")

        assert [first["inductions"], second["inductions"]] == [3, 3]
        assert sorted(each["signature"].split("|")[0] for each in asked) == ["tag97", "tag98", "tag99"]
        assert len(here.keys("induce")) == 6
        assert here.reasons("associate").count("inductions_max") == 2


async def test_bucket_is_ready_again_when_something_new_came(tmp_path: Path) -> None:
    """What was asked for is not asked for again with the same evidence; with a further episode it is."""
    async with learned_world(tmp_path) as here:
        here.worked("a")
        await here.associate("a")
        same = await here.associate("a")
        here.worked("b")

        new = await here.associate("b")

        assert (same["inductions"], new["inductions"]) == (0, 1)
        assert len(here.keys("induce")) == 2


async def test_bucket_of_which_the_policies_are_known_is_asked_about_ever_less(tmp_path: Path) -> None:
    """Each policy that another one said before doubles the tasks that it takes to ask again."""
    async with learned_world(tmp_path) as here:
        seed(
            here.path, "learning_marks", name=f"known_bucket:main:{BUCKET}", value={"times": 1, "evidence": "e"}, at=NOW
        )
        asked: list[int] = []
        for name in ("a", "b", "c", "d"):
            here.worked(name)
            asked.append((await here.associate(name))["inductions"])

        assert asked == [0, 0, 0, 1]


async def test_bucket_that_a_policy_covers_asks_for_nothing(tmp_path: Path) -> None:
    """Steps that waited follow a policy that has come to be since, if each is near it, and no model is asked."""
    async with learned_world(tmp_path) as here:
        here.worked("a", value=0.4)
        await here.associate("a")
        add_policy(here, status="candidate")
        here.worked("b", value=0.4, vec_summary=unit(0.4, 1, 0))

        done = await here.associate("b")

        assert (done["inductions"], here.keys("induce"), waiting(here)) == (0, [], ["tr_b"])
        assert linked(here) == [("tr_a", "po_1")]
        assert here.rows("policies")[0]["support"] == 1
        assert "known_already" in here.reasons("associate")


async def test_steps_around_a_policy_do_not_follow_it(tmp_path: Path) -> None:
    """Two steps whose middle is a policy's, and that are each far from it, are asked about: they show another thing."""
    async with learned_world(tmp_path) as here:
        add_policy(here)
        here.worked("a", value=0.4, vec_summary=unit(0.45, 0.893, 0))
        here.worked("b", value=0.4, vec_summary=unit(0.45, -0.893, 0))
        await here.associate("a")

        done = await here.associate("b")

        assert (done["inductions"], len(here.keys("induce"))) == (1, 1)
        assert (linked(here), waiting(here)) == ([], ["tr_a", "tr_b"])


async def test_what_a_policy_does_not_cover_is_asked_about(tmp_path: Path) -> None:
    """Of steps that waited some follow a policy that has come to be since; a policy is made of the others."""
    async with learned_world(tmp_path) as here:
        here.worked("a", value=0.4)
        await here.associate("a")
        add_policy(here, status="candidate")
        here.worked("b", value=0.4, vec_summary=unit(0.4, 1, 0))
        here.worked("c", value=0.4, vec_summary=unit(0.4, 1, 0.1))
        await here.associate("b")

        await here.associate("c")

        assert linked(here) == [("tr_a", "po_1")]
        (asked,) = [row for row in here.rows("job_requests") if row["kind"] == "induce"]
        assert json.loads(asked["payload"])["traces"] == ["tr_b", "tr_c"]


async def test_one_task_of_many_steps_hides_no_other(tmp_path: Path) -> None:
    """Evidence is the best step of each task, also where one has more good steps than are looked at, in segments."""
    async with learned_world(tmp_path) as here:
        here.task("a")
        for part in range(9):
            seed(here.path, "episodes", id=f"ep_a{part}", task_id="ta_a", agent="main", session_id="s_a")
        for number in range(60):
            here.trace(f"a{number}", "a", value=0.4, session_id="s_a", episode_id=f"ep_a{number % 9}")
        here.worked("b", value=0.3)
        await here.associate("a")

        await here.associate("b")

        (asked,) = [row for row in here.rows("job_requests") if row["kind"] == "induce"]
        traces = json.loads(asked["payload"])["traces"]
        assert (len(traces), traces[-1], traces[0][:4]) == (2, "tr_b", "tr_a")


async def test_segments_of_one_task_are_no_two_witnesses(tmp_path: Path) -> None:
    """Without tag, tool and error, two like steps of one task in two episodes of it are not enough."""
    async with learned_world(tmp_path) as here:
        here.task("a")
        seed(here.path, "episodes", id="ep_a2", task_id="ta_a", agent="main", session_id="s_a")
        here.trace("1", "a", tags=[], tool_calls=[], value=0.9, session_id="s_a")
        here.trace("2", "a", tags=[], tool_calls=[], value=0.9, session_id="s_a", episode_id="ep_a2")

        assert (await here.associate("a"))["inductions"] == 0


async def test_without_a_model_steps_wait_until_there_is_one(tmp_path: Path) -> None:
    """Nothing is asked for, the trail says why, and later the same steps are enough."""
    async with learned_world(tmp_path) as here:
        here.worked("a")
        here.asks = ScriptedAsks(available=False)
        without = await here.associate("a")
        here.asks = ScriptedAsks()

        with_one = await here.associate("a")

        assert (without["inductions"], with_one["inductions"]) == (0, 1)
        assert here.reasons("associate") == ["llm_disabled", "associated"]


async def test_lightweight_does_nothing(tmp_path: Path) -> None:
    """In the lightweight mode a job that was asked for before is passed over."""
    async with learned_world(tmp_path, mode="lightweight") as here:
        here.worked("a")

        assert await here.associate("a") == {"skipped": "lightweight"}
        assert here.everything() == {table: [] for table in here.everything()}


async def test_task_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    """A task that was forgotten has nothing to be learned of."""
    async with learned_world(tmp_path) as here:
        assert await here.associate("gone") == {"skipped": "no_task"}


async def test_skill_is_asked_for_once_for_the_same_policy(tmp_path: Path) -> None:
    """An active policy asks for its skill; the same text, support and step of gain ask no more."""
    async with learned_world(tmp_path) as here:
        add_policy(here, status="candidate")
        here.worked("a")
        await here.associate("a")
        await here.associate("a")
        first = here.keys("skill")
        here.change("UPDATE job_requests SET state = 'done' WHERE kind = 'skill'")
        here.worked("b")

        await here.associate("b")

        assert len(first) == 1
        assert len(here.keys("skill")) == 2, "support rose by one"


async def test_skill_that_waits_is_not_asked_for_again(tmp_path: Path) -> None:
    """However often a policy changes while its skill waits, such as for a pause between two builds, one job is there.

    It looks at the policy as it is when it begins.
    """
    async with learned_world(tmp_path) as here:
        add_policy(here, status="candidate")
        for name in ("a", "b", "c", "d"):
            here.worked(name)
            await here.associate(name)

        assert len(here.keys("skill")) == 1


async def test_many_small_changes_of_gain_ask_for_no_skill(tmp_path: Path) -> None:
    """A thousand updates of 0.001 up and down ask for nothing; a drift asks once for each 0.05 of it."""
    async with learned_world(tmp_path) as here:
        add_policy(here, gain=0.32, gain_known=1, support=1)
        seed(
            here.path, "skills", id="sk_1", name="s", policies=["po_1"], built_gain=0.32, built_support=1, built_at=NOW
        )
        here.worked("a", value=0.82)
        await here.associate("a")
        for number in range(1_000):
            value = 0.82 + 0.001 * (number % 2)
            await _measure_with(here, value)

        assert here.keys("skill") == []
        for number in range(100):
            value = 0.82 + 0.001 * number
            await _measure_with(here, value)
        gain = here.rows("policies")[0]["gain"]
        assert 1 <= len(here.keys("skill")) <= 1 + (gain - 0.32) / 0.05


async def test_skill_is_not_asked_for_where_none_may_be_made(tmp_path: Path) -> None:
    """Candidates, policies of negative polarity, and skills that are switched off ask for nothing."""
    async with learned_world(tmp_path, skills={"use_llm": False}) as here:
        add_policy(here)
        here.worked("a")
        await here.associate("a")
        assert here.keys("skill") == []
    async with learned_world(tmp_path) as here:
        here.change("UPDATE policies SET polarity = 'negative', gain_of = ''")
        await here.associate("a")
        assert here.keys("skill") == []


async def test_step_of_strangers_keeps_its_policy_as_trusted_as_it_was(tmp_path: Path) -> None:
    """Following a policy adds nothing to what it says, so that its provenance stays."""
    async with learned_world(tmp_path) as here:
        add_policy(here, provenance="owner")
        here.worked("a", provenance="untrusted")

        await here.associate("a")

        assert here.rows("policies")[0]["provenance"] == "owner"


async def _measure_with(here: World, value: float) -> None:
    here.change("UPDATE traces SET value = ? WHERE id = 'tr_a'", value)
    job = Job("associate:x", "associate", "idle", {})
    await here.database.write(lambda tx: measure(tx, "po_1", here.config, job, NOW, skills=True))
