"""How much of a prompt a provider has seen before: the bytes at its beginning that are those of the prompt before it.

A provider's cache holds beginnings of prompts. What a turn really costs is therefore told by three figures: what is
new, what is sent again with nothing changed before it, and what is sent again behind a change. Between two prompts of
one conversation:

    replayed, identical prefix    the bytes up to the first difference
    replayed, changed prefix      what stood in the earlier prompt too, but behind that difference
    new                           the rest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Repetition:
    """What of a prompt was sent before, in bytes. The three parts add up to the prompt."""

    identical_bytes: int
    changed_bytes: int
    new_bytes: int

    @property
    def prompt_bytes(self) -> int:
        """The whole prompt."""
        return self.identical_bytes + self.changed_bytes + self.new_bytes

    @property
    def identical_share(self) -> float:
        """The part of what was sent again that a cache still holds; 1 where nothing was sent again."""
        replayed = self.identical_bytes + self.changed_bytes
        return self.identical_bytes / replayed if replayed else 1.0


def as_tokens(size_bytes: int) -> int:
    """Bytes as tokens, four to one, rounded up: how the doubles count."""
    return -(-size_bytes // BYTES_PER_TOKEN)


def identical_prefix(before: bytes, after: bytes) -> int:
    """How many bytes at their beginning two texts have in common."""
    low, high = 0, min(len(before), len(after))
    while low < high:  # comparing slices is far cheaper than comparing bytes one by one
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def repetition(before: Sequence[bytes], after: Sequence[bytes]) -> Repetition:
    """What of a prompt was in the one before it, part by part: instructions, tools, messages, in the order sent.

    Behind the first difference a part counts as sent again when the earlier prompt held one that was the same.
    """
    whole_before, whole = b"".join(before), b"".join(after)
    identical = identical_prefix(whole_before, whole)
    left = list(before)
    changed = position = 0
    for part in after:
        known = part in left
        if known:
            left.remove(part)
            changed += max(0, min(len(part), position + len(part) - identical))
        position += len(part)
    return Repetition(identical, changed, len(whole) - identical - changed)
