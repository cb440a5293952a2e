"""What an entry of the diary says: a few plain sentences by rule, or prose by a model where one is set.

The model is asked once a night at most, in the background, within a budget and a time. Whenever it does not answer,
the plain sentences stand. Nothing it writes is ever read back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from reverie.context.compaction.extract import harmless
from reverie.context.fence import fenced_night
from reverie.dreaming.diary import cleaned
from reverie.dreaming.note_chunks import shortened
from reverie.errors import UpstreamError
from reverie.llm.client import Completed, ModelRequest, TextDelta
from reverie.llm.prompt_files import read_prompt
from reverie.llm.tokens import raw_message_tokens, raw_tokens
from reverie.types import Message

if TYPE_CHECKING:
    from reverie.config import DreamingConfig
    from reverie.dreaming.budget import Spend
    from reverie.llm.client import Model

log = structlog.get_logger(__name__)

PASSAGES_MAX = 12
THEMES_MAX = 6
PROMOTED_MAX = 5
PASSAGES_NAMED_MAX = 3
QUOTED_CHARACTERS_MAX = 160
ANSWER_TOKENS = 1_000
"""Set aside for an answer of 180 words in any language, and for what a model thinks before it."""
ANSWER_CHARACTERS_READ_MAX = 8_000
KIND = "diary"
PROMPT = "diary"


class Passage(NamedTuple):
    """A passage of memory: where it stands, and what it says."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """What happened in a night. `staged` passages were recalled anew, some of which are `passages`.

    `promoted` became lasting memory, `gave_way` older entries made room; `waiting` says what waits, and why.
    """

    staged: int = 0
    passages: tuple[Passage, ...] = ()
    themes: tuple[str, ...] = ()
    promoted: tuple[Passage, ...] = ()
    promotions: int = 0
    gave_way: int = 0
    waiting: str = ""

    @property
    def happened(self) -> bool:
        """Whether there is something to tell: themes alone are there every night."""
        return bool(self.staged or self.promotions or self.gave_way or self.waiting)


class Told(NamedTuple):
    """The text of an entry, who wrote it (a model with the prompt's version, or `rule`), and why no model did."""

    text: str
    by: str = "rule"
    problem: str = ""


def plain_text(story: Story) -> str:
    """A night in a few sentences, one paragraph a matter."""
    told: list[str] = []
    if story.staged:
        one = story.staged == 1
        told.append(
            f"{story.staged:,} {'passage was' if one else 'passages were'} noticed or recalled anew and staged."
        )
        if story.passages:
            told[-1] += f" {'It reads' if one else 'Among them'}: {_named(story.passages)}"
    if story.themes:
        told.append(f"What came back: {', '.join(map(harmless, story.themes[:THEMES_MAX]))}.")
    if story.promotions:
        one = story.promotions == 1
        told.append(f"{story.promotions:,} {'passage' if one else 'passages'} became lasting memory.")
        if story.promoted:
            told[-1] += f" {_named(story.promoted)}"
    if story.gave_way:
        told.append(f"{story.gave_way:,} older {'entry' if story.gave_way == 1 else 'entries'} of MEMORY.md gave way.")
    if story.waiting:
        told.append(f"{harmless(story.waiting).rstrip('.')}.")
    return "\n\n".join(told)


def diary_messages(story: Story, instructions: str) -> tuple[Message, Message]:
    """What the model is asked: our instructions, then the night as data."""
    shown: list[str] = []
    if story.passages:
        shown.append("Noticed or recalled anew:")
        shown += [f"- ({harmless(each.place)}) {harmless(each.text)}" for each in story.passages[:PASSAGES_MAX]]
    if story.themes:
        shown.append(f"Themes that came back: {', '.join(map(harmless, story.themes[:THEMES_MAX]))}")
    if story.promoted:
        shown.append("Became lasting memory:")
        shown += [f"- {harmless(each.text)}" for each in story.promoted[:PROMOTED_MAX]]
    if story.gave_way:
        shown.append(f"Older entries that gave way: {story.gave_way}")
    if story.waiting:
        shown.append(harmless(story.waiting))
    asked = f"{fenced_night(chr(10).join(shown))}\n\nWrite the diary entry of this night now."
    return Message("system", instructions), Message("user", asked)


class Narrator:
    """Writes the text of entries. `model` None: always by rule."""

    def __init__(self, model: Model | None, spend: Spend) -> None:
        self._model = model
        self._spend = spend

    async def tell(self, story: Story, config: DreamingConfig, now_ms: int) -> Told:
        """The text for a night: a model's if one is set, may be asked, and answers; else by rule.

        Raises:
            StorageError: the budget could not be read or written.
        """
        if self._model is None or config.model is None:
            return Told(plain_text(story))
        prompt = await asyncio.to_thread(read_prompt, "reverie.dreaming", PROMPT)
        messages = diary_messages(story, prompt.instructions)
        aside = sum(map(raw_message_tokens, messages)) + ANSWER_TOKENS
        refused = await self._spend.take(KIND, aside, now_ms)
        if refused is not None:
            return Told(plain_text(story), problem=refused)
        used = aside
        try:
            async with asyncio.timeout(config.model_timeout_s):
                text, used = await self._ask(self._model, config.model, messages)
        except (TimeoutError, UpstreamError) as error:
            problem = str(error) or f"no answer within {config.model_timeout_s:g} s (dreaming.model_timeout_s)"
            log.warning("the diary is written without a model", action="diary_plain", cause=problem)
            return Told(plain_text(story), problem=problem)
        finally:
            await self._spend.settle(KIND, used)
        prose = cleaned(text)
        if not prose:
            return Told(plain_text(story), problem="the model's answer was empty")
        return Told(prose, f"{config.model} ({prompt.id})")

    async def _ask(self, model: Model, name: str, messages: tuple[Message, Message]) -> tuple[str, int]:
        """One call: the text, and the tokens it took as far as is known."""
        request = ModelRequest(messages, stream=False, model_override=name, lane="background")
        parts: list[str] = []
        read, used = 0, 0
        async for event in model.respond(request):
            if isinstance(event, TextDelta) and read < ANSWER_CHARACTERS_READ_MAX:
                parts.append(event.text)
                read += len(event.text)
            elif isinstance(event, Completed) and event.usage is not None:
                used = event.usage.total_tokens
        text = "".join(parts)[:ANSWER_CHARACTERS_READ_MAX]
        return text, used or sum(map(raw_message_tokens, messages)) + raw_tokens(text)


def _named(passages: tuple[Passage, ...]) -> str:
    """Passages as quotations with their places."""
    quoted = (
        f"“{shortened(harmless(each.text), QUOTED_CHARACTERS_MAX)}” ({harmless(each.place)})"
        for each in passages[:PASSAGES_NAMED_MAX]
    )
    return "; ".join(quoted) + "."
