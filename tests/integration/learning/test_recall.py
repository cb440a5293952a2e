"""Recall of what was learned, on a real database: what is found, what never is, and how it is shown."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.config import LearnedRecallConfig, LearningConfig
from reverie.errors import EmbedderError
from reverie.learning.recall.channels import LearnedQuery, by_words
from reverie.learning.recall.learned_vectors import KINDS, Eligible
from reverie.learning.recall.recall import LearnedRecall
from reverie.learning.surfaces.edits import archive
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder
from tests.learning_rows import T0, seed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from reverie.learning.recall.channels import Tier
    from reverie.types import SearchHit

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


@dataclass
class World:
    """A database with rows of learning, and recall over it."""

    path: Path
    database: Database
    embedder: FakeEmbedder
    recall: LearnedRecall
    tiers: tuple[Tier, ...] = ("skills", "traces", "worlds")

    def add(self, table: str, text: str, **columns: Any) -> None:
        """A row with the vector of a text."""
        vector = self.embedder.vector(text)
        seed(self.path, table, **{"vec_summary" if table == "traces" else "vec": vector, **columns})

    def trace(self, ref: str, text: str, **columns: Any) -> None:
        self.add("traces", text, **{"id": ref, "task_id": "ta_1", "episode_id": f"ep_{ref}", "session_id": f"s-{ref}",
                                    "user_text": text, "value": 0.5, "at": T0, **columns})  # fmt: skip

    def skill(self, name: str, text: str, **columns: Any) -> None:
        self.add("skills", text, **{"id": f"sk_{name}", "name": name, "title": name, "description": text, "eta": 0.8,
                                    **columns})  # fmt: skip

    async def find(self, text: str, *, agent: str = "main", session: str | None = None) -> tuple[SearchHit, ...]:
        return await self.recall.recall(agent, text, session)

    async def paths(self, text: str, **asked: Any) -> list[str]:
        return [hit.path for hit in await self.find(text, **asked)]


@asynccontextmanager
async def world(home: Path, *, deadline_ms: int = 5_000, **recall: Any) -> AsyncGenerator[World]:
    """An empty database, and recall with some settings."""
    path = home / "state.db"
    database = await Database.open(path, STATE, now_ms=T0)
    embedder = FakeEmbedder(256)

    async def vector(text: str) -> NDArray[np.float32] | None:
        found = await embedder.embed_query(text)
        return found if found.any() else None

    config = LearningConfig(recall=LearnedRecallConfig(**recall))
    made: list[World] = []
    learned = LearnedRecall(
        database, vector, FakeClock(T0), config, deadline_ms=deadline_ms, tiers=lambda _text: made[0].tiers
    )
    made.append(World(path, database, embedder, learned))
    try:
        yield made[0]
    finally:
        await learned.aclose()
        await database.aclose()


async def test_what_is_near_in_meaning_is_found_of_every_tier_and_skills_come_first(tmp_path: Path) -> None:
    """A skill, a step, a policy and a world model of one subject are shown together."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "install the lxml package in the container")
        home.skill("lxml", "install the lxml package in a container")
        home.add("policies", "install lxml package container", id="po_1", trigger_text="lxml does not install",
                 procedure="add libxml2-dev first")  # fmt: skip
        home.add("world_models", "lxml package container", id="wm_1", title="Containers", body="They are Alpine.")
        hits = await home.find("install the lxml package in the container")

        assert hits[0].path == "skills/lxml/SKILL.md"
        assert {hit.path for hit in hits[1:]} == {"learned/tr_1", "learned/po_1", "learned/wm_1"}


async def test_a_blank_message_asks_nobody(tmp_path: Path) -> None:
    """Nothing is embedded and nothing is found."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "install lxml")

        assert await home.find("  \n ") == ()
        assert home.embedder.queries == 0


async def test_a_message_that_asks_for_no_tier_gets_nothing(tmp_path: Path) -> None:
    """Small talk costs no lookup."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "hello there")
        home.tiers = ()

        assert await home.find("hello there") == ()
        assert home.embedder.queries == 0


async def test_only_the_tiers_asked_for_are_looked_at(tmp_path: Path) -> None:
    """A personal question is answered by what was done, not by skills."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "my favourite colour is green")
        home.skill("colours", "my favourite colour is green")
        home.tiers = ("traces",)

        assert await home.paths("my favourite colour is green") == ["learned/tr_1"]


async def test_another_agents_rows_are_never_found(tmp_path: Path) -> None:
    """By meaning, by words or by identifier."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "deploy build-2026-11-03-x77 to staging", agent="other")
        home.skill("deploy", "deploy build-2026-11-03-x77 to staging", agent="other")

        assert await home.find("deploy build-2026-11-03-x77 to staging") == ()
        assert len(await home.find("deploy build-2026-11-03-x77 to staging", agent="other")) == 2


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("skills", {"disabled": 1}),
        ("skills", {"status": "archived"}),
        ("skills", {"archived_at": T0}),
        ("skills", {"eta": 0.09}),
        ("policies", {"status": "candidate"}),
        ("policies", {"status": "archived"}),
        ("world_models", {"status": "archived"}),
        ("world_models", {"confidence": 0.19}),
        ("traces", {"archived_at": T0}),
        ("traces", {"value": 0.0}),
        ("traces", {"value": -0.2}),
    ],
)
async def test_what_must_not_be_recalled_is_not(tmp_path: Path, table: str, columns: dict[str, Any]) -> None:
    """Disabled, archived, given up, too uncertain or worthless: by no lookup, not even by its exact words."""
    texts: dict[str, dict[str, Any]] = {
        "skills": {"name": "kiln", "description": "repair the kiln", "eta": 0.8},
        "policies": {"trigger_text": "repair the kiln"},
        "world_models": {"body": "repair the kiln", "confidence": 0.5},
        "traces": {"task_id": "ta_1", "episode_id": "ep_1", "user_text": "repair the kiln", "value": 0.5},
    }
    async with world(tmp_path) as home:
        home.add(table, "repair the kiln", id="one", **{**texts[table], **columns})

        assert await home.find("repair the kiln") == ()


async def test_what_is_disabled_or_archived_later_is_not_found_any_more(tmp_path: Path) -> None:
    """The vectors in memory follow the rows with the next question, and what returns is found again."""
    async with world(tmp_path) as home:
        home.skill("kiln", "repair the kiln")
        home.trace("tr_1", "repair the kiln")
        assert await home.paths("repair the kiln") == ["skills/kiln/SKILL.md", "learned/tr_1"]
        change(home.path, "UPDATE skills SET disabled = 1")
        change(home.path, "UPDATE traces SET archived_at = 1")
        assert await home.paths("repair the kiln") == []
        change(home.path, "UPDATE skills SET disabled = 0")

        assert await home.paths("repair the kiln") == ["skills/kiln/SKILL.md"]


async def test_steps_of_an_episode_that_was_put_aside_are_not_found(tmp_path: Path) -> None:
    """By no lookup, alone or as their episode, and no place in memory is kept for them; taken back, they are again."""
    said = "repair the kiln build-2026-11-03-x77 窯を直す"
    asked = LearnedQuery(said, ("kiln",), ("窯を", "直す"), ("build-2026-11-03-x77",), ("coldkilnerror",))
    async with world(tmp_path) as home:
        seed(home.path, "tasks", id="ta_1", state="scored")
        seed(home.path, "episodes", id="ep_1", task_id="ta_1", state="closed", title="kiln")
        for number in (1, 2):
            home.trace(f"tr_{number}", said, episode_id="ep_1", session_id="s1", first_seq=number, last_seq=number,
                       signatures=["ColdKilnError"], agent_text=f"way {number}")  # fmt: skip

        async def found() -> tuple[list[str], int, int]:
            paths = await home.paths(said)
            words = await home.database.read(lambda tx: by_words(tx, "main", asked, KINDS, Eligible(), None))
            return paths, len(words), home.recall.statistics().vectors

        async def put(*, aside: bool) -> None:
            await home.database.write(lambda tx: archive(tx, "episodes", "ep_1", T0, aside=aside))

        assert await found() == (["learned/ep_1"], 8, 2)
        await put(aside=True)
        assert await found() == ([], 0, 0)
        await put(aside=False)
        assert await found() == (["learned/ep_1"], 8, 2)


async def test_of_the_same_session_only_what_the_prompt_shows_is_left_out(tmp_path: Path) -> None:
    """What was cut from the prompt can be recalled; what is in view is not told twice, by words or by meaning."""
    async with world(tmp_path) as home:
        seed(home.path, "sessions", id="s1", key="agent:main:main", agent="main", origin="live", started_at=T0,
             last_interaction_at=T0, updated_at=T0, history_start=10)  # fmt: skip
        home.trace("tr_1", "glaze the blue bowl", session_id="s1", first_seq=3, last_seq=4)
        home.trace("tr_2", "glaze the red bowl", session_id="s1", first_seq=11, last_seq=12)
        home.trace("tr_3", "glaze the green bowl", session_id="s2", first_seq=11, last_seq=12)

        assert set(await home.paths("glaze the bowl", session="s1")) == {"learned/tr_1", "learned/tr_3"}
        assert set(await home.paths("glaze the bowl", session="s3")) == {"learned/tr_1", "learned/tr_2", "learned/tr_3"}
        visible = await home.recall.recall("main", "glaze the bowl", "s1", 4)
        assert {hit.path for hit in visible} == {"learned/tr_3"}


async def test_of_a_session_nobody_knows_nothing_is_recalled_into_itself(tmp_path: Path) -> None:
    """Where its prompt begins is not known, so all of it may stand there."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "glaze the blue bowl", session_id="s9")

        assert await home.find("glaze the blue bowl", session="s9") == ()


async def test_words_find_what_has_no_vector(tmp_path: Path) -> None:
    """A step is found by its words before its vector is there."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums at noon", vec_summary=None)
        home.trace("tr_2", "something else entirely", vec_summary=None)

        assert await home.paths("turbine hums") == ["learned/tr_1"]


async def test_two_characters_of_chinese_are_found(tmp_path: Path) -> None:
    """They are too short for the index of words: the newest things are looked through for them."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "先做数据库备份，再升级", vec_summary=None)
        home.trace("tr_2", "去买咖啡", vec_summary=None)

        assert await home.paths("备份怎么做") == ["learned/tr_1"]


async def test_an_exact_identifier_finds_its_step_and_leaves_others_out(tmp_path: Path) -> None:
    """One that is a character off is another thing; skills and world models are not asked for it."""
    async with world(tmp_path) as home:
        asked = "what about order-2026-11-03-00417"
        home.trace("tr_right", "refunded order-2026-11-03-00417", vec_summary=home.embedder.vector("x"))
        home.trace("tr_wrong", "what about order-2026-11-03-00418", vec_summary=home.embedder.vector(asked))
        home.skill("orders", "what about an order")

        assert set(await home.paths(asked)) == {"learned/tr_right", "skills/orders/SKILL.md"}


async def test_an_error_that_the_message_quotes_finds_who_met_it(tmp_path: Path) -> None:
    """By its signature, whatever else the message says."""
    async with world(tmp_path) as home:
        recall = LearnedRecall(home.database, nothing, FakeClock(T0), LearningConfig(), deadline_ms=5_000,
                               signatures=lambda texts: ("ModuleNotFoundError: lxml",) if "lxml" in "".join(texts)
                               else ())  # fmt: skip
        home.trace("tr_1", "build the site", signatures=["modulenotfounderror: lxml"], failed=1)
        home.trace("tr_2", "bake bread")
        hits = await recall.recall("main", "now it says ModuleNotFoundError: lxml", None)

        assert [hit.path for hit in hits] == ["learned/tr_1"]
        assert hits[0].parts["semantic"] == 0.9


async def test_several_steps_of_one_task_are_shown_as_their_episode(tmp_path: Path) -> None:
    """It is told once, with its steps in their order, and under the least trusted of them."""
    async with world(tmp_path) as home:
        seed(home.path, "episodes", id="ep_1", task_id="ta_1", title="Fire the kiln")
        for number, whose in ((1, "agent"), (2, "untrusted")):
            home.trace(f"tr_{number}", f"fire the kiln slowly {number}", episode_id="ep_1", session_id="s1",
                       provenance=whose, first_seq=2 * number, last_seq=2 * number + 1, at=T0 + number,
                       summary=f"step {number}", agent_text=f"did thing {number} in its own way")  # fmt: skip
        hits = await home.find("fire the kiln slowly")

        assert [(hit.path, hit.citation, hit.provenance, hit.text) for hit in hits] == [
            ("learned/ep_1", "learned/ep_1#L2-L5", "untrusted", "An earlier task: Fire the kiln\n- step 1\n- step 2")
        ]


async def test_a_policy_that_a_newer_skill_holds_is_not_told_again(tmp_path: Path) -> None:
    """An older skill does not silence what was learned since."""
    async with world(tmp_path) as home:
        home.add("policies", "fire the kiln", id="po_1", trigger_text="fire the kiln", updated_at=T0)
        home.skill("kiln", "fire the kiln", policies=["po_1"], updated_at=T0 + 1)
        assert await home.paths("fire the kiln") == ["skills/kiln/SKILL.md"]
        change(home.path, "UPDATE policies SET updated_at = updated_at + 2")

        assert await home.paths("fire the kiln") == ["skills/kiln/SKILL.md", "learned/po_1"]


async def test_guidance_of_the_policies_behind_comes_along(tmp_path: Path) -> None:
    """The newest three to prefer and to avoid, of the policies of a skill and of those that a step follows."""
    async with world(tmp_path) as home:
        of_skill = {"preference": ["a", "b", "c", "d"], "anti_pattern": []}
        of_step = {"preference": ["a"], "anti_pattern": ["x"]}
        seed(home.path, "policies", id="po_1", guidance=of_skill, provenance="owner")
        seed(home.path, "policies", id="po_2", guidance=of_step, provenance="system")
        home.skill("kiln", "fire the kiln", policies=["po_1"])
        home.trace("tr_1", "fire the kiln")
        seed(home.path, "trace_policy_links", trace_id="tr_1", policy_id="po_2", episode_id="ep_1", task_id="ta_1")
        guidance = (await home.find("fire the kiln"))[-1]

        assert (guidance.path, guidance.source, guidance.provenance) == ("learned/guidance", "policies", "system")
        assert guidance.text == "Prefer:\n- d\n- c\n- b\nAvoid:\n- x"


async def test_at_most_as_many_as_allowed_of_each_tier(tmp_path: Path) -> None:
    """Each tier has its own places."""
    async with world(tmp_path, skills=2, traces=3, world_models=1) as home:
        for number in range(6):
            home.trace(f"tr_{number}", f"paint fence number{number}", agent_text=f"colour{number} brush{number}")
            home.skill(f"s{number}", f"paint fence number{number}")
            home.add("world_models", f"paint fence number{number}", id=f"wm_{number}", body=f"fence {number}")
        paths = await home.paths("paint fence")

        assert [path.split("/")[0] for path in paths].count("skills") == 2
        assert len([path for path in paths if path.startswith("learned/tr_")]) == 3
        assert len([path for path in paths if path.startswith("learned/wm_")]) == 1


async def test_without_an_embedder_words_are_enough(tmp_path: Path) -> None:
    """And nothing breaks."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums at noon")
        recall = LearnedRecall(home.database, nothing, FakeClock(T0), LearningConfig(), deadline_ms=5_000)

        assert [hit.path for hit in await recall.recall("main", "turbine hums", None)] == ["learned/tr_1"]


async def test_an_embedder_that_fails_costs_the_meaning_alone(tmp_path: Path) -> None:
    """What the words find is shown."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums at noon")
        home.embedder.error = EmbedderError("gone")

        assert await home.paths("turbine hums") == ["learned/tr_1"]


async def test_an_embedder_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """At its part of the deadline what the words find is shown, and its call is cancelled."""
    cancelled = asyncio.Event()

    async def hangs(_text: str) -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            cancelled.set()

    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums at noon")
        recall = LearnedRecall(home.database, hangs, FakeClock(T0), LearningConfig(), deadline_ms=200)

        assert [hit.path for hit in await recall.recall("main", "turbine hums", None)] == ["learned/tr_1"]
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_lookups_by_words_that_are_slow_take_one_thread_of_the_database(tmp_path: Path) -> None:
    """Turns have the other one, however many messages are waited for; each goes on at its deadline."""
    going, most = 0, 0
    lock, go_on = threading.Lock(), threading.Event()

    def slow(_texts: object) -> tuple[str, ...]:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        go_on.wait(10)
        with lock:
            going -= 1
        return ()

    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums at noon")
        recall = LearnedRecall(home.database, home.embedder.embed_query, FakeClock(T0), LearningConfig(),
                               deadline_ms=300, signatures=slow)  # fmt: skip
        found = await asyncio.gather(*(recall.recall("main", "the turbine hums at noon", None) for _ in range(4)))
        go_on.set()
        await recall.aclose()

        assert most == 1
        assert [[hit.path for hit in hits] for hits in found] == [["learned/tr_1"]] * 4


async def test_a_hit_says_whose_words_it_holds_and_why_it_is_there(tmp_path: Path) -> None:
    """Provenance, day, place in its session, score with its parts."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums at noon", provenance="untrusted", session_id="s7", first_seq=4, last_seq=6)
        hit = (await home.find("the turbine hums at noon"))[0]

        assert (hit.source, hit.citation, hit.provenance, hit.when) == (
            "traces", "learned/tr_1#L4-L6", "untrusted", "2023-11-14",
        )  # fmt: skip
        assert (hit.session_id, hit.reason) == ("s7", "found by vec_summary, words; the best of its tier")
        assert hit.parts["semantic"] == 1.0
        assert hit.parts["tier_boost"] == 0.15
        assert hit.score == 1.0


async def test_what_is_old_counts_less(tmp_path: Path) -> None:
    """A step's worth halves in the time that is set; its similarity does not."""
    async with world(tmp_path) as home:
        home.trace("tr_1", "the turbine hums", at=T0 - 30 * DAY_MS, value=1.0)

        assert (await home.find("the turbine hums"))[0].parts["tier_boost"] == 0.15


async def nothing(_text: str) -> None:
    return None


def change(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    connection.execute(sql)
    connection.close()
