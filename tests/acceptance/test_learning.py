"""Learning with the real process: what becomes of finished work, what that costs, and that nobody waits for it."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from reverie.testing.learning_upstream import Fault
from reverie.types import ToolCall
from tests.acceptance.learning_process import (
    ASK,
    KEY,
    LEARNED_S_MAX,
    RESULT,
    WITHOUT_VECTORS,
    answers,
    learner_for,
)
from tests.acceptance.servers import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.learning_process import Learner
    from tests.acceptance.servers import Server

pytestmark = pytest.mark.timeout(90)

GIVEN_TO_UPSTREAM = "<recalled_memory>"
R_HUMAN = 0.45 * 0.9 + 0.30 * 0.8 + 0.25 * 0.9
"""What the judge's axes make, as the model's server answers them."""


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
    """With tools of the client: policies, world models, skills and their files; the command line says what HTTP says."""
    with learner_for(server) as here:
        server.start()
        here.done("one", "two")
        here.settle()
        policies, skills, episodes = (here.learned(kind) for kind in ("policies", "skills", "episodes"))
        explained = server.get(f"/v1/learning/episodes/{episodes[0]['id']}/explain").json

        assert {(each["status"], each["support"]) for each in policies} == {("active", 2)}
        assert [round(each["r_human"], 6) for each in episodes] == [round(R_HUMAN, 6)] * 2
        assert here.learned("world-models")
        assert [call["name"] for step in explained["traces"] for call in step["tool_calls"]] == ["run_checks"]
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
    """It stands in the fence of the next prompt; it is read; the task's score is a trial, and η what the formula says."""
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
    with learner_for(server, REVERIE_LEARNING__SKILLS__COOLDOWN_HOURS="0") as here:
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
    with learner_for(server, **WITHOUT_VECTORS) as here:
        server.start()
        turn_id = here.task("one")
        here.end("one")
        here.until_scored(1)
        here.settle()
        values = here.rows("SELECT value FROM traces ORDER BY at")
        unknown = curl(here, '{"turn_id": "chatcmpl_nothing", "thumb": "down"}')
        assert here.learned("feedback") == []
        status, took_s, body = curl(here, f'{{"turn_id": "{turn_id}", "thumb": "down"}}')
        here.settle()
        [kept] = here.learned("feedback")

        assert (unknown[0], json.loads(unknown[2])["error"].keys()) == (404, {"message", "type", "param", "code"})
        assert (status, took_s < 1.0) == (202, True)
        print(body, unknown[2], kept)
        [(r_human,)] = here.rows("SELECT r_human FROM tasks")
        assert r_human == pytest.approx((R_HUMAN - 1) / 2)
        assert all(after < before for (after,), (before,) in zip(here.rows("SELECT value FROM traces ORDER BY at"), values, strict=True))


def test_without_a_budget_everything_waits(server: Server) -> None:
    """Turns are answered, nothing is asked, and the status says until when; with a budget what waited is learned."""
    with learner_for(server, **WITHOUT_VECTORS, REVERIE_LEARNING__BUDGET__CALLS_DAY="0") as here:
        server.start()
        here.done("one", "two")
        until(lambda: here.status["paused"], "it is paused", within_s=LEARNED_S_MAX)
        paused = here.status["paused"]
        told = server.run("learning", "status").stdout
        assert here.ask("three", "Are you there? I should like to know whether turns are answered.")
        assert here.questions == []
        print(paused, told)
        del server.environment["REVERIE_LEARNING__BUDGET__CALLS_DAY"]
        server.stop()
        server.start()
        here.until_scored(2)
        here.settle()
        assert skill_names(here)


@pytest.mark.parametrize("fault", [Fault("slow down", 429, "3600"), Fault("I would rather not.")], ids=["429", "prose"])
def test_a_model_that_does_not_answer_questions(server: Server, fault: Fault) -> None:
    """Turns are as ever, calls are few, and it is told why nothing is learned."""
    with learner_for(server, **WITHOUT_VECTORS) as here:
        here.upstream.fault = fault
        server.start()
        here.done("one", "two")
        until(lambda: here.status["paused"] or here._is_settled(), "it gave up", within_s=LEARNED_S_MAX)
        print(json.dumps(here.status["paused"]), here.status["providers"])
        print([c["op"] for c in here.questions])
        print(here.rows("select key,state,error,waits_for from job_requests"))
        print(here.rows("select stage,outcome,reason,detail from learning_trail"))
        print(here.rows("select state,r_human,reward from tasks"))
        assert here.ask("three", "Are you there?")
        assert 0
