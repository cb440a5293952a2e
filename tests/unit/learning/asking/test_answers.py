"""Reading what a model answered."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from reverie.learning.asking.answers import NO_OBJECT, Unusable, Usable, first_object, read_answer
from reverie.learning.asking.asks import Question
from reverie.llm.prompt_files import Prompt

pytestmark = pytest.mark.anyio


class Score(BaseModel):
    score: float = Field(ge=-1, le=1)
    why: str = ""


QUESTION = Question(Prompt("test.score@1", "Score it."), "{}", Score)


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 0.5, "why": "a } in a string, and \\" too"}',
        '```json\n{"score": 0.5, "why": "a } in a string, and \\" too"}\n```',
        'With {braces} and {}: {"score": 0.5, "why": "a } in a string, and \\" too"} Is that {all}?',
        '{"score": 0.5, "why": "a } in a string, and \\" too",}',
        '{"score": 0.5, "why": "a } in a string, and \\" too"',
    ],
)
async def test_an_object_is_found_however_it_is_wrapped(text: str) -> None:
    """Plain, fenced, within words, with a comma too many, or cut before its end: the same object."""
    assert await read_answer(QUESTION, text) == Usable(Score(score=0.5, why='a } in a string, and " too'))


@pytest.mark.parametrize("text", ["", "no", "[1, 2]", '"{"', "{", "null"])
async def test_what_holds_no_object_says_so(text: str) -> None:
    """An answer without a JSON object is unusable."""
    assert await read_answer(QUESTION, text) == Unusable(NO_OBJECT)


async def test_what_has_another_form_is_told_without_quoting_it() -> None:
    """The model is told which field is wrong, and nothing of what it said."""
    assert await read_answer(QUESTION, '{"score": 7, "why": ["secret"]}') == Unusable(
        "score: Input should be less than or equal to 1; why: Input should be a valid string"
    )


async def test_a_check_has_the_last_word() -> None:
    """A well-formed answer that the question's own check finds fault with is unusable."""
    question = Question(QUESTION.prompt, "{}", Score, check=lambda found: None if found.why else "say why")
    assert await read_answer(question, '{"score": 0}') == Unusable("say why")
    assert await read_answer(question, '{"score": 0, "why": "so"}') == Usable(Score(score=0, why="so"))


def test_deep_nonsense_is_no_object() -> None:
    """Brackets without end neither hang nor raise."""
    assert first_object("{" * 50_000) is None
    assert isinstance(first_object('{"a":' * 200), dict | None)
