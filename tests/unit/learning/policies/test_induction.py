"""Induction: what a model is shown, and what is made of its answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from reverie.config import PoliciesConfig
from reverie.learning.policies.induction import (
    Evidence,
    InductionAnswer,
    drafted,
    pack_of,
    plain,
    question_text,
    wrong_with,
)
from reverie.learning.records import ToolUse, Trace
from reverie.llm.prompt_files import Prompt
from tests.learning_rows import T0, unit

PROMPT = Prompt("l2.induction@1", "…")


def trace(trace_id: str, **fields: Any) -> Trace:
    values: dict[str, Any] = {
        "id": trace_id, "task_id": "ta_1", "episode_id": f"ep_{trace_id}", "agent": "main", "session_id": "s1",
        "first_seq": 1, "last_seq": 2, "turn_seq": 1, "step": 0, "at_ms": T0, "window": 1, "user_text": "please",
        "agent_text": "done", "thinking": "", "summary": "", "tool_calls": (), "reflection": "", "usable": True,
        "alpha": 0.5, "value": 0.8, "r_human": 0.8, "priority": 0.8, "tags": (), "signatures": (), "failed": False,
        "vec_summary": unit(1, 0), "vec_action": None, "provenance": "agent",
    }  # fmt: skip
    return Trace(**{**values, **fields})


def test_step_is_shown_in_parts_of_bounded_length() -> None:
    """200 characters of the situation, 300 of the action, 300 of the reflection, its tools, value and alpha."""
    step = trace(
        "tr_1",
        user_text="u" * 500,
        agent_text="a" * 500,
        reflection="r" * 500,
        tool_calls=(ToolUse("shell", "pip install x", "no compiler", "EXIT_1"),),
    )

    assert pack_of(step, 3_000) == {
        "id": "tr_1",
        "state": "u" * 200,
        "action": "a" * 300,
        "tools": [{"name": "shell", "input": "pip install x", "error": "EXIT_1"}],
        "outcome": "no compiler",
        "reflection": "r" * 300,
        "utility": 0.8,
        "alpha": 0.5,
    }


@pytest.mark.parametrize("chars_max", [200, 400, 3_000])
def test_step_keeps_within_its_characters(chars_max: int) -> None:
    """Whatever its texts and tools are, a step takes no more than `trace_chars_max` as JSON."""
    step = trace(
        "tr_1",
        user_text='"u' * 500,
        agent_text="a\n" * 500,
        reflection="r" * 500,
        tool_calls=tuple(ToolUse(f"tool{n}", "x" * 5_000, "y" * 5_000) for n in range(50)),
    )

    assert len(json.dumps(pack_of(step, chars_max), ensure_ascii=False)) <= chars_max


def test_language_of_the_steps_is_asked_for() -> None:
    """Chinese when the steps are, else English."""
    chinese = trace("tr_1", user_text="容器里安装失败了", agent_text="我先安装编译器")

    assert json.loads(question_text([chinese], 3_000))["answer_in"] == "Chinese"
    assert json.loads(question_text([trace("tr_1")], 3_000))["answer_in"] == "English"


def test_answer_becomes_a_policy() -> None:
    """The action is the procedure, caveats are part of the boundary; named steps are its evidence, without markup."""
    evidence = Evidence(
        "main",
        "docker|pip|shell|_",
        (trace("tr_1"), trace("tr_2", vec_summary=unit(0, 1), provenance="untrusted"), trace("tr_3")),
        "digest",
    )
    answer = InductionAnswer(
        title="# Install **headers**",
        trigger="`pip` fails",
        action="```sh\napk add gcc\n```\nthen pip",
        caveats=["needs root"],
        boundary="only alpine",
        confidence=1.7,
        support_trace_ids=["tr_1", "tr_2", "tr_made_up"],
    )

    made = drafted(answer, evidence, PROMPT, PoliciesConfig())

    assert (made.title, made.trigger, made.procedure) == ("Install headers", "pip fails", "apk add gcc\nthen pip")
    assert (made.boundary, made.verification, made.confidence) == ("only alpine\nneeds root", "", 1.0)
    assert (made.traces, made.episodes) == (("tr_1", "tr_2"), ("ep_tr_1", "ep_tr_2"))
    assert (made.evidence, made.signature, made.induced_by) == ("digest", "docker|pip|shell|_", "l2.induction@1")
    assert made.provenance == "untrusted"
    assert made.vec is not None
    assert np.allclose(made.vec, unit(1, 1))


def test_answer_that_names_no_step_rests_on_all() -> None:
    """Where no id fits, all that were shown are its evidence."""
    evidence = Evidence("main", "_|_|_|_", (trace("tr_1"), trace("tr_2")), "digest")
    answer = InductionAnswer(title="t", trigger="t", action="a", support_trace_ids=["nonsense"])

    assert drafted(answer, evidence, PROMPT, PoliciesConfig()).traces == ("tr_1", "tr_2")


def test_answer_that_names_too_little_rests_on_all() -> None:
    """One step that went less well is no policy, even if the model says so; one that went well is."""
    steps = (trace("tr_1", value=0.4), trace("tr_2", value=0.3))
    answer = InductionAnswer(title="t", trigger="t", action="a", support_trace_ids=["tr_1"])
    well = (trace("tr_1", value=0.5), trace("tr_2", value=0.3))

    assert drafted(answer, Evidence("main", "a|_|_|_", steps, "d"), PROMPT, PoliciesConfig()).traces == ("tr_1", "tr_2")
    assert drafted(answer, Evidence("main", "a|_|_|_", well, "d"), PROMPT, PoliciesConfig()).traces == ("tr_1",)


def test_policy_needs_title_trigger_and_action() -> None:
    """What is empty is named, for the second try."""
    assert wrong_with(InductionAnswer(title="t", trigger="**", action=" ")) == "action must not be empty"
    assert wrong_with(InductionAnswer(title="t", trigger="t", action="a")) is None


def test_markup_goes_and_code_stays() -> None:
    """Headings, quotes, fences and emphasis are taken away; names and globs are not."""
    assert plain("## Head\n> said\n**bold** and `code`") == "Head\nsaid\nbold and code"
    assert plain("__init__.py in src/**/*.py, a * b ** c") == "__init__.py in src/**/*.py, a * b ** c"
