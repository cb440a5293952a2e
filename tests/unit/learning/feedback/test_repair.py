"""What a repair is made of, whether it is made, and its words without a model."""

from __future__ import annotations

import pytest

from reverie.config import FeedbackConfig
from reverie.learning.feedback.repair import Advice, Choice, Evidence, Situation, chosen, gathered, may_learn, worded
from tests.unit.learning.feedback_values import feedback, policy, shell, trace

SITUATION = Situation("main", "s1", "shell", "pytest")
CONFIG = FeedbackConfig()


def ids(evidence: Evidence) -> tuple[list[str], list[str]]:
    return [step.id for step in evidence.high], [step.id for step in evidence.low]


def test_steps_are_good_or_bad() -> None:
    """Good is a value above 0; bad is one below -0.01, a call with an error, or an output that reads like one."""
    steps = [
        trace("tr_good", value=0.4, tool_calls=shell("pytest -q")),
        trace("tr_best", value=0.9, tool_calls=shell("pytest -x")),
        trace("tr_nothing", value=0.0, tool_calls=shell("pytest", "3 passed")),
        trace("tr_slightly", value=-0.01, tool_calls=shell("pytest")),
        trace("tr_bad", value=-0.02, tool_calls=shell("pytest")),
        trace("tr_coded", value=0.8, tool_calls=shell("pytest", error_code="EXIT_1")),
        trace("tr_failed", value=0.8, failed=True, tool_calls=shell("pytest")),
        trace("tr_reads_bad", tool_calls=shell("pytest", "Traceback (most recent call last)")),
        trace("tr_reads_bad_too", value=0.0, tool_calls=shell("pytest", "报错：找不到文件")),
        trace("tr_noisy_but_good", value=0.3, tool_calls=shell("pytest", "0 errors")),
    ]
    config = FeedbackConfig(evidence_max=10)
    assert ids(gathered(steps, SITUATION, config)) == (
        ["tr_best", "tr_good", "tr_noisy_but_good"],
        ["tr_bad", "tr_coded", "tr_failed", "tr_reads_bad", "tr_reads_bad_too"],
    )


def test_each_side_is_bounded() -> None:
    """At most four of each side: the best ones, and the newest ones."""
    good = [trace(f"tr_g{n}", value=0.1 * n, tool_calls=shell("pytest")) for n in range(1, 8)]
    bad = [trace(f"tr_b{n}", value=-0.5, tool_calls=shell("pytest")) for n in range(7)]
    assert ids(gathered([*good, *bad], SITUATION, CONFIG)) == (
        ["tr_g7", "tr_g6", "tr_g5", "tr_g4"],
        ["tr_b0", "tr_b1", "tr_b2", "tr_b3"],
    )


def test_steps_about_something_else_count_where_there_are_no_others() -> None:
    """Each side is of the situation where it has steps of it, else of anything."""
    steps = [
        trace("tr_other_bad", value=-1.0, agent_text="a letter"),
        trace("tr_bad", value=-1.0, tool_calls=shell("pytest")),
        trace("tr_other_good", value=1.0, agent_text="a poem"),
    ]
    assert ids(gathered(steps, SITUATION, CONFIG)) == (["tr_other_good"], ["tr_bad"])


@pytest.mark.parametrize(
    ("high", "low", "told", "choice"),
    [
        (0.6, 0.0, False, Choice(make=True, reason="values_differ")),
        (0.3, -0.2, False, Choice(make=True, reason="values_differ")),
        (0.3, -0.1, False, Choice(make=False, reason="values_too_close")),
        (0.3, -0.1, True, Choice(make=True, reason="owner_said")),
    ],
)
def test_values_must_differ_unless_the_owner_spoke(high: float, low: float, choice: Choice, *, told: bool) -> None:
    """A difference of 0.5 between the means is needed, or somebody's word."""
    evidence = Evidence((trace(value=high),), (trace(value=low),))
    assert chosen(evidence, told=told, value_delta=0.5) == choice


def test_nothing_bad_needs_no_repair() -> None:
    """Without a bad step there is nothing to be repaired."""
    assert chosen(Evidence((trace(value=0.9),), ()), told=False, value_delta=0.5).reason == "no_bad_steps"


def test_a_template_keeps_code_and_drops_dangerous_links() -> None:
    """Without a model the best step says what to do, the failed call what not to."""
    high = (trace(value=0.8, reflection="Run `uv run pytest -q`, see [docs](javascript:x)."),)
    low = (trace(tool_calls=shell("pytest -q", "boom", "EXIT_1"), signatures=("ModuleNotFoundError",)),)
    assert worded(SITUATION, Evidence(high, low)) == Advice(
        preference="Run `uv run pytest -q`, see docs.",
        anti_pattern='`shell` `{"command": "pytest -q"}`: ModuleNotFoundError',
        severity="warn",
        confidence=0.4,
        by="template",
    )


def test_a_template_goes_by_the_owners_pair() -> None:
    """What somebody prefers and avoids is the advice."""
    told = Situation("main", "s1", "shell", "", feedback(prefer="uv", avoid="pip", text="Use uv instead of pip"))
    assert worded(told, Evidence((), ())) == Advice("uv", "pip", "info", 0.8, "template")


def test_who_learns_of_a_repair() -> None:
    """Not a policy that a person edited, nor a trusted one from what is not trusted."""
    assert may_learn(policy(), "agent")
    assert may_learn(policy(provenance="untrusted"), "untrusted")
    assert not may_learn(policy(), "untrusted")
    assert not may_learn(policy(edited_at_ms=1), "owner")
