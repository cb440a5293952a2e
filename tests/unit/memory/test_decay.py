"""Decay: what fades with time, and what does not."""

from __future__ import annotations

import pytest

from reverie.memory.decay import MS_PER_DAY, dated_ms, decay_factor, fresh_share

DAY = 1_791_763_200_000
"""2026-10-12, midnight UTC."""


@pytest.mark.parametrize(
    ("age_days", "half_life_days", "left"),
    [(30, 30, 0.5), (10, 30, 0.7937), (0, 30, 1.0), (-5, 30, 1.0), (400, 0, 1.0)],
)
def test_half_is_left_after_a_half_life(age_days: float, half_life_days: float, left: float) -> None:
    """The golden values; the future is no age, and without a half-life nothing fades."""
    assert decay_factor(age_days, half_life_days) == pytest.approx(left, abs=1e-4)


@pytest.mark.parametrize(
    ("path", "since"),
    [
        ("memory/2026-10-12.md", DAY),
        ("memory/work/2026-10-12-roaster.md", DAY),
        ("sessions/01a1", 7),
        ("MEMORY.md", None),
        ("memory/people.md", None),
        ("memory/2026-13-40.md", None),
        ("memory/12026-10-12.md", None),
        ("notes/2026-10-12.md", None),
    ],
)
def test_daily_notes_and_messages_age(path: str, since: int | None) -> None:
    """A daily note is as old as its date, a message as old as its turn; everything else is evergreen."""
    assert dated_ms(path, 7) == since


def test_an_evergreen_file_is_untouched_however_old() -> None:
    """A file from 2010 keeps all of its score; a note of thirty days ago has half of it left."""
    assert fresh_share("MEMORY.md", 1_262_304_000_000, DAY, 30) == 1.0
    assert fresh_share("memory/2026-10-12.md", 0, DAY + 30 * MS_PER_DAY, 30) == 0.5
