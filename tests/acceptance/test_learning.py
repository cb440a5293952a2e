"""Learning with the real process: what becomes of finished work, what that costs, and that nobody waits for it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from reverie.clock import iso_minute
from reverie.testing.learning_upstream import Fault
from reverie.types import ToolCall
from tests.acceptance.learning_process import (
    ASK,
    KEY,
    LEARNED_S_MAX,
    RESULT,
    WITHOUT_VECTORS,
    Learner,
    answers,
    learner_for,
)
from tests.acceptance.servers import supervised, until
from tests.acceptance.test_bad_home import WRONG_USE, check_one_line
from tests.acceptance.test_forgetting import WORD, holding

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.testing.learning_upstream import LearningUpstream
    from tests.acceptance.servers import Server

pytestmark = pytest.mark.timeout(90)

R_HUMAN = 0.45 * 0.9 + 0.30 * 0.8 + 0.25 * 0.9
"""What the judge's axes make, as the model's server answers them."""
TAKEN_S_MAX = 1.0
TURN_S_MAX = 5.0
DAY_MS = 86_400_000
KILLS = 15
SEED = 20_261_127
UP_S_MAX = 1.0
IN_FLIGHT_SHARE = 0.5
IN_FLIGHT_S_MAX = 2.5
KEPT_S_MAX = 1.0
"""An answer is written down within this time of being given; killed meanwhile, it is asked for again."""
SCORED_AT_ONCE = {"REVERIE_LEARNING__REWARD__FEEDBACK_WINDOW_S": "1"}


def skill_names(here: Learner) -> list[str]:
    """The folders of skills that are there."""
    return sorted(path.parent.name for path in here.server.workspace.glob("skills/*/SKILL.md"))


def skill_of_checks(here: Learner) -> str:
    """The name of the skill of running the checks."""
    [name] = [each["name"] for each in here.learned("skills") if "run the checks" in each["description"]]
    return name


def file_of(here: Learner, name: str) -> Path:
    """Where a skill stands."""
    return here.server.workspace / "skills" / name / "SKILL.md"


def recalled(here: Learner) -> str:
    """The fence in the last prompt that the model's server got; '' when there was none."""
    said = here.upstream.turns[-1]["messages"][-1]["content"]
    found = re.search(r"<recalled_memory>.*</recalled_memory>", said, re.DOTALL)
    return found[0] if found else ""


def test_two_conversations_alike_become_a_skill(server: Server) -> None:
    """With tools of the client: policies, world models, skills with files; the command line says what HTTP says."""
    with learner_for(server) as here:
        server.start()
        here.done("one", "two")
        here.settle()
        policies, skills, episodes = (here.learned(kind) for kind in ("policies", "skills", "episodes"))
        explained = server.get(f"/v1/learning/episodes/{episodes[0]['id']}/explain").json

        assert {(each["status"], each["support"]) for each in policies} == {("active", 2)}
        assert [round(each["r_human"], 6) for each in episodes] == [round(R_HUMAN, 6)] * 2
        assert here.learned("world-models")
        assert [step["value"] > 0 for step in explained["traces"]] == [True, True]
        assert [job["state"] for job in explained["jobs"]] == ["done"] * len(explained["jobs"])
        assert skill_names(here) == sorted(each["name"] for each in skills)
        text = file_of(here, skill_of_checks(here)).read_text("utf-8")
        assert text.startswith("---\nname: ")
        assert RESULT in text
        assert "\n## Steps\n" in text

        assert here.command("learning", "status") == here.status
        assert here.command("skills", "list")["data"] == skills
        assert here.command("learning", "policies")["data"] == policies
        assert here.command("learning", "episodes", "explain", episodes[0]["id"]) == explained
        assert here.status["counts"]["traces"] == 4
        assert len({call["digest"] for call in here.questions}) == len(here.questions)


def test_a_skill_is_recalled_tried_and_earns_its_rate(server: Server) -> None:
    """It stands in the next prompt's fence; it is read; the task's score is a trial, and η what the formula says."""
    with learner_for(server) as here:
        server.start()
        here.done("one", "two")
        here.settle()
        name = skill_of_checks(here)
        before = server.get(f"/v1/learning/skills/{name}").json
        here.upstream.tool_calls = (ToolCall("get", "memory_get", json.dumps({"path": f"skills/{name}/SKILL.md"})),)
        here.ask("three", f"{ASK}, for the branch three, please.")
        fetched = here.upstream.turns[-1]["messages"][-1]
        prompt = here.upstream.turns[-2]["messages"][-1]["content"]
        here.end("three")
        here.until_scored(3)
        here.settle()
        after = server.get(f"/v1/learning/skills/{name}").json
        events = server.get(f"/v1/learning/skills/{name}/explain").json["events"]

        fence = prompt[prompt.index("<recalled_memory>") : prompt.index("</recalled_memory>")]
        assert f'<memory source="skills/{name}/SKILL.md#L1"' in fence
        assert (fetched["role"], "# Do again" in fetched["content"]) == ("tool", True)
        assert (before["exposures"], before["trials"]) == (0, 0)
        assert (after["exposures"], after["uses"], after["trials"], after["passes"]) == (1, 1, 1, 1)
        [trial] = [each for each in events if each["kind"] == "trial"]
        assert trial["outcome"] == "pass"
        assert trial["detail"]["to"] == pytest.approx((trial["detail"]["from"] * 1 + 1) / (1 + 1))
        assert after["eta"] == pytest.approx(trial["detail"]["to"])
        assert (before["status"], after["status"]) == ("candidate", "active")
        assert "\nstatus: active\n" in file_of(here, name).read_text("utf-8")


def test_what_an_owner_writes_into_a_skill_counts(server: Server) -> None:
    """The edit is recalled next and outlives a rebuild; `disabled: true` hides the skill; no file archives it."""
    with learner_for(server) as here:
        server.start()
        here.done("one", "two")
        here.settle()
        name = skill_of_checks(here)
        path = file_of(here, name)
        mine = "Use the aubergine runner for the checks of the parser."
        edited = re.sub("description: .*", f"description: {mine}", path.read_text("utf-8"))
        path.write_text(edited.replace("## Prefer", "## Mine\n\nAubergine first.\n\n## Prefer"), "utf-8")
        until(lambda: one(here, name)["description"] == mine, "the edit is taken over")

        here.ask("ask", f"{ASK}, once more.")
        assert f"{mine}" in recalled(here)
        jobs = len(jobs_of(here, "skill"))
        here.done("three", "four")
        here.until_scored(4)
        here.settle()
        assert len(jobs_of(here, "skill")) > jobs
        assert "Aubergine first." in path.read_text("utf-8")
        assert one(here, name)["description"] == mine

        path.write_text(path.read_text("utf-8").replace("disabled: false", "disabled: true"), "utf-8")
        until(lambda: one(here, name)["disabled"], "it is switched off")
        here.ask("ask", f"{ASK}, and again.")
        assert f"skills/{name}/" not in recalled(here)

        path.unlink()
        until(lambda: one(here, name)["status"] == "archived", "the deletion is taken over")
        here.ask("ask", f"{ASK}, for the last time.")
        assert f"skills/{name}/" not in recalled(here)
        assert not path.exists()


def one(here: Learner, name: str) -> dict[str, Any]:
    """A skill, whole."""
    return here.server.get(f"/v1/learning/skills/{name}").json


def jobs_of(here: Learner, kind: str) -> list[tuple[Any, ...]]:
    """The keys of the jobs of a kind."""
    return here.rows("SELECT key FROM job_requests WHERE kind = ? ORDER BY requested_at", kind)


def curl(here: Learner, body: str) -> tuple[int, float, bytes]:
    """Give feedback: the status, how long it took in seconds, and the body."""
    written = "\n%{http_code} %{time_total}"
    command = ["curl", "-sS", "-w", written, f"{here.server.url}/v1/feedback", "-d", body]
    told = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    answer, _, figures = told.rpartition(b"\n")
    status, took_s = figures.split()
    return int(status), float(took_s), answer


def test_feedback_with_curl(server: Server) -> None:
    """Taken at once; a thumb down moves the task's reward and its steps' values; an unknown turn is a 404."""
    with learner_for(server, WITHOUT_VECTORS) as here:
        server.start()
        turn_id = here.task("one")
        here.end("one")
        here.until_scored(1)
        here.settle()
        valued = values(here)
        unknown = curl(here, '{"turn_id": "chatcmpl_nothing", "thumb": "down"}')
        assert here.learned("feedback") == []
        status, took_s, body = curl(here, f'{{"turn_id": "{turn_id}", "thumb": "down"}}')
        here.settle()
        [kept] = here.learned("feedback")

        error = {"message": "there is no turn 'chatcmpl_nothing' to give feedback on", "type": "invalid_request_error"}
        assert unknown[0] == 404
        assert json.loads(unknown[2])["error"] == {**error, "param": "turn_id", "code": "feedback_target_not_found"}
        [(task_id, r_human)] = here.rows("SELECT id, r_human FROM tasks")
        assert (status, took_s < TAKEN_S_MAX) == (202, True)
        assert body.decode() == (
            f'{{"object":"reverie.feedback","id":"{kept["id"]}","polarity":"negative","magnitude":1.0,'
            f'"task_id":"{task_id}","at_ms":{kept["at_ms"]}}}'
        )
        assert r_human == pytest.approx((R_HUMAN - 1) / 2)
        assert [now < before for now, before in zip(values(here), valued, strict=True)] == [True, True]


def values(here: Learner) -> list[float]:
    """What the steps are worth, in order."""
    return [value for (value,) in here.rows("SELECT value FROM traces ORDER BY at")]


def test_without_a_budget_everything_waits(server: Server) -> None:
    """Turns are answered, nothing is asked, and the status says until when; with a budget what waited is learned."""
    with learner_for(server, {"REVERIE_LEARNING__BUDGET__CALLS_DAY": "0"}) as here:
        server.start()
        here.done("one", "two")
        until(lambda: why_paused(here, "learning.budget.calls_day"), "it is paused", within_s=LEARNED_S_MAX)
        paused = why_paused(here, "learning.budget.calls_day")
        told = server.run("learning", "status").stdout
        here.ask("three", "Are you there?")
        day_ends_ms = (paused["until_ms"] // DAY_MS) * DAY_MS

        assert here.questions == []
        assert paused["waits_for"] == "learning.budget.calls_day: this would make 1 of 0"
        assert paused["until_ms"] == day_ends_ms
        assert f"{paused['waits_for']}, until {iso_minute(day_ends_ms)} UTC" in told

        del server.environment["REVERIE_LEARNING__BUDGET__CALLS_DAY"]
        server.stop()
        server.start()
        here.until_scored(2)
        here.settle()
        assert skill_names(here)


def why_paused(here: Learner, reason: str) -> dict[str, Any]:
    """What the status says of jobs that wait for a reason; empty when none does."""
    none: dict[str, Any] = {}
    return next((each for each in here.status["paused"] if reason in each["waits_for"]), none)


def test_a_server_that_asks_for_a_pause(server: Server) -> None:
    """A 429 to questions of learning: nobody asks again before its time, turns are as ever, the status says why."""
    with learner_for(server, WITHOUT_VECTORS) as here:
        here.upstream.fault = Fault("slow down", 429, "3600")
        server.start()
        here.done("one", "two", "three")
        until(lambda: here.status["providers"], "the pause is known", within_s=LEARNED_S_MAX)
        until(lambda: len(why_paused(here, "slow down")) and not here.status["in_flight"], "all wait")
        [pause] = here.status["providers"]
        before = time.monotonic()
        here.ask("four", "Are you there?")

        assert time.monotonic() - before < TURN_S_MAX
        assert 1 <= len(here.questions) <= 2  # as many as may be asked at the same time
        assert (pause["kind"], "slow down" in pause["reason"]) == ("rate_limit", True)
        assert pause["until_ms"] - time.time() * 1_000 == pytest.approx(3_600_000, abs=60_000)
        assert "slow down" in server.run("learning", "status").stdout
        assert dead(here) == []


def test_a_model_that_never_answers_as_asked(server: Server) -> None:
    """Two calls for each question and no more; turns are as ever, and it is told why nothing was learned."""
    with learner_for(server, WITHOUT_VECTORS) as here:
        here.upstream.fault = Fault("I would rather not.")
        server.start()
        here.done("one", "two")
        here.until_scored(2)
        here.settle()
        here.ask("three", "Are you there?")
        asked = Counter(call["op"] for call in here.questions)
        told = server.run("learning", "status").stdout

        assert asked == {"reflection.batch": 4, "reward.r_human": 4}
        assert here.learned("policies") == []
        assert (here.status["answers"]["today"], here.status["answers"]["unusable"]) == (8, 8)
        assert "8 of 8 answers today; the last, to reward.r_human@1: there is no JSON object in it" in told
        assert dead(here) == []


def dead(here: Learner) -> list[tuple[Any, ...]]:
    """The jobs that were put aside."""
    return here.rows("SELECT key, error FROM job_requests WHERE state = 'dead'")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("learning.session.max_turns_per_episode", "4", "5 ≤ learning.session.max_turns_per_episode ≤ 200"),
        ("learning.session.classify_timeout_ms", "999", "1000 ≤ learning.session.classify_timeout_ms ≤ 30000"),
        ("learning.background_llm_concurrency", "9", "1 ≤ learning.background_llm_concurrency ≤ 8"),
    ],
)
def test_a_guard_out_of_range_is_refused_at_start(server: Server, key: str, value: str, allowed: str) -> None:
    """In one line: the setting, what was given, and what may be."""
    server.environment |= {f"REVERIE_{key.replace('.', '__').upper()}": value}
    code, told = server.refused()

    assert code == WRONG_USE
    check_one_line(told, key, repr(value), allowed)


def test_what_was_learned_of_a_forgotten_conversation_is_gone(server: Server) -> None:
    """With its steps, its policies, its skill and that skill's file; no file of the home holds the word."""
    with learner_for(server) as here:
        server.start()
        here.done("one", "two", ask=f"New task: look after the {WORD}")
        here.settle()
        held = holding(server.home)
        keys = [KEY + name for name in ("one", "two")]
        done = [server.run("memory", "forget", "--session", key, "--apply", "--json") for key in keys]

        assert any(path.endswith("SKILL.md") for path in held)
        assert [each.returncode for each in done] == [0, 0], done
        assert [here.learned(kind) for kind in ("episodes", "policies", "skills", "world-models")] == [[]] * 4
        assert skill_names(here) == []
        assert holding(server.home) == []
        here.ask("three", "Are you there?")
        server.stop()
        assert holding(server.home) == []


@pytest.mark.timeout(120)
def test_killed_while_it_learns(server: Server) -> None:
    """Every task is scored once and nothing said is lost; a call is paid twice only if it was under way at a kill."""
    upstream = answers()
    upstream.learning_delay_s = 0.15
    with learner_for(server, SCORED_AT_ONCE, upstream=upstream) as here, supervised(server) as running:
        living = Learner(running, upstream)
        killed: list[float] = []
        said = 0
        chance = random.Random(SEED)
        for number in range(KILLS):
            if number % 2 == 0:
                living.done(f"task{number}")
                said += 4
            await_moment(upstream, chance)
            killed.append(time.monotonic())
            os.kill(running.pid, signal.SIGKILL)
            running.wait_for_next()
        tasks = (KILLS + 1) // 2
        living.until_scored(tasks)
        living.settle()
        scores = living.rows("SELECT task_id, count(*) FROM learning_trail WHERE stage = 'reward' GROUP BY task_id")

        assert living.rows("SELECT count(*) FROM messages WHERE kind = 'message'") == [(said,)]
        assert sorted(count for _, count in scores) == [1] * tasks
        assert living.rows("SELECT count(*) FROM traces") == [(2 * tasks,)]
        assert dead(living) == []
        assert skill_names(living) == sorted(each["name"] for each in living.learned("skills"))
        assert not all(call.get("answered") for call in here.questions)
        assert paid_twice(here.questions, killed) == []


def await_moment(upstream: LearningUpstream, chance: random.Random) -> None:
    """Let a moment come at which to kill: any moment; or one at which a question is under way, after some answers.

    Without these the same jobs were killed again and again, until each is believed to be why.
    """
    if chance.random() >= IN_FLIGHT_SHARE:
        time.sleep(chance.uniform(0, UP_S_MAX))
        return
    ends = time.monotonic() + IN_FLIGHT_S_MAX
    wanted = answered(upstream) + chance.randint(2, 5)
    until(
        lambda: (upstream.log.background and answered(upstream) >= wanted) or time.monotonic() > ends,
        "a question is under way",
    )
    time.sleep(chance.uniform(0, upstream.learning_delay_s))


def answered(upstream: LearningUpstream) -> int:
    """How many questions of learning were answered."""
    return sum(call["op"] != "turn" and call.get("answered", False) for call in list(upstream.log.calls))


def paid_twice(questions: list[dict[str, Any]], killed: list[float]) -> list[str]:
    """The questions that were asked again although no kill had come between them and their answer."""
    asked: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in questions:
        asked[call["digest"]].append(call)
    wrong: list[str] = []
    for calls in asked.values():
        for before, again in pairwise(calls):
            ended_s = before["ended_s"] + KEPT_S_MAX
            if not any(before["began_s"] <= at <= min(ended_s, again["began_s"]) for at in killed):
                wrong.append(f"{before['op']} {before} {again}")
    return wrong
