"""What a model may propose for new entries, and what of it is accepted: pure checks, and one bounded question.

A model is shown the entries that dreaming wrote, and the new ones, and answers for each new one that it is `added`,
`merged` with entries that say the same, or `superseded` what no longer holds. It writes no text. `checked` takes its
answer apart; one fault, and nothing of it counts: then the new entries are added as without a model. What a person
wrote is neither shown nor touched.

Two statements are *the same fact* if the words that carry meaning in one of them all stand in the other, in the same
order, numbers and names included, and both deny or neither does. They have the same *lineage* if their subject is the
same, the first two such words without figures (of a language without spaces the first four characters), and half of
all their words are in both.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

import structlog

from reverie.dreaming.sections import (
    BUDGET_MARGIN,
    GeneratedEntry,
    NewEntry,
    Plan,
    claim,
    generated_entries,
    with_entries,
    without_entries,
)
from reverie.errors import UpstreamError
from reverie.llm.client import Completed, ModelRequest, TextDelta
from reverie.llm.prompt_files import read_prompt
from reverie.llm.tokens import raw_message_tokens, raw_tokens
from reverie.memory.scripts import UNSPACED
from reverie.memory.stop_words import ENGLISH
from reverie.types import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.dreaming.settings import Settings
    from reverie.llm.client import Model
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

Action = Literal["added", "merged", "superseded"]

KIND = "consolidation"
PROMPT = "consolidation"
ENTRIES_MAX = 200
"""Entries of MEMORY.md that a model is shown, the newest."""

NEWS_MAX = 50
ANSWER_TOKENS = 2_000
"""Set aside for an answer, and for what a model thinks before it."""

ANSWER_CHARACTERS_MAX = 64_000
SUBJECT_WORDS = 2
SUBJECT_CHARACTERS = 4
ALIKE_MIN = 0.5


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PREFIX = re.compile(r"^\([^)\n]{1,60}\) ")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_FIGURE = re.compile(r"\d")
_DENIALS = _words(
    """
    not no t never none nor cannot without nicht kein keine keinen nie ohne ne pas jamais aucun sans nunca jamás sin
    ningún não sem non mai senza niet geen не нет без никогда 不 没 沒 无 無 非 未 别 안 못 없 לא אין لا ليس لم لن नहीं
    """
)
"""Words that deny, as `claim` spells them; `t` is what is left of `don't`."""

_KEPT = _words("not no nor cannot t off on in out up down before after until under over below above")
"""Function words without which a statement says something else."""


class Spend(Protocol):
    """What may be spent on a model."""

    async def take(self, kind: str, tokens: int, now_ms: int) -> str | None:
        """Set a call and its tokens aside; None when it is granted, else why it is not."""
        ...

    async def settle(self, kind: str, tokens_used: int) -> None:
        """Say what the call that was granted really took."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one new entry: `entry` is what is written, in the place of `prior`."""

    action: Action
    entry: NewEntry
    prior: tuple[GeneratedEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """An answer that passed every check, for MEMORY.md as it was then (`text`)."""

    text: str
    steps: tuple[Step, ...]
    prompt_id: str = ""
    model: str = ""

    @property
    def changes_entries(self) -> bool:
        """Whether anything is merged or superseded: else it is what happens without a model."""
        return any(step.prior for step in self.steps)


class RefusedProposalError(Exception):
    """An answer that is not accepted; its text is the reason."""


# -- checking an answer ----------------------------------------------------------------------------------------------


def checked(
    answer: object, news: Sequence[NewEntry], held: Sequence[GeneratedEntry], *, loss_fraction_max: float
) -> tuple[Step, ...]:
    """What a model's answer comes to, a step for each new entry in their order.

    Raises:
        RefusedProposalError: a new entry is missing or there twice, a prior entry is none or not unique, a merge has
            another fact, a superseding another lineage, or too many entries would go.
    """
    named = _by_id(answer, len(news))
    steps: list[Step] = []
    used: set[int] = set()
    for number, new in enumerate(news, 1):
        action, texts = _read(named, number)
        prior = tuple(_exact(text, held) for text in texts)
        if not used.isdisjoint(each.first_line for each in prior) or len(set(texts)) < len(texts):
            raise RefusedProposalError(f"n{number} names an entry that is named already")
        used.update(each.first_line for each in prior)
        steps.append(_step(number, action, new, prior))
    allowed = int(loss_fraction_max * len(held) + 1e-9)
    if len(used) > allowed:
        raise RefusedProposalError(f"{len(used)} of {len(held)} entries would go, and at most {allowed} may")
    return tuple(steps)


def _by_id(answer: object, count: int) -> dict[str, JsonObject]:
    fields = cast("JsonObject", answer) if isinstance(answer, dict) else {}
    rows: object = fields.get("candidates")
    if not isinstance(rows, list):
        raise RefusedProposalError("the answer has no list of candidates")
    named: dict[str, JsonObject] = {}
    for row in cast("list[object]", rows)[: 2 * NEWS_MAX]:
        values = cast("JsonObject", row) if isinstance(row, dict) else {}
        name = str(values.get("id"))
        if name in named:
            raise RefusedProposalError(f"{name[:20]} is there twice")
        named[name] = values
    unknown = [name for name in named if name not in {f"n{number}" for number in range(1, count + 1)}]
    if unknown:
        raise RefusedProposalError(f"{unknown[0][:20]} is no candidate")
    return named


def _read(named: dict[str, JsonObject], number: int) -> tuple[Action, list[str]]:
    values = named.get(f"n{number}")
    if values is None:
        raise RefusedProposalError(f"n{number} is missing")
    action: object = values.get("action")
    texts: object = values.get("prior_entries") or []
    known = next((each for each in get_args(Action) if each == action), None)
    if known is None or not isinstance(texts, list):
        raise RefusedProposalError(f"n{number} is neither added, merged nor superseded")
    prior = [text for text in cast("list[object]", texts) if isinstance(text, str)]
    if len(prior) < len(cast("list[object]", texts)) or bool(prior) is (known == "added"):
        raise RefusedProposalError(f"n{number} is {known} and names {len(prior)} prior entries")
    if known == "superseded" and len(prior) > 1:
        raise RefusedProposalError(f"n{number} supersedes {len(prior)} entries, and may one")
    return known, prior


def _exact(text: str, held: Sequence[GeneratedEntry]) -> GeneratedEntry:
    found = [entry for entry in held if entry.text == text]
    if len(found) != 1:
        raise RefusedProposalError(f"{'no entry' if not found else 'more than one entry'} says {text[:60]!r}")
    return found[0]


def _step(number: int, action: Action, new: NewEntry, prior: tuple[GeneratedEntry, ...]) -> Step:
    if action == "added":
        return Step(action, new)
    keys = tuple(key for each in prior for key in each.keys)
    if action == "merged":
        return Step(action, replace(_fullest(number, new, prior), also=keys), prior)
    lineage = lineage_of(new.text)
    (older,) = prior
    if not _is_later_state(new, older):
        raise RefusedProposalError(f"n{number} is not of the lineage of {older.text[:60]!r}")
    return Step(action, replace(new, lineage=lineage), prior)


def _fullest(number: int, new: NewEntry, prior: Sequence[GeneratedEntry]) -> NewEntry:
    """The statement that holds all the others, as the new entry."""
    statements = [(new.text, new), *((each.text, None) for each in prior)]
    fullest, whose = max(statements, key=lambda each: len(words_of(each[0])))
    for text, _ in statements:
        if not is_same_fact(text, fullest):
            raise RefusedProposalError(f"n{number} has another fact than {text[:60]!r}")
    if whose is not None:
        return new
    older = next(each for each in prior if each.text == fullest)
    return replace(
        new, text=older.text, source_path=older.source_path, start_line=older.start_line, end_line=older.end_line
    )


def _is_later_state(new: NewEntry, older: GeneratedEntry) -> bool:
    """Whether a new entry may take the place of an older one: the same matter, and not from an earlier day."""
    lineage = lineage_of(new.text)
    if not lineage or lineage != lineage_of(older.text) or older.lineage not in {"", lineage}:
        return False
    ours, theirs = frozenset(words_of(new.text)), frozenset(words_of(older.text))
    if len(ours & theirs) < ALIKE_MIN * len(ours | theirs):
        return False
    day, before = _DAY.search(new.source_path), _DAY.search(older.source_path)
    return day is None or before is None or day[0] >= before[0]


def is_same_fact(text: str, fuller: str) -> bool:
    """Whether a statement says nothing that a fuller one does not say, in the same order, and denies what it denies."""
    words, fuller_words = words_of(text), words_of(fuller)
    rest = iter(fuller_words)
    in_order = all(word in rest for word in words)  # each search goes on behind the last one
    return bool(words) and in_order and _DENIALS.intersection(words) == _DENIALS.intersection(fuller_words)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a statement that carry meaning, as `claim` spells them; without the day it was said on."""
    said = claim(_PREFIX.sub("", text))
    return tuple(word for word in said.split() if word not in ENGLISH or word in _KEPT)


def lineage_of(text: str) -> str:
    """What a statement is about, as a key; empty if it has no subject."""
    words = [
        word
        for word in claim(_PREFIX.sub("", text)).split()
        if word not in ENGLISH and word not in _DENIALS and not _FIGURE.search(word)
    ]
    unspaced = [word for word in words if _UNSPACED.match(word)]
    if len(unspaced) > len(words) / 2:
        return "".join(unspaced[:SUBJECT_CHARACTERS]) if len(unspaced) >= SUBJECT_CHARACTERS else ""
    return "-".join(words[:SUBJECT_WORDS]) if len(words) >= SUBJECT_WORDS else ""


def consolidated(text: str, day: str, steps: Sequence[Step], *, chars_max: int) -> Plan:
    """The file after a proposal: what was merged or superseded is gone, and all new entries stand in one section.

    Raises:
        RefusedProposalError: the file would be larger than `chars_max` allows.
    """
    prior = tuple(each for step in steps for each in step.prior)
    entries = tuple(step.entry for step in steps)
    left = without_entries(text, [key for each in prior for key in each.keys])
    after = with_entries(left, day, entries, "consolidated")
    if chars_max and len(after) > chars_max - BUDGET_MARGIN:
        raise RefusedProposalError("MEMORY.md would be larger than dreaming.memory_chars_max")
    return Plan(after, entries, gave_way=prior)


# -- asking ----------------------------------------------------------------------------------------------------------


class Consolidator:
    """Asks a model what new entries mean for those that stand there; once a promotion, within a budget and a time."""

    def __init__(self, model: Model, settings: Settings, spend: Spend) -> None:
        self._model = model
        self._settings = settings
        self._spend = spend

    @property
    def enabled(self) -> bool:
        """Whether a model is set, and may be asked."""
        return self._settings.current.consolidate and self._settings.current.model is not None

    async def propose(self, text: str, news: Sequence[NewEntry], now_ms: int) -> Proposal | str:
        """What a model proposes for new entries of MEMORY.md, or why there is no proposal.

        Raises:
            StorageError: what may be spent could not be read or written.
        """
        if not self.enabled or not news:
            return ""
        held = (await asyncio.to_thread(generated_entries, text))[-ENTRIES_MAX:]
        if not held:
            return ""
        try:
            return await self._proposal(text, held, news, now_ms)
        except RefusedProposalError as error:
            log.warning("entries are added without a model", action="consolidation_refused", cause=str(error))
            return str(error)

    async def _proposal(
        self, text: str, held: Sequence[GeneratedEntry], news: Sequence[NewEntry], now_ms: int
    ) -> Proposal:
        """One question, and what its answer comes to. Raises `RefusedProposalError` whenever it comes to nothing."""
        if len(news) > NEWS_MAX:
            raise RefusedProposalError(f"{len(news)} new entries are more than a model is asked about at once")
        prompt = await asyncio.to_thread(read_prompt, "reverie.dreaming", PROMPT)
        messages = asked(prompt.instructions, held, news)
        used = sum(map(raw_message_tokens, messages)) + ANSWER_TOKENS
        refused = await self._spend.take(KIND, used, now_ms)
        if refused is not None:
            raise RefusedProposalError(refused)
        try:
            async with asyncio.timeout(self._settings.current.model_timeout_s):
                answer, used = await self._answer(messages)
        except TimeoutError as error:
            most = f"{self._settings.current.model_timeout_s:g} s (dreaming.model_timeout_s)"
            raise RefusedProposalError(f"the model gave no answer within {most}") from error
        except UpstreamError as error:
            raise RefusedProposalError(f"the model did not answer: {error}") from error
        finally:
            await self._spend.settle(KIND, used)
        try:
            steps = checked(parsed(answer), news, held, loss_fraction_max=self._settings.current.loss_fraction_max)
        except RefusedProposalError as error:
            raise RefusedProposalError(f"the model's answer is not accepted: {error}") from error
        return Proposal(text, steps, prompt.id, self._settings.current.model or "")

    async def _answer(self, messages: tuple[Message, Message]) -> tuple[str, int]:
        """What the model said, and the tokens that took as far as is known."""
        request = ModelRequest(messages, stream=False, model_override=self._settings.current.model, lane="background")
        parts: list[str] = []
        read, used = 0, 0
        async for event in self._model.respond(request):
            if isinstance(event, TextDelta) and read < ANSWER_CHARACTERS_MAX:
                parts.append(event.text)
                read += len(event.text)
            elif isinstance(event, Completed) and event.usage is not None:
                used = event.usage.total_tokens
        text = "".join(parts)[:ANSWER_CHARACTERS_MAX]
        return text, used or sum(map(raw_message_tokens, messages)) + raw_tokens(text)


def asked(instructions: str, held: Sequence[GeneratedEntry], news: Sequence[NewEntry]) -> tuple[Message, Message]:
    """What the model is asked: our instructions, then the entries as data, which cannot close the marks around them."""
    present = "\n".join(_line(text=each.text) for each in held)
    new = "\n".join(_line(id=f"n{number}", text=each.text) for number, each in enumerate(news, 1))
    shown = f"<present_entries>\n{present}\n</present_entries>\n\n<new_entries>\n{new}\n</new_entries>"
    return Message("system", instructions), Message("user", f"{shown}\n\nAnswer with the JSON object now.")


def _line(**values: str) -> str:
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def parsed(answer: str) -> object:
    """The first JSON object of an answer, whatever stands around it.

    Raises:
        RefusedProposalError: there is none.
    """
    start = answer.find("{")
    if start < 0:
        raise RefusedProposalError("there is no JSON object in it")
    try:
        value: Any = json.JSONDecoder().raw_decode(answer, start)[0]
    except (ValueError, RecursionError) as error:
        raise RefusedProposalError(f"its JSON cannot be read ({error})") from error
    return value
