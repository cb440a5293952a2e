"""How hard a model is asked to think, in words that it accepts.

Levels differ from model to model: one takes `minimal`, another begins at `low`. A client that was written for one of
them is not refused by the other: the level becomes the nearest one that the model's server takes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from reverie.errors import UpstreamRefusedError

if TYPE_CHECKING:
    from reverie.errors import ReverieError
    from reverie.llm.client import ModelRequest
    from reverie.types import JsonObject

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From the least to the most."""

_REFUSED = frozenset({400, 422})
_ABOUT = re.compile(r"reasoning[._ ]?effort|\beffort\b|thinking[._ ]?(?:level|effort)", re.IGNORECASE)
_LEVEL = re.compile(rf"\b({'|'.join(LEVELS)})\b", re.IGNORECASE)
_SUPPORTED = re.compile(r"(?:support|valid|allow|accept|must\ be|one\ of|expected)\w*(.*)", re.IGNORECASE | re.DOTALL)


def effort_of(request: ModelRequest) -> str | None:
    """The level that a request asks for, as `reasoning_effort` or within `reasoning`; None for any other value."""
    asked: Any = request.sampling.get("reasoning_effort")
    if asked is None and isinstance(within := request.sampling.get("reasoning"), dict):
        asked = cast("JsonObject", within).get("effort")
    return asked if asked in LEVELS else None


def with_effort(request: ModelRequest, level: str) -> ModelRequest:
    """The request with another level, where it had one."""
    sampling = dict(request.sampling)
    if sampling.get("reasoning_effort") is not None:
        sampling["reasoning_effort"] = level
    if isinstance(within := sampling.get("reasoning"), dict) and "effort" in within:
        sampling["reasoning"] = {**cast("JsonObject", within), "effort": level}
    return replace(request, sampling=sampling)


def nearest_effort(asked: str, error: ReverieError) -> str | None:
    """The level to ask for instead of one that was refused; None when the refusal is about something else.

    The levels that the refusal lists are believed, whatever else it lists; without a list it is the next one up.
    """
    if not isinstance(error, UpstreamRefusedError) or error.upstream_status not in _REFUSED:
        return None
    text = str(error)
    if not _ABOUT.search(text):
        return None
    place = LEVELS.index(asked)
    listed = _SUPPORTED.search(text.split(asked, 1)[-1])
    named = {level.lower() for level in _LEVEL.findall(listed[1])} if listed is not None else set[str]()
    taken = [level for level in LEVELS if level in named and level != asked]
    if not taken:
        return LEVELS[place + 1] if place < LEVELS.index("medium") else LEVELS[place - 1]
    return min(taken, key=lambda level: (abs(LEVELS.index(level) - place), -LEVELS.index(level)))
