"""What a model is shown of what was learned."""

from __future__ import annotations

from typing import Any

from reverie.learning.recall.text import (
    SNIPPET_CHARS_MAX,
    episode_text,
    guidance_text,
    harmless,
    policy_text,
    skill_text,
    trace_text,
    world_text,
)
from reverie.learning.records import Policy, Skill, ToolUse, Trace, WorldModel

LONG = "word " * 1_000


def made(kind: type, **known: Any) -> Any:
    """A record with what a test cares about; texts, numbers and lists are empty else."""
    import dataclasses

    empty: dict[str, Any] = {
        "str": "", "int": 0, "float": 0.0, "bool": False, "JsonObject": {}, "Provenance": "agent",
    }  # fmt: skip
    facts = {each.name: empty.get(str(each.type), () if "tuple" in str(each.type) else None) for each in
             dataclasses.fields(kind)}  # fmt: skip
    return kind(**{**facts, **known})


def test_a_skill_is_told_in_short_with_the_place_of_its_guide() -> None:
    """At most so many characters, and how it is read."""
    skill = made(Skill, name="fire-kiln", title="Fire the kiln", description=LONG, guide="# Steps")
    text = skill_text(skill, "summary", 200)

    head, hint = text.split("\n")
    assert head.startswith("Skill: Fire the kiln: word word")
    assert len(head) == len("Skill: ") + 200
    assert hint == "Read its guide before you use it: memory_get with path skills/fire-kiln/SKILL.md"


def test_a_skill_in_full_is_its_guide() -> None:
    """Where the settings want it so."""
    skill = made(Skill, name="k", description="Fire it.", guide="# Steps\n\n1. Dry it.")

    assert skill_text(skill, "full", 200) == "Skill: k: Fire it.\n\n# Steps\n\n1. Dry it."


def test_a_step_says_what_was_asked_and_done_and_learned() -> None:
    """With the error where it failed; without our figures and ids."""
    call = ToolUse("bash", "pip install lxml", "", "EXIT_1")
    trace = made(Trace, user_text="Install lxml", tool_calls=(call,), reflection="It needs tr_0123456789ab libxml2",
                 alpha=0.9, value=0.5)  # fmt: skip

    assert trace_text(trace) == (
        "Asked: Install lxml\nDone: bash pip install lxml → failed (EXIT_1)\nLearned: It needs libxml2"
    )


def test_nothing_is_longer_than_a_snippet_may_be() -> None:
    """Whatever was kept of it."""
    steps = [made(Trace, user_text=LONG, agent_text=LONG, summary=LONG, reflection=LONG) for _ in range(20)]
    texts = [
        trace_text(steps[0]),
        episode_text(LONG, steps),
        policy_text(made(Policy, title=LONG, trigger=LONG, procedure=LONG, verification=LONG, boundary=LONG)),
        world_text(made(WorldModel, title=LONG, body=LONG)),
        guidance_text([f"{each} {LONG}" for each in range(9)], [f"{each} {LONG}" for each in range(9)]),
    ]

    assert max(map(len, texts)) <= SNIPPET_CHARS_MAX


def test_an_episode_shows_six_steps_in_their_order() -> None:
    """The first ones."""
    steps = [made(Trace, summary=f"step {each}", at_ms=each) for each in (3, 1, 2, 7, 6, 5, 4)]

    told = episode_text("Fire", steps).split("\n")

    assert told == ["An earlier task: Fire", *(f"- step {each}" for each in range(1, 7))]


def test_a_policy_says_when_and_how_and_nothing_twice() -> None:
    """A title that repeats the trigger is left out."""
    policy = made(Policy, title="lxml fails", trigger="lxml fails", procedure="Add libxml2.", boundary="On Debian")

    assert policy_text(policy) == "lxml fails\nDo: Add libxml2.\nNot when: On Debian"


def test_guidance_is_three_of_each() -> None:
    """Each once; nothing for nothing."""
    assert guidance_text(["a", "a", "b", "c", "d"], ["x"]) == "Prefer:\n- a\n- b\n- c\nAvoid:\n- x"
    assert guidance_text([], []) == ""


def test_images_and_links_to_elsewhere_are_their_words_alone() -> None:
    """A link to the web stays, because a person may want it."""
    text = "[a](https://x.org/a) [b](javascript:alert(1)) ![c](https://x.org/t.png) [d](file:notes.txt)"

    assert harmless(text) == "[a](https://x.org/a) b) c d"


def test_our_ids_are_left_out() -> None:
    """They mean nothing to a model, and invite it to make some up."""
    assert harmless("Do it as in po_0123456789ab, twice") == "Do it as in , twice"


def test_figures_that_somebody_said_are_facts() -> None:
    """Whatever they are called: in a guide, in what a tool was given, in a policy."""
    said = "Set priority=10, train with alpha=0.05 and eta = 0.3 (score=0.9), awk -v V=3"
    call = ToolUse("bash", "awk -v V=3", "gain = 0.4", "")

    assert harmless(said) == said
    assert trace_text(made(Trace, tool_calls=(call,))) == "Done: bash awk -v V=3 → gain = 0.4"
    assert policy_text(made(Policy, title="t", procedure=said)) == f"t\nDo: {said}"
