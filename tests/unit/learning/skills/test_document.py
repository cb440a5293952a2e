"""`SKILL.md` as text and as values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.learning.records import Skill
from reverie.learning.skills.document import (
    BrokenDocument,
    SkillDocument,
    Verdict,
    folder_name,
    judge,
    numbered_name,
    parse,
    render,
    revised,
)
from reverie.memory.text import collapse

SKILL = Skill(
    id="sk_1", agent="main", name="deploy", title="Deploy", status="active", disabled=False,
    description="Use when a release is due.", guide="# Deploy\n\n1. Go.", draft={}, tools=(), eta=0.5, support=1,
    gain=0.1, exposures=0, uses=0, trials=0, passes=0, version=3, policies=(), worlds=(), anchors=(), evidence="",
    built_gain=0.1, built_support=1, built_at_ms=None, file_digest="", file_state="none", induced_by="",
    vec=None, provenance="agent", created_at_ms=0, updated_at_ms=0, edited_at_ms=None, given_up=False,
)  # fmt: skip


FOREIGN = """\
---
# looked over on 2 November
allowed-tools:
- git
Description: >-
  Use it
  sometimes.
Status: draft
  of mine
disabled: no   # never
license: MIT
---

# Mine
"""
"""A head as a person has it: keys, remarks and folded lines that are not ours."""


def test_a_skill_as_a_file() -> None:
    """A head that programs read, a body that a person reads."""
    assert render(SKILL) == (
        "---\nname: deploy\ndescription: Use when a release is due.\nreverie: sk_1\nversion: 3\nstatus: active\n"
        "disabled: false\n---\n\n# Deploy\n\n1. Go.\n"
    )


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00")).filter(lambda text: collapse(text) != ""),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r")),
    st.booleans(),
)
def test_what_was_rendered_is_parsed_to_the_same(description: str, guide: str, disabled: bool) -> None:  # noqa: FBT001 (given by hypothesis)
    """Whatever a description holds (quotes, colons, a line `---`), it comes back, and the body with it."""
    skill = replace(SKILL, description=collapse(description)[:1024], guide=guide.strip(), disabled=disabled)
    parsed = parse(render(skill))

    assert isinstance(parsed, SkillDocument)
    assert (parsed.description, parsed.guide, parsed.disabled) == (skill.description, skill.guide, disabled)
    assert (parsed.id, parsed.name) == ("sk_1", "deploy")
    assert revised(render(skill), skill) == render(skill)
    changed = parse(revised(FOREIGN, skill))
    assert isinstance(changed, SkillDocument)
    assert (changed.description, changed.guide, changed.disabled) == (skill.description, skill.guide, disabled)


def test_a_file_that_is_there_keeps_the_lines_of_others() -> None:
    """Only what the row says otherwise is changed, where it stands; what a head lacks is added at its end."""
    assert revised(FOREIGN, SKILL) == (
        "---\n# looked over on 2 November\nallowed-tools:\n- git\ndescription: Use when a release is due.\n"
        "status: active\ndisabled: no   # never\nlicense: MIT\nreverie: sk_1\nversion: 3\n---\n\n"
        "# Deploy\n\n1. Go.\n"
    )
    own = replace(SKILL, description="Use it sometimes.", guide="# Mine", status="candidate", disabled=True)
    assert revised(FOREIGN, own) == FOREIGN.replace("Status: draft\n  of mine", "status: candidate").replace(
        "disabled: no   # never", "disabled: true"
    ).replace("license: MIT\n", "license: MIT\nreverie: sk_1\nversion: 3\n")


def test_a_head_as_people_write_it() -> None:
    """Quotes, remarks, folded texts, lists and keys of others are understood."""
    text = (
        "---\r\nname: 'the cook''s'\r\n# a remark\r\ndescription: >-\r\n  Use when\r\n  hungry.\r\nmetadata:\r\n"
        "  {\r\n  author: me\r\n}\r\nallowed-tools:\r\n- oven\r\nDisabled: Yes # for now\r\n---\r\n\r\nCook.\r\n"
    )
    assert parse(text) == SkillDocument("the cook's", "Use when hungry.", "Cook.", "the cook's", "", disabled=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with a line `---`"),
        ("# Deploy\n", "does not begin with a line `---`"),
        ("---\nname: x\n", "no second line `---`"),
        ("---\nname: x\n---\nbody", "no `description:`"),
        ("---\ndescription: x\nname x\n---\n", "line 3 of its head is not of the form"),
        ("---\n  indented: x\n---\n", "line 2 of its head belongs to no `key:`"),
        ("---\nname: x\nname: y\n---\n", "line 3 of its head gives `name` for the second time"),
        ("---\ndescription: x\ndisabled: maybe\n---\n", "`disabled: maybe` is neither true nor false"),
        ("---\n" + "a: b\n" * 200 + "---\n", "no second line `---` ends its head within 100 lines"),
    ],
)
def test_a_broken_head_is_explained(text: str, reason: str) -> None:
    """The reason names the line or the key, in words for whoever wrote it."""
    parsed = parse(text)

    assert isinstance(parsed, BrokenDocument)
    assert reason in parsed.reason


@pytest.mark.parametrize(
    ("state", "status", "known", "planned", "found", "verdict"),
    [
        ("ours", "active", "a", "", "a", "same"),
        ("ours", "active", "a", "", "b", "edited"),
        ("ours", "active", "a", "", None, "deleted"),
        ("edited", "active", "a", "", None, "deleted"),
        ("deleted", "archived", "", "", None, "nothing"),
        ("deleted", "archived", "", "", "a", "edited"),
        ("deleted", "archived", "a", "", None, "nothing"),
        ("deleted", "archived", "a", "", "a", "restored"),
        ("deleted", "archived", "a", "", "b", "edited"),
        ("none", "candidate", "", "due", None, "write"),
        ("none", "candidate", "", "b", None, "write"),
        ("none", "candidate", "", "b", "b", "written"),
        ("none", "candidate", "", "b", "x", "edited"),
        ("none", "candidate", "", "", None, "write"),
        ("none", "archived", "", "", None, "nothing"),
        ("ours", "active", "a", "due", "a", "write"),
        ("ours", "active", "a", "b", "a", "write"),
        ("ours", "active", "a", "b", "b", "written"),
        ("ours", "active", "a", "b", "x", "edited"),
        ("ours", "active", "a", "b", None, "deleted"),
    ],
)
def test_whose_word_counts(
    state: str, status: str, known: str, planned: str, found: str | None, verdict: Verdict
) -> None:
    """A file that we neither knew nor planned is a person's; one that was never there is written, one gone deleted."""
    assert judge(state, status, known, planned, found) == verdict


@pytest.mark.parametrize(("planned", "verdict"), [("due", "write"), ("c", "write")])
def test_what_was_planned_before_is_ours_too(planned: str, verdict: Verdict) -> None:
    """The row changed while the file was being written: what was written is no person's."""
    assert judge("ours", "active", "a", planned, "b", "b") == verdict
    assert judge("ours", "active", "a", planned, "x", "b") == "edited"


@pytest.mark.parametrize(
    ("wanted", "title", "name"),
    [
        ("release_notes", "x", "release-notes"),
        ("Fix: the/../Build!", "x", "fix-the-build"),
        ("a" * 50, "x", "a" * 32),
        ("发布说明", "Release Notes", "release-notes"),
        ("", "", "sk-1"),
        ("...", "---", "sk-1"),
    ],
)
def test_a_folder_has_a_plain_name(wanted: str, title: str, name: str) -> None:
    """Lower case, digits and hyphens, at most 32; from the title, or the id, when nothing remains."""
    assert folder_name(wanted, title, "sk_1") == name


def test_a_number_fits_into_a_name() -> None:
    """A name that is taken gets a number within its 32 characters."""
    assert [numbered_name("deploy", 1), numbered_name("deploy", 2)] == ["deploy", "deploy-2"]
    assert numbered_name("a" * 32, 12) == "a" * 29 + "-12"
