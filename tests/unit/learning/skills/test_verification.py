"""Whether a draft rests on its evidence."""

from __future__ import annotations

import json

import pytest

from reverie.config import SkillsConfig
from reverie.learning.records import ToolUse, Trace
from reverie.learning.skills.draft import SkillAnswer, normalised, refuses
from reverie.learning.skills.evidence import choose, score, shortened, shown
from reverie.learning.skills.verification import command_heads, coverage, resonance, tools_seen, unfounded
from tests.learning_rows import unit


def trace(
    number: int = 1, *, value: float = 0.5, text: str = "", calls: tuple[ToolUse, ...] = (), at: float = 0
) -> Trace:
    """A step; `at` turns its vector away from the first axis."""
    return Trace(
        id=f"tr_{number}", task_id="ta", episode_id="ep", agent="main", session_id="s", first_seq=number,
        last_seq=number, turn_seq=1, step=0, at_ms=number, window=1, user_text=text, agent_text="", thinking="",
        summary="", tool_calls=calls, reflection="", usable=True, alpha=0.5, value=value, r_human=None, priority=0.5,
        tags=(), signatures=(), failed=False, vec_summary=unit(1, at), vec_action=None, provenance="agent",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "heads"),
    [
        ({"command": "git add -A && git commit -m 'x; y'"}, ("git", "git")),
        ({"command": "cd app && FOO=1 sudo /usr/bin/make -j2 | tee log"}, ("make", "tee")),
        ({"cmd": ["bash", "-lc", "uv run pytest\nruff check"]}, ("uv", "ruff")),
        ({"cmd": ["ls", "-la"]}, ("ls",)),
        ({"script": "for f in *; do wc $f; done"}, ("wc",)),
        ({"path": "git status"}, ()),
        ({"command": 7}, ()),
        ([1], ()),
    ],
)
def test_commands_of_a_shell(arguments: object, heads: tuple[str, ...]) -> None:
    """The programs that were run, in order, without what only leads to them; a call that is no shell's has none."""
    assert command_heads(json.dumps(arguments)) == heads


def test_broken_arguments_hold_no_command() -> None:
    """Arguments that are not JSON are no reason to fail."""
    assert command_heads('{"command": "git') == ()


def test_tools_are_covered_by_names_and_commands() -> None:
    """A tool counts as seen by its name or as a command, whatever its case; naming none covers everything."""
    seen = tools_seen([trace(calls=(ToolUse("Shell", '{"command": "git status"}'),))])

    assert seen == {"shell", "git"}
    assert [coverage(each, seen) for each in (["git", "`SHELL`"], ["git", "docker"], ["docker"], [])] == [
        1.0,
        0.5,
        0.0,
        1.0,
    ]


def test_half_of_the_evidence_must_share_two_words() -> None:
    """Resonance is the share of steps with at least two words in common with the draft; also without spaces."""
    near, far = trace(text="grease the bearing of the drum"), trace(text="file the taxes, then the drum")

    assert resonance(["Grease a bearing"], [near, far]) == 0.5
    assert resonance(["轴承需要润滑"], [trace(text="请润滑轴承")]) == 1.0
    assert resonance(["Grease a bearing"], []) == 0.0


def test_what_is_said_of_a_draft_that_does_not_hold() -> None:
    """The reason is for the model's second try: which tools it may name, or to speak of what was done."""
    step = trace(text="grease the bearing", calls=(ToolUse("wrench", "{}"),))

    assert unfounded(["wrench"], ["grease the bearing"], [step]) == ""
    assert unfounded([], ["grease the bearing"], [step]) == ""
    assert unfounded(["wrench", "a", "b"], ["grease the bearing"], [step]) == (
        "only 33% of its tools were used in the evidence; name only: wrench"
    )
    assert unfounded(["wrench"], ["Make tea"], [step]) == (
        "it shares words with only 0% of the evidence: describe what was done there"
    )
    assert unfounded([], ["grease the bearing"], []) == "there is no evidence for it"


def test_high_value_and_near_comes_first() -> None:
    """The score is V + 0.2·cos: 0.5 + 0.2·1 is above 0.6 + 0.2·0."""
    near, far = trace(1, value=0.5), trace(2, value=0.6, at=1e9)
    aim = unit(1, 0)

    assert (score(near, aim), score(far, aim)) == (pytest.approx(0.7), pytest.approx(0.6))
    assert choose([far, near], [], aim, SkillsConfig()).trace_ids == ("tr_1", "tr_2")
    assert choose([far, near], [], None, SkillsConfig()).trace_ids == ("tr_2", "tr_1")


def test_evidence_is_few_steps_without_secrets() -> None:
    """Six steps and five counter-examples at most; a step with a secret is in neither."""
    secret = ToolUse("shell", '{"command": "login"}', output="token=abcdefgh12345678")
    good = [trace(number, value=0.5 + number / 100) for number in range(10)] + [trace(99, value=1.0, calls=(secret,))]
    bad = [trace(number, value=-number / 10) for number in range(1, 9)] + [trace(98, value=-1.0, calls=(secret,))]
    evidence = choose(good, bad, None, SkillsConfig())

    assert evidence.trace_ids == ("tr_9", "tr_8", "tr_7", "tr_6", "tr_5", "tr_4")
    assert [each.id for each in evidence.bad] == ["tr_8", "tr_7", "tr_6", "tr_5", "tr_4"]


def test_a_step_is_shown_in_one_bounded_line() -> None:
    """What was wanted, done and came of it; a long one keeps its beginning and its end."""
    step = trace(text="Grease\nit", calls=(ToolUse("wrench", "{}", "fits"), ToolUse("oil", "{}", "no", "E_DRY")))

    assert shown(step, 500) == "user: Grease it; did: wrench({}) -> fits | oil({}) -> E_DRY"
    assert shortened("a" * 60 + "b" * 60, 23) == "a" * 12 + " … " + "b" * 8


@pytest.mark.parametrize(
    ("summary", "declines"),
    [
        ("I'm sorry, but I cannot help with that.", True),
        ("As an AI language model I", True),
        ("I can't do this", True),
        ("抱歉，我无法完成", True),
        ("Use when the server says: I cannot connect.", False),
        ("I/O errors of the disk", False),
    ],
)
def test_a_model_that_declines_is_known_by_how_it_begins(summary: str, *, declines: bool) -> None:
    """Words of refusal count at the beginning of a text, not within a description."""
    assert refuses(SkillAnswer.model_validate({"summary": summary, "steps": []})) == declines


def test_a_draft_is_cleaned() -> None:
    """Secrets are hidden, unused tools left out, lists cut, texts put on one line; loose forms are understood."""
    answer = SkillAnswer.model_validate({
        "name": "x" * 90,
        "summary": "Use\n it with  token=abcdefgh12345678",
        "parameters": ["bare", {"name": ""}],
        "steps": ["only a title", {"title": "Two", "body": "a\nb"}],
        "examples": [{"input": "in", "expected": "out"}],
        "tools": ["Git", "git", "docker"],
        "decision_guidance": {"preference": list("012345678"), "anti_pattern": ["", " same ", "same"]},
    })  # fmt: skip
    draft = normalised(answer, [trace(calls=(ToolUse("shell", '{"command": "git log"}'),))])

    assert draft.summary == "Use it with token=***"
    assert (draft.parameters, draft.examples, draft.tools) == ((("bare", ""),), ("in: out",), ("git",))
    assert [(step.title, step.body) for step in draft.steps] == [("only a title", ""), ("Two", "a\n   b")]
    assert (draft.prefer, draft.avoid) == (("0", "1", "2", "3", "4"), ("same",))
    assert len(draft.wanted_name) == 80
