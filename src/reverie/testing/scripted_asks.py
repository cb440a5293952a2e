"""Answers for stages of learning, by what is asked.

    asks = ScriptedAsks({"reward.r_human": [{"goal_achievement": 0.9, …}]})
    asks.asked[0].text

An answer is a dictionary in the form that was asked for, or an error to be raised. A question that was not written down
fails. With `available=False` there is no model.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from reverie.errors import AnswerRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Question

T = TypeVar("T", bound=BaseModel)


class ScriptedAsks:
    """An `Asks` with scripted answers by operation: the prompt's id before `@`. A job keeps its answers.

    `asked` are the questions so far, without those that had been answered before.
    """

    def __init__(
        self, answers: Mapping[str, Sequence[dict[str, Any] | Exception]] | None = None, *, available: bool = True
    ) -> None:
        self.asked: list[Question[Any]] = []
        self._available = available
        self._answers: dict[str, deque[dict[str, Any] | Exception]] = defaultdict(deque)
        self._given: dict[tuple[str, str, str], BaseModel] = {}
        for op, each in (answers or {}).items():
            self._answers[op].extend(each)

    @property
    def available(self) -> bool:
        """As given."""
        return self._available

    def add(self, op: str, *answers: dict[str, Any] | Exception) -> None:
        """Write down further answers."""
        self._answers[op].extend(answers)

    async def ask(self, question: Question[T], job: Job) -> T:
        """The next answer for what is asked.

        Raises:
            AssertionError: none was written down.
            AnswerRefusedError: the answer is not what was asked for.
        """
        assert self._available, "a stage asked although there is no model"
        known = self._given.get((job.key, question.prompt.id, question.text))
        if known is not None:
            assert isinstance(known, question.answer)
            return known
        self.asked.append(question)
        op = question.prompt.id.split("@", maxsplit=1)[0]
        assert self._answers[op], f"no answer for {op} was written down: {question.text[:200]!r}"
        given = self._answers[op].popleft()
        if isinstance(given, Exception):
            raise given
        answer = question.answer.model_validate(given)
        wrong = question.check(answer) if question.check is not None else None
        if wrong is not None:
            raise AnswerRefusedError(question.prompt.id, wrong)
        self._given[job.key, question.prompt.id, question.text] = answer
        return answer
