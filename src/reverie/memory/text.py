"""The one analyser: how text is prepared for the full-text index, and how a question becomes search terms.

Index and query go through the same steps, so what was written is found as it was written: compatibility forms are
unified (NFKC: full-width letters, half-width kana, composed accents), and runs of Chinese, Japanese and Korean, which
have no spaces, are expanded to single characters and pairs. Case, accents and English endings are the full-text
tokenizer's work.

Invariant: whatever a question contains (quotes, operators, a hundred kilobytes), it becomes at most `TERMS_MAX`
plain quoted words.
"""

from __future__ import annotations

import re
import unicodedata

ANALYSER_VERSION = 1
"""Grows when the same text gives other words: an index prepared by another version is better built anew."""

TERMS_MAX = 32
TERMS_CONSIDERED_MAX = 64
QUESTION_END_CHARS = 2_000

_CJK_LETTERS = (
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
)
_EMOJI = "\u2600-\u27bf\u2b50\u2b55\U0001f300-\U0001faff"
_UNSPACED_RUN = re.compile(f"[{_CJK_LETTERS}]+|[{_EMOJI}]")
_TERM = re.compile(f"[{_CJK_LETTERS}]+|[{_EMOJI}]|(?:(?![{_CJK_LETTERS}])[^\\W_])+")
_WHITESPACE = re.compile(r"\s+")

_STOP_WORDS = """
a about above after again against all am an and any are aren as at be because been before being below between both but
by can cannot could couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn
have haven having he her here hers herself him himself his how i if in into is isn it its itself just let ll m me more
most mustn my myself no nor not now of off on once only or other our ours ourselves out over own re s same shan she
should shouldn so some such t than that the their theirs them themselves then there these they this those through to
too under until up ve very was wasn we weren were what when where which while who whom whose why will with won would
wouldn you your yours yourself yourselves tell please give show list mention kind type according
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def clean(text: str) -> str:
    """The text without what no encoding can store: lone surrogates and NUL become the replacement character."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def collapse(text: str) -> str:
    """The text on one line: runs of whitespace become one space."""
    return _WHITESPACE.sub(" ", text).strip()


def words_for_index(text: str) -> str:
    """The text as the full-text index reads it."""
    if text.isascii():
        return text
    return _UNSPACED_RUN.sub(_expanded, unicodedata.normalize("NFKC", text))


def words_for_query(text: str) -> tuple[str, ...]:
    """The distinct words of a question worth looking up, in order, at most `TERMS_CONSIDERED_MAX`.

    Stop words are left out unless there is nothing else. Of a very long text the beginning and the end are read.
    """
    if len(text) > 2 * QUESTION_END_CHARS:
        text = f"{text[:QUESTION_END_CHARS]} {text[-QUESTION_END_CHARS:]}"
    folded = unicodedata.normalize("NFKC", clean(text)).casefold()
    found = dict.fromkeys(word for match in _TERM.finditer(folded) for word in _query_words(match[0]))
    wanted = [word for word in found if word not in STOP_WORDS] or list(found)
    return tuple(wanted[:TERMS_CONSIDERED_MAX])


def quoted(term: str) -> str:
    """A term as a full-text string: whatever it holds, it is data and never an operator."""
    return '"' + term.replace('"', '""') + '"'


def is_unspaced(char: str) -> bool:
    """True for characters of scripts that are expanded here."""
    return _UNSPACED_RUN.match(char) is not None


def _query_words(run: str) -> list[str]:
    """A word stays; a CJK run becomes its pairs, or the character itself when it stands alone."""
    if not is_unspaced(run[0]):
        return [run]
    if len(run) == 1:
        return [_emoji_word(run)]
    return [run[i : i + 2] for i in range(len(run) - 1)]


def _expanded(match: re.Match[str]) -> str:
    run = match[0]
    singles = [_emoji_word(run)] if len(run) == 1 else list(run)
    pairs = [run[i : i + 2] for i in range(len(run) - 1)]
    return f" {' '.join(singles + pairs)} "


def _emoji_word(char: str) -> str:
    """An emoji as a word of letters and digits, because the tokenizer drops symbols; other characters stay."""
    return char if unicodedata.category(char)[0] == "L" or char in "\u3005\u3006\u3007" else f"emoji{ord(char):x}"


def words_of_name(name: str) -> frozenset[str]:
    """The words by which a question names someone."""
    return frozenset(words_for_query(name))
