"""Abstraction: one call makes a world model of a group of policies, or adds to one, and only when the group changed."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np
import pytest

from reverie.errors import AnswerRefusedError, EmbedderError, JobDeferredError
from reverie.learning.vectors import unpack
from reverie.learning.worlds.world_models import edit_world_model, set_world_status
from reverie.testing import ScriptedAsks
from tests.integration.learning.policies_world import NOW, WORLD, World, learned_world
from tests.learning_rows import seed, unit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PROMPT = "l3.abstraction"
DAY_MS = 86_400_000
QUIET = {"policies": {"inductions_max": 0}}


def add_policy(here: World, policy_id: str, **columns: Any) -> None:
    given = {"signature": "docker|_|shell|_", "vec": unit(1, 0.1, 0), "gain": 0.2, "support": 1, "gain_known": 1,
             "title": policy_id, "procedure": f"what {policy_id} does", **columns}  # fmt: skip
    seed(here.path, "policies", id=policy_id, **given)


async def ask(here: World) -> list[str]:
    """Have an unrelated task scored, after which changed groups are looked for; returns the jobs asked for so far."""
    if not any(row["id"] == "ta_z" for row in here.rows("tasks")):
        here.worked("z", value=0.01, tags=["zzz"], vec_summary=unit(0, 0, 1))
    await here.associate("z")
    return here.keys("abstract")


async def first(here: World) -> dict[str, Any]:
    """Make a world model of two policies."""
    add_policy(here, "po_1", source_episodes=["ep_1"], provenance="untrusted")
    add_policy(here, "po_2", vec=unit(1, 0.2, 0))
    (key,) = await ask(here)
    here.asks.add(PROMPT, WORLD)
    await here.run(key)
    return here.rows("world_models")[0]


async def test_call_makes_a_world_model(tmp_path: Path) -> None:
    """With the answer's words, the policies it was made of, a vector, and the trust of its least trusted part."""
    async with learned_world(tmp_path, **QUIET) as here:
        world = await first(here)

        assert {name: world[name] for name in ("title", "body", "domain", "confidence", "version", "provenance")} == {
            "title": "Alpine containers", "body": "Alpine images come without a compiler.",
            "domain": "container|shell", "confidence": 0.6, "version": 1, "provenance": "untrusted",
        }  # fmt: skip
        assert json.loads(world["policies"]) == ["po_1", "po_2"]
        assert json.loads(world["source_episodes"]) == ["ep_1"]
        assert json.loads(world["structure"])["environment"] == [
            {"label": "musl", "description": "The C library is musl.", "evidence": []}]  # fmt: skip
        assert (world["induced_by"], world["members"]) == ("l3.abstraction@1", here.keys("abstract")[0].split(":")[2])
        vec = unpack(world["vec"])
        assert vec is not None
        assert np.allclose(vec, here.embedder.vector(f"{WORLD['title']}\n{WORLD['body']}"))
        assert here.reasons("abstract") == ["abstracted"]
        assert here.asks.asked[0].temperature == 0.15


async def test_unchanged_group_asks_for_nothing(tmp_path: Path) -> None:
    """Another gain or support is no change; after the job was forgotten neither, and run again it makes no call."""
    async with learned_world(tmp_path, **QUIET) as here:
        await first(here)
        (key,) = here.keys("abstract")
        before = here.everything()
        again = await here.run(key)
        unchanged = here.everything()
        here.change("UPDATE policies SET gain = 0.9, support = 5")
        here.clock.advance(days=30)
        same = await ask(here)
        here.change("DELETE FROM job_requests")

        forgotten = await ask(here)

        assert (again, unchanged) == ({"skipped": "unchanged"}, before)
        assert (same, forgotten) == ([key], [])
        assert len(here.asks.asked) == 1


async def test_domain_rests_between_two_changes(tmp_path: Path) -> None:
    """A change within a day is asked for, to be done at the day's end; a run before that is put off until then."""
    async with learned_world(tmp_path, **QUIET) as here:
        await first(here)
        add_policy(here, "po_3")
        here.clock.advance(seconds=60)
        key = next(key for key in await ask(here) if key not in here.rows("world_models")[0]["members"]
                   and here.rows("world_models")[0]["members"] not in key)  # fmt: skip
        row = next(row for row in here.rows("job_requests") if row["key"] == key)

        with pytest.raises(JobDeferredError) as put_off:
            await here.run(key)
        here.clock.set(NOW + DAY_MS)
        here.asks.add(PROMPT, WORLD)
        done = await here.run(key)

        assert (row["not_before"], put_off.value.until_ms) == (NOW + DAY_MS, NOW + DAY_MS)
        assert done["made"] == "overlap"
        assert here.reasons("abstract") == ["abstracted", "cooldown", "overlap"]


async def test_group_that_changed_since_is_left_to_its_successor(tmp_path: Path) -> None:
    """Of several changes while a domain rests only the last one costs a call."""
    async with learned_world(tmp_path, **QUIET) as here:
        await first(here)
        for number in range(3, 8):
            add_policy(here, f"po_{number}")
            await ask(here)
        here.clock.advance(days=2)
        here.asks.add(PROMPT, WORLD)

        done = await here.run_all("abstract")

        made = [each for each in done if "world_model" in each]
        skipped = sorted(each["skipped"] for each in done if "skipped" in each)
        assert (len(made), skipped) == (1, ["superseded"] * 5)
        assert len(here.asks.asked) == 2
        (world,) = here.rows("world_models")
        assert (world["version"], world["confidence"]) == (2, pytest.approx(0.65))
        assert len(json.loads(world["policies"])) == 7


async def test_group_that_was_another_one_for_a_moment_is_asked_for_again(tmp_path: Path) -> None:
    """A policy whose gain was too small when the job ran, and is not any more, brings its group back."""
    async with learned_world(tmp_path, **QUIET) as here:
        await first(here)
        add_policy(here, "po_3")
        (waits,) = set(await ask(here)) - {row["key"] for row in here.rows("job_requests") if row["not_before"] <= NOW}
        await change(here, "UPDATE policies SET gain = 0.0001 WHERE id = 'po_3'")
        here.clock.advance(days=2)
        assert await here.run(waits) == {"skipped": "superseded"}
        await change(here, "UPDATE job_requests SET state = 'done', ended_at = 1 WHERE kind = 'abstract'")
        await change(here, "UPDATE policies SET gain = 0.2 WHERE id = 'po_3'")

        again = set(await ask(here)) - {waits}

        assert f"{waits}:2" in again
        here.asks.add(PROMPT, WORLD)
        assert (await here.run(f"{waits}:2"))["made"] == "overlap"


async def change(here: World, statement: str) -> None:
    """Change something from outside."""

    def work() -> None:
        with closing(apsw.Connection(str(here.path))) as connection:
            connection.execute(statement)

    await asyncio.to_thread(work)


async def test_only_proven_policies_make_worlds(tmp_path: Path) -> None:
    """Candidates, archived ones, weak ones and those of other agents do not; nor does one without a vector."""
    async with learned_world(tmp_path, **QUIET) as here:
        add_policy(here, "po_1", status="candidate", gain_known=0)
        add_policy(here, "po_2", status="archived")
        add_policy(here, "po_3", gain=0.019)
        add_policy(here, "po_4", support=0)
        add_policy(here, "po_5", agent="other")
        add_policy(here, "po_6", vec=None)
        add_policy(here, "po_7", type="preference")

        assert await ask(here) == []


async def test_edited_world_keeps_its_text(tmp_path: Path) -> None:
    """A person's title and body stay when the group changes; what it rests on grows."""
    async with learned_world(tmp_path, world_models={"cooldown_days": 0.0}, **QUIET) as here:
        world = await first(here)
        await here.database.write(lambda tx: edit_world_model(tx, world["id"], {"body": "Mine."}, NOW))
        add_policy(here, "po_3")
        key = (set(await ask(here)) - {f"abstract:main:{world['members']}"}).pop()
        here.asks.add(PROMPT, {**WORLD, "title": "Other", "body": "Other."})

        await here.run(key)

        (grown,) = here.rows("world_models")
        assert (grown["title"], grown["body"], grown["structure"]) == (world["title"], "Mine.", world["structure"])
        assert (json.loads(grown["policies"]), grown["confidence"]) == (
            ["po_1", "po_2", "po_3"], pytest.approx(0.65))  # fmt: skip


async def test_world_that_was_given_up_is_not_made_again(tmp_path: Path) -> None:
    """What a person archived stays so, and no call is made for the same policies."""
    async with learned_world(tmp_path, world_models={"cooldown_days": 0.0}, **QUIET) as here:
        world = await first(here)
        await here.database.write(lambda tx: set_world_status(tx, world["id"], "archived", NOW))
        add_policy(here, "po_3")
        key = (set(await ask(here)) - {f"abstract:main:{world['members']}"}).pop()

        assert await here.run(key) == {"skipped": "archived_by_person"}
        assert [row["status"] for row in here.rows("world_models")] == ["archived"]


async def test_superseded_worlds_are_joined(tmp_path: Path) -> None:
    """The first that the answer names takes in the new one and the others, which are archived."""
    async with learned_world(tmp_path, **QUIET) as here:
        for number in (1, 2):
            seed(here.path, "world_models", id=f"wm_{number}", domain="container|shell", policies=[f"po_x{number}"])
        add_policy(here, "po_1")
        (key,) = await ask(here)
        here.asks.add(PROMPT, {**WORLD, "supersedes_world_ids": ["wm_2", "wm_1", "wm_made_up"]})

        done = await here.run(key)

        assert done == {"world_model": "wm_2", "made": "supersedes"}
        assert [(row["id"], row["status"]) for row in here.rows("world_models")] == [
            ("wm_1", "archived"), ("wm_2", "active")]  # fmt: skip
        assert json.loads(here.rows("world_models")[1]["policies"]) == ["po_1", "po_x1", "po_x2"]


async def test_answer_without_entries_is_a_reason_and_no_exception(tmp_path: Path) -> None:
    """`llm_failed`, noted; the group is not asked about again, whatever becomes of the job's row."""
    async with learned_world(tmp_path, **QUIET) as here:
        add_policy(here, "po_1")
        (key,) = await ask(here)
        here.asks.add(PROMPT, {"title": "Nothing", "environment": []})

        done = await here.run(key)
        here.change("DELETE FROM job_requests")

        assert done == {"failed": "llm_failed"}
        assert here.reasons("abstract") == ["llm_failed"]
        assert await ask(here) == []


async def test_refused_answer_does_not_make_the_domain_rest(tmp_path: Path) -> None:
    """Only a change does: the next group of the domain is tried at once."""
    async with learned_world(tmp_path, **QUIET) as here:
        add_policy(here, "po_1")
        (key,) = await ask(here)
        here.asks.add(PROMPT, AnswerRefusedError("l3.abstraction@1", "nonsense"), WORLD)
        await here.run(key)
        add_policy(here, "po_2")
        other = (set(await ask(here)) - {key}).pop()

        assert (await here.run(other))["made"] == "abstracted"


async def test_embedder_that_fails_leaves_the_vector_out(tmp_path: Path) -> None:
    """The world model is kept all the same, and found by its words."""
    async with learned_world(tmp_path, **QUIET) as here:
        here.embedder.error = EmbedderError("gone")

        world = await first(here)

        assert (world["title"], world["vec"]) == ("Alpine containers", None)


async def test_without_a_model_nothing_is_asked_for(tmp_path: Path) -> None:
    """Nor is a job that was asked for before done: it says why, and the group is asked for when there is one."""
    async with learned_world(tmp_path, **QUIET) as here:
        add_policy(here, "po_1")
        here.asks = ScriptedAsks(available=False)
        without = await ask(here)
        here.asks = ScriptedAsks()
        (key,) = await ask(here)
        here.asks = ScriptedAsks(available=False)

        assert without == []
        assert await here.run(key) == {"skipped": "llm_disabled"}


async def test_lightweight_does_nothing(tmp_path: Path) -> None:
    """A job that was asked for before is passed over."""
    async with learned_world(tmp_path, **QUIET) as asking:
        add_policy(asking, "po_1")
        (key,) = await ask(asking)
    async with learned_world(tmp_path, mode="lightweight") as here:
        assert await here.run(key) == {"skipped": "lightweight"}
