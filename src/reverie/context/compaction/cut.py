"""Where a conversation is cut: what is summarised, and the tail that stays word for word.

A cut is always right before a user message, so that no tool call is parted from its results and no chat template
meets a history that begins with an answer.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import Provenance, Role

DUPLICATE_MS = 60_000
DUPLICATE_CHARS_MIN = 24
CHUNK_SHARE_MAX, CHUNK_SHARE_MIN = 0.4, 0.15
CHUNK_OVERHEAD_TOKENS = 4_096
CHUNK_WINDOW_MIN = 4
"""A chunk has at least this part of the window, also where the overhead would leave nothing of it."""
MESSAGE_SHARE_SAFETY = 1.2
MESSAGE_SHARE_SMALL = 0.1
UNSUMMARISABLE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class SpanMessage:
    """A message as compaction sees it. `text` may be cut: `tokens` is of all of it. `said_at_ms` is when it came in.

    `remember` is False for text that only quotes memory. `calls` are the names of the tools it asked for.
    `provenance` is whose words it is.
    """

    seq: int
    role: Role
    text: str
    tokens: int
    said_at_ms: int
    remember: bool = True
    images: int = 0
    calls: tuple[str, ...] = ()
    provenance: Provenance = "untrusted"


@dataclass(frozen=True, slots=True)
class Cut:
    """The last message to be summarised, and the tokens of what is summarised and of what stays."""

    last_seq: int
    span_tokens: int
    tail_tokens: int


def choose_cut(messages: Sequence[SpanMessage], *, keep: int, span_min: int) -> Cut | None:
    """The cut that leaves a tail of at most `keep` tokens, but always the last turn whole.

    None when there is nothing before that tail, or less than `span_min` tokens of it.
    """
    total = sum(message.tokens for message in messages)
    tail = chosen = 0
    boundary: int | None = None
    for index in range(len(messages) - 1, -1, -1):
        tail += messages[index].tokens
        if tail > keep and boundary is not None:
            break
        if messages[index].role == "user":
            boundary, chosen = index, tail
    if not boundary or total - chosen < max(1, span_min):
        return None
    return Cut(messages[boundary - 1].seq, total - chosen, chosen)


def duplicates(messages: Sequence[SpanMessage]) -> frozenset[int]:
    """The numbers of user messages that only repeat an equal one seen at most a minute before.

    The minute counts from the last sighting, so that a long storm of retries is one message. Short messages and those
    with images are never repeats: "yes" may be meant twice.
    """
    seen: dict[str, int] = {}
    repeated: set[int] = set()
    for message in messages:
        if message.role != "user" or message.images:
            continue
        said = " ".join(unicodedata.normalize("NFC", message.text).split()).lower()
        if len(said) < DUPLICATE_CHARS_MIN:
            continue
        last = seen.get(said)
        if last is not None and message.said_at_ms - last <= DUPLICATE_MS:
            repeated.add(message.seq)
        seen[said] = message.said_at_ms
    return frozenset(repeated)


def hidden_repeats(messages: Sequence[SpanMessage]) -> frozenset[int]:
    """Of the duplicates, those that can be left out of a prompt without two answers standing side by side."""
    repeated = duplicates(messages)
    roles = [message.role for message in messages]
    return frozenset(
        message.seq
        for index, message in enumerate(messages)
        if message.seq in repeated and "user" in {*roles[max(0, index - 1) : index], *roles[index + 1 : index + 2]}
    )


def chunk_tokens(window: int, messages: Sequence[SpanMessage]) -> int:
    """How much of a stretch is summarised by one call: less of it where single messages are large."""
    average = sum(message.tokens for message in messages) / max(1, len(messages))
    share = average * MESSAGE_SHARE_SAFETY / window
    ratio = CHUNK_SHARE_MAX
    if share > MESSAGE_SHARE_SMALL:
        ratio = max(CHUNK_SHARE_MIN, CHUNK_SHARE_MAX - min(2 * share, CHUNK_SHARE_MAX - CHUNK_SHARE_MIN))
    return max(window // CHUNK_WINDOW_MIN, int(window * ratio) - CHUNK_OVERHEAD_TOKENS)


def chunks(messages: Sequence[SpanMessage], size: int) -> list[list[SpanMessage]]:
    """The stretch in pieces of about `size` tokens, in order; a larger message is a piece of its own."""
    pieces: list[list[SpanMessage]] = []
    filled = 0
    for message in messages:
        if not pieces or filled + message.tokens > size:
            pieces.append([])
            filled = 0
        pieces[-1].append(message)
        filled += message.tokens
    return pieces


def is_summarisable(message: SpanMessage, window: int) -> bool:
    """False for a message that alone takes more than half of the window."""
    return message.tokens <= window * UNSUMMARISABLE_SHARE
