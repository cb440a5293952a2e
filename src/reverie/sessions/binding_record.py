"""A thread binding as JSON for the database, and back. The only place that knows its stored form.

A record of another schema version is not understood, so it is ignored as a whole, and the reason is told. A part that
is malformed is dropped alone: what is left decides. A fingerprint that cannot be read is not taken for one that was
never there, because that would count as compatible.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from reverie.sessions.codec import dump
from reverie.types import (
    ThreadBinding,
    ThreadEngine,
    ThreadFingerprints,
    ThreadProjection,
    ThreadSettings,
    ThreadTokens,
)

if TYPE_CHECKING:
    from reverie.types import JsonObject

SCHEMA_VERSION = 1
TEXT_CHARS_MAX = 4_096
"""A longer name, path or fingerprint is none of ours. Legacy tool fingerprints are whole JSON texts: see below."""
LEGACY_TOOLS_CHARS_MAX = 1_048_576
PARTS_MAX = 64
UNREADABLE = "unreadable"

_PRINTS = {
    "runtime": "appServerRuntimeFingerprint",
    "web_search": "webSearchThreadConfigFingerprint",
    "user_mcp": "userMcpServersFingerprint",
    "environment": "environmentSelectionFingerprint",
    "mcp_servers": "mcpServersFingerprint",
    "network": "networkProxyFingerprint",
    "plugin_apps": "pluginAppsFingerprint",
}
_SETTINGS = {
    "model": "model",
    "model_provider": "modelProvider",
    "cwd": "cwd",
    "approval_policy": "approvalPolicy",
    "sandbox": "sandbox",
    "service_tier": "serviceTier",
}


@dataclass(frozen=True, slots=True)
class ParsedBinding:
    """What a stored record says. Without a binding, `reason` tells why; `dropped` are the parts that were malformed."""

    binding: ThreadBinding | None
    reason: str = ""
    dropped: tuple[str, ...] = ()


def encode_binding(binding: ThreadBinding) -> str:
    """A binding as compact JSON; what is not known is left out."""
    tokens, prints = binding.tokens, binding.fingerprints
    record: JsonObject = {
        "schemaVersion": SCHEMA_VERSION,
        "threadId": binding.thread_id,
        "sessionId": binding.session_id,
        "state": binding.state,
        "runtime": binding.runtime,
        "connectionScope": None if binding.scope == "session" else binding.scope,
        "authProfileId": binding.auth_profile,
        **{name: getattr(binding.settings, attribute) for attribute, name in _SETTINGS.items()},
        "dynamicToolsFingerprint": prints.tools,
        "dynamicToolsContainDeferred": prints.tools_deferred,
        **{name: getattr(prints, attribute) for attribute, name in _PRINTS.items()},
        "contextEngine": None if binding.engine is None else _engine_json(binding.engine),
        "contextParts": binding.parts or None,
        "historyCoveredThrough": binding.covered_through,
        "tokenUsage": None if tokens is None else _without_none(_tokens_json(tokens)),
        "createdAtMs": binding.created_at_ms,
        "updatedAtMs": binding.updated_at_ms,
    }
    return dump(_without_none(record))


def tokens_record(tokens: ThreadTokens) -> str:
    """How full a thread is, in the form it has within a record."""
    return dump(_without_none(_tokens_json(tokens)))


def parse_binding(text: str, *, session_id: str = "", fence: int = 0, rotate: bool = False) -> ParsedBinding:
    """The binding that a record holds. What stands in columns of its own is given: it wins over the record."""
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ParsedBinding(None, "the record is not JSON")
    if not isinstance(record, dict):
        return ParsedBinding(None, "the record is no JSON object")
    return _Reading(cast("JsonObject", record)).binding(session_id, fence, rotate=rotate)


class _Reading:
    """Reads one record and remembers what of it was dropped."""

    def __init__(self, record: JsonObject) -> None:
        self._record = record
        self._dropped: list[str] = []

    def binding(self, session_id: str, fence: int, *, rotate: bool) -> ParsedBinding:
        version: object = self._record.get("schemaVersion")
        if _whole(version) != SCHEMA_VERSION:
            return ParsedBinding(None, f"schema version {str(version)[:20]} is not known, only {SCHEMA_VERSION}")
        thread_id = self._record.get("threadId")
        if not isinstance(thread_id, str) or not thread_id.strip() or len(thread_id) > TEXT_CHARS_MAX:
            return ParsedBinding(None, "the record names no thread")
        # A state that cannot be read is the careful one: it is not known what the thread was told.
        state = self._word("state", ("pending", "active"), "active", unreadable="pending")
        binding = ThreadBinding(
            thread_id=thread_id,
            session_id=session_id or self._text("sessionId") or "",
            state="pending" if state == "pending" else "active",
            runtime=self._text("runtime") or "codex",
            scope="supervision"
            if self._word("connectionScope", ("session", "supervision"), "session") == "supervision"
            else "session",
            engine=self._engine(),
            parts=self._parts(),
            fingerprints=self._fingerprints(),
            covered_through=self._count(self._record, "historyCoveredThrough"),
            settings=ThreadSettings(**{attribute: self._text(name) for attribute, name in _SETTINGS.items()}),
            auth_profile=self._text("authProfileId"),
            tokens=self._tokens(),
            rotate=rotate,
            fence=fence,
            created_at_ms=self._count(self._record, "createdAtMs") or 0,
            updated_at_ms=self._count(self._record, "updatedAtMs") or 0,
        )
        return ParsedBinding(binding, dropped=tuple(self._dropped))

    def _engine(self) -> ThreadEngine | None:
        held = self._object("contextEngine")
        if held is None:
            return None
        engine_id, policy = held.get("engineId"), held.get("policyFingerprint")
        if held.get("schemaVersion") != SCHEMA_VERSION or not _is_text(engine_id) or not _is_text(policy):
            return self._drop("contextEngine")
        return ThreadEngine(str(engine_id), str(policy), self._projection(held.get("projection")))

    def _projection(self, held: Any) -> ThreadProjection | None:
        if held is None:
            return None
        form: JsonObject = cast("JsonObject", held) if isinstance(held, dict) else {}
        epoch, fingerprint = form.get("epoch"), form.get("fingerprint")
        right = form.get("schemaVersion") == SCHEMA_VERSION and form.get("mode") == "thread_bootstrap"
        if not right or not _is_text(epoch) or not (fingerprint is None or _is_text(fingerprint)):
            return self._drop("contextEngine.projection")
        return ThreadProjection(str(epoch), fingerprint)

    def _fingerprints(self) -> ThreadFingerprints:
        deferred = self._record.get("dynamicToolsContainDeferred")
        if not (deferred is None or isinstance(deferred, bool)):
            deferred = self._drop("dynamicToolsContainDeferred")
        return ThreadFingerprints(
            tools=self._print("dynamicToolsFingerprint", LEGACY_TOOLS_CHARS_MAX),
            tools_deferred=deferred,
            **{attribute: self._print(name) for attribute, name in _PRINTS.items()},
        )

    def _tokens(self) -> ThreadTokens | None:
        held = self._object("tokenUsage")
        if held is None:
            return None
        tokens, source = _whole(held.get("tokens")), held.get("source")
        window, model = _whole(held.get("contextWindow")), held.get("model")
        if tokens is None or source not in {"last", "total"} or (window is None and "contextWindow" in held):
            return self._drop("tokenUsage")
        sort: Literal["last", "total"] = "last" if source == "last" else "total"
        return ThreadTokens(tokens, sort, window, str(model) if _is_text(model) else None)

    def _parts(self) -> dict[str, str]:
        held = self._object("contextParts")
        if held is None:
            return {}
        if len(held) > PARTS_MAX or not all(_is_text(value) for value in held.values()):
            self._dropped.append("contextParts")
            return {}
        return {name: str(value) for name, value in held.items()}

    def _print(self, name: str, chars_max: int = TEXT_CHARS_MAX) -> str | None:
        value = self._record.get(name)
        if value is None or (isinstance(value, str) and value.strip() and len(value) <= chars_max):
            return value
        self._dropped.append(name)
        return UNREADABLE

    def _object(self, name: str) -> JsonObject | None:
        value = self._record.get(name)
        return cast("JsonObject", value) if isinstance(value, dict) else None if value is None else self._drop(name)

    def _text(self, name: str) -> str | None:
        value = self._record.get(name)
        return value if value is None or _is_text(value) else self._drop(name)

    def _word(self, name: str, known: tuple[str, ...], default: str, *, unreadable: str | None = None) -> str:
        value = self._record.get(name, default)
        if value in known:
            return value
        self._dropped.append(name)
        return unreadable or default

    def _count(self, held: JsonObject, name: str) -> int | None:
        value = _whole(held.get(name))
        return self._drop(name) if value is None and held.get(name) is not None else value

    def _drop(self, name: str) -> None:
        self._dropped.append(name)


def _engine_json(engine: ThreadEngine) -> JsonObject:
    projection = engine.projection
    shown: JsonObject = {
        "schemaVersion": engine.schema_version,
        "engineId": engine.engine_id,
        "policyFingerprint": engine.policy_fingerprint,
    }
    if projection is not None:
        held = {
            "schemaVersion": projection.schema_version,
            "mode": projection.mode,
            "epoch": projection.epoch,
            "fingerprint": projection.fingerprint,
        }
        shown["projection"] = _without_none(held)
    return shown


def _tokens_json(tokens: ThreadTokens) -> JsonObject:
    return {
        "tokens": tokens.tokens,
        "source": tokens.source,
        "contextWindow": tokens.window,
        "model": tokens.model,
    }


def _without_none(record: JsonObject) -> JsonObject:
    return {name: value for name, value in record.items() if value is not None}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= TEXT_CHARS_MAX


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else None
