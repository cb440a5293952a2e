"""Which changes are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import RequestError
from reverie.learning.surfaces.edits import check_changes

if TYPE_CHECKING:
    from reverie.learning.surfaces.ports import Kind


@pytest.mark.parametrize(
    ("kind", "changes", "param"),
    [
        ("traces", {}, None),
        ("traces", {"value": 1}, "value"),
        ("traces", {"summary": "x" * 301}, "summary"),
        ("policies", {"skill_eligible": 1}, "skill_eligible"),
        ("policies", {"preference": "x"}, "preference"),
        ("policies", {"preference": ["x"] * 25}, "preference"),
        ("policies", {"anti_pattern": ["x" * 1_001]}, "anti_pattern"),
        ("world-models", {"domain_tags": [1]}, "domain_tags"),
        ("skills", {"name": "another"}, "name"),
        ("skills", {"guide": None}, "guide"),
        ("jobs", {"state": "done"}, None),
    ],
)
def test_refused(kind: Kind, changes: dict[str, Any], param: str | None) -> None:
    """A field that is none, a value that is none, and nothing at all."""
    with pytest.raises(RequestError) as caught:
        check_changes(kind, changes)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("traces", {"summary": "x" * 300, "reflection": ""}),
        ("policies", {"title": "t", "skill_eligible": False, "preference": [], "anti_pattern": ["a"]}),
        ("world-models", {"body": "b", "domain_tags": ["python"]}),
        ("skills", {"title": "t", "description": "d", "guide": "g"}),
    ],
)
def test_taken(kind: Kind, changes: dict[str, Any]) -> None:
    """What a kind has to edit."""
    check_changes(kind, changes)
