"""What an audit of recall entries reports, of our rows and of OpenClaw's files alike: figures, and issues by code.

| code | severity | fixable | when |
| --- | --- | --- | --- |
| `recall-store-unreadable` | error | if it can be read and holds no JSON | it cannot be read, or is no store |
| `recall-store-empty` | warn | yes | the file holds nothing but white space |
| `recall-store-invalid` | warn | yes | entries are no use, and why |
| `recall-store-over-limit` | warn | yes | more entries than are kept |
| `recall-store-unmarked` | warn | yes | entries stand in MEMORY.md and are not marked as promoted |
| `recall-lock-stale` | warn | yes | a lock was left behind |
| `recall-lock-unreadable` | warn | no | it cannot be told whether a lock is held |
| `phase-signals-unreadable` | warn | if it can be read and holds no JSON | as for the store |
| `phase-signals-unknown` | warn | yes | reinforcements of entries that are not there |

OpenClaw's codes of QMD (`qmd-index-missing`, `qmd-index-empty`, `qmd-collections-empty`) are never reported: there is
no QMD here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from reverie.dreaming.concepts import Coverage, coverage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reverie.dreaming.entry import RecallEntry
    from reverie.types import JsonObject

Severity = Literal["error", "warn"]


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that is wrong with a store: a code for machines, a sentence for people. `count` is of how many."""

    code: str
    severity: Severity
    message: str
    fixable: bool
    count: int = 0

    def as_json(self) -> JsonObject:
        """For programs."""
        found: JsonObject = {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "fixable": self.fixable,
        }
        return found | ({"count": self.count} if self.count else {})


@dataclass(frozen=True, slots=True)
class StoreAudit:
    """How a store of recall entries is. `spaced` were recalled on more than one day; `invalid` says why, and how many.

    `lock_path` is empty for our own rows, which have no lock file.
    """

    store_path: str
    lock_path: str = ""
    updated_at: str = ""
    exists: bool = True
    entries: int = 0
    promoted: int = 0
    spaced: int = 0
    tagged: int = 0
    scripts: Coverage = field(default_factory=Coverage)
    invalid: Mapping[str, int] = field(default_factory=dict[str, int])
    issues: tuple[Issue, ...] = ()

    def as_json(self) -> JsonObject:
        """For programs, with the names that OpenClaw's audit has."""
        return {
            "storePath": self.store_path,
            "lockPath": self.lock_path or None,
            "updatedAt": self.updated_at or None,
            "exists": self.exists,
            "entryCount": self.entries,
            "promotedCount": self.promoted,
            "spacedEntryCount": self.spaced,
            "conceptTaggedEntryCount": self.tagged,
            "conceptTagScripts": {
                "latinEntryCount": self.scripts.latin,
                "cjkEntryCount": self.scripts.cjk,
                "mixedEntryCount": self.scripts.mixed,
                "otherEntryCount": self.scripts.other,
            },
            "invalidEntryCount": sum(self.invalid.values()),
            "invalidEntries": dict(self.invalid),
            "issues": [issue.as_json() for issue in self.issues],
        }


@dataclass(slots=True)
class Counted:
    """Entries counted as an audit tells of them, page by page."""

    entries: int = 0
    promoted: int = 0
    spaced: int = 0
    tagged: int = 0
    scripts: Coverage = field(default_factory=Coverage)

    def add(self, page: Iterable[RecallEntry]) -> None:
        """Count a page of entries."""
        tags: list[tuple[str, ...]] = []
        for entry in page:
            self.entries += 1
            self.promoted += entry.promoted_at_ms is not None
            self.spaced += len(entry.days) > 1
            self.tagged += bool(entry.tags)
            tags.append(entry.tags)
        new, old = coverage(tags), self.scripts
        self.scripts = Coverage(
            old.latin + new.latin, old.cjk + new.cjk, old.mixed + new.mixed, old.other + new.other
        )  # fmt: skip


def invalid_issue(invalid: Mapping[str, int]) -> tuple[Issue, ...]:
    """The issue that entries are no use, with the reasons; none if all are."""
    count = sum(invalid.values())
    if not count:
        return ()
    reasons = ", ".join(f"{reason}: {number:,}" for reason, number in sorted(invalid.items()))
    message = f"{count:,} recall {'entry is' if count == 1 else 'entries are'} of no use ({reasons})."
    return (Issue("recall-store-invalid", "warn", message, fixable=True, count=count),)
