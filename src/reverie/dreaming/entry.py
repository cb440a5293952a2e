"""What is known of one passage that searches surfaced: the evidence that promotion rests on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.types import Provenance

QUERIES_MAX = 32
DAYS_MAX = 16
TAGS_MAX = 8
HITS_MAX = 9_999
SNIPPET_CHARACTERS_MAX = 800
INTERNAL_QUERY_PREFIX = "__dreaming_"
"""How the queries of our own passes begin: they never count as somebody's question."""


@dataclass(frozen=True, slots=True)
class RecallEntry:
    """A passage of a daily note or a transcript, and how it was recalled. Instants are milliseconds since 1970.

    `path` is workspace-relative, lines are 1-based and inclusive. `recall_count` are searches of people and models,
    `daily_count` passes of our own over notes and transcripts, `grounded_count` evidence from elsewhere. Scores are
    0 to 1 each; `total_score` is their sum. Queries are kept as hashes (`query_hash`): `user_queries` those of people
    and models, `queries` all. `days` are `YYYY-MM-DD` in the user's time zone, oldest first. `light_hits` and
    `rem_hits` are how often a phase of sleep reinforced it, and `light_at_ms`, `rem_at_ms` when last.
    """

    key: str
    path: str
    start_line: int
    end_line: int
    snippet: str
    recall_count: int = 0
    daily_count: int = 0
    grounded_count: int = 0
    total_score: float = 0.0
    max_score: float = 0.0
    first_recalled_at_ms: int = 0
    last_recalled_at_ms: int = 0
    queries: tuple[str, ...] = ()
    user_queries: tuple[str, ...] = ()
    days: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    claim_hash: str = ""
    promoted_at_ms: int | None = None
    provenance: Provenance = "owner"
    light_hits: int = 0
    light_at_ms: int | None = None
    rem_hits: int = 0
    rem_at_ms: int | None = None

    @property
    def signals(self) -> int:
        """All evidence together, of whatever kind."""
        return self.recall_count + self.daily_count + self.grounded_count


def entry_key(path: str, start_line: int, end_line: int, claim_hash: str = "") -> str:
    """The key of a passage, as OpenClaw 2026.4 writes it."""
    return f"memory:{path}:{start_line}:{end_line}{f':{claim_hash}' if claim_hash else ''}"


def query_hash(query: str) -> str:
    """A query as it is kept: the first twelve hexadecimal digits of the SHA-1 of its trimmed, lower-cased text."""
    return hashlib.sha1(query.strip().lower().encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:12]


def is_internal(query: str) -> bool:
    """True for a query of our own passes."""
    return query.strip().startswith(INTERNAL_QUERY_PREFIX)
