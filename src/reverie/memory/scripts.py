"""What the analyser knows of the world's writing: which letters are the same, and which scripts have no spaces.

`fold` unifies spellings that mean the same word; `RUN` finds what is not written as words between spaces: runs of
Chinese and Japanese, of Korean, of Thai, Lao, Khmer and Burmese, and emoji. `units_of` cuts such a run into what a
reader counts: characters, or a consonant with its vowels and tones.

Vowel signs and tones of Indian and South-East Asian scripts are marks, at which the full-text tokenizer would cut a
word apart. In folded text each stands as a character of the private use area, which the tokenizer keeps; `readable`
gives the mark back.

Invariant: no text makes any of this fail; what is folded is at most as much longer as the compatibility forms in it.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

HAN = "\u3005-\u3007\u3105-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U00020000-\U0003134f"
HIRAGANA = "\u3041-\u3096\u309d-\u309f"
KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
HANGUL = "\uac00-\ud7a3"
ARABIC = "\u0621-\u064a\u0671-\u06d3\u06fa-\u06ff"
_EMOJI = (
    "\u231a\u231b\u23e9-\u23fa\u25fb-\u25fe\u2600-\u27bf\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55"
    "\U0001f004\U0001f0cf\U0001f18e\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"
)

_MARKED_BLOCKS = (range(0x0900, 0x1100), range(0x1780, 0x1800))
_MARKS_START = 0xE000
_MARKS_BEFORE = 0x0900
_MARK_OF = {
    code: _MARKS_START + code - _MARKS_BEFORE
    for block in _MARKED_BLOCKS
    for code in block
    if unicodedata.category(chr(code))[0] == "M"
}
_READ_AS = {stored: code for code, stored in _MARK_OF.items()}
MARKS = "\ue000-\ueeff"
"""Where the marks of `_MARK_OF` stand in folded text, for a regular expression's class."""

_LEADING = "\u0e40-\u0e44\u0ec0-\u0ec4"
_FOLLOWING = "\u0e30\u0e32\u0e45\u0eb0\u0eb2"
_STACKED = "".join(chr(_MARK_OF[code]) for code in (0x1039, 0x17D2))
_CONSONANTS = "\u0e01-\u0e2f\u0e81-\u0eae\u0ebd\u1000-\u102a\u103f\u1050-\u1055\u105a-\u108e\u1780-\u17b3"
_SOUTH_EAST = f"{_CONSONANTS}{_LEADING}{_FOLLOWING}\u0e46\u0ec6\u0edc-\u0edf\u17d7\u17dc"
UNSPACED = f"{HAN}{HIRAGANA}{KATAKANA}{HANGUL}{_SOUTH_EAST}"
"""Every letter of a script that is expanded, for a regular expression's class."""

_FLAG = "[\U0001f1e6-\U0001f1ff]{2}|\U0001f3f4[\U000e0030-\U000e007a]+\U000e007f"
RUN = re.compile(
    f"(?P<east>[{HAN}{HIRAGANA}{KATAKANA}]+)|(?P<hangul>[{HANGUL}]+)|(?P<south_east>[{_SOUTH_EAST}][{_SOUTH_EAST}{MARKS}]*)"
    f"|(?P<emoji>{_FLAG}|[{_EMOJI}])"
)
"""A run of an unspaced script, or an emoji; the group that matched says which."""

_SOUTH_EAST_UNIT = re.compile(
    f"[{_LEADING}]?[{_CONSONANTS}](?:[{_STACKED}][{_CONSONANTS}]|[{MARKS}])*[{_FOLLOWING}]?|.[{MARKS}]*", re.DOTALL
)

_SAME_LETTERS = {
    "\u00df": "ss", "\u1e9e": "SS", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE",
    "\u00f8": "o", "\u00d8": "O", "\u0111": "d", "\u0110": "D", "\u00f0": "d", "\u00d0": "D",
    "\u0142": "l", "\u0141": "L", "\u00fe": "th", "\u00de": "Th", "\u0131": "i", "\u0130": "I",
    "\u03c2": "\u03c3", "\u0451": "\u0435", "\u0401": "\u0415",
    "\u0622": "\u0627", "\u0623": "\u0627", "\u0625": "\u0627", "\u0671": "\u0627",  # alef with anything on it
    "\u0649": "\u064a", "\u06cc": "\u064a", "\u0626": "\u064a",  # dotless, Persian, and with a hamza: yeh
    "\u0629": "\u0647", "\u06c1": "\u0647", "\u06be": "\u0647", "\u06c0": "\u0647",  # teh marbuta, the forms of heh
    "\u0624": "\u0648", "\u06a9": "\u0643",  # waw with a hamza; Persian kaf
    "\u0901": "\u0902",  # nasalised, as most write it
    "\u200b": " ",
}  # fmt: skip
_LEFT_OUT = (
    *range(0x0300, 0x0370),  # accents that no letter composes with
    *range(0x0591, 0x05BE),  # Hebrew points
    *(0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7),
    *range(0x0610, 0x061B),  # Arabic vowels and signs
    *(0x0640, *range(0x064B, 0x0660), 0x0670),
    *range(0x06D6, 0x06DD),
    *(*range(0x06DF, 0x06E5), 0x06E7, 0x06E8, *range(0x06EA, 0x06EE)),
    *(0x093C, 0x09BC, 0x0A3C, 0x0ABC),  # dots of borrowed sounds, often not written
    *(0x00AD, 0x200D, 0x200E, 0x200F, 0xFEFF),  # what is not seen
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),  # how an emoji is drawn
    *(0x20E3, *range(0x1F3FB, 0x1F400)),
)
_DIGIT_ZEROS = "\u0660\u06f0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0e50\u0ed0\u0f20\u1040\u17e0"
_FOLDS: dict[int, str | int | None] = {
    **_MARK_OF,
    **dict.fromkeys(_LEFT_OUT),
    **{ord(zero) + n: str(n) for zero in _DIGIT_ZEROS for n in range(10)},
    **{ord(letter): same for letter, same in _SAME_LETTERS.items()},
}
_FOLDS[0x0901] = _MARK_OF[0x0902]
_SPECIAL = re.compile(f"[{''.join(re.escape(chr(code)) for code in sorted(_FOLDS))}{ARABIC}{UNSPACED}{_EMOJI}]")
_ARTICLE = re.compile(f"(?<![{ARABIC}])(?:[\u0648\u0641\u0628\u0643]?\u0627\u0644|\u0644\u0644)(?=[{ARABIC}]{{3}})")


def fold(text: str) -> tuple[str, bool]:
    """The text with one spelling for what is the same word, its case kept; and whether it may hold a `RUN`.

    Compatibility forms (full-width letters, half-width kana, ligatures), accents in either form, digits of any script,
    the forms of Arabic letters, its vowels and its article, and characters that are not seen.
    """
    normal = unicodedata.normalize("NFKC", text)
    if _SPECIAL.search(normal) is None:
        return normal, False
    return _ARTICLE.sub("", normal.translate(_FOLDS)), True


def readable(folded: str) -> str:
    """Folded text with its marks as they are written."""
    return folded if folded.isascii() else folded.translate(_READ_AS)


def with_stored_marks(text: str) -> str:
    """What `readable` undid."""
    return text.translate(_MARK_OF)


def units_of(kind: str | None, run: str) -> list[str]:
    """The characters of a run, or in South-East Asian scripts its clusters: a consonant and what belongs to it."""
    return _SOUTH_EAST_UNIT.findall(run) if kind == "south_east" else list(run)


def pairs_of(units: list[str]) -> list[str]:
    """Each two neighbours, joined."""
    return [first + second for first, second in pairwise(units)]


def emoji_word(emoji: str) -> str:
    """An emoji or a flag as a word of letters and digits, because the tokenizer drops symbols.

    It ends in digits, so that no ending is taken off.
    """
    return f"emoji{'x'.join(str(ord(char)) for char in emoji)}"
