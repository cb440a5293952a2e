"""How a memory's score fades with its age, and which memories never fade.

Pure. A daily note (`memory/2026-10-12.md`, also below folders and with words after the date) is as old as its date, a
message as old as its turn. `MEMORY.md` and every other file are evergreen: they are edited when they stop being true.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

MS_PER_DAY = 86_400_000
SESSIONS_PREFIX = "sessions/"

_DATED = re.compile(r"^memory/(?:.*/)?(\d{4})-(\d{2})-(\d{2})(?:-[^/]*)?\.md$")


def decay_factor(age_days: float, half_life_days: float) -> float:
    """What is left of a score after `age_days`: half after each half-life; all of it when the half-life is 0 or less.

    A date in the future is no age.
    """
    return 1.0 if half_life_days <= 0 else 0.5 ** (max(0.0, age_days) / half_life_days)


def dated_ms(path: str, created_at_ms: int) -> int | None:
    """The instant from which a memory ages, in milliseconds of the epoch; None for one that never does."""
    if path.startswith(SESSIONS_PREFIX):
        return created_at_ms
    found = _DATED.match(path)
    if found is None:
        return None
    try:
        day = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
    except ValueError:
        return None
    return int(day.timestamp() * 1000)


def fresh_share(path: str, created_at_ms: int, now_ms: int, half_life_days: float) -> float:
    """What is left of the score of a memory now."""
    since = dated_ms(path, created_at_ms)
    return 1.0 if since is None else decay_factor((now_ms - since) / MS_PER_DAY, half_life_days)
