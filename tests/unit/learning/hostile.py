"""Texts that rules look at for long when they look past the same things from many places, and how long that takes."""

from __future__ import annotations

from time import thread_time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PIECES: Final = (
    "\n", " ", "  \n", "\t", ".\n\n", ";\n", "ok.\n", "ok, ", "so!\n", "now ", "no, ", "not ", "use ", "use   ",
    "prefer ", "instead of a use ", "don't use ", "please ", "that is ", "we said ", "用", "不要用", "与其", "嗯，",
    "换", "```", "> a\n", "a\u0316\u0301", "\ufdfa",
    '"', "“", "'a' ", ": ", "that is wrong? ", "that is wrong: ", "doesn't work ",
)  # fmt: skip
"""Such a text is one of them over and over, after a word that makes rules look further."""
SLACK_S: Final = 0.02


def grows_evenly(judge: Callable[[str], object], piece: str, chars: int) -> bool:
    """Whether a text of so many characters takes no more than three times as long as half of it: four is a square."""
    half, whole = (_took_s(judge, "use" + (piece * length)[: length - 4] + "y") for length in (chars // 2, chars))
    return whole <= 3 * half + SLACK_S


def _took_s(judge: Callable[[str], object], text: str) -> float:
    """The least of three times, of this thread alone: what else runs on the machine does not count."""
    times: list[float] = []
    for _ in range(3):
        began_s = thread_time()
        judge(text)
        times.append(thread_time() - began_s)
    return min(times)
