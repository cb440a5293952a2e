"""What one search adds to what is known of a passage: pure decisions over entries.

A passage counts only where it is short-term memory: a daily note, or a message of a conversation (and a day of
OpenClaw's transcripts). Long-term memory, notes on a subject and what dreaming itself wrote never count, so that what
was promoted cannot promote itself again.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from reverie.dreaming.contamination import contaminated
from reverie.dreaming.entry import (
    DAYS_MAX,
    QUERIES_MAX,
    SNIPPET_CHARACTERS_MAX,
    RecallEntry,
    entry_key,
    is_internal,
    query_hash,
)
from reverie.memory.text import clean, collapse
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import tzinfo

    from reverie.types import Provenance, SearchHit

SignalKind = Literal["recall", "daily", "grounded"]
"""Who asked: people and models, our passes over notes and transcripts, or evidence from elsewhere."""

DAY = r"\d{4}-\d{2}-\d{2}"
_DAILY_NOTE = re.compile(rf"(?:^|/)memory/(?:[^/]+/)*{DAY}(?:-[^/]+)?\.md$")
_BARE_NOTE = re.compile(rf"^{DAY}(?:-[^/]+)?\.md$")
_CORPUS = re.compile(rf"(?:^|/)memory/\.dreams/session-corpus/{DAY}\.(?:md|txt)$")
_CONVERSATION = re.compile(r"^sessions/[^/]+$")
_DREAMT = re.compile(r"(?:^|/)memory/(?:dreaming|\.dreams)/")


@dataclass(frozen=True, slots=True)
class Signal:
    """One search: its query, what kind of evidence it is, when it was (milliseconds) and on which day (YYYY-MM-DD)."""

    kind: SignalKind
    query: str
    at_ms: int
    day: str


def note_path(path: str) -> str:
    """A path as entries name it: `/` between its parts, nothing before its first."""
    return path.replace("\\", "/").removeprefix("./")


def is_conversation(path: str) -> bool:
    """True for a conversation, whose lines are the numbers of its messages: `sessions/<session id>`."""
    return _CONVERSATION.match(path) is not None


def is_short_term(path: str) -> bool:
    """True for a daily note, a conversation or a day of transcripts; false for all else and what dreaming wrote."""
    path = note_path(path)
    if _CORPUS.search(path) or is_conversation(path):
        return True
    return not _DREAMT.search(path) and bool(_DAILY_NOTE.search(path) or _BARE_NOTE.match(path))


def day_of(at_ms: int, zone: tzinfo) -> str:
    """The day of an instant in a time zone, `YYYY-MM-DD`."""
    return datetime.fromtimestamp(at_ms / 1000, zone).date().isoformat()


def claim_hash(snippet: str) -> str:
    """What a passage says, as a name: the first twelve hexadecimal digits of the SHA-1 of its text on one line."""
    return hashlib.sha1(collapse(snippet).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:12]


def eligible(hits: Iterable[SearchHit]) -> list[SearchHit]:
    """The hits that count, each passage once, with the best score it got."""
    best: dict[tuple[str, int, int], SearchHit] = {}
    for hit in hits:
        if not is_short_term(hit.path) or is_conversation(hit.path) != (hit.source == "sessions"):
            continue
        place = (note_path(hit.path), hit.start_line, hit.end_line)
        if place not in best or hit.score > best[place].score:
            best[place] = hit
    return list(best.values())


def keys_of(hit: SearchHit) -> tuple[str, str]:
    """The keys under which a hit may be known: by what it says, which goes first, and by its place alone."""
    place = (note_path(hit.path), hit.start_line, hit.end_line)
    return entry_key(*place, claim_hash(hit.text)), entry_key(*place)


def counts_for_nothing(signal: Signal) -> bool:
    """True for a search without words, and for one of our own passes that came in as somebody's."""
    return not signal.query.strip() or (signal.kind == "recall" and is_internal(signal.query))


def whose(known: RecallEntry | None, said: str, found: Provenance) -> Provenance:
    """Whose words a passage is that a search found to be somebody's: it never rises while it says the same."""
    return found if known is None or said != known.snippet else least_trusted((known.provenance, found))


def with_signal(
    known: RecallEntry | None,
    hit: SearchHit,
    signal: Signal,
    tags: Callable[[str, str], tuple[str, ...]],
    *,
    once_a_day: bool = False,
) -> RecallEntry | None:
    """What is known of a passage after a search surfaced it; None if nothing changes, as by what is never a memory.

    `once_a_day`: a query that surfaced it on this day before adds nothing, not even a later time.
    """
    if hit.text.strip() and contaminated(hit.text):
        return None
    hashed = query_hash(signal.query)
    snippet = clean(collapse(hit.text))[:SNIPPET_CHARACTERS_MAX].rstrip()
    before = known
    if known is None:
        if not snippet:
            return None
        path = note_path(hit.path)
        key = entry_key(path, hit.start_line, hit.end_line)
        known = RecallEntry(key, path, hit.start_line, hit.end_line, "", first_recalled_at_ms=signal.at_ms)
    elif once_a_day and hashed in known.queries and signal.day in known.days:
        return None
    said = snippet or known.snippet
    found = tags(known.path, said) if said != known.snippet or not known.tags else ()
    score = min(1.0, max(0.0, hit.score)) if math.isfinite(hit.score) else 0.0
    organic = signal.kind == "recall"
    return replace(
        known,
        snippet=said,
        provenance=whose(before, said, hit.provenance),
        recall_count=known.recall_count + organic,
        daily_count=known.daily_count + (signal.kind == "daily"),
        grounded_count=known.grounded_count + (signal.kind == "grounded"),
        total_score=known.total_score + score,
        max_score=max(known.max_score, score),
        last_recalled_at_ms=max(known.last_recalled_at_ms, signal.at_ms),
        queries=_with_newest(known.queries, hashed, QUERIES_MAX),
        user_queries=_with_newest(known.user_queries, hashed, QUERIES_MAX) if organic else known.user_queries,
        days=tuple(sorted({*known.days, signal.day}))[-DAYS_MAX:],
        tags=found or known.tags,
    )


def newer_of(known: RecallEntry | None, given: RecallEntry) -> RecallEntry:
    """Of two states of one entry, that which was recalled last, the given one if both were; promoted once is promoted.

    Reinforcements that the one has and the other lacks are kept. Where both say the same, it is the less trusted one's.
    """
    if known is None:
        return given
    kept = known if known.last_recalled_at_ms > given.last_recalled_at_ms else given
    promoted = [at for at in (known.promoted_at_ms, given.promoted_at_ms) if at is not None]
    phases = known if known.light_hits + known.rem_hits > given.light_hits + given.rem_hits else given
    return replace(
        kept,
        provenance=least_trusted((known.provenance, given.provenance))
        if known.snippet == given.snippet
        else kept.provenance,
        promoted_at_ms=max(promoted, default=None),
        light_hits=phases.light_hits,
        light_at_ms=phases.light_at_ms,
        rem_hits=phases.rem_hits,
        rem_at_ms=phases.rem_at_ms,
    )


def no_tags(path: str, snippet: str) -> tuple[str, ...]:  # noqa: ARG001 (as every finder of concepts is called)
    """No concepts, for whoever does not look for them."""
    return ()


def _with_newest(values: Sequence[str], value: str, most: int) -> tuple[str, ...]:
    return tuple(values) if value in values else (*values, value)[-most:]
