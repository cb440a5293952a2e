"""Measuring: which changes of a policy are worth building its skill again."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.config import SkillsConfig
from reverie.learning.policies.measuring import Built, gain_step, is_material, may_be_skill
from tests.learning_rows import T0
from tests.unit.learning.learned import policy

CONFIG = SkillsConfig()
BUILT = Built(gain=0.30, support=2, at_ms=T0)


@pytest.mark.parametrize(
    ("fields", "material"),
    [
        ({"gain": 0.30, "support": 2}, False),
        ({"gain": 0.349, "support": 2}, False),
        ({"gain": 0.35, "support": 2}, True),
        ({"gain": 0.25, "support": 2}, True),
        ({"gain": 0.251, "support": 2}, False),
        ({"gain": 0.30, "support": 3}, True),
        ({"gain": 0.30, "support": 1}, False),
        ({"gain": 0.30, "support": 2, "updated_at_ms": T0 + 1}, True),
    ],
)
def test_material_is_gain_support_or_text(fields: dict[str, Any], *, material: bool) -> None:
    """A gain that moved by 0.05, one task more, or a text that is newer than the skill."""
    assert is_material(policy(**fields), BUILT, CONFIG) is material


def test_first_skill_is_always_material() -> None:
    """Where none was built, one may be."""
    assert is_material(policy(), None, CONFIG) is True


def test_thousand_small_updates_are_not_material() -> None:
    """Gains that move by 0.001 around what the skill was built of are worth nothing."""
    gains = [0.30 + 0.001 * (number % 49) for number in range(1_000)]

    assert [gain for gain in gains if is_material(policy(gain=gain, support=2), BUILT, CONFIG)] == []


def test_gains_are_counted_in_steps() -> None:
    """Of `rebuild_gain`; of 0.001 where that is 0."""
    assert [gain_step(gain, 0.05) for gain in (-0.01, 0.0, 0.049, 0.051, 0.31)] == [-1, 0, 0, 1, 6]
    assert gain_step(0.0105, 0.0) == 10


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, True),
        ({"polarity": "mixed"}, True),
        ({"type": "success_pattern"}, True),
        ({"status": "candidate"}, False),
        ({"status": "archived"}, False),
        ({"skill_eligible": False}, False),
        ({"type": "failure_avoidance"}, False),
        ({"type": "repair_instruction"}, False),
        ({"type": "preference"}, False),
        ({"polarity": "negative"}, False),
        ({"polarity": "neutral"}, False),
        ({"gain": 0.019}, False),
        ({"support": 0}, False),
    ],
)
def test_skills_are_made_of_proven_policies_that_show_success(fields: dict[str, Any], *, may: bool) -> None:
    """Active, eligible, of a type and a polarity that say how something is done well, with gain and support."""
    assert may_be_skill(policy(**fields), CONFIG) is may
