"""Hints with which a server finds the beginning of a prompt again: what is said, to whom, and what a refusal means.

    openai       `prompt_cache_key`: calls of one conversation go where its last one went
    anthropic    `cache_control` on a part of a message: everything up to there is kept
    off          nothing is said; most servers keep beginnings of prompts all the same

Pure functions. A hint is never worth an answer: a server that refuses one is asked again without.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from reverie.errors import UpstreamRefusedError
    from reverie.llm.client import ModelRequest
    from reverie.types import JsonObject

CacheHints = Literal["off", "openai", "anthropic"]
CacheHintsSetting = Literal["auto", "openai", "anthropic", "off"]

_BY_HOST: dict[str, CacheHints] = {
    "api.openai.com": "openai",
    "openai.azure.com": "openai",
    "api.mistral.ai": "openai",
    "openrouter.ai": "anthropic",
    "api.anthropic.com": "anthropic",
}
_NAMED = re.compile(r"prompt_cache_key|cache_control", re.IGNORECASE)
EPHEMERAL: JsonObject = {"type": "ephemeral"}


def hints_for(setting: CacheHintsSetting, base_url: str) -> CacheHints:
    """What is said to a server. `auto` goes by its host, and says nothing to one that is not known to listen."""
    if setting != "auto":
        return setting
    host = urlsplit(base_url).hostname or ""
    for known, hints in _BY_HOST.items():
        if host == known or host.endswith(f".{known}"):
            return hints
    return "off"


def names_a_hint(refusal: UpstreamRefusedError) -> bool:
    """Whether a refusal is about a hint by name."""
    return bool(_NAMED.search(str(refusal)))


def add_hints(body: JsonObject, request: ModelRequest, hints: CacheHints) -> None:
    """Put the hints into a rendered body. A key that the client sent itself stays."""
    if hints == "openai" and request.cache_key:
        body.setdefault("prompt_cache_key", request.cache_key)
    if hints == "anthropic":
        for number in request.cache_breakpoints:
            _mark(body["messages"][number])


def _mark(message: JsonObject) -> None:
    """Mark the last part of a message; one that has no text has no place for it."""
    content: Any = message.get("content")
    if isinstance(content, str) and content:
        message["content"] = [{"type": "text", "text": content, "cache_control": EPHEMERAL}]
    elif isinstance(content, list) and content:
        content[-1]["cache_control"] = EPHEMERAL
