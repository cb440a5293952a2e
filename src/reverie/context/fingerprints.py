"""What a native thread was started with, as fingerprints: equal when it is the same, and never a secret.

Each is the SHA-256 of a stabilised JSON text: keys sorted, nothing but what is compared. Values that may be secrets
(headers, environment variables, whatever is named like a key or a token) are replaced by their own SHA-256 before
that, so that not even the text which is hashed holds one.

| of | how |
| --- | --- |
| policy | the engine's settings in a fixed order, what is not set left out |
| tools | a *registered superset* of tool specifications, whatever their order; OpenClaw 2026.5.28's form is accepted |
| MCP servers | by name, whatever their order |
| environment | a list, in its order |
| account | the name of its profile, nothing else |

Tools are fingerprinted as they are registered, not as they are allowed in this turn: an owner-only tool that comes and
goes would start a thread anew each time. Whether a tool may be used is decided when it is called.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reverie.types import JsonObject

SCHEMA_VERSION = 1
DEPTH_MAX = 64
"""Deeper values are fingerprinted as the text Python shows for them; nobody configures a tool like that."""

_LEGACY_IGNORED = frozenset({"description", "deferLoading", "namespace"})
_SEALED_TABLES = frozenset({"headers", "httpheaders", "envhttpheaders", "env", "environment"})
_SEALED_NAMES = re.compile(r"authorization|token|secret|passw|api.?key|cookie|credential", re.IGNORECASE)
_NOT_WORD = re.compile(r"[^a-z]")


def stabilised(value: object) -> str:
    """A value as JSON that depends on nothing but what it says: keys sorted, no spaces, text readable."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# -- the engine's policy -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """How a context engine assembles, as far as a thread depends on it. What is None is not set.

    Give it what is configured, not what one turn happens to need: a budget that moves with every turn would start a
    thread anew with every turn.
    """

    engine_id: str
    engine_version: str | None = None
    owns_compaction: bool | None = None
    turn_maintenance_mode: Literal["foreground", "background"] | None = None
    citations_mode: str | None = None
    context_token_budget: int | None = None
    projection_max_chars: int | None = None

    def canonical(self) -> str:
        """The policy byte for byte as it is hashed: `{"schemaVersion":1,"engineId":"…"}`."""
        named = {
            "schemaVersion": SCHEMA_VERSION,
            "engineId": self.engine_id,
            "engineVersion": self.engine_version,
            "ownsCompaction": self.owns_compaction,
            "turnMaintenanceMode": self.turn_maintenance_mode,
            "citationsMode": self.citations_mode,
            "contextTokenBudget": self.context_token_budget,
            "projectionMaxChars": self.projection_max_chars,
        }
        said = {name: value for name, value in named.items() if value is not None}
        return json.dumps(said, ensure_ascii=False, separators=(",", ":"))

    def fingerprint(self) -> str:
        """The SHA-256 of the canonical form."""
        return digest(self.canonical())


# -- tools -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolsFingerprint:
    """The tools that are registered. `legacy` is the digest of OpenClaw 2026.5.28's form, which left out texts."""

    full: str
    legacy: str
    empty: bool = False
    deferred: bool = False

    def accepts(self, stored: str | None) -> bool:
        """Whether a thread with the stored fingerprint has these tools. One without any is taken to have them."""
        if stored is None or stored in {self.full, self.legacy}:
            return True
        return stored.startswith("[") and digest(stored) == self.legacy


def tools_fingerprint(specifications: Sequence[JsonObject]) -> ToolsFingerprint:
    """The fingerprint of all tools that are registered, in whatever order and whoever may use them in this turn."""
    full = sorted(stabilised(each) for each in specifications)
    legacy = sorted(
        stabilised({name: value for name, value in each.items() if name not in _LEGACY_IGNORED})
        for each in specifications
    )
    return ToolsFingerprint(
        full=digest(f"[{','.join(full)}]"),
        legacy=digest(f"[{','.join(legacy)}]"),
        empty=not specifications,
        deferred=any(bool(each.get("deferLoading")) for each in specifications),
    )


NO_TOOLS = tools_fingerprint(())


def is_empty_tools(stored: str) -> bool:
    """Whether a stored fingerprint says that the thread has no tools."""
    return stored in {NO_TOOLS.full, "[]"}


# -- the rest ----------------------------------------------------------------------------------------------------


def mcp_fingerprint(servers: Mapping[str, JsonObject]) -> str:
    """MCP servers by name. Another key for the same server is another fingerprint, and cannot be read from it."""
    return config_fingerprint(dict(servers))


def environment_fingerprint(selection: Sequence[object]) -> str:
    """The environments that were selected, in their order: the first is where a thread works."""
    return config_fingerprint(list(selection))


def config_fingerprint(value: object) -> str:
    """Any other configuration that a thread keeps from its start: of its process, its proxy, its web search."""
    return digest(stabilised(sealed(value)))


def auth_fingerprint(profile_id: str) -> str:
    """An account, by the name of its profile. What the profile holds is not asked for."""
    return digest(f"auth:{profile_id}")


def sealed(value: object, *, secret: bool = False, depth: int = 0) -> Any:
    """A configuration with everything in it that may be a secret replaced by its SHA-256."""
    if depth > DEPTH_MAX:
        return digest(repr(value))
    if isinstance(value, dict):
        held = cast("dict[Any, Any]", value)
        return {
            str(name): sealed(inner, secret=secret or _holds_secrets(str(name)), depth=depth + 1)
            for name, inner in held.items()
        }
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [sealed(inner, secret=secret, depth=depth + 1) for inner in items]
    if secret and value is not None:
        return f"sha256:{digest(str(value))}"
    return value


def _holds_secrets(name: str) -> bool:
    return _NOT_WORD.sub("", name.lower()) in _SEALED_TABLES or bool(_SEALED_NAMES.search(name))
