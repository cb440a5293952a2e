"""Duplicates: whether two policies say the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reverie.learning.policies.duplicates import Said, dice, likeness, nearest

ONE = Said(
    id="po_1",
    title="Install build headers before pip",
    trigger="pip fails to compile a package in an alpine container",
    procedure="Install gcc and musl-dev with apk, then run pip install again.",
    verification="pip exits with zero",
    boundary="only in alpine images",
)


def test_pairs_of_characters_are_compared() -> None:
    """Dice counts the pairs that both have, twice, by all pairs."""
    assert dice("night", "nacht") == pytest.approx(2 * 1 / 8)
    assert dice("Same, text!", "same text") == 1.0
    assert dice("", "x") == 0.0
    assert dice("x", "x") == 1.0
    assert dice("安装编译器", "安装编译器") == 1.0


def test_exact_duplicate_is_one() -> None:
    """The same text is the same policy, fully alike."""
    assert likeness(ONE, replace(ONE, id="po_2")) == pytest.approx(1.0)


def test_near_and_rewritten_duplicates_are_found() -> None:
    """One of title, trigger and procedure that is nearly the same is enough."""
    other = replace(ONE, id="po_2", title="Something else entirely", trigger="compilation breaks")
    rewritten = replace(other, procedure="Install gcc and musl-dev with apk and then run pip install again")

    assert likeness(ONE, rewritten) is not None
    assert likeness(ONE, replace(rewritten, procedure="Read the log and call a friend")) is None


def test_score_weighs_title_trigger_and_procedure() -> None:
    """0.45 of the title, 0.25 of the trigger, 0.30 of the procedure."""
    assert likeness(ONE, replace(ONE, trigger="", procedure="")) == pytest.approx(0.45)
    assert likeness(ONE, replace(ONE, title="", procedure="")) == pytest.approx(0.25)
    assert likeness(ONE, replace(ONE, title="", trigger="")) == pytest.approx(0.30)


def test_boundaries_that_differ_keep_policies_apart() -> None:
    """Boundary and verification are alike, where both have one."""
    assert likeness(ONE, replace(ONE, boundary="when a network proxy is configured")) is None
    assert likeness(ONE, replace(ONE, verification="the web page opens in a browser")) is None
    assert likeness(ONE, replace(ONE, boundary="", verification="")) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("one", "other"), [("only in alpine images", "not in alpine images"), ("在生产环境使用", "不在生产环境使用")]
)
def test_opposite_boundaries_keep_policies_apart(one: str, other: str) -> None:
    """What one allows and the other forbids is not the same policy, however alike the words."""
    assert likeness(replace(ONE, boundary=one), replace(ONE, boundary=other)) is None
    assert likeness(replace(ONE, boundary=one), replace(ONE, boundary=one)) is not None


def test_most_alike_is_chosen() -> None:
    """Of several that say the same the most alike one is given."""
    less = replace(ONE, id="po_2", trigger="", procedure="")

    assert nearest(ONE, [less, replace(ONE, id="po_3")]) == (pytest.approx(1.0), "po_3")
    assert nearest(ONE, []) is None
