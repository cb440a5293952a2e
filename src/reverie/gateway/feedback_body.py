"""The body of `POST /v1/feedback`, parsed: what it is about, which way it points, and how strongly.

    {"turn_id": "chatcmpl_…", "thumb": "up"}
    {"session": "main", "score": -0.5, "text": "The port is 8443.", "key": "my-key-1"}
    {"skill": "restart-the-roaster", "polarity": "negative", "magnitude": 0.8}

Exactly one field says what it is about, and exactly one which way it points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from reverie.errors import RequestError
from reverie.gateway.routing import KEY_CHARACTERS_MAX
from reverie.learning.records import Polarity
from reverie.learning.surfaces_ports import GivenFeedback, TargetKind

if TYPE_CHECKING:
    from collections.abc import Collection

    from reverie.types import JsonObject

TARGETS: tuple[TargetKind, ...] = get_args(TargetKind)
POLARITIES: tuple[Polarity, ...] = get_args(Polarity)
THUMBS: dict[str, Polarity] = {"up": "positive", "down": "negative"}
DIRECTIONS = ("polarity", "thumb", "score")
FIELDS = frozenset({*TARGETS, *DIRECTIONS, "magnitude", "text", "key", "agent"})
TEXT_CHARACTERS_MAX = 4_000
CLIENT_KEY_CHARACTERS_MAX = 200


def read_feedback(body: JsonObject, agent: str) -> GivenFeedback:
    """Feedback, checked.

    Raises:
        RequestError: a field is missing, unknown, given beside one that says the same, or out of range.
    """
    for name in body:
        if name not in FIELDS:
            listed = ", ".join(f"`{field}`" for field in sorted(FIELDS))
            raise RequestError(f"There is no field `{name[:100]}` here. Fields: {listed}.", param=name[:100])
    named = _only(body, TARGETS, "what the feedback is about")
    polarity, magnitude = _direction(body)
    return GivenFeedback(
        agent=agent,
        named=named,
        name=_text(body, named, KEY_CHARACTERS_MAX, least=1),
        polarity=polarity,
        magnitude=magnitude,
        text=_text(body, "text", TEXT_CHARACTERS_MAX),
        key=_text(body, "key", CLIENT_KEY_CHARACTERS_MAX) or None,
    )


def _only(body: JsonObject, names: tuple[Any, ...], what: str) -> Any:
    """The one field of several that is given."""
    given = [name for name in names if body.get(name) is not None]
    if len(given) != 1:
        listed = ", ".join(f"`{name}`" for name in names)
        raise RequestError(f"Exactly one of {listed} says {what}.", param=given[1] if given else names[0])
    return given[0]


def _direction(body: JsonObject) -> tuple[Polarity, float]:
    """Which way it points, and how strongly: a score says both."""
    match _only(body, DIRECTIONS, "which way it points"):
        case "thumb":
            return THUMBS[_choice(body, "thumb", THUMBS)], _number(body, "magnitude", 0, default=1)
        case "score":
            score = _number(body, "score", -1)
            if body.get("magnitude") is not None:
                raise RequestError("`score` says how strongly already.", param="magnitude")
            return ("positive" if score > 0 else "negative" if score < 0 else "neutral"), abs(score)
        case _:
            chosen = _choice(body, "polarity", POLARITIES)
            polarity: Polarity = next(each for each in POLARITIES if each == chosen)
            return polarity, _number(body, "magnitude", 0, default=1)


def _choice(body: JsonObject, name: str, choices: Collection[str]) -> str:
    value: Any = body[name]
    if not isinstance(value, str) or value not in choices:
        raise RequestError(f"`{name}` is one of {', '.join(f'`{each}`' for each in choices)}.", param=name)
    return value


def _number(body: JsonObject, name: str, low: int, default: float | None = None) -> float:
    value: Any = body.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1:
        raise RequestError(f"`{name}` must be a number from {low} to 1.", param=name)
    return float(value)


def _text(body: JsonObject, name: str, longest: int, least: int = 0) -> str:
    value: Any = body.get(name)
    text = "" if value is None else value
    if not isinstance(text, str) or not least <= len(text) <= longest:
        raise RequestError(f"`{name}` must be a string of {least} to {longest} characters.", param=name)
    return text
