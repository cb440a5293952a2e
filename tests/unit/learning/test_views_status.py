"""Whether learning storms, told from what is usual."""

from __future__ import annotations

import pytest

from reverie.learning.views_status import Storm, storm_of

USUAL = dict.fromkeys(range(38, 99), 10)


@pytest.mark.parametrize(
    ("by_minute", "storm"),
    [
        ({}, Storm(0, 1.0, "")),
        ({100: 30}, Storm(30, 1.0, "")),
        ({100: 31}, Storm(31, 1.0, "31 jobs a minute, usually 1")),
        ({99: 31}, Storm(31, 1.0, "31 jobs a minute, usually 1")),
        ({98: 31}, Storm(0, 1.0, "")),
        ({**USUAL, 100: 50}, Storm(50, 10.0, "")),
        ({**USUAL, 100: 51}, Storm(51, 10.0, "51 jobs a minute, usually 10")),
    ],
)
def test_a_storm_is_told_from_what_is_usual(by_minute: dict[int, int], storm: Storm) -> None:
    """More than the floor, and more than so many times the median of the hour before the last two minutes."""
    assert storm_of("jobs", by_minute, 100, factor=5.0, floor=30) == storm
