"""What each phase of a night found, as a file a day: `memory/dreaming/<phase>/YYYY-MM-DD.md`.

A report is a block between two marks. A phase that runs again on the same day replaces its block, and what a person
wrote around it stays. Nothing is written where nothing was found. Reports are never read back: they are no source of
memory, and neither indexed nor noticed.

The functions that write block; callers run them on a worker thread.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Literal

from reverie.context.compaction.extract import harmless
from reverie.errors import MemoryPathError, StorageError
from reverie.memory.documents import GENERATED_FOLDER, FileContent, crosses_link, read_file
from reverie.memory.workspace import write_atomic, write_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reverie.dreaming.deep import Promoted
    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.narration import Passage
    from reverie.dreaming.rem import Reflection

Sleep = Literal["light", "rem", "deep"]

DAYS_KEPT = 92
LISTED_MAX = 10_000
REPORT_BYTES_MAX = 4 * 1024 * 1024
_TITLES: dict[Sleep, str] = {"light": "## Light Sleep", "rem": "## REM Sleep", "deep": "# Deep Sleep"}
_REPORT_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.md")


def report_path(phase: Sleep, day: str) -> str:
    """Where the report of a phase stands, relative to the workspace."""
    return f"{GENERATED_FOLDER}/{phase}/{day}.md"


def light_lines(staged: Sequence[RecallEntry]) -> tuple[str, ...]:
    """What light sleep staged."""
    lines: list[str] = []
    for entry in staged:
        average = min(1.0, max(0.0, entry.total_score / max(1, entry.signals)))
        lines += (
            f"- Candidate: {harmless(entry.snippet)}",
            f"  - confidence: {average:.2f}",
            f"  - evidence: {entry.path}:{entry.start_line}-{entry.end_line}",
            f"  - recalls: {entry.recall_count}",
            "  - status: staged",
        )
    return tuple(lines) or ("- No notable updates.",)


def rem_lines(found: Reflection) -> tuple[str, ...]:
    """What came back, and what may be lasting."""
    lines = ["### Reflections"]
    for theme in found.themes:
        lines += (
            f"- Theme: `{harmless(theme.tag)}` kept surfacing across {theme.count} memories.",
            f"  - confidence: {theme.strength:.2f}",
            f"  - evidence: {', '.join(theme.evidence)}",
            "  - note: reflection",
        )
    if not found.themes:
        lines.append("- No strong patterns surfaced.")
    lines += ("", "### Possible Lasting Truths")
    for truth in found.truths:
        entry = truth.entry
        evidence = f"{entry.path}:{entry.start_line}-{entry.end_line}"
        lines.append(f"- {harmless(entry.snippet)} [confidence={truth.confidence:.2f} evidence={evidence}]")
    if not found.truths:
        lines.append("- No strong candidate truths surfaced.")
    return tuple(lines)


def deep_lines(done: Promoted, passages: Sequence[Passage]) -> tuple[str, ...]:
    """What became lasting memory, and what gave way or waits."""
    lines = [f"- Candidates for lasting memory: {done.candidates}.", f"- Promoted into MEMORY.md: {len(done.keys)}."]
    if done.gave_way:
        lines.append(f"- Older entries that gave way: {done.gave_way}.")
    if done.waiting:
        lines.append(f"- {harmless(done.waiting)}")
    if passages:
        lines += ("", "### Promoted")
        lines += (f"- {harmless(each.text)} [source={each.place}]" for each in passages)
    return tuple(lines)


def with_block(text: str, phase: Sleep, lines: Sequence[str]) -> str:
    """A report with the block of a phase in the place of the one it has, else at its end."""
    start, end = (f"<!-- openclaw:dreaming:{phase}:{side} -->" for side in ("start", "end"))
    block = "\n".join([_TITLES[phase], start, *lines, end])
    title, first, last = map(re.escape, (_TITLES[phase], start, end))
    known = re.compile(rf"^{title}[^\S\n]*\n\s*{first}\n.*?^{last}[^\S\n]*$", re.DOTALL | re.MULTILINE)
    if known.search(text):
        return known.sub(lambda _: block, text, count=1)
    before = text.rstrip("\n")
    return f"{before}\n\n{block}\n" if before else f"{block}\n"


def write_report(workspace: Path, phase: Sleep, day: str, lines: Sequence[str]) -> str:
    """Write the report of a day, whole or not at all; the oldest ones give way. Returns its path.

    Raises:
        HomeReadOnlyError, StorageFullError, StorageError: it could not be written.
        MemoryPathError: it is a link, or below one, or is not readable as text.
    """
    name = report_path(phase, day)
    if crosses_link(workspace, name):
        raise MemoryPathError(
            f"{workspace / name} is a symbolic link, or below one: not written, it may point anywhere"
        )
    held = read_file(workspace, name, REPORT_BYTES_MAX)
    if held is not None and not isinstance(held, FileContent):
        raise MemoryPathError(f"{name}: {held.reason}")
    before = held.text if held is not None else ""
    after = with_block(before, phase, lines)
    if after != before:
        folder = (workspace / name).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _drop_old(folder, day)
        except OSError as error:
            raise write_error(error, folder) from error
        write_atomic(workspace / name, after)
    return name


def _drop_old(folder: Path, day: str) -> None:
    """Remove the reports that are more than 92 days older than the one that is written."""
    try:
        first = (date.fromisoformat(day) - timedelta(days=DAYS_KEPT)).isoformat()
    except (ValueError, OverflowError) as error:
        raise StorageError(f"{day!r} is no day that a report could be of") from error
    for path in islice(folder.iterdir(), LISTED_MAX):
        named = _REPORT_NAME.fullmatch(path.name)
        if named and named[1] < first:
            path.unlink(missing_ok=True)
