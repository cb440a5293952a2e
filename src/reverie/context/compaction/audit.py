"""Whether a summary keeps what it must: its headings, the exact identifiers, what the person asked last."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.context.compaction.identifiers import stands_in
from reverie.memory.stop_words import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import JsonObject

HEADINGS = ("## Decisions", "## Open TODOs", "## Constraints/Rules", "## Pending user asks", "## Exact identifiers")
ASK_TOKENS_MAX = 12
ASK_TOKENS_FEW = 3
"""From this many words on, two of them must stand in the summary; below, one."""

_WORD = re.compile(r"\w{2,}")


@dataclass(frozen=True, slots=True)
class Audit:
    """What a summary lacks; nothing, if it is good."""

    missing_headings: tuple[str, ...] = ()
    missing_identifiers: tuple[str, ...] = ()
    ask_covered: bool = True

    @property
    def passed(self) -> bool:
        """True when nothing is missing."""
        return not self.missing_headings and not self.missing_identifiers and self.ask_covered

    @property
    def faults(self) -> int:
        """How much is missing, to compare two attempts."""
        return len(self.missing_headings) + len(self.missing_identifiers) + (not self.ask_covered)

    def reasons(self) -> list[str]:
        """What is missing, one line each."""
        said = [f"the heading {heading!r} is missing or out of order" for heading in self.missing_headings]
        said += [f"the identifier {word!r} is missing" for word in self.missing_identifiers]
        return said if self.ask_covered else [*said, "what the person asked last is not covered"]

    def facts(self) -> JsonObject:
        """The audit as it is kept with the summary."""
        return {
            "passed": self.passed,
            "missing_headings": list(self.missing_headings),
            "missing_identifiers": list(self.missing_identifiers),
            "ask_covered": self.ask_covered,
        }


def audit(summary: str, *, identifiers: Sequence[str], ask: str) -> Audit:
    """Look a summary over. `identifiers` empty: they are not required."""
    return Audit(
        missing_headings=_missing_headings(summary),
        missing_identifiers=tuple(word for word in identifiers if not stands_in(word, summary)),
        ask_covered=covers_ask(summary, ask),
    )


def covers_ask(summary: str, ask: str) -> bool:
    """Whether the words that matter of an ask stand in a summary; one without such words is always covered."""
    words = _words(ask)[:ASK_TOKENS_MAX]
    if not words:
        return True
    held = set(_words(summary))
    needed = 2 if len(words) >= ASK_TOKENS_FEW else 1
    return sum(word in held for word in words) >= needed


def _missing_headings(summary: str) -> tuple[str, ...]:
    """The headings that are not there after the one before."""
    lines = [line.strip() for line in summary.splitlines()]
    missing: list[str] = []
    place = 0
    for heading in HEADINGS:
        if heading in lines[place:]:
            place = lines.index(heading, place) + 1
        else:
            missing.append(heading)
    return tuple(missing)


def _words(text: str) -> list[str]:
    """The words that matter, each once, in order."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return list(dict.fromkeys(word for word in _WORD.findall(folded) if word not in STOP_WORDS))
