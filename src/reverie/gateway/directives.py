"""`/queue` within a message: how the session treats messages that find it busy, changed from a chat window.

    /queue steer                                the mode
    /queue collect debounce:2s cap:25 drop:old  the mode, and what goes with it
    /queue reset                                everybody's settings again (also: default, clear)

It counts at the beginning of a word and only when a word follows that it knows, so that people may speak of queues.
What it says is taken out of the message; an earlier message of the conversation loses it too, since a client that
sends its history again must be recognised by what is in the transcript.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.errors import RequestError
from reverie.gateway.queue_settings import checked_settings
from reverie.gateway.wire import IMAGES_ONLY
from reverie.sessions.inbox import parse_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.sessions.inbox import QueueSettings
    from reverie.types import JsonObject, Message

RESETS = frozenset({"default", "reset", "clear"})
SETTINGS_MARK = "[queue] Messages that find this session busy: "

_COMMAND = re.compile(r"(?<!\S)/queue(?=\s)", re.IGNORECASE)
_WORD = re.compile(r"\s+(\S+)")
_OPTION = re.compile(r"(debounce|cap|drop):(\S+)", re.IGNORECASE)
_DURATION = re.compile(r"(\d{1,9})(ms|s|m)?", re.IGNORECASE | re.ASCII)
_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000}


@dataclass(frozen=True, slots=True)
class Directive:
    """What `/queue` asks for: settings of the session's own, by their names; None: everybody's again."""

    changes: JsonObject | None


@dataclass(frozen=True, slots=True)
class Stripped:
    """A conversation without its directives.

    `directive` is that of the newest message. `says_more` is False when nothing is left of that message.
    """

    messages: tuple[Message, ...]
    directive: Directive | None
    says_more: bool


def strip_directives(messages: Sequence[Message]) -> Stripped:
    """Take the directives out of the user's messages. What was nothing else is left out, with our answer to it.

    Raises:
        RequestError: the newest message has a directive with a value out of range.
    """
    kept: list[Message] = []
    newest = messages[-1]
    directive: Directive | None = None
    says_more = True
    for message in messages:
        if message.role == "assistant" and message.text.startswith(SETTINGS_MARK) and not message.tool_calls:
            continue
        text, found = _without(message.text) if message.role == "user" else (message.text, None)
        if found is None:
            kept.append(message)
            continue
        if message is newest:
            directive = _parsed(found)
            says_more = bool(text or message.images)
        if text or message.images:
            kept.append(replace(message, text=text or IMAGES_ONLY))
    return Stripped(tuple(kept), directive, says_more)


def settings_sentence(settings: QueueSettings) -> str:
    """The settings that hold, in one sentence."""
    waits = f" (up to {settings.wait_ms} ms)" if settings.mode == "wait" else ""
    return (
        f"{SETTINGS_MARK}mode {settings.mode}{waits}, "
        f"debounce {settings.debounce_ms} ms, cap {settings.cap}, drop {settings.drop}."
    )


def _without(text: str) -> tuple[str, list[str] | None]:
    """A text without its directive, and the directive's words; None when there is none. The first counts."""
    if "/q" not in text and "/Q" not in text:
        return text, None
    for command in _COMMAND.finditer(text):
        words: list[str] = []
        end = command.end()
        while (following := _WORD.match(text, end)) and _is_known(following[1], first=not words):
            words.append(following[1])
            end = following.end()
        if words:
            before, after = text[: command.start()], text[end:]
            line_ends = "\n" in before[len(before.rstrip()) :] or "\n" in after[: len(after) - len(after.lstrip())]
            return ("\n" if line_ends else " ").join((before.rstrip(), after.lstrip())).strip(), words
    return text, None


def _is_known(word: str, *, first: bool) -> bool:
    return _OPTION.fullmatch(word) is not None or (first and (word.lower() in RESETS or parse_mode(word) is not None))


def _parsed(words: Sequence[str]) -> Directive:
    changes: JsonObject = {}
    for word in words:
        option = _OPTION.fullmatch(word)
        if option is None and word.lower() in RESETS:
            return Directive(None)
        if option is None:
            changes["mode"] = word
        elif option[1].lower() == "debounce":
            changes["debounce_ms"] = _milliseconds(option[2])
        else:
            changes[option[1].lower()] = option[2]
    return Directive(checked_settings(changes))


def _milliseconds(word: str) -> int:
    found = _DURATION.fullmatch(word)
    if found is None:
        message = f"`debounce:{word[:40]}` is not valid: a duration such as 500ms, 2s or 1m."
        raise RequestError(message, param="messages")
    return int(found[1]) * _DURATION_MS[(found[2] or "ms").lower()]
