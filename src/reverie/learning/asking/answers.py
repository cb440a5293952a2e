"""Reading what a model answered: the first JSON object in it, repaired if need be, in the form that was asked for."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from reverie.learning.asking.asks import Question
    from reverie.types import JsonObject

T = TypeVar("T", bound=BaseModel)

ANSWER_CHARS_MAX = 100_000
"""What is read of an answer; none that is of use comes near."""
FAULTS_TOLD = 5
OBJECTS_MAX = 20
"""Pairs of brackets that are looked at."""
_BEGINS = re.compile(r'\{\s*["\']')
NO_OBJECT = "there is no JSON object in it"


@dataclass(frozen=True, slots=True)
class Usable(Generic[T]):
    """An answer in the form that was asked for."""

    value: T


@dataclass(frozen=True, slots=True)
class Unusable:
    """What is wrong with an answer, in words for the model's second try."""

    wrong: str


async def read_answer(question: Question[T], text: str) -> Usable[T] | Unusable:
    """The answer to a question. Whatever is not plain JSON is taken apart on a worker thread."""
    plain = _plain(text)
    found = plain if plain is not None else await asyncio.to_thread(first_object, text)
    if found is None:
        return Unusable(NO_OBJECT)
    try:
        value = question.answer.model_validate(found)
    except ValidationError as error:
        return Unusable(_faults(error))
    wrong = None if question.check is None else question.check(value)
    return Usable(value) if wrong is None else Unusable(wrong)


def first_object(text: str) -> JsonObject | None:
    """The first JSON object within a text: fenced, with words around it, with a comma too many, or cut short."""
    text = text[:ANSWER_CHARS_MAX]
    start = text.find("{")
    for _ in range(OBJECTS_MAX):
        end = _end_of_object(text, start) if start >= 0 else None
        if end is None:
            break
        found = _plain(text[start:end])
        if found:
            return found
        start = text.find("{", end)
    begun = _BEGINS.search(text)
    return None if begun is None else _repaired(text[begun.start() :])


def _plain(text: str) -> JsonObject | None:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("JsonObject", found) if isinstance(found, dict) else None


def _repaired(text: str) -> JsonObject | None:
    from json_repair import repair_json  # rarely needed

    try:
        found: Any = repair_json(text, return_objects=True)
    except (ValueError, RecursionError):
        return None
    return cast("JsonObject", found) if isinstance(found, dict) and found else None


def _end_of_object(text: str, start: int) -> int | None:
    """Where the object that begins at `start` ends; None if it is never closed. Braces in strings do not count."""
    depth, in_string, escaped = 0, False, False
    for place in range(start, len(text)):
        char = text[place]
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return place + 1
    return None


def _faults(error: ValidationError) -> str:
    """What does not have the form, without quoting what was answered."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)[:FAULTS_TOLD]
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in faults)
