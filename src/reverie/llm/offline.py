"""The model that is there when no model is: it quotes what memory holds, with citations, and says so.

It is given the memories that were recalled for the message and adds nothing of its own, so its answers are exact and
always the same. A first run works with nothing installed beside Reverie.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reverie.llm.client import Completed, TextDelta
from reverie.types import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reverie.llm.client import ModelEvent, ModelRequest
    from reverie.types import SearchHit

QUOTES_MAX = 5
QUOTE_CHARS_MAX = 300

NO_MODEL = (
    "No model is connected, so I can only quote what I remember. "
    "Connect one with `reverie serve --upstream URL --model NAME`."
)
NOTHING_FOUND = "I found nothing in memory about this."
FROM_MEMORY = "From memory:"

_FENCE_END = "</recalled_memory>"
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_HEADINGS = re.compile(r"^ {0,3}#{1,6}(?:\s.*)?$\n?", re.MULTILINE)
_MARKUP = re.compile(r"^\s*(?:#{1,6}\s+|[-*+>]\s+|\d+[.)]\s+|[|:\s-]+$)|\*\*|__", re.MULTILINE)
_COMMON = frozenset(
    _WORD.findall(
        "a about am an and are as at be been but by can could did do does for from had has have he her his how i in is "
        "it its me my of on or our she should so that the their them they this to us was we were what when where which "
        "who why will with would you your"
    )
)


class OfflineModel:
    """A `Model` without a model. Nothing it does can fail, wait or cost anything."""

    @property
    def name(self) -> str:
        """`offline`."""
        return "offline"

    async def respond(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Quote the memories recalled for the last message, each with where it stands."""
        question = _question(request)
        for part in answer_parts(question, request.found):
            yield TextDelta(part)
        yield Completed("stop", (), Usage(), self.name, only_quotes=True)

    async def aclose(self) -> None:
        """Nothing to release."""


def answer_parts(question: str, recalled: tuple[SearchHit, ...]) -> list[str]:
    """The answer in the pieces in which it is streamed: what it is, then one piece per quotation."""
    if not recalled:
        return [f"{NO_MODEL}\n\n", NOTHING_FOUND]
    quotes = [_quotation(hit, question) for hit in recalled[:QUOTES_MAX]]
    return [f"{NO_MODEL}\n\n{FROM_MEMORY}\n", *(f"\n- {quote}" for quote in quotes)]


def snippet(text: str, question: str, chars_max: int = QUOTE_CHARS_MAX) -> str:
    """The part of a text that shares most words with the question: whole sentences where they fit, on one line."""
    sentences = _sentences(text)
    if not sentences:
        return ""
    wanted = _words(question)
    # The earliest of the best: position breaks ties, so the result is always the same.
    best = max(range(len(sentences)), key=lambda number: (len(wanted & _words(sentences[number])), -number))
    if len(sentences[best]) > chars_max:
        return _window(sentences[best], wanted, chars_max)
    first = last = best
    size = len(sentences[best])
    while True:
        if last + 1 < len(sentences) and size + 1 + len(sentences[last + 1]) <= chars_max:
            last += 1
            size += 1 + len(sentences[last])
        elif first > 0 and size + 1 + len(sentences[first - 1]) <= chars_max:
            first -= 1
            size += 1 + len(sentences[first])
        else:
            break
    before = "… " if first > 0 else ""
    after = " …" if last + 1 < len(sentences) else ""
    return before + " ".join(sentences[first : last + 1]) + after


def _question(request: ModelRequest) -> str:
    """The user's own words in the last user message, which may carry quoted memories before them."""
    for message in reversed(request.messages):
        if message.role == "user":
            return message.text.rpartition(_FENCE_END)[2]
    return ""


def _quotation(hit: SearchHit, question: str) -> str:
    facts = ", ".join(fact for fact in (hit.speaker, hit.when) if fact)
    return f"“{snippet(hit.text, question)}” [{hit.citation}]" + (f" ({facts})" if facts else "")


def _sentences(text: str) -> list[str]:
    """The sentences without Markdown's marks, each on one line. Headings count only where there is nothing else."""
    plain = _MARKUP.sub("", _HEADINGS.sub("", text)) or _MARKUP.sub("", text)
    return [" ".join(sentence.split()) for sentence in _SENTENCE_END.split(plain) if sentence.strip()]


def _words(text: str) -> frozenset[str]:
    """The words that say what a text is about; of scripts without spaces, each pair of characters."""
    words: set[str] = set()
    for word in _WORD.findall(text.casefold()):
        if word.isascii():
            words.add(word)
        else:
            words.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
    return frozenset(words - _COMMON)


def _window(sentence: str, wanted: frozenset[str], chars_max: int) -> str:
    """A piece of one long sentence around the first word that was asked for, cut between words."""
    lowered = sentence.casefold()
    found = [at for at in (lowered.find(word) for word in sorted(wanted)) if at >= 0]
    start = max(0, min(min(found, default=0) - chars_max // 3, len(sentence) - chars_max))
    piece = sentence[start : start + chars_max]
    if start > 0 and " " in piece[:40]:
        piece = piece[piece.index(" ") + 1 :]
    end = start + chars_max < len(sentence)
    if end and " " in piece[-40:]:
        piece = piece[: piece.rindex(" ")]
    return ("… " if start > 0 else "") + piece + (" …" if end else "")
