"""Evidence from notes of the past: what they say in so many words will last, and what may.

A piece of a note is a *lasting update* where its owner says so: it stands under a heading such as "Decisions" or
"Preferences", or begins with "Remember", "Decided:" and the like, in several languages. Another piece is a *candidate*
if it names four concepts. Only what its owner or the agent wrote counts, and nothing that is never a memory.

A lasting update is worth two signals of 0.92 and is a candidate as well; a candidate is worth one of 0.82. That
evidence is counted apart from recalls, once, and can be taken back: what rests on nothing else goes, and what was
recalled meanwhile keeps its recalls.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from reverie.context.compaction.extract import harmless
from reverie.dreaming.candidates import TRUSTED
from reverie.dreaming.contamination import unfit
from reverie.dreaming.diary import BackfillEntry
from reverie.dreaming.entry import QUERIES_MAX, RecallEntry, entry_key, query_hash
from reverie.dreaming.note_chunks import note_chunks
from reverie.dreaming.recording import claim_hash
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.dreaming.note_chunks import NoteChunk
    from reverie.dreaming.noticing import Tags
    from reverie.types import Provenance

FindingKind = Literal["lasting", "candidate"]

FINDINGS_MAX = 24
"""Findings of one note, of each kind."""
CONCEPTS_MIN = 4


class Grounds(NamedTuple):
    """What a finding is worth: the query it is known by, how many signals, and the score of each."""

    query: str
    signals: int
    score: float


LASTING: Final = Grounds("__dreaming_grounded_backfill__:lasting-update", 2, 0.92)
CANDIDATE: Final = Grounds("__dreaming_grounded_backfill__:candidate", 1, 0.82)
_GROUNDS: dict[FindingKind, tuple[Grounds, ...]] = {"lasting": (LASTING, CANDIDATE), "candidate": (CANDIDATE,)}

_SAYING_SO = """
    decision decisions decided lasting preference preferences convention conventions agreement agreements agreed rule
    rules principle principles
    entscheidung entscheidungen beschluss beschlüsse vorliebe vorlieben regel regeln grundsatz grundsätze dauerhaft
    décision décisions préférence préférences règle règles accord accords
    decisión decisiones preferencia preferencias regla reglas acuerdo acuerdos
    決定 決定事項 好み ルール 规则 規則 决定 偏好 결정 선호 규칙
"""
_HEADING_WORDS = frozenset(_SAYING_SO.split())
_WORD = re.compile(r"[^\W\d_]+")
_MARK = r"(?:[-*+]|\d{1,9}[.)])\s+(?:\[[ xX]\]\s+)?"
_SAYS_SO = re.compile(
    rf"(?:{_MARK})?[*_]{{0,2}}(?:"
    r"(?:please\s+)?remember(?:\s+that|\s+to|:|,|\s)|keep\s+in\s+mind|never\s+forget"
    r"|(?:decision|decided|preference|lasting|rule|convention|agreed|agreement|principle)[*_]{0,2}\s*:"
    r"|merk(?:e|en|\s+dir)?\b|(?:entscheidung|beschluss|beschlossen|vorliebe|regel|dauerhaft)[*_]{0,2}\s*:"
    r"|(?:à\s+)?retenir\b|souviens-toi|(?:décision|décidé|préférence|règle)[*_]{0,2}\s*:"
    r"|recuerda\b|recordar\b|(?:decisión|decidido|preferencia|regla)[*_]{0,2}\s*:"
    r"|覚えて|記憶して|记住|請記住|请记住|記住|기억해)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of a note that is evidence: its place, what stands there, its concepts, and whose words it is."""

    kind: FindingKind
    path: str
    start_line: int
    end_line: int
    text: str
    tags: tuple[str, ...] = ()
    provenance: Provenance = "owner"


@dataclass(frozen=True, slots=True)
class GroundedNote:
    """A note of the past, and what in it is evidence, in its order."""

    path: str
    day: str
    findings: tuple[Finding, ...] = ()

    def of(self, kind: FindingKind) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)


def findings_of(path: str, day: str, text: str, origins: Sequence[Provenance], *, tags: Tags) -> GroundedNote:
    """What in a note is evidence. `origins` are whose words each of its lines is."""
    found: list[Finding] = []
    counts: dict[FindingKind, int] = {"lasting": 0, "candidate": 0}
    for chunk in note_chunks(text, items_apart=True):
        whose = least_trusted(origins[chunk.start_line - 1 : chunk.end_line])
        if whose not in TRUSTED or unfit(chunk.text) is not None:
            continue
        concepts = tags(path, chunk.shown)
        kind = _kind_of(chunk, concepts)
        if kind is not None and counts[kind] < FINDINGS_MAX:
            counts[kind] += 1
            found.append(Finding(kind, path, chunk.start_line, chunk.end_line, chunk.text, concepts, whose))
    return GroundedNote(path, day, tuple(found))


def diary_entry_of(note: GroundedNote) -> BackfillEntry | None:
    """A note's findings as an entry of the diary; None if there are none."""
    parts = [
        "\n".join([title, *(f"- {harmless(each.text)} ({each.start_line}-{each.end_line})" for each in found)])
        for title, found in (("Lasting updates:", note.of("lasting")), ("Candidates:", note.of("candidate")))
        if found
    ]
    return BackfillEntry(note.day, note.path, "\n\n".join(parts)) if parts else None


def grounded(known: Iterable[RecallEntry], finding: Finding, day: str, now_ms: int) -> RecallEntry | None:
    """What is known of a passage with the evidence of a finding; None if it has that already.

    A passage that is known keeps when it was recalled: evidence is no recall.
    """
    entry = _known_as(known, finding)
    fresh = entry is None
    if entry is None:
        claim = claim_hash(finding.text)
        key = entry_key(finding.path, finding.start_line, finding.end_line, claim)
        entry = RecallEntry(
            key, finding.path, finding.start_line, finding.end_line, finding.text, claim_hash=claim, days=(day,),
            first_recalled_at_ms=now_ms, last_recalled_at_ms=now_ms, tags=finding.tags, provenance=finding.provenance,
        )  # fmt: skip
    missing = [each for each in _GROUNDS[finding.kind] if query_hash(each.query) not in entry.queries]
    if not missing and not fresh:
        return None
    return replace(
        entry,
        grounded_count=entry.grounded_count + sum(each.signals for each in missing),
        total_score=entry.total_score + sum(each.signals * each.score for each in missing),
        max_score=max(entry.max_score, *(each.score for each in missing)),
        queries=(*entry.queries, *(query_hash(each.query) for each in missing))[-QUERIES_MAX:],
    )


def without_grounds(entry: RecallEntry) -> RecallEntry | None:
    """What is known of a passage without the evidence of notes of the past; None if nothing is left to know.

    One that has none, and one that is lasting memory already, stays as it is.
    """
    held = [each for each in (LASTING, CANDIDATE) if query_hash(each.query) in entry.queries]
    if not held or entry.promoted_at_ms is not None:
        return entry
    signals = min(entry.grounded_count, sum(each.signals for each in held))
    if entry.signals <= signals:
        return None
    gone = {query_hash(each.query) for each in held}
    total = max(0.0, entry.total_score - sum(each.signals * each.score for each in held))
    return replace(
        entry,
        grounded_count=entry.grounded_count - signals,
        total_score=total,
        max_score=min(entry.max_score, total),
        queries=tuple(query for query in entry.queries if query not in gone),
    )


def _kind_of(chunk: NoteChunk, concepts: tuple[str, ...]) -> FindingKind | None:
    words = set(_WORD.findall(chunk.heading.casefold()))
    if not words.isdisjoint(_HEADING_WORDS) or _SAYS_SO.match(chunk.text):
        return "lasting"
    return "candidate" if len(concepts) >= CONCEPTS_MIN else None


def _known_as(known: Iterable[RecallEntry], finding: Finding) -> RecallEntry | None:
    """The entry that says the same on the same lines, else the first that says the same."""
    same = [entry for entry in known if entry.snippet == finding.text]
    lines = (finding.start_line, finding.end_line)
    return next((entry for entry in same if (entry.start_line, entry.end_line) == lines), next(iter(same), None))
