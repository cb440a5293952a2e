"""In which language a model is to write what it makes of texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EAST_ASIAN_SHARE = 0.7
"""Above this share of the letters the texts are taken for Chinese, Japanese or Korean."""
KANA_SHARE = 0.1
"""Japanese has that much of its letters in kana, and Chinese none."""
OTHER_SHARE = 0.5
"""Above this share of letters that are neither, the model is to see for itself."""
THEIRS = "the language of the texts"

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")
_LATIN = re.compile(r"[A-Za-z]")
_LETTER = re.compile(r"[^\W\d_]")


def answer_language(texts: Iterable[str]) -> str:
    """`Chinese`, `Japanese` or `Korean` when more than 0.7 of the letters are theirs, else `English`.

    Texts in which most letters are of none of these and not in ASCII either get "the language of the texts".
    """
    han = kana = hangul = latin = letters = 0
    for text in texts:
        han += len(_HAN.findall(text))
        kana += len(_KANA.findall(text))
        hangul += len(_HANGUL.findall(text))
        latin += len(_LATIN.findall(text))
        letters += len(_LETTER.findall(text))
    east_asian = han + kana + hangul
    if letters - east_asian - latin > OTHER_SHARE * letters:
        return THEIRS
    if not east_asian or east_asian / (east_asian + latin) <= EAST_ASIAN_SHARE:
        return "English"
    if hangul > han + kana:
        return "Korean"
    return "Japanese" if kana >= KANA_SHARE * east_asian else "Chinese"
