"""Where what was learned is looked for: what a message asks for, and the lookups by words, errors and identifiers.

The lookup by meaning is `learned_vectors.py`. Every lookup names things best first and scores them 0 to 1; which of
them are worth showing is decided in `ranking.py`.

Bounded: twelve words, sixteen short terms, eight identifiers, four errors; `KEYWORD_TOP` things by each lookup. Words
and identifiers have an index over everything. Terms of two characters and errors have none: for them the
`LOOKED_AT_MAX` newest things of an agent are looked at.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from reverie.memory.text import words_for_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from reverie.learning.recall.learned_vectors import Eligible, InView, LearnedKind, Near
    from reverie.storage import Transaction

Channel = Literal["vec_summary", "vec_action", "words", "pattern", "structural", "identifier"]
Tier = Literal["skills", "traces", "worlds"]
TIERS: Final[tuple[Tier, ...]] = ("skills", "traces", "worlds")
KINDS_OF: Final[Mapping[Tier, tuple[LearnedKind, ...]]] = {
    "skills": ("skill",),
    "traces": ("trace", "policy"),
    "worlds": ("world",),
}

WORDS_MAX: Final = 12
WORD_CHARS_MIN: Final = 3
"""The index of words holds every three characters in a row."""
TERMS_MAX: Final = 16
TERM_CHARS: Final = 2
TERMS_HELD_MIN: Final = 2
"""One pair of characters alone says too little."""
IDENTIFIERS_MAX: Final = 8
IDENTIFIER_CHARS_MIN: Final = 16
IDENTIFIER_CHARS_MAX: Final = 128
SIGNATURES_MAX: Final = 4
KEYWORD_TOP: Final = 20
LOOKED_AT_MAX: Final = 2_000
STRUCTURAL_SCORE: Final = 0.9
IDENTIFIER_SCORE: Final = 1.0

_RUNS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]*[A-Za-z0-9]")
_TELLING = re.compile(r"[0-9_:-]")
_TABLES: Final[Mapping[LearnedKind, str]] = {
    "trace": "traces",
    "policy": "policies",
    "world": "world_models",
    "skill": "skills",
}


def no_signatures(_texts: Iterable[str]) -> tuple[str, ...]:
    """Finds no errors in any text."""
    return ()


@dataclass(frozen=True, slots=True)
class LearnedQuery:
    """What a message asks for: its words, pairs of characters, exact identifiers, and the errors it quotes."""

    text: str
    words: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A thing that a lookup has found: `rank` counts from 0, `score` is 0 to 1."""

    kind: LearnedKind
    ref: str
    channel: Channel
    rank: int
    score: float


def read_query(text: str, signatures: Callable[[Iterable[str]], tuple[str, ...]] = no_signatures) -> LearnedQuery:
    """What a message asks for. `signatures` finds the errors that it quotes."""
    told = words_for_query(text)
    words = [word for word in told if len(word) >= WORD_CHARS_MIN]
    terms = [word for word in told if len(word) == TERM_CHARS and not word.isascii()]
    return LearnedQuery(
        text,
        tuple(words[:WORDS_MAX]),
        tuple(terms[:TERMS_MAX]),
        identifiers_in(text),
        tuple(signatures((text,)))[:SIGNATURES_MAX],
    )


def identifiers_in(text: str) -> tuple[str, ...]:
    """The exact identifiers of a text: 16 to 128 characters with a digit or one of `_ - :`. What is longer is none."""
    found = dict.fromkeys(
        run
        for run in _RUNS.findall(text)
        if IDENTIFIER_CHARS_MIN <= len(run) <= IDENTIFIER_CHARS_MAX and _TELLING.search(run)
    )
    return tuple(found)[:IDENTIFIERS_MAX]


def by_words(
    tx: Transaction,
    agent: str,
    query: LearnedQuery,
    kinds: Sequence[LearnedKind],
    eligible: Eligible,
    hidden: InView | None,
) -> tuple[Found, ...]:
    """What the words, pairs of characters, identifiers and errors of a message find."""
    asked: dict[str, Any] = {
        "agent": agent,
        "limit": KEYWORD_TOP,
        "looked_at": LOOKED_AT_MAX,
        "session_id": "" if hidden is None else hidden.session_id,
        "visible_from": 0 if hidden is None else hidden.from_seq,
        **eligible.parameters(),
    }
    found: list[Found] = []
    for kind in kinds:
        table = _TABLES[kind]
        if query.words:
            refs = _refs(tx, f"{table}_with_words", words=" AND ".join(map(_phrase, query.words)), **asked)
            found += _ranked(kind, "words", refs)
        if query.terms:
            held_min = min(TERMS_HELD_MIN, len(query.terms))
            refs = _refs(tx, f"{table}_with_terms", terms=json.dumps(query.terms), held_min=held_min, **asked)
            found += _ranked(kind, "pattern", refs)
    if "trace" in kinds:
        found += _traces_exactly(tx, query, asked)
    return tuple(found)


def by_meaning(near: Iterable[Near]) -> tuple[Found, ...]:
    """The nearest things as what a lookup has found; a similarity below 0 is none."""
    return tuple(
        Found(each.kind, ref, "vec_action" if each.action else "vec_summary", rank, score)
        for each in near
        for rank, (ref, score) in enumerate(each.best)
        if score > 0
    )


def _traces_exactly(tx: Transaction, query: LearnedQuery, asked: Mapping[str, Any]) -> list[Found]:
    """Steps that hold an identifier of the message, or met an error that it quotes."""
    found: list[Found] = []
    if query.identifiers:
        refs = _refs(tx, "traces_with_words", words=" OR ".join(map(_phrase, query.identifiers)), **asked)
        found += [Found("trace", ref, "identifier", rank, IDENTIFIER_SCORE) for rank, ref in enumerate(refs)]
    if query.signatures:
        refs = _refs(tx, "traces_with_signatures", signatures=json.dumps(query.signatures), **asked)
        found += [Found("trace", ref, "structural", rank, STRUCTURAL_SCORE) for rank, ref in enumerate(refs)]
    return found


def _refs(tx: Transaction, query: str, **parameters: Any) -> list[str]:
    return [row[0] for row in tx.tuples(query, **parameters)]


def _ranked(kind: LearnedKind, channel: Channel, refs: Iterable[str]) -> list[Found]:
    return [Found(kind, ref, channel, rank, 1 / (rank + 1)) for rank, ref in enumerate(refs)]


def _phrase(word: str) -> str:
    """A word as a full-text string: whatever it holds, it is data and never an operator."""
    return '"' + word.replace('"', '""') + '"'
