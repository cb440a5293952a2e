"""How many tokens a prompt takes, estimated without a vocabulary and corrected by what the server counted.

The estimate: four UTF-8 bytes a token (four characters of English, two of Cyrillic or Arabic), but each Chinese,
Japanese or Korean character a token of its own; 4 tokens around each message, 8 around each tool call, 2000 for an
image. It is then multiplied by a ratio that follows the counts of the model really used, because vocabularies differ
by a quarter and more. Estimates are meant to be a little high: a prompt cut too early costs less than one refused.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reverie.types import Message

MESSAGE_TOKENS = 4
TOOL_CALL_TOKENS = 8
IMAGE_TOKENS = 2_000
BYTES_PER_TOKEN = 4
RATIO_MIN, RATIO_MAX = 0.5, 2.0
CALIBRATION_WEIGHT = 0.2
CALIBRATION_TOKENS_MIN = 200
"""Smaller prompts say more about a chat template's overhead than about the vocabulary."""

# Kana, Hangul, ideographs with their extensions, and full-width forms.
_WIDE = re.compile(
    "[\u1100-\u11ff\u2e80-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+"
)


def raw_tokens(text: str) -> int:
    """The estimate for a text, before calibration. Linear in its length; a megabyte takes about a millisecond."""
    if text.isascii():
        return -(-len(text) // BYTES_PER_TOKEN)  # rounded up
    other = _WIDE.sub("", text)
    return len(text) - len(other) + math.ceil(len(other.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def raw_message_tokens(message: Message) -> int:
    """The estimate for a whole message, before calibration."""
    if not (message.tool_calls or message.images):  # nearly all of a long history
        return MESSAGE_TOKENS + raw_tokens(message.text)
    calls = sum(TOOL_CALL_TOKENS + raw_tokens(call.name) + raw_tokens(call.arguments) for call in message.tool_calls)
    images = IMAGE_TOKENS * len(message.images)
    return MESSAGE_TOKENS + raw_tokens(message.text) + calls + images


class TokenEstimator:
    """Estimates that follow the model's own counts. One object for one model; without I/O; not for several threads."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._ratio = min(RATIO_MAX, max(RATIO_MIN, ratio))

    @property
    def ratio(self) -> float:
        """What raw estimates are multiplied by: 0.5 to 2.0, and 1.0 at the start."""
        return self._ratio

    def text(self, text: str) -> int:
        """Tokens of a text."""
        return math.ceil(raw_tokens(text) * self._ratio)

    def message(self, message: Message) -> int:
        """Tokens of a message with everything in it."""
        return math.ceil(raw_message_tokens(message) * self._ratio)

    def messages(self, messages: Iterable[Message]) -> int:
        """Tokens of several messages."""
        return sum(self.message(message) for message in messages)

    def calibrate(self, estimated: int, actual: int) -> None:
        """Learn from a call: `estimated` is what this object said of the prompt, `actual` what the server counted.

        The ratio moves a fifth of the way, so one odd call changes little. Counts of zero (a server that reports no
        usage) and very small prompts teach nothing.
        """
        if min(estimated, actual) < CALIBRATION_TOKENS_MIN:
            return
        target = self._ratio * actual / estimated
        moved = self._ratio + CALIBRATION_WEIGHT * (target - self._ratio)
        self._ratio = min(RATIO_MAX, max(RATIO_MIN, moved))
