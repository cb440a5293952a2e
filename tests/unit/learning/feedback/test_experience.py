"""What feedback teaches: its type, its weight, its words, and what it becomes part of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reverie.learning.feedback.experience import (
    Experience,
    Kind,
    RefineAnswer,
    drafted,
    is_actionable,
    joining,
    kind_of,
    merged,
    nearest,
    refined,
)
from tests.learning_rows import unit
from tests.unit.learning.feedback_values import feedback, policy, trace

if TYPE_CHECKING:
    from reverie.learning.feedback.feedback import Feedback
    from reverie.learning.records import Policy

LONG = "It left out the third table of the report."


def verdict(passed: int, total: int, reward: float | None = None) -> dict[str, Any]:
    return {"verdict": {"passed": passed, "total": total, "reward": reward}}


@pytest.mark.parametrize(
    ("given", "criticised", "kind"),
    [
        ({"magnitude": 0.49}, False, Kind(None, "insignificant")),
        ({"text": "bad"}, False, Kind(None, "not_actionable")),
        ({"text": LONG}, False, Kind("failure_avoidance", "blamed")),
        ({"text": "这次漏掉了报告里的第三个表格"}, False, Kind("failure_avoidance", "blamed")),
        ({"text": LONG, "polarity": "positive"}, False, Kind("success_pattern", "praised")),
        ({"text": LONG, "polarity": "mixed"}, False, Kind("repair_instruction", "told")),
        ({"text": "no", "shape": "correction"}, False, Kind("repair_instruction", "correction")),
        ({"text": "x", "shape": "instruction"}, False, Kind("repair_instruction", "instruction")),
        ({"prefer": "uv"}, False, Kind("preference", "preference")),
        ({"raw": verdict(4, 4)}, False, Kind("success_pattern", "checks_passed")),
        ({"raw": verdict(4, 4, 1.0)}, True, Kind("repair_validated", "checks_passed")),
        ({"raw": verdict(3, 4)}, False, Kind("verifier_feedback", "checks_failed")),
        ({"raw": verdict(4, 4, 0.9)}, False, Kind("verifier_feedback", "checks_failed")),
        ({"raw": verdict(0, 0, 1.0)}, False, Kind("success_pattern", "checks_passed")),
        ({"raw": verdict(0, 0)}, False, Kind("verifier_feedback", "checks_failed")),
    ],
)
def test_each_feedback_has_its_type(given: dict[str, Any], kind: Kind, *, criticised: bool) -> None:
    """Weight from 0.5 on and something to do, or a program's verdict, of which all checks must have passed."""
    assert kind_of(feedback(**given), criticised=criticised) == kind


def test_a_bare_judgement_says_nothing_to_do() -> None:
    """A thumb, or a word of praise, is no advice."""
    assert not is_actionable(feedback())
    assert not is_actionable(feedback(text="Perfect!", shape="positive"))
    thanks = "Thanks, that is exactly what I wanted."
    assert not is_actionable(feedback(text=thanks, shape="positive", channel="implicit"))
    assert is_actionable(feedback(avoid="tabs"))


def test_a_draft_is_the_owners_words() -> None:
    """Without a model the text is what was said, when is what was asked, and the pair is the advice."""
    given = feedback(text="Use uv instead of pip. It is faster.", shape="preference", prefer="uv", avoid="pip")
    turns = (trace(user_text="install the package", provenance="owner"), trace(agent_text="done"))
    assert drafted(given, "preference", turns) == Experience(
        type="preference",
        title="uv > pip",
        trigger="install the package",
        procedure="Use uv instead of pip. It is faster.",
        verification="",
        boundary="",
        preference=("uv",),
        anti_pattern=("pip",),
        salience=1.0,
        confidence=1.0,
        provenance="agent",
        by="heuristic",
    )


def test_a_vague_message_waits_for_another() -> None:
    """An experience is active from a salience of 0.5; its gain is its salience, and never below 0.02."""
    vague = feedback(channel="implicit", magnitude=0.7, confidence=0.75, text=LONG, shape="correction")
    weak = drafted(vague, "repair_instruction", ())
    assert (round(weak.salience, 3), weak.status, round(weak.gain, 3)) == (0.42, "candidate", 0.42)
    strong = drafted(feedback(text=LONG), "failure_avoidance", ())
    assert (strong.salience, strong.status, strong.gain, strong.skill_eligible) == (1.0, "active", 1.0, False)


def test_a_model_words_but_does_not_weigh() -> None:
    """The model's text replaces the draft's, cleaned; salience and type stay, and its confidence is clamped."""
    draft = drafted(feedback(text=LONG), "failure_avoidance", ())
    answer = RefineAnswer(
        title="All tables", trigger="reports", procedure="[Check](javascript:x) every table", confidence=7.0
    )
    better = refined(draft, answer, "feedback.refine@1")
    assert (better.title, better.procedure, better.confidence, better.by) == (
        "All tables",
        "Check every table",
        1.0,
        "feedback.refine@1",
    )
    assert (better.type, better.salience) == (draft.type, draft.salience)


def experience(vec: Any, kind: Any = "failure_avoidance") -> Experience:
    return Experience(kind, "t", "w", "Check every table", "", "", (), (), 0.5, 0.9, "owner", "heuristic", vec)


@pytest.mark.parametrize(
    ("likeness", "same_type", "joined"),
    [(0.73, True, True), (0.71, True, False), (0.83, False, True), (0.81, False, False)],
)
def test_likeness_decides_what_is_joined(likeness: float, *, same_type: bool, joined: bool) -> None:
    """From a cosine of 0.72 on within a type, from 0.82 on across types."""
    vec = unit(likeness, (1 - likeness**2) ** 0.5)
    known = policy(vec=vec, type="failure_avoidance" if same_type else "success_pattern")
    assert (nearest(experience(unit(1, 0)), [known]) is not None) is joined


def test_nothing_is_joined_to_a_strangers_policy() -> None:
    """What the owner said does not vanish in a row that is not trusted."""
    assert nearest(experience(unit(1, 0)), [policy(vec=unit(1, 0), provenance="untrusted")]) is None


@pytest.mark.parametrize(
    ("known", "joined"),
    [
        (policy(type="procedural"), True),
        (policy(type="procedural", status="candidate"), False),
        (policy(status="candidate"), True),
        (policy(edited_at_ms=5), False),
        (policy(type="procedural", edited_at_ms=5), False),
    ],
)
def test_nothing_is_joined_to_what_would_not_say_it(known: Policy, *, joined: bool) -> None:
    """A policy that somebody edited keeps its words, and a candidate of measured gain is not recalled."""
    new = experience(unit(1, 0))
    assert (nearest(new, [replace(known, vec=unit(1, 0))]) is not None) is joined


def test_a_success_stays_eligible_when_blame_is_joined() -> None:
    """Blame adds what to avoid to a success and mixes its polarity, and a skill may still be made of it."""
    row = merged(policy(), experience(None), feedback(), "told")
    assert row == {
        "id": "po_1",
        "guidance": json.dumps({"preference": [], "anti_pattern": ["Check every table"]}),
        "polarity": "mixed",
        "salience": pytest.approx(0.7),
        "confidence": 0.9,
        "status": "active",
        "gain": pytest.approx(0.7),
        "support": 2,
        "skill_eligible": 1,
        "source_episodes": '["ep_0", "ep_1"]',
        "source_feedback": '["fb_0", "fb_1"]',
        "source_traces": "[]",
        "provenance": "agent",
    }


def test_what_was_measured_stays_measured() -> None:
    """Gain, support and status of a policy that was induced from steps are not moved by what somebody said."""
    induced = policy(type="procedural", gain=0.03, support=3)
    row = merged(induced, experience(None), feedback(), "told")
    assert (row["status"], row["gain"], row["support"]) == ("active", 0.03, 3)


FRIDAYS = feedback(text="From now on, send it on Fridays.", at_ms=5_000)


@pytest.mark.parametrize(
    ("known", "given", "how"),
    [
        ({"type": "repair_instruction"}, FRIDAYS, "reworded"),
        ({"type": "preference"}, FRIDAYS, "reworded"),
        ({"type": "failure_avoidance"}, FRIDAYS, "reworded"),
        ({"type": "success_pattern"}, FRIDAYS, "told"),
        ({"type": "procedural"}, FRIDAYS, "told"),
        ({"type": "preference", "vec": unit(0.81, 0.5865)}, FRIDAYS, "told"),
        ({"type": "preference", "vec": unit(0.83, 0.5578)}, FRIDAYS, "reworded"),
        ({"type": "preference"}, replace(FRIDAYS, text=""), "told"),
        ({"type": "preference"}, replace(FRIDAYS, text="", prefer="Fridays", avoid="Mondays"), "reworded"),
        ({"type": "preference"}, replace(FRIDAYS, at_ms=4_999), "late"),
    ],
)
def test_the_newest_words_on_one_matter_stand(known: dict[str, Any], given: Feedback, how: str) -> None:
    """An order replaces an older one; a success, what steps taught, and what is only near, are advised by it."""
    new = experience(unit(1, 0), "repair_instruction")
    assert joining(replace(policy(vec=unit(1, 0)), **known), new, given, 5_000) == how


def test_what_weighs_little_replaces_nothing_that_is_recalled() -> None:
    """A word in passing is advice to what is recalled, and takes the place of another word in passing."""
    faint = replace(experience(unit(1, 0)), salience=0.42)
    known = policy(type="failure_avoidance", vec=unit(1, 0))
    assert joining(known, faint, FRIDAYS, 0) == "told"
    assert joining(replace(known, status="candidate"), faint, FRIDAYS, 0) == "reworded"


def test_an_order_that_is_turned_round_is_of_one_matter() -> None:
    """What is to be avoided now was preferred: the older words go, and nothing is both preferred and avoided."""
    known = policy(type="preference", preference=("short lines", "tabs"), anti_pattern=("spaces in label files",),
                   vec=unit(0.75, 0.6614))  # fmt: skip
    new = replace(experience(unit(1, 0), "preference"), preference=("spaces",), anti_pattern=("tabs in label files",))
    assert joining(known, new, FRIDAYS, 0) == "reworded"
    told = merged(known, new, FRIDAYS, "reworded")["guidance"]
    assert json.loads(told) == {"preference": ["short lines", "spaces"], "anti_pattern": ["tabs in label files"]}


def test_words_that_are_said_are_no_advice_beside_themselves() -> None:
    """A policy that says from now on what was said is not advised of it as well; older words of its kind are none."""
    known = policy(type="preference", preference=("tabs",))
    new = experience(None, "preference")
    kept = json.dumps({"preference": ["tabs"], "anti_pattern": []})
    assert [merged(known, new, FRIDAYS, how)["guidance"] for how in ("reworded", "late")] == [kept, kept]
    advised = json.loads(merged(known, new, FRIDAYS, "told")["guidance"])
    assert advised == {"preference": ["tabs", "Check every table"], "anti_pattern": []}


def test_what_was_said_before_gives_way_to_what_is_known() -> None:
    """A job that was late adds what it has as older, and nothing that was taken back since."""
    known = policy(type="preference", preference=("spaces",), anti_pattern=("tabs",))
    new = replace(experience(None, "preference"), preference=("tabs",), anti_pattern=("spaces", "long lines"))
    told = json.loads(merged(known, new, FRIDAYS, "late")["guidance"])
    assert told == {"preference": ["spaces"], "anti_pattern": ["long lines", "tabs"]}
