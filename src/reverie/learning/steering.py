"""In which language a model is to write what it makes of texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CJK_SHARE = 0.7
"""Above this share of the letters the texts are taken for Chinese."""

_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LATIN = re.compile(r"[A-Za-z]")


def answer_language(texts: Iterable[str]) -> str:
    """`Chinese` when more than 0.7 of the CJK characters and ASCII letters are CJK, else `English`."""
    cjk = latin = 0
    for text in texts:
        cjk += len(_CJK.findall(text))
        latin += len(_LATIN.findall(text))
    return "Chinese" if cjk and cjk / (cjk + latin) > CJK_SHARE else "English"
