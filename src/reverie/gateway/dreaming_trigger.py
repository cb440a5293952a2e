"""The text by which OpenClaw's clocks say that it is time to dream: known at the door, and never a message.

It counts as a whole line of the newest message, alone, in the body of a reminder, or behind the label that a cron job
puts before it. Within a sentence it is a word like any other. When a client sends its history again, such messages and
our answers to them are left out: they never were part of the conversation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.dreaming.clockwork import Triggered
    from reverie.types import Message

HEADER = "x-reverie-dreaming"
TOKENS = (
    "__openclaw_memory_core_short_term_promotion_dream__",
    "__openclaw_memory_core_light_sleep__",
    "__openclaw_memory_core_rem_sleep__",
)
"""OpenClaw's, of all its versions. Each stands for a whole sweep."""
MARK = "[dreaming] "
"""What our answers begin with."""

_COMMON = "__openclaw_memory_core_"
_LINE = re.compile(rf"(?:\[cron:[^\[\]]+\]\s*)?(?:{'|'.join(TOKENS)})")

Word = Literal["processed", "disabled", "disabled-by-limit", "no-workspace", "unavailable"]

_DONE = {
    "begun": "A sweep over the memory has begun.",
    "running": "A sweep over the memory runs already; none was begun.",
    "recent": "A sweep over the memory was begun less than a minute ago; none was begun now.",
}
_NOT_DONE: dict[str, tuple[Word, str]] = {
    "mode-off": ("disabled", "Nothing was done: dreaming is switched off (dreaming.mode)."),
    "limit-zero": ("disabled-by-limit", "Nothing was done: nothing may be promoted (dreaming.limit is 0)."),
    "no-workspace": ("no-workspace", "Nothing was done: no agent has a workspace."),
    "unavailable": (
        "unavailable",
        "Nothing was done: the record of sweeps cannot be read or written; the log says why.",
    ),
    "read-only": ("unavailable", "Nothing was done: the home cannot be written; the log says why."),
}


@dataclass(frozen=True, slots=True)
class TriggerAnswer:
    """What is answered to a trigger: a word for the header, a sentence for people."""

    word: Word
    text: str


def carries_trigger(message: Message) -> bool:
    """True for a user's message that is a trigger, or holds one as a line of its own."""
    if message.role != "user" or _COMMON not in message.text:
        return False
    return any(_LINE.fullmatch(line.strip()) for line in message.text.splitlines())


def without_triggers(messages: Iterable[Message]) -> tuple[Message, ...]:
    """A conversation without triggers, and without our answers to them."""
    return tuple(message for message in messages if not (carries_trigger(message) or _is_our_answer(message)))


def answer_of(triggered: Triggered) -> TriggerAnswer:
    """How a caller is told what became of a trigger."""
    outcome = triggered.outcome
    if isinstance(outcome, str):
        return TriggerAnswer("processed", MARK + _DONE[outcome])
    word, text = _NOT_DONE[outcome.reason]
    return TriggerAnswer(word, MARK + text)


def _is_our_answer(message: Message) -> bool:
    return message.role == "assistant" and message.text.startswith(MARK) and not message.tool_calls
