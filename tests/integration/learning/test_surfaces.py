"""What was learned, on a real state.db: pages, explanations, changes, feedback."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.config import LearningConfig
from reverie.errors import LearnedStateError, RequestError, UnknownFeedbackTargetError, UnknownLearnedError
from reverie.jobs.requests import JobBook
from reverie.learning.feedback.feedback import Feedbacks, Submission
from reverie.learning.feedback.targets import Target
from reverie.learning.skills.files import SkillFiles
from reverie.learning.skills.skills import Skills
from reverie.learning.surfaces.pages import PageRequest
from reverie.learning.surfaces.ports import GivenFeedback
from reverie.learning.surfaces.surfaces import LearningSurfaces
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from tests.learning_rows import T0, seed, unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from reverie.learning.surfaces.ports import Kind

pytestmark = pytest.mark.anyio

NOW = T0 + 3_600_000


@dataclass
class Home:
    """A state.db with its surfaces."""

    state: Database
    surfaces: LearningSurfaces
    workspace: Path

    def put(self, table: str, **columns: Any) -> None:
        """Write a row."""
        seed(self.state.path, table, **columns)

    def column(self, sql: str) -> Any:
        """The first column of the first row."""
        with closing(apsw.Connection(str(self.state.path))) as connection:
            return connection.execute(sql).get

    async def ids(self, kind: Kind, **asked: Any) -> list[str]:
        """The ids of a page."""
        page = await self.surfaces.page(replace(PageRequest(kind, "main"), **asked))
        return [each["id"] for each in page["data"]]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """An empty one."""
    state = await Database.open(tmp_path / "state.db", STATE, now_ms=T0)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    surfaces = LearningSurfaces.over(state, FakeClock(NOW), LearningConfig(), {"main": workspace})
    yield Home(state, surfaces, workspace)
    await state.aclose()


def seed_task(home: Home) -> None:
    """A scored task of one episode with three steps, the second of which follows a policy, from which a skill came."""
    home.put("tasks", id="ta_1", state="scored", r_human=0.8, reward={"axes": {"goal": 1}})
    home.put("episodes", id="ep_1", task_id="ta_1", title="The drum squeaks")
    home.put("episode_spans", episode_id="ep_1", first_seq=1, last_seq=4)
    home.put("episode_spans", episode_id="ep_1", first_seq=9, last_seq=9)
    home.put("routings", at=T0, agent="main", session_id="s1", seq=1, source="none", relation="new_task",
             confidence=1.0, classified_by="rule", reason="first", action="opened", state="decided",
             episode_id="ep_1")  # fmt: skip
    for number, value in enumerate((0.2, 0.5, 0.8), start=1):
        home.put("traces", id=f"tr_{number}", task_id="ta_1", episode_id="ep_1", value=value, alpha=value / 2,
                 summary=f"step {number} of the drum", step=number - 1, tags=["drum"],
                 vec_summary=unit(1, 0))  # fmt: skip
    home.put("policies", id="po_1", title="Grease the bearing", gain=0.3, gain_known=1, support=1,
             source_episodes=["ep_1"], source_traces=["tr_2"], source_feedback=["fb_1"])  # fmt: skip
    home.put("trace_policy_links", trace_id="tr_2", policy_id="po_1", episode_id="ep_1", task_id="ta_1")
    home.put("world_models", id="wm_1", policies=["po_1"], source_episodes=["ep_1"])
    home.put("skills", id="sk_1", name="grease", policies=["po_1"], worlds=["wm_1"], anchors=["tr_2"], eta=0.6)
    home.put("skill_events", skill_id="sk_1", kind="build", detail={"eta": 0.5})
    home.put("skill_events", skill_id="sk_1", kind="trial", task_id="ta_1", outcome="pass", detail={"eta": 0.6})
    home.put("feedback", id="fb_1", task_id="ta_1", episode_id="ep_1", trace_id="tr_2", text="Quiet now, thanks")
    home.put("job_requests", key="reward:ta_1:1", kind="reward", task_id="ta_1", state="done", agent="main")
    home.put("model_calls", key="c1", job_key="reward:ta_1:1", task_id="ta_1", tokens_in=90, tokens_out=10, money=0.5)
    home.put("learning_trail", task_id="ta_1", episode_id="ep_1", ref="ta_1", detail={"r": 0.8})
    home.put("learning_trail", stage="induce", ref="po_1", reason="bucket_ready", at=T0 + 1)


async def test_pages_follow_each_other(home: Home) -> None:
    """Newest first, each row once, also where several have one instant; the last page says that it is the last."""
    for number in range(7):
        home.put("policies", id=f"po_{number}", created_at=T0 + number // 2)

    seen: list[str] = []
    after = ""
    while True:
        page = await home.surfaces.page(PageRequest("policies", "main", after=after, limit=3))
        seen += [each["id"] for each in page["data"]]
        assert page["has_more"] == (page["next_after"] is not None)
        if page["next_after"] is None:
            break
        after = page["next_after"]

    assert seen == ["po_6", "po_5", "po_4", "po_3", "po_2", "po_1", "po_0"]


async def test_filters_come_before_the_cut(home: Home) -> None:
    """A page is full of what passes; other agents' rows are not among them."""
    for number in range(30):
        home.put(
            "policies", id=f"po_{number:02}", created_at=T0 + number, status="archived" if number < 3 else "active"
        )
    home.put("policies", id="po_other", agent="other", status="archived")

    page = await home.surfaces.page(PageRequest("policies", "main", status="archived", limit=2))
    assert [each["id"] for each in page["data"]] == ["po_02", "po_01"]
    assert await home.ids("policies", status="archived", limit=2, after=page["next_after"]) == ["po_00"]


async def test_a_filter_looks_on_after_a_stretch(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is far down is found; where that would be too far, the page says where to go on."""
    monkeypatch.setattr("reverie.learning.surfaces.pages.LOOKED_AT", 4)
    monkeypatch.setattr("reverie.learning.surfaces.pages.STRETCHES_MAX", 2)
    for number in range(20):
        home.put(
            "policies",
            id=f"po_{number:02}",
            created_at=T0 + number,
            status="archived" if number % 13 == 0 else "active",
        )

    first = await home.surfaces.page(PageRequest("policies", "main", status="archived"))
    second = await home.surfaces.page(PageRequest("policies", "main", status="archived", after=first["next_after"]))
    third = await home.surfaces.page(PageRequest("policies", "main", status="archived", after=second["next_after"]))

    assert [[each["id"] for each in page["data"]] for page in (first, second, third)] == [["po_13"], [], ["po_00"]]
    assert (first["next_after"], second["next_after"], third["next_after"]) == ("po_12", "po_04", None)


@pytest.mark.parametrize(
    ("kind", "asked", "found"),
    [
        ("traces", {"q": "DRUM", "limit": 2}, ["tr_3", "tr_2"]),
        ("traces", {"q": "step 2"}, ["tr_2"]),
        ("traces", {"q": "2"}, ["tr_2"]),
        ("traces", {"q": "%"}, []),
        ("traces", {"q": 'a "quote'}, []),
        ("traces", {"q": "a\0bcd"}, []),
        ("episodes", {"q": "a\ud83dbcd"}, []),
        ("traces", {"status": "unreflected"}, ["tr_3", "tr_2", "tr_1"]),
        ("traces", {"status": "archived"}, []),
        ("episodes", {"status": "scored", "q": "squeaks"}, ["ep_1"]),
        ("episodes", {"status": "closed"}, ["ep_1"]),
        ("episodes", {"status": "open"}, []),
        ("episodes", {"status": "provisional"}, []),
        ("policies", {"q": "bearing"}, ["po_1"]),
        ("world-models", {"status": "active"}, ["wm_1"]),
        ("skills", {"status": "disabled"}, []),
        ("skills", {"q": "gr"}, ["sk_1"]),
        ("feedback", {"status": "explicit", "q": "thanks"}, ["fb_1"]),
        ("feedback", {"status": "negative"}, []),
        ("jobs", {"status": "done"}, ["reward:ta_1:1"]),
        ("jobs", {"agent": "", "q": "reward"}, ["reward:ta_1:1"]),
        ("jobs", {"agent": "other"}, []),
    ],
)
async def test_filters(home: Home, kind: Kind, asked: dict[str, Any], found: list[str]) -> None:
    """By status, by words where there is an index of them, else by title."""
    seed_task(home)

    assert await home.ids(kind, **asked) == found


async def test_an_unknown_place(home: Home) -> None:
    """A page after nothing is refused."""
    with pytest.raises(UnknownLearnedError, match="no trace 'tr_9'"):
        await home.surfaces.page(PageRequest("traces", "main", after="tr_9"))


async def test_one_trace(home: Home) -> None:
    """Everything of it as values, without its vectors."""
    seed_task(home)

    assert await home.surfaces.show("traces", "tr_2") == {
        "object": "reverie.learning.trace", "id": "tr_2", "task_id": "ta_1", "episode_id": "ep_1", "agent": "main",
        "session_id": "s1", "first_seq": 2, "last_seq": 2, "turn_seq": 1, "step": 1, "at_ms": T0 + 2_000, "window": 1,
        "user_text": "", "agent_text": "", "thinking": "", "summary": "step 2 of the drum", "tool_calls": [],
        "reflection": "", "usable": None, "alpha": 0.25, "value": 0.5, "r_human": None, "priority": 0.5,
        "tags": ["drum"], "signatures": [], "failed": False, "has_vector": True, "provenance": "agent",
        "edited_at_ms": None, "archived_at_ms": None, "citation": "sessions/s1#L2",
    }  # fmt: skip


async def test_why_an_episode_is_as_it_is(home: Home) -> None:
    """Where it stands, what was decided of its messages, what each step was worth, what was said, done and spent."""
    seed_task(home)

    why = await home.surfaces.explain("episodes", "ep_1")

    assert [span["citation"] for span in why["spans"]] == ["sessions/s1#L1-L4", "sessions/s1#L9"]
    assert [(each["action"], each["reason"]) for each in why["routings"]] == [("opened", "first")]
    assert [(each["id"], each["alpha"], each["value"]) for each in why["traces"]] == [
        ("tr_1", 0.1, 0.2), ("tr_2", 0.25, 0.5), ("tr_3", 0.4, 0.8),
    ]  # fmt: skip
    assert (why["task"]["r_human"], why["task"]["reward"]) == (0.8, {"axes": {"goal": 1}})
    assert [each["text"] for each in why["feedback"]] == ["Quiet now, thanks"]
    assert why["spend"] == [{"kind": "reward", "calls": 1, "tokens": 100, "money": 0.5}]
    assert [each["id"] for each in why["jobs"]] == ["reward:ta_1:1"]
    assert [(each["stage"], each["reason"], each["detail"]) for each in why["trail"]] == [
        ("reward", "scored", {"r": 0.8})
    ]


async def test_why_a_policy_is_there(home: Home) -> None:
    """Its evidence down to the lines of the transcript, its gain with both sets, and what was made of it."""
    seed_task(home)

    why = await home.surfaces.explain("policies", "po_1")

    assert why["evidence"] == [
        {"id": "ep_1", "task_id": "ta_1", "session_id": "s1", "opened_at_ms": T0, "title": "The drum squeaks",
         "task_state": "scored", "r_human": 0.8, "citations": ["sessions/s1#L1-L4", "sessions/s1#L9"]}
    ]  # fmt: skip
    gain = why["gain"]
    assert (gain["value"], gain["known"], gain["support"]) == (0.3, True, 1)
    assert [(each["id"], each["value"]) for each in gain["with"]] == [("tr_2", 0.5)]
    assert [(each["id"], each["value"]) for each in gain["without"]] == [("tr_3", 0.8), ("tr_1", 0.2)]
    assert [each["id"] for each in (*why["traces"], *why["feedback"])] == ["tr_2", "fb_1"]
    assert [each["id"] for each in (*why["world_models"], *why["skills"])] == ["wm_1", "sk_1"]
    assert [each["reason"] for each in why["trail"]] == ["bucket_ready"]


async def test_why_a_skill_is_trusted(home: Home) -> None:
    """What it was made of, what happened to it, and how its success rate came about."""
    seed_task(home)

    why = await home.surfaces.explain("skills", "grease", "main")

    assert [each["id"] for each in (*why["policies"], *why["world_models"], *why["traces"])] == ["po_1", "wm_1", "tr_2"]
    assert [(each["kind"], each["outcome"]) for each in why["events"]] == [("build", ""), ("trial", "pass")]
    assert [each["eta"] for each in why["eta"]] == [0.5, 0.6]


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        ("traces", "tr_2", {"task", "feedback", "spend", "evidence", "policies", "candidates", "jobs", "trail"}),
        ("world-models", "wm_1", {"evidence", "policies", "trail"}),
        ("feedback", "fb_1", {"task", "feedback", "spend", "evidence", "traces", "jobs", "trail"}),
        ("jobs", "reward:ta_1:1", {"calls", "task", "feedback", "spend", "trail"}),
    ],
)
async def test_why_of_the_others(home: Home, kind: Kind, name: str, parts: set[str]) -> None:
    """Every kind has an explanation."""
    seed_task(home)

    why = await home.surfaces.explain(kind, name)

    assert why.keys() == {"object", "kind", "item", *parts}
    assert why["item"]["id"] == name


async def test_nothing_of_that_name(home: Home) -> None:
    """An unknown id is refused in every way."""
    for asking in (
        home.surfaces.show("skills", "sk_9", "main"),
        home.surfaces.explain("episodes", "ep_9"),
        home.surfaces.edit("traces", "tr_9", {"summary": "x"}),
        home.surfaces.act("policies", "po_9", "archive"),
        home.surfaces.delete("world-models", "wm_9"),
    ):
        with pytest.raises(UnknownLearnedError):
            await asking


async def test_an_edited_trace_gets_another_vector(home: Home) -> None:
    """What a person wrote stands, is found by its words, and the vector of the old words is gone."""
    seed_task(home)

    item = await home.surfaces.edit("traces", "tr_2", {"summary": "greased the bearing"})

    assert (item["summary"], item["reflection"], item["edited_at_ms"], item["has_vector"]) == (
        "greased the bearing", "", NOW, False,
    )  # fmt: skip
    assert await home.ids("traces", q="greased") == ["tr_2"]
    assert home.column("SELECT reason FROM learning_trail ORDER BY id DESC LIMIT 1") == "edited"


async def test_an_edited_policy(home: Home) -> None:
    """Texts, switches and one of both lists of guidance; what is not given stays."""
    home.put("policies", id="po_1", guidance={"preference": ["old"], "anti_pattern": ["never"]}, boundary="indoors")

    item = await home.surfaces.edit(
        "policies", "po_1", {"trigger": "t", "preference": ["new"], "skill_eligible": False}
    )

    assert (item["trigger"], item["boundary"], item["skill_eligible"]) == ("t", "indoors", False)
    assert item["guidance"] == {"preference": ["new"], "anti_pattern": ["never"]}
    assert item["edited_at_ms"] == NOW


async def test_an_edited_world_model(home: Home) -> None:
    """It is another version."""
    home.put("world_models", id="wm_1")

    item = await home.surfaces.edit("world-models", "wm_1", {"body": "b", "domain_tags": ["café"]})

    assert (item["body"], item["domain_tags"], item["version"], item["edited_at_ms"]) == ("b", ["café"], 2, NOW)
    assert home.column("SELECT count(*) FROM learning_trail WHERE stage = 'edit' AND ref = 'wm_1'") == 2


async def test_a_skill_through_its_life(home: Home) -> None:
    """Edited, switched off and on, put aside, taken back, deleted: its file says the same each time."""
    home.put("skills", id="sk_1", name="grease", title="Grease", description="When it squeaks.", guide="# Old")
    file = home.workspace / "skills" / "grease" / "SKILL.md"

    item = await home.surfaces.edit("skills", "grease", {"guide": "# New"}, "main")
    assert (item["guide"], item["edited_at_ms"], "# New" in file.read_text(encoding="utf-8")) == ("# New", NOW, True)
    states: list[tuple[object, ...]] = []
    for verb in ("disable", "enable", "archive", "unarchive"):
        item = await home.surfaces.act("skills", "sk_1", verb)
        states.append((verb, item["disabled"], item["status"]))
    gone = await home.surfaces.delete("skills", "grease", "main")

    assert states == [
        ("disable", True, "active"), ("enable", False, "active"), ("archive", False, "archived"),
        ("unarchive", False, "active"),
    ]  # fmt: skip
    assert gone == {"object": "reverie.learning.skill.deleted", "id": "sk_1", "deleted": True}
    assert not file.exists()
    assert await home.ids("skills") == []


@pytest.mark.parametrize(
    ("kind", "name", "table"), [("policies", "po_1", "policies"), ("world-models", "wm_1", "world_models")]
)
async def test_archived_and_back(home: Home, kind: Kind, name: str, table: str) -> None:
    """Put aside with its instant, taken back as active, deleted for good."""
    home.put(table, id=name)

    aside = await home.surfaces.act(kind, name, "archive")
    back = await home.surfaces.act(kind, name, "unarchive")
    await home.surfaces.delete(kind, name)

    assert (aside["status"], aside["archived_at_ms"]) == ("archived", NOW)
    assert (back["status"], back["archived_at_ms"]) == ("active", None)
    assert await home.ids(kind) == []


async def test_an_episode_that_is_put_aside_is_never_scored(home: Home) -> None:
    """Its task is marked, skipped if it has ended; taken back it has ended, and may be scored; a score stays."""
    home.put("tasks", id="ta_1", state="ended")
    home.put("episodes", id="ep_1", task_id="ta_1")
    home.put("tasks", id="ta_2", state="scored", r_human=0.5)
    home.put("episodes", id="ep_2", task_id="ta_2", session_id="s2")

    aside = await home.surfaces.act("episodes", "ep_1", "archive")
    back = await home.surfaces.act("episodes", "ep_1", "unarchive")
    scored = await home.surfaces.act("episodes", "ep_2", "archive")

    assert (aside["task_state"], aside["archived_at_ms"]) == ("skipped", NOW)
    assert aside["reward"] == {"skipped": True, "reason": "archived_by_person"}
    assert (back["task_state"], back["archived_at_ms"], back["reward"]) == ("ended", None, {})
    assert (scored["task_state"], scored["r_human"], scored["archived_at_ms"]) == ("scored", 0.5, NOW)
    assert home.column("SELECT json_group_array(key) FROM job_requests") == f'["reward:ta_1:1:{NOW}"]'


async def test_a_task_that_is_put_aside_while_it_runs(home: Home) -> None:
    """When it ends, it is skipped, whoever ends it."""
    home.put("tasks", id="ta_1", state="open")
    home.put("episodes", id="ep_1", task_id="ta_1", state="open")

    aside = await home.surfaces.act("episodes", "ep_1", "archive")
    with closing(apsw.Connection(str(home.state.path))) as connection:
        connection.execute("UPDATE tasks SET state = 'ended' WHERE id = 'ta_1'")

    assert aside["task_state"] == "open"
    ended = await home.surfaces.show("episodes", "ep_1")
    assert (ended["task_state"], ended["reward"]["reason"]) == ("skipped", "archived_by_person")


async def test_jobs_are_tried_again_and_cancelled(home: Home) -> None:
    """A dead one waits again with all attempts; one that has not ended is stopped; others are in no state for it."""
    home.put("job_requests", key="a", kind="reward", state="dead", attempts=5, ended_at=T0, error="it broke")
    home.put("job_requests", key="b", kind="reward", state="waiting")
    home.put("job_requests", key="c", kind="reward", state="done")

    again = await home.surfaces.act("jobs", "a", "retry")
    never = await home.surfaces.act("jobs", "b", "cancel")

    assert (again["state"], again["attempts"], again["ended_at_ms"]) == ("waiting", 0, None)
    assert (never["state"], never["ended_at_ms"]) == ("cancelled", NOW)
    with pytest.raises(
        LearnedStateError, match="The job is done: `cancel` is for one that is dispatched, running, waiting"
    ):
        await home.surfaces.act("jobs", "c", "cancel")
    with pytest.raises(LearnedStateError, match="waiting"):
        await home.surfaces.act("jobs", "a", "retry")
    with pytest.raises(RequestError, match="cannot be done"):
        await home.surfaces.act("jobs", "a", "archive")


def seed_session(home: Home) -> None:
    """A session of two answered turns; the second one's answer is a trace."""
    home.put("sessions", id="s1", key="agent:main:main", agent="main", origin="live", started_at=T0,
             last_interaction_at=T0, updated_at=T0)  # fmt: skip
    for number in (1, 2):
        home.put("turns", id=f"t{number}", session_id="s1", position=number, state="answered", request="{}",
                 accepted_at=T0)  # fmt: skip
        for place, role in enumerate(("user", "assistant")):
            home.put("messages", session_id="s1", seq=number * 2 - 1 + place, turn_id=f"t{number}", role=role, text="x",
                     fingerprint=b"f", created_at=T0)  # fmt: skip
    home.put("tasks", id="ta_1")
    home.put("episodes", id="ep_1", task_id="ta_1")
    home.put("episode_spans", episode_id="ep_1", first_seq=1, last_seq=4)
    home.put("traces", id="tr_1", task_id="ta_1", episode_id="ep_1", first_seq=4, last_seq=4)
    home.put("skills", id="sk_1", name="grease")


def given(kind: Any, name: str, **said: Any) -> GivenFeedback:
    """Positive feedback, unless something else is said."""
    return GivenFeedback(replace(Submission(Target(kind, name), "positive"), **said), "main")


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        ("turn", "t2", ["s1", "t2", "ta_1", "ep_1", None, None]),
        ("session", "s1", ["s1", "t2", "ta_1", "ep_1", None, None]),
        ("session", "main", ["s1", "t2", "ta_1", "ep_1", None, None]),
        ("session", "agent:main:main", ["s1", "t2", "ta_1", "ep_1", None, None]),
        ("trace", "tr_1", ["s1", None, "ta_1", "ep_1", "tr_1", None]),
        ("skill", "grease", [None, None, None, None, None, "sk_1"]),
        ("skill", "sk_1", [None, None, None, None, None, "sk_1"]),
    ],
)
async def test_what_feedback_is_about(home: Home, kind: Any, name: str, target: list[str | None]) -> None:
    """Skills and sessions go by the names that people use; its job is asked for in the same transaction."""
    seed_session(home)

    kept = await home.surfaces.give_feedback(given(kind, name, magnitude=0.5, text="good"))

    assert (kept["polarity"], kept["magnitude"], kept["task_id"], kept["at_ms"]) == ("positive", 0.5, target[2], NOW)
    where = "json_array(session_id, turn_id, task_id, episode_id, trace_id, skill_id)"
    assert json.loads(home.column(f"SELECT {where} FROM feedback")) == target  # noqa: S608 (our own words)
    assert home.column("SELECT json_array(key, kind, state) FROM job_requests") == (
        f'["feedback:{kept["id"]}","feedback","waiting"]'
    )


async def test_feedback_wakes_whoever_does_jobs(home: Home) -> None:
    """Its job need not wait for the next look."""
    seed_session(home)
    woken: list[bool] = []
    clock, config = FakeClock(NOW), LearningConfig()
    surfaces = LearningSurfaces(
        home.state, clock, config, skills=Skills(home.state, clock, config.skills, SkillFiles(home.state, clock, {})),
        feedback=Feedbacks(home.state, clock, config), jobs=JobBook(home.state, clock), wake=lambda: woken.append(True),
    )  # fmt: skip

    await surfaces.give_feedback(given("turn", "t1"))
    assert woken == [True]


async def test_feedback_about_another_agents_things(home: Home) -> None:
    """Where an agent is named, only its own are meant; nothing else is known either."""
    seed_session(home)

    for wanted in (replace(given("turn", "t1"), agent="other", only=True), given("session", "nobody")):
        with pytest.raises(UnknownFeedbackTargetError):
            await home.surfaces.give_feedback(wanted)


async def test_how_learning_does(home: Home) -> None:
    """Spend against limits, lanes with their ages, why jobs wait and until when, pauses, a storm, counts."""
    seed_task(home)
    home.put("learning_spend", span="day", name="2023-11-14", kind="", calls=7, tokens=900, money=0.5, at=NOW)
    home.put("learning_spend", span="day", name="2023-11-14", kind="reward", calls=7, tokens=900, money=0.5, at=NOW)
    for number in range(40):
        home.put("job_requests", key=f"w{number}", kind="window", requested_at=NOW - 1_000,
                 not_before=NOW - 500, due_at=NOW - 500 + number)  # fmt: skip
    home.put("job_requests", key="later", kind="induce", lane="idle", not_before=NOW + 9_000, due_at=NOW + 9_000,
             waits_for="budget:day")  # fmt: skip
    home.put("job_requests", key="now", kind="reward", state="running", started_at=NOW)
    home.put("model_permits", slot=1, holder="p", until=NOW + 1)
    for key, ended in (("a", {}), ("b", {"error": "no JSON"}), ("c", {"state": "failed", "error": "cut"})):
        home.put("model_calls", **{"key": key, "kind": "reward", "op": f"op.{key}", "at": NOW, "state": "answered",
                                   **ended})  # fmt: skip
    home.put("provider_pauses", provider="http://m", until=NOW + 5, kind="rate_limit", reason="429", since=NOW)

    status = await home.surfaces.status()

    assert status["spend"]["day"] == {
        "name": "2023-11-14", "calls": 7, "tokens": 900, "money": 0.5,
        "limits": {"calls": 1_500, "tokens": 4_000_000, "money": None},
        "kinds": [{"kind": "reward", "calls": 7, "tokens": 900, "money": 0.5, "calls_limit": None}],
    }  # fmt: skip
    assert status["spend"]["hour"]["calls"] == 0
    assert status["lanes"]["background"] == {
        "waiting": 40, "running": 1, "dead": 0, "oldest_s": 0.5, "next_at_ms": None
    }  # fmt: skip
    assert status["lanes"]["idle"] == {
        "waiting": 1, "running": 0, "dead": 0, "oldest_s": 0.0, "next_at_ms": NOW + 9_000
    }  # fmt: skip
    assert status["paused"] == [{"lane": "idle", "waits_for": "budget:day", "jobs": 1, "until_ms": NOW + 9_000}]
    assert [each["id"] for each in status["in_flight"]] == ["now"]
    assert status["calls"] == {"in_flight": 1, "limit": 2}
    assert [(each["provider"], each["until_ms"], each["reason"]) for each in status["providers"]] == [
        ("http://m", NOW + 5, "429")
    ]
    assert status["answers"] == {
        "today": 3, "unusable": 1, "last": {"op": "op.b", "wrong": "no JSON", "at_ms": NOW}
    }  # fmt: skip
    assert status["storm"]["alarm"] == "40 jobs a minute, usually 3"
    assert status["counts"] == {
        "episodes": 1, "traces": 3, "policies": 1, "world_models": 1, "skills": 1, "feedback": 1
    }  # fmt: skip
