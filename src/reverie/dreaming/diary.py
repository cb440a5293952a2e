"""The dream diary: one entry a night that changed something, in `DREAMS.md`, for a person to read.

Entries stand between two marks below `# Dream Diary`; everything else in the file is kept byte for byte. The diary is
written and never read back: it is no source of memory, and not indexed.

The functions over bytes are pure. `edit_diary` blocks; callers run it on a worker thread.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from reverie.context.compaction.extract import harmless
from reverie.errors import MemoryPathError, StorageError
from reverie.memory.append import LOCK_S_MAX, only_writer
from reverie.memory.documents import FileContent, read_file
from reverie.memory.workspace import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from datetime import tzinfo
    from pathlib import Path

DIARY_FILE = "DREAMS.md"
DIARY_FILES = (DIARY_FILE, "dreams.md")
DIARY_BYTES_MAX = 64 * 1024 * 1024
EDITS_MAX = 5
TEXT_CHARACTERS_MAX = 2_400
_START = b"<!-- openclaw:dreaming:diary:start -->"
_END = b"<!-- openclaw:dreaming:diary:end -->"
_BOM = b"\xef\xbb\xbf"
_RULE = re.compile(rb"(\r?\n---)(?=\r?\n)")
_BACKFILL = re.compile(rb"^<!-- openclaw:dreaming:backfill-entry day=(\S+) source=(.+?) -->\s*$", re.MULTILINE)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_PARAGRAPHS = re.compile(r"\n\s*\n")
_NOT_PROSE = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|(?:[-*_][ \t]*){3,}$|`{3,}.*$|~{3,}.*$)", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’»」]?(?=\s|$)|[。！？]")


class DiaryEdit(NamedTuple):
    """What became of the diary: its file's name, and its bytes before and after."""

    path: str
    before: bytes
    after: bytes

    @property
    def changed(self) -> bool:
        """Whether it was written."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class BackfillEntry:
    """What a note of the past says, as an entry of the diary: its day (YYYY-MM-DD), its path, and the text."""

    day: str
    source: str
    text: str


def diary_entry(at_ms: int, zone: tzinfo, text: str) -> str:
    """An entry: a rule, when it was (`*April 5, 2026, 3:00 AM*`), and the text."""
    at = datetime.fromtimestamp(at_ms / 1000, zone)
    half = "AM" if at.hour < 12 else "PM"  # noqa: PLR2004 (noon)
    when = f"{_long_date(at.date())}, {at.hour % 12 or 12}:{at.minute:02} {half}"
    return f"---\n\n*{when}*\n\n{text}\n"


def backfill_entry(entry: BackfillEntry) -> str:
    """An entry of the past, with the mark by which it can be replaced and removed alone."""
    mark = f"<!-- openclaw:dreaming:backfill-entry day={entry.day} source={harmless(entry.source)} -->"
    return f"---\n\n*{_long_date(date.fromisoformat(entry.day))}*\n\n{mark}\n\n{entry.text}\n"


def with_entry(data: bytes, entry: str) -> bytes:
    """A diary with an entry at its end; one that stands there already is not written again.

    A file without a diary gets one before what it holds.
    """
    written = entry.encode()
    inside = _inside(data)
    if inside is None:
        bom = _BOM if data.startswith(_BOM) else b""
        rest = data.removeprefix(_BOM)
        section = b"# Dream Diary\n\n" + _START + b"\n" + written + b"\n" + _END + b"\n"
        return bom + section + (b"\n" + rest if rest.strip() else b"")
    first, end = inside
    if _bare(written.removeprefix(b"---")) in map(_bare, _RULE.split(data[first:end])):
        return data
    return data[:end] + _gap(data[first:end]) + written + b"\n" + data[end:]


def without_backfill(data: bytes, sources: Container[str] | None = None) -> bytes:
    """A diary without its entries of the past: those of these sources, or all. Other entries stay as they are."""
    inside = _inside(data)
    if inside is None:
        return data
    lead, *pieces = _RULE.split(data[inside[0] : inside[1]])
    entries = [rule + text for rule, text in zip(pieces[::2], pieces[1::2], strict=True)]
    kept = [entry for entry in entries if not _is_of(entry, sources)]
    if len(kept) == len(entries):
        return data
    body = b"".join([lead, *kept]).rstrip(b"\r\n")
    return data[: inside[0]] + body + (b"\n\n" if kept else b"\n") + data[inside[1] :]


def with_backfill(data: bytes, entries: list[BackfillEntry]) -> bytes:
    """A diary with entries of the past, by day, in the place of those it has of the same sources."""
    data = without_backfill(data, {entry.source for entry in entries})
    for entry in sorted(entries, key=lambda each: (each.day, each.source)):
        data = with_entry(data, backfill_entry(entry))
    return data


def cleaned(text: str) -> str:
    """What a model wrote as the text of an entry: paragraphs of prose that hold no marks; empty if nothing is left.

    It is cut at the end of a sentence, or of a word, to 2,400 characters.
    """
    paragraphs = (harmless(each) for each in _PARAGRAPHS.split(_NOT_PROSE.sub("", text)))
    prose = "\n\n".join(each for each in paragraphs if each)
    if len(prose) <= TEXT_CHARACTERS_MAX:
        return prose
    cut = prose[:TEXT_CHARACTERS_MAX]
    ends = [match.end() for match in _SENTENCE_END.finditer(cut)]
    if ends and ends[-1] >= TEXT_CHARACTERS_MAX // 2:
        return cut[: ends[-1]]
    return f"{cut[: cut.rfind(' ') if ' ' in cut else len(cut)].rstrip()}…"


def edit_diary(workspace: Path, change: Callable[[bytes], bytes], *, lock_s_max: float = LOCK_S_MAX) -> DiaryEdit:
    """Change the diary of a workspace, whole or not at all; it keeps its permissions. Nothing is written without need.

    When somebody saves the file meanwhile, their version is read again.

    Raises:
        HomeReadOnlyError, StorageFullError: it could not be written; the old file stands.
        StorageError: it keeps changing, or another process holds the workspace's lock for too long.
        MemoryPathError: it is a link, or larger than 64 MiB.
    """
    name = next((each for each in DIARY_FILES if os.path.lexists(workspace / each)), DIARY_FILE)
    file = workspace / name
    with only_writer(workspace, file, lock_s_max):
        for _ in range(EDITS_MAX):
            seen = _identity(file)
            held = read_file(workspace, name, DIARY_BYTES_MAX)
            if held is not None and not isinstance(held, FileContent):
                raise MemoryPathError(f"{name}: {held.reason}")
            before = held.data if held is not None else b""
            after = change(before)
            if after == before:
                return DiaryEdit(name, before, before)
            if _identity(file) == seen:
                write_atomic(file, after)
                return DiaryEdit(name, before, after)
    raise StorageError(f"{file} keeps changing: the diary was not written, try again")


def _long_date(day: date) -> str:
    return f"{_MONTHS[day.month - 1]} {day.day}, {day.year}"


def _inside(data: bytes) -> tuple[int, int] | None:
    """Where the entries of a diary begin, behind the first mark, and where the second mark stands."""
    start = data.find(_START)
    end = data.find(_END, start + len(_START))
    return None if start < 0 or end < 0 else (start + len(_START), end)


def _gap(body: bytes) -> bytes:
    """What sets an entry apart from the one before it: there is one empty line, or the first mark, before a rule."""
    unix = body.replace(b"\r\n", b"\n")
    if not unix.strip():
        return b"" if unix.endswith(b"\n") else b"\n"
    return b"" if unix.endswith(b"\n\n") else b"\n" if unix.endswith(b"\n") else b"\n\n"


def _bare(entry: bytes) -> bytes:
    return entry.replace(b"\r\n", b"\n").strip()


def _is_of(entry: bytes, sources: Container[str] | None) -> bool:
    mark = _BACKFILL.search(entry)
    return mark is not None and (sources is None or mark[2].decode("utf-8", "replace") in sources)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return (info.st_ino, info.st_mtime_ns, info.st_size)
