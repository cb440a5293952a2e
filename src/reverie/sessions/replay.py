"""Which messages of a request are new to a session that already has a transcript.

OpenAI clients resend the whole conversation with every request. A stateful session has it already and must not be
fed twice; a stateless one needs all of it. The answer is found by comparing fingerprints, so that a client that
trims, reflows or cuts off its history is still recognised.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.types import Message, Role

FINGERPRINT_BYTES = 16
NO_ANSWER = "[assistant turn failed before producing content]"
"""OpenClaw's words in the place of an answer that never came."""


def fingerprint(role: Role, text: str, tool_ids: Sequence[str] = ()) -> bytes:
    """A digest of what a message says: role, text in NFC with white space collapsed, ids of its tool calls."""
    words = " ".join(unicodedata.normalize("NFC", text).split())
    digest = hashlib.sha256(f"{role}\0{words}\0{','.join(tool_ids)}".encode("utf-8", "surrogatepass"))
    return digest.digest()[:FINGERPRINT_BYTES]


def message_fingerprint(message: Message) -> bytes:
    """The fingerprint of a message as a client sends it."""
    ids = [call.id for call in message.tool_calls] or ([message.tool_call_id] if message.tool_call_id else [])
    return fingerprint(message.role, message.text, ids)


@dataclass(frozen=True, slots=True)
class NewMessages:
    """The messages to append, and why these."""

    messages: tuple[Message, ...]
    reason: str


def input_start(messages: Sequence[Message]) -> int:
    """Where the new input begins: at the last user message, or at the trailing run of tool results."""
    start = len(messages) - 1
    while start > 0 and messages[start].role == "tool" and messages[start - 1].role == "tool":
        start -= 1
    return start


def unseen(messages: Sequence[Message], known: Sequence[bytes]) -> NewMessages:
    """The suffix of a request's messages that the transcript does not hold.

    `known` are the transcript's fingerprints in order (its newest part suffices). The input itself always counts as
    new: saying the same thing twice is saying it twice. Of the history before it, everything up to the last message
    that continues the transcript's end is old; if no stretch matches its end, everything up to the last message
    that stands anywhere in it.
    """
    start = input_start(messages)
    history, current = messages[:start], tuple(messages[start:])
    if not known:
        return NewMessages((*history, *current), "the session is new: the whole request counts")
    if not history:
        return NewMessages(current, "the request brings no history")
    prints = [message_fingerprint(message) for message in history]
    for end in range(len(prints), 0, -1):
        overlap = min(end, len(known))
        if prints[end - overlap : end] == list(known[len(known) - overlap :]):
            return NewMessages((*history[end:], *current), f"{end} messages of history are in the transcript already")
    held = set(known)
    for end in range(len(prints), 0, -1):
        if prints[end - 1] in held:
            return NewMessages((*history[end:], *current), f"history is known up to message {end}")
    return NewMessages(current, "the history is not this session's: only the new message counts")
