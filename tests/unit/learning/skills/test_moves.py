"""Which skills go by another name because their files were moved."""

from __future__ import annotations

import pytest

from reverie.learning.skills.moves import moved


@pytest.mark.parametrize(
    ("carried", "homes", "there", "expected"),
    [
        ({}, {}, {"a"}, {}),
        ({"b": "A"}, {"A": "a"}, {"b"}, {"A": "b"}),  # renamed
        ({"b": "A"}, {"A": "a"}, {"a", "b"}, {}),  # a copy
        ({"b": "A", "a": "B"}, {"A": "a", "B": "b"}, {"a", "b"}, {"A": "b", "B": "a"}),  # traded
        ({"c": "A", "a": "B"}, {"A": "a", "B": "b"}, {"a", "c"}, {"A": "c", "B": "a"}),  # moved on
        ({"b": "A", "c": "A"}, {"A": "a"}, {"b", "c"}, {"A": "b"}),  # renamed and copied
        ({"a": "B", "c": "A"}, {"A": "a", "B": "b"}, {"a", "b", "c"}, {"A": "c"}),  # a copy in place of one that went
        ({"a": "A"}, {"A": "a"}, {"a"}, {}),  # it came back
    ],
)
def test_a_skill_goes_where_its_file_goes(
    carried: dict[str, str], homes: dict[str, str], there: set[str], expected: dict[str, str]
) -> None:
    """Unless its own folder still has a file that is not another skill's."""
    assert moved(carried, homes, there) == expected
