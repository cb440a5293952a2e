"""Asking a model on behalf of a job: what is asked, and what the answer must look like.

`Asks` is what a stage of learning sees. Behind it (`model_door.py`) stand the journal of answers, the budget, the
permits, the turns that go first, and one second try for an answer that is not what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from reverie.jobs.request import Job
    from reverie.llm.prompt_files import Prompt

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What a model is asked: a prompt of ours, a text that is data and never instructions, and the form of the answer.

    `check` looks at a well-formed answer and says what is wrong with it, for the model's second try; None: nothing.
    """

    prompt: Prompt
    text: str
    answer: type[T]
    max_tokens: int = 1_024
    temperature: float = 0.0
    check: Callable[[T], str | None] | None = None


class Asks(Protocol):
    """Something that has a model answer within what it may spend."""

    @property
    def available(self) -> bool:
        """False when there is no model to ask: stages then do what they can without."""
        ...

    async def ask(self, question: Question[T], job: Job) -> T:
        """The model's answer. Asked again for the same job, it is the one that was given already.

        Raises:
            JobDeferredError: the budget, or the server, says later; nothing was spent.
            JobPutBackError: it gave way to a turn.
            AnswerRefusedError: twice the answer was not what was asked for. The same question is not asked again.
            UpstreamError: the call failed.
        """
        ...
