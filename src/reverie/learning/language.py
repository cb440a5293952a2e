"""In which language a model is to write what it makes of a text."""

from __future__ import annotations

import re
from typing import Literal

CHINESE_SHARE = 0.7
"""Of the letters of a text, from which on it counts as Chinese."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LATIN = re.compile(r"[A-Za-z]")


def answer_language(text: str) -> Literal["Chinese", "English"]:
    """`Chinese` for a text that is mostly written in it, else `English`."""
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    return "Chinese" if han > CHINESE_SHARE * (han + latin) else "English"
