"""The body of `POST /v1/feedback`, parsed: what it is about, which way it points, and how strongly.

    {"turn_id": "chatcmpl_…", "thumb": "up"}
    {"session": "main", "score": -0.5, "text": "The port is 8443.", "key": "my-key-1"}
    {"skill": "restart-the-roaster", "polarity": "negative", "magnitude": 0.8}
    {"turn_id": "chatcmpl_…", "verdict": {"passed": 3, "total": 4}}

Exactly one field says what it is about. At most one says which way it points; without it the text, or the verdict of a
program that checked the answer, says it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from reverie.errors import RequestError
from reverie.gateway.routing import KEY_CHARACTERS_MAX
from reverie.learning.feedback.feedback import KEY_CHARS_MAX, PAIR_CHARS_MAX, TEXT_CHARS_MAX, Submission, Verdict
from reverie.learning.feedback.targets import Target
from reverie.learning.records import Polarity
from reverie.learning.surfaces.ports import GivenFeedback

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from reverie.learning.feedback.targets import TargetKind
    from reverie.types import JsonObject

TARGETS: dict[str, TargetKind] = {
    "turn_id": "turn",
    "trace_id": "trace",
    "episode_id": "episode",
    "task_id": "task",
    "skill": "skill",
    "world_model_id": "world_model",
    "session": "session",
}
"""The fields that say what it is about, and what each stands for."""
POLARITIES: tuple[Polarity, ...] = get_args(Polarity)
THUMBS: dict[str, Polarity] = {"up": "positive", "down": "negative"}
DIRECTIONS = ("polarity", "thumb", "score")
FIELDS = frozenset({*TARGETS, *DIRECTIONS, "magnitude", "text", "prefer", "avoid", "verdict", "key", "agent"})
CHECKS_MAX = 1_000_000


def read_feedback(body: JsonObject, agent: str) -> GivenFeedback:
    """Feedback, checked. `agent` is whose names of skills and sessions count.

    Raises:
        RequestError: a field is missing, unknown, given beside one that says the same, or out of range.
    """
    _check_fields(body, FIELDS)
    named = _given(body, tuple(TARGETS))
    if len(named) != 1:
        raise RequestError(f"Exactly one of {_listed(tuple(TARGETS))} says what the feedback is about.",
                           param=named[1] if named else "turn_id")  # fmt: skip
    polarity, magnitude = _direction(body)
    submission = Submission(
        Target(TARGETS[named[0]], _text(body, named[0], KEY_CHARACTERS_MAX, least=1)),
        polarity,
        magnitude,
        text=_text(body, "text", TEXT_CHARS_MAX),
        prefer=_text(body, "prefer", PAIR_CHARS_MAX),
        avoid=_text(body, "avoid", PAIR_CHARS_MAX),
        verdict=_verdict(body),
        key=_text(body, "key", KEY_CHARS_MAX) or None,
    )
    says = (submission.text, submission.prefer, submission.avoid)
    if polarity is None and submission.verdict is None and not any(words.strip() for words in says):
        raise RequestError(f"One of {_listed((*DIRECTIONS, 'text', 'verdict'))} says how it was.", param="polarity")
    return GivenFeedback(submission, agent, only=body.get("agent") is not None)


def _check_fields(body: JsonObject, fields: Collection[str], within: str = "") -> None:
    for name in body:
        if name not in fields:
            shown = _listed(sorted(fields))
            raise RequestError(
                f"There is no field `{name[:100]}` here. Fields: {shown}.", param=f"{within}{name[:100]}"
            )


def _given(body: JsonObject, names: Sequence[str]) -> list[str]:
    return [name for name in names if body.get(name) is not None]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _direction(body: JsonObject) -> tuple[Polarity | None, float | None]:
    """Which way it points, and how strongly: a score says both. None for what is left to the words."""
    given = _given(body, DIRECTIONS)
    if len(given) > 1:
        raise RequestError(f"At most one of {_listed(DIRECTIONS)} says which way it points.", param=given[1])
    magnitude = None if body.get("magnitude") is None else _number(body, "magnitude", 0, 1)
    match given:
        case ["thumb"]:
            return THUMBS[_choice(body, "thumb", THUMBS)], magnitude
        case ["score"]:
            score = _number(body, "score", -1, 1)
            if magnitude is not None:
                raise RequestError("`score` says how strongly already.", param="magnitude")
            return ("positive" if score > 0 else "negative" if score < 0 else "neutral"), abs(score)
        case ["polarity"]:
            chosen = _choice(body, "polarity", POLARITIES)
            return next(each for each in POLARITIES if each == chosen), magnitude
        case _:
            return None, magnitude


def _verdict(body: JsonObject) -> Verdict | None:
    """What a program found that checked the answer."""
    value: Any = body.get("verdict")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise RequestError("`verdict` must be an object with `passed` and `total`, or `reward`.", param="verdict")
    found = cast("JsonObject", value)
    _check_fields(found, {"passed", "total", "reward"}, "verdict.")
    reward = None if found.get("reward") is None else _number(found, "reward", -1, 1, "verdict.")
    return Verdict(_checks(found, "passed"), _checks(found, "total"), reward)


def _checks(verdict: JsonObject, name: str) -> int:
    value: Any = verdict.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= CHECKS_MAX:
        raise RequestError(f"`verdict.{name}` must be a number from 0 to {CHECKS_MAX}.", param=f"verdict.{name}")
    return value


def _choice(body: JsonObject, name: str, choices: Collection[str]) -> str:
    value: Any = body[name]
    if not isinstance(value, str) or value not in choices:
        raise RequestError(f"`{name}` is one of {_listed(tuple(choices))}.", param=name)
    return value


def _number(body: JsonObject, name: str, low: int, high: int, within: str = "") -> float:
    value: Any = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"`{within}{name}` must be a number from {low} to {high}.", param=f"{within}{name}")
    return float(value)


def _text(body: JsonObject, name: str, longest: int, least: int = 0) -> str:
    value: Any = body.get(name)
    text = "" if value is None else value
    if not isinstance(text, str) or not least <= len(text) <= longest:
        raise RequestError(f"`{name}` must be a string of {least} to {longest} characters.", param=name)
    return text
