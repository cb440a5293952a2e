"""World models: what a new one becomes part of, and what two make together."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.learning.worlds.world_models import (
    Target,
    WorldDraft,
    given_up,
    joined,
    joined_structure,
    merge_target,
    overlap,
)
from tests.learning_rows import T0, unit
from tests.unit.learning.learned import world


def draft(**fields: Any) -> WorldDraft:
    values: dict[str, Any] = {
        "agent": "main", "title": "new", "body": "new body", "structure": {}, "domain": "python|shell",
        "tags": ("new",),
        "confidence": 0.6, "members": "digest", "policies": ("po_1", "po_2", "po_3"), "episodes": ("ep_9",),
        "supersedes": (), "induced_by": "l3.abstraction@1", "vec": unit(1, 0), "provenance": "agent",
    }  # fmt: skip
    return WorldDraft(**{**values, **fields})


def entry(label: str, *evidence: str, description: str = "so it is") -> dict[str, Any]:
    return {"label": label, "description": description, "evidence": list(evidence)}


def test_overlap_is_of_the_smaller_one() -> None:
    """Shared policies, by those of the one that has fewer."""
    assert overlap(["a", "b", "c"], ["b", "c", "d", "e"]) == pytest.approx(2 / 3)
    assert overlap(["a"], []) == 0.0


def test_superseded_world_wins_below_every_cutoff() -> None:
    """What an answer says it supersedes is what it joins, though another one shares all of its policies."""
    worlds = [world("wm_1", policies=("po_1", "po_2", "po_3")), world("wm_2", policies=("po_8",))]

    assert merge_target(draft(supersedes=("wm_2",)), worlds, 0.3) == Target(worlds[1], "supersedes")


def test_overlap_of_six_tenths_forces_a_merge() -> None:
    """Two of three shared policies are enough, one of two is not."""
    near = world("wm_1", policies=("po_1", "po_2", "po_8"))
    far = world("wm_1", policies=("po_1", "po_8"))

    assert merge_target(draft(), [near], 0.3) == Target(near, "overlap")
    assert merge_target(draft(), [far], 0.3) is None


def test_similar_world_of_the_same_domain_is_joined() -> None:
    """By the vector, from the threshold on, and only within the domain."""
    alike = world("wm_1", domain="python|shell", vec=unit(1, 1))

    assert merge_target(draft(), [alike], 0.7) == Target(alike, "similar")
    assert merge_target(draft(), [alike], 0.8) is None
    assert merge_target(draft(), [world("wm_1", domain="git|shell", vec=unit(1, 0))], 0.7) is None
    assert merge_target(draft(vec=None), [alike], 0.0) is None


def test_archived_and_foreign_worlds_are_not_joined() -> None:
    """Neither one that was given up nor one of another agent, though it is named."""
    worlds = [world("wm_1", status="archived"), world("wm_2", agent="other")]

    assert merge_target(draft(supersedes=("wm_1", "wm_2")), worlds, 0.0) is None


def test_what_was_given_up_is_recognised() -> None:
    """By its policies, unless another one in force has them."""
    archived = world("wm_1", status="archived", policies=("po_1", "po_2"))

    assert given_up(["po_1", "po_2"], [archived]) == archived
    assert given_up(["po_1", "po_2"], [archived, world("wm_2", policies=("po_1",))]) is None
    assert given_up(["po_7"], [archived]) is None


def test_joined_world_has_the_entries_of_both() -> None:
    """Newer words, 0.05 more confidence, the union of entries, tags, policies and episodes."""
    older = world(title="old", body="old body", confidence=0.5, domain_tags=("a", "b"), policies=("po_3", "po_4"),
                  structure={"environment": [entry("one", "po_3")]}, source_episodes=("ep_1",))  # fmt: skip
    new = joined(older, draft(structure={"environment": [entry("two", "po_1")], "inference": [entry("three")]}))

    assert (new.title, new.body, new.confidence) == ("new", "new body", 0.55)
    assert new.structure == {
        "environment": [entry("two", "po_1"), entry("one", "po_3")],
        "inference": [entry("three")],
        "constraints": [],
    }
    assert new.domain_tags == ("new", "a", "b")
    assert new.policies == ("po_1", "po_2", "po_3", "po_4")
    assert new.source_episodes == ("ep_9", "ep_1")
    assert new.members == "digest"


def test_entries_and_tags_are_bounded() -> None:
    """At most 24 entries of each kind and 6 tags; the newer ones stay. Confidence ends at 1."""
    structure = {"environment": [entry(f"old {n}") for n in range(20)]}
    newer = {"environment": [entry(f"new {n}") for n in range(16)]}
    both = joined(world(structure=structure, domain_tags=tuple("abcdef"), confidence=0.98), draft(structure=newer))

    assert [each["label"] for each in both.structure["environment"]] == [
        *(f"new {n}" for n in range(16)),
        *(f"old {n}" for n in range(8)),
    ]
    assert both.domain_tags == ("new", "a", "b", "c", "d", "e")
    assert both.confidence == 1.0


def test_entries_of_one_label_are_one() -> None:
    """The newer words, the evidence of both."""
    both = joined_structure(
        {"inference": [entry("No Compiler", "po_1", description="new")]},
        {"inference": [entry("no  compiler", "po_2", description="old")]},
    )

    assert both["inference"] == [entry("No Compiler", "po_1", "po_2", description="new")]


def test_edited_world_keeps_its_text() -> None:
    """A person's words stay; what it rests on and how sure it is moves."""
    edited = world(title="mine", body="my body", structure={"inference": []}, edited_at_ms=T0)
    new = joined(edited, draft())

    assert (new.title, new.body, new.structure, new.domain_tags) == ("mine", "my body", {"inference": []}, ())
    assert (new.confidence, new.policies) == (0.55, ("po_1", "po_2", "po_3"))


def test_joined_world_is_as_trusted_as_its_least_trusted_part() -> None:
    """What strangers said stays recognisable."""
    assert joined(world(provenance="owner"), draft(provenance="untrusted")).provenance == "untrusted"
    assert joined(world(provenance="untrusted"), draft(provenance="owner")).provenance == "untrusted"
