"""Whether learning storms, told from what is usual."""

from __future__ import annotations

import pytest

from reverie.learning.surfaces.status import Pace, pace_of

USUAL = dict.fromkeys(range(38, 99), 10)


@pytest.mark.parametrize(
    ("by_minute", "storm"),
    [
        ({}, Pace(0, 0.0, "")),
        ({100: 30}, Pace(30, 0.0, "")),
        ({100: 31}, Pace(31, 0.0, "31 jobs a minute, usually 0")),
        ({99: 31}, Pace(31, 0.0, "31 jobs a minute, usually 0")),
        ({98: 31}, Pace(0, 31.0, "")),
        ({**USUAL, 100: 50}, Pace(50, 10.0, "")),
        ({**USUAL, 100: 51}, Pace(51, 10.0, "51 jobs a minute, usually 10")),
    ],
)
def test_a_storm_is_told_from_what_is_usual(by_minute: dict[int, int], storm: Pace) -> None:
    """More than the floor, and more than so many times the median of the busy minutes before the last two."""
    assert pace_of("jobs", by_minute, 100, factor=5.0, floor=30) == storm
