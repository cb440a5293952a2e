"""Policies: what makes one another one."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.learning.policies.policies import text_digest, words_digest
from tests.unit.learning.learned import policy


@pytest.mark.parametrize("field", ["title", "trigger", "procedure", "verification", "boundary"])
def test_other_words_are_another_policy(field: str) -> None:
    """For its world model and for its skill."""
    changed = policy(**{field: "otherwise"})

    assert words_digest(changed) != words_digest(policy())
    assert text_digest(changed) != text_digest(policy())


@pytest.mark.parametrize("fields", [{"preference": ("this",)}, {"anti_pattern": ("that",)}])
def test_repairs_change_it_for_its_skill_alone(fields: dict[str, Any]) -> None:
    """What is to be preferred or avoided goes into a skill, and says nothing of the world."""
    assert words_digest(policy(**fields)) == words_digest(policy())
    assert text_digest(policy(**fields)) != text_digest(policy())


def test_gain_and_support_are_no_words() -> None:
    """What a policy is worth does not change what it says."""
    assert text_digest(policy(gain=0.9, support=9, status="candidate")) == text_digest(policy())
