"""What the doctor finds, as values, and the few decisions made on them alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Severity = Literal["ok", "note", "warning", "error"]
"""`note` asks for nothing; a `warning` should be looked at; with an `error` something is lost, wrong or not working."""

NAMED_MAX = 5
"""Examples named in one finding; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    `check` is a stable word for machines, `group.what`. `cause` and `remedy` are empty when all is well. `fixable` says
    that `--fix` repairs it, `fixed` that it did, and that a second look found nothing any more.
    """

    severity: Severity
    check: str
    what: str
    cause: str = ""
    remedy: str = ""
    fixable: bool = False
    fixed: bool = False

    @property
    def group(self) -> str:
        """The part of a home it is about."""
        return self.check.partition(".")[0]


@dataclass(frozen=True, slots=True)
class TableSize:
    """What a table takes on disk with its indexes, in bytes."""

    database: str
    table: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything that was found in a home, in the order of the checks."""

    findings: tuple[Finding, ...]
    tables: tuple[TableSize, ...]

    @property
    def ok(self) -> bool:
        """True when no error remains."""
        return not any(each.severity == "error" and not each.fixed for each in self.findings)

    def to_fix(self) -> tuple[Finding, ...]:
        """What `--fix` would repair."""
        return tuple(each for each in self.findings if each.fixable and not each.fixed)

    def has(self, *checks: str) -> bool:
        """Whether something to be repaired was found by one of these checks."""
        return any(each.check in checks for each in self.to_fix())


GROUPS = (
    "home",
    "database",
    "index",
    "files",
    "transcripts",
    "vectors",
    "cache",
    "leftovers",
    "state",
    "dreaming",
    "plugins",
    "engines",
    "threads",
    "learning",
    "repair",
)
"""The parts of a home, in the order in which they are told."""


def merged(attempted: Sequence[Finding], after: Examination) -> Examination:
    """What a repair came to: what is gone is marked as fixed, and everything else is as the second look found it."""
    remaining = {each.check for each in after.findings if each.severity != "ok"}
    fixed = [replace(each, fixed=True) for each in attempted if each.check not in remaining]
    replaced = {each.check for each in fixed}
    kept = [each for each in after.findings if not (each.severity == "ok" and each.check in replaced)]
    return replace(after, findings=tuple(sorted((*fixed, *kept), key=lambda each: GROUPS.index(each.group))))


def examples(names: Iterable[object], count: int) -> str:
    """Some names in words, for example `a, b and 3 more`."""
    shown = [str(name) for _, name in zip(range(NAMED_MAX), names, strict=False)]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, for example `1 file` or `3 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size_words(size_bytes: float) -> str:
    """A size for people, for example `3.2 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:  # noqa: PLR2004 (a step of the units)
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def spread(last: int, count: int) -> list[int]:
    """Up to `count` numbers from 1 to `last`, evenly apart: where a sample of rows is taken."""
    if last <= count:
        return list(range(1, last + 1))
    return [1 + number * last // count for number in range(count)]
