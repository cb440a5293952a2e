"""The one analyser: how text is prepared for the full-text index, and how a question becomes search terms.

Index and query go through the same steps, so what was written is found as it was written. Spellings of the same word
are unified (`scripts.fold`). Runs of scripts that have no spaces are expanded to their characters and pairs. A name
such as `maxRetryCount` is indexed whole, and its parts beside it. Case, accents and English endings are the full-text
tokenizer's work.

The tokenizer cuts `src/app.py`, `--dry-run` or `max_retry_count` at their signs. A question that holds such a
*compound* looks up its words in a row, and each of them alone; the index needs nothing for that.

Invariant: whatever a question contains (quotes, operators, a hundred kilobytes), it becomes at most
`TERMS_CONSIDERED_MAX` terms, each of which is data when `quoted`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from reverie.memory.scripts import (
    HAN,
    HIRAGANA,
    KATAKANA,
    MARKS,
    RUN,
    UNSPACED,
    emoji_word,
    fold,
    pairs_of,
    readable,
    units_of,
    with_stored_marks,
)
from reverie.memory.stop_words import (
    CUT_CHINESE,
    CUT_JAPANESE,
    CUT_THAI,
    KOREAN,
    STOP_WORDS,
    stem,
    stop_words_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANALYSER_VERSION = 2
"""Raised with every change of what the index is given: an index made by another version should be rebuilt."""

TERMS_MAX = 32
TERMS_CONSIDERED_MAX = 64
QUESTION_END_CHARS = 2_000
COMPOUNDS_MAX = 8
NAME_CHARS_MAX = 64
_COMPOUND_JOINTS_MAX = 15

_JOINT = r"(?:://|::|:\\+|\\\\|[-._/\\:@#~=&?%+]|(?<=[0-9]),(?=[0-9]))"


def _spaced(word: str, starts: str) -> str:
    """A compound or a word, as a regular expression over what a word is and where one may start."""
    compound = f"{starts}{word}(?:{_JOINT}{word}){{1,{_COMPOUND_JOINTS_MAX}}}"
    return f"(?P<compound>{compound})|(?P<word>{word})"


_ASCII_WORD = "[A-Za-z0-9]++"
_ANY_WORD = f"(?:[^\\W_{UNSPACED}]++|[{MARKS}]++)++"
_WORD = re.compile(_ANY_WORD)
_ASCII_TERM = re.compile(_spaced(_ASCII_WORD, "(?<![A-Za-z0-9])"))
_ANY_START = f"(?<![^\\W_{UNSPACED}])(?<![{MARKS}])"
_ANY_TERM = re.compile(f"{RUN.pattern}|{_spaced(_ANY_WORD, _ANY_START)}")
_WHITESPACE = re.compile(r"\s+")

_KANA = re.compile(f"[{HIRAGANA}{KATAKANA}]")
_JAPANESE_SEGMENT = re.compile(f"[{HAN}]+|[{KATAKANA}]+|[{HIRAGANA}]+")
_JAPANESE_WORD = re.compile(f"[{HAN}]+[{HIRAGANA}]*|[{KATAKANA}]+|[{HIRAGANA}]+")
_IS_HIRAGANA = re.compile(f"[{HIRAGANA}]")

_CASES = b" " * 65 + b"A" * 26 + b" " * 6 + b"a" * 26 + b" " * 133
_SMALL_WORDS = bytes(
    byte if byte >= 0x80 else ord(chr(byte).lower() if chr(byte).isalnum() else " ")  # noqa: PLR2004 (not ASCII)
    for byte in range(256)
)
_SMALL_CAPITAL, _CAPITALS_SMALL = b"aA", b"AAaa"
_NAMES_KEPT_MAX = 4_096
_CAMEL_PART = re.compile(b"[A-Z]+(?=[A-Z][a-z]{2})|[A-Z]?[a-z]+|[A-Z]+")


def clean(text: str) -> str:
    """The text without what no encoding can store: lone surrogates and NUL become the replacement character."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def collapse(text: str) -> str:
    """The text on one line: runs of whitespace become one space."""
    return _WHITESPACE.sub(" ", text).strip()


def words_for_index(text: str) -> str:
    """The text as the full-text index reads it."""
    return text if text.isascii() else _with_runs_expanded(*fold(text))


def words_and_parts_for_index(text: str) -> tuple[str, str]:
    """The text as the full-text index reads it, and the parts of the names in it."""
    if text.isascii():
        return text, _parts_of_names(text)
    folded, may_hold_runs = fold(text)
    return _with_runs_expanded(folded, may_hold_runs), _parts_of_names(folded)


def words_for_query(text: str) -> tuple[str, ...]:
    """The distinct terms of a question worth looking up, in order, at most `TERMS_CONSIDERED_MAX`.

    Stop words are left out unless there is nothing else. Of a very long text the beginning and the end are read.
    """
    if len(text) > 2 * QUESTION_END_CHARS:
        text = f"{text[:QUESTION_END_CHARS]} {text[-QUESTION_END_CHARS:]}"
    found: dict[str, bool] = {}
    for term, tells in _terms(_matches(text)):
        found[term] = found.get(term, False) or tells
    wanted = [term for term, tells in found.items() if tells] or list(found)
    return tuple(readable(term) for term in wanted[:TERMS_CONSIDERED_MAX])


def words_of_name(name: str) -> frozenset[str]:
    """The words by which a question names someone: each of them is among the question's, however it is inflected."""
    words: list[str] = []
    for match in _matches(name[:QUESTION_END_CHARS]):
        spaced = _spaced_words(match)
        words.extend(map(_lower, spaced) if spaced else _pairs_or_unit(match.lastgroup, match[0]))
    telling = [word for word in words if word not in STOP_WORDS] or words
    return frozenset(map(readable, telling))


def quoted(term: str) -> str:
    """A term as a full-text string: whatever it holds, it is data and never an operator.

    A compound, or a run of more than two characters, is found where its words stand in a row.
    """
    stored = term if term.isascii() else RUN.sub(_stored, with_stored_marks(term))
    return '"' + stored.replace('"', '""') + '"'


def _matches(text: str) -> list[re.Match[str]]:
    """The compounds, words and runs of a question, folded."""
    folded, _ = (text, False) if text.isascii() else fold(clean(text))
    return list((_ASCII_TERM if folded.isascii() else _ANY_TERM).finditer(folded))


def _terms(matches: Sequence[re.Match[str]]) -> Iterator[tuple[str, bool]]:
    """Every term of a question, and whether it tells what the question is about."""
    stops = stop_words_in(_lower(match[0]) for match in matches if match.lastgroup == "word")
    japanese = any(match.lastgroup == "east" and _KANA.search(match[0]) for match in matches)
    compounds = 0
    for match in matches:
        kind, run = match.lastgroup, match[0]
        words = [_lower(word) for word in _spaced_words(match)]
        telling = [word not in stops for word in words]
        if kind == "compound" and any(telling) and compounds < COMPOUNDS_MAX:
            compounds += 1
            yield _lower(run), True
        yield from zip(words, telling, strict=True)
        if words:
            yield from ((part, part not in stops) for part in _parts_of_names(run).split())
        elif kind == "hangul":
            yield from _korean_terms(run)
        elif kind == "emoji":
            yield run, True
        else:
            yield from _unspaced_terms(kind, run, japanese=japanese)


def _spaced_words(match: re.Match[str]) -> list[str]:
    """The words of a compound, or the word; none of another run."""
    return _WORD.findall(match[0]) if match.lastgroup in {"compound", "word"} else []


def _lower(word: str) -> str:
    """The word without case; what lowering took apart is composed again."""
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word.casefold())


def _korean_terms(run: str) -> Iterator[tuple[str, bool]]:
    """The pairs of a word without its particle, or its one syllable; and the word as it stands."""
    own = stem(run)
    tells = run not in KOREAN and not (len(own) > 1 and own in KOREAN)
    for pair in _pairs_or_unit("hangul", own):
        yield pair, tells
    if own != run:
        yield run, tells


def _unspaced_terms(kind: str | None, run: str, *, japanese: bool) -> Iterator[tuple[str, bool]]:
    """The pairs of what remains of a run when its function words are cut out; of the whole run if nothing does."""
    cut = CUT_THAI if kind == "south_east" else CUT_JAPANESE if japanese else CUT_CHINESE
    segments = [segment for segment in cut.split(run) if segment]
    if kind == "east" and japanese:
        segments = [word for segment in segments for word in _JAPANESE_WORD.findall(segment)]
        segments = [word for word in segments if len(word) > 1 or not _IS_HIRAGANA.match(word)]
    for segment in segments:
        if kind == "east" and len(segment) > 1 and _IS_HIRAGANA.match(segment, 1) and not _KANA.match(segment):
            yield segment[0], True  # what stays when the ending changes
        yield from ((pair, True) for pair in _pairs_or_unit(kind, segment))
    if not segments:
        yield from ((pair, False) for pair in _pairs_or_unit(kind, run))


def _pairs_or_unit(kind: str | None, run: str) -> list[str]:
    units = units_of(kind, run)
    return pairs_of(units) or units


def _with_runs_expanded(folded: str, may_hold_runs: bool) -> str:  # noqa: FBT001 (what fold gives)
    return RUN.sub(_expanded, folded) if may_hold_runs else folded


def _expanded(match: re.Match[str]) -> str:
    """A run as its characters, then its pairs, then twice more what stands in it as a word of its own."""
    kind, run = match.lastgroup, match[0]
    if kind == "emoji":
        return f" {emoji_word(run)} "
    units = units_of(kind, run)
    apart = _words_apart(kind, run, len(units))
    return f" {' '.join((*units, *pairs_of(units), *apart, *apart))} "


def _words_apart(kind: str | None, run: str, units: int) -> list[str]:
    """The words of one or two characters that spaces, particles or a change of script set apart.

    Counted three times, they rank above the same characters within a longer word, even of a shorter text.
    """
    if kind == "hangul":
        return [own] if len(own := stem(run)) <= 2 else []  # noqa: PLR2004 (a character, or a pair)
    if kind == "east" and _KANA.search(run):
        apart = [own for own in _JAPANESE_SEGMENT.findall(run) if not _IS_HIRAGANA.match(own) or own == run]
        return [own for own in apart if len(own) <= 2]  # noqa: PLR2004 (as above)
    return [run] if units <= 2 else []  # noqa: PLR2004 (as above)


def _stored(match: re.Match[str]) -> str:
    """A run of a term as the index has it: the emoji's word, a character or a pair, or pairs in a row."""
    kind, run = match.lastgroup, match[0]
    if kind == "emoji":
        return emoji_word(run)
    units = units_of(kind, run)
    return run if len(units) <= 2 else " ".join(pairs_of(units))  # noqa: PLR2004 (a character, or a pair)


def _parts_of_names(folded: str) -> str:
    """The parts of the names whose words are told apart by case alone (`maxRetryCount`); mostly nothing.

    Each is there once, and only where the text does not hold it as a word anyway: to be found, not to count more than
    what was written. Case is looked at as bytes, because nearly every text has no such name.
    """
    encoded = folded.encode("utf-8", "replace")
    cases = encoded.translate(_CASES)
    if _SMALL_CAPITAL not in cases and _CAPITALS_SMALL not in cases:
        return ""
    parts = dict.fromkeys(chain.from_iterable(map(_parts_of_name, dict.fromkeys(_camel_names(encoded, cases)))))
    written = b" %b " % encoded.translate(_SMALL_WORDS)
    return b"".join(part for part in parts if part not in written).decode("ascii").strip().replace("  ", " ")


def _camel_names(encoded: bytes, cases: bytes) -> Iterator[bytes]:
    """The words in which a capital follows a small letter, or starts a word after other capitals; in order.

    What is longer than a name can be is encoded data, and left as it is.
    """
    end, none = 0, len(cases)
    small, capitals = cases.find(_SMALL_CAPITAL) % (none + 1), cases.find(_CAPITALS_SMALL) % (none + 1)
    while (at := min(small, capitals)) < none:
        start = cases.rfind(b" ", end, at) + 1 or end
        end = cases.find(b" ", at) % (none + 1)
        if end - start <= NAME_CHARS_MAX:
            yield encoded[start:end]
        if small < end:
            small = cases.find(_SMALL_CAPITAL, end) % (none + 1)
        if capitals < end:
            capitals = cases.find(_CAPITALS_SMALL, end) % (none + 1)


@lru_cache(maxsize=_NAMES_KEPT_MAX)
def _parts_of_name(name: bytes) -> tuple[bytes, ...]:
    """The parts of more than one letter, small and between spaces; names come back, so the last ones are kept."""
    return tuple(b" %b " % part.lower() for part in _CAMEL_PART.findall(name) if len(part) > 1)
