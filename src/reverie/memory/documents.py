"""A workspace file becomes a document: which files count, how they are read, and what heading each line stands under.

Files are untrusted: a file may be damaged, enormous, a link out of the workspace, or gone between the listing and the
reading. None of that raises; it becomes a reason in the report.

Invariants: line numbers are those of the file on disk, front matter included; a symbolic link is never followed; no
more than `bytes_max` of a file is ever read.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from reverie.errors import MemoryPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it import MarkdownIt

ROOT_FILES = ("MEMORY.md", "USER.md")
READABLE_ROOT_FILES = ("MEMORY.md", "USER.md", "DREAMS.md")
MEMORY_FOLDER = "memory"
GENERATED_FOLDER = "memory/dreaming"
IGNORED_FOLDERS = frozenset({"node_modules", "venv", "__pycache__"})
FILES_MAX = 200_000
FRONT_MATTER_LINES_MAX = 200
READ_FLAGS: int = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
"""How untrusted files are opened: no link is followed, no pipe is waited for; what the system knows of it."""

HEADINGS_BYTES_MAX = 2 * 1024 * 1024
"""In a larger file headings are not looked for: parsing it would hold the interpreter for too long."""

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MarkdownDocument:
    """The lines of a file and their headings.

    `headings[i]` is the path of headings above line i+1, `heading_lines` the lines that are headings themselves, and
    `body_start` how many lines of front matter precede the text.
    """

    lines: tuple[str, ...]
    headings: tuple[str, ...]
    heading_lines: frozenset[int]
    body_start: int


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file as it was read. `broken` says that some bytes were not UTF-8 and were replaced."""

    text: str
    data: bytes
    mtime_ns: int
    broken: bool


@dataclass(frozen=True, slots=True)
class FileStat:
    """What the directory says of a file."""

    mtime_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not indexed, and why."""

    path: str
    reason: str


def is_indexed_path(path: str) -> bool:
    """Whether a workspace-relative path is one that gets indexed, by its name alone."""
    parts = PurePosixPath(path).parts
    if not path.endswith(".md") or any(part == ".." for part in parts):
        return False
    if len(parts) == 1:
        return path in ROOT_FILES
    return parts[0] == MEMORY_FOLDER and not is_generated(path) and not any(map(is_ignored_folder, parts[1:-1]))


def is_generated(path: str) -> bool:
    """Whether a path is a report that Reverie itself wrote: readable, but never memory again."""
    return path.startswith(f"{GENERATED_FOLDER}/")


def is_ignored_folder(name: str) -> bool:
    """Whether a folder of this name is never looked into: hidden ones, and the litter of programs."""
    return name.startswith(".") or name in IGNORED_FOLDERS


def walk_memory(workspace: Path, under: str = "") -> Iterator[str]:
    """The workspace-relative paths of all files to index, in no particular order; missing folders are empty.

    `under` limits the walk to one folder of it.
    """
    if not under:
        for name in ROOT_FILES:
            if _is_regular(workspace / name):
                yield name
    waiting = [under or MEMORY_FOLDER]
    found = 0
    while waiting and found < FILES_MAX:
        folder = waiting.pop()
        for entry in _entries(workspace / folder):
            path = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if path != GENERATED_FOLDER and not is_ignored_folder(entry.name):
                    waiting.append(path)
            elif entry.name.endswith(".md") and entry.is_file(follow_symlinks=False):
                found += 1
                yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries; none when it is missing, a link, or cannot be read."""
    try:
        if folder.is_symlink():
            return []
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _is_storable(entry.name)]
    except OSError:
        return []


def _is_storable(name: str) -> bool:
    """False for a name that is not UTF-8: no citation could spell it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def stat_file(workspace: Path, path: str) -> FileStat | None:
    """Modification time and size of a regular file; None when it is gone, a link, or reached through a link."""
    if crosses_link(workspace, path):
        return None
    try:
        info = (workspace / path).lstat()
    except (OSError, ValueError):
        return None
    return FileStat(info.st_mtime_ns, info.st_size) if stat.S_ISREG(info.st_mode) else None


def read_file(workspace: Path, path: str, bytes_max: int) -> FileContent | SkippedFile | None:
    """A file's text, why it is not read, or None when it is not there.

    Raises nothing for what a file can be; a directory or a device is "not a regular file".
    """
    if crosses_link(workspace, path):
        return SkippedFile(path, "a symbolic link: not followed")
    try:
        descriptor = os.open(workspace / path, READ_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            return _read_regular(file, path, bytes_max)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return SkippedFile(path, f"cannot be read: {error}")


def _read_regular(file: BinaryIO, path: str, bytes_max: int) -> FileContent | SkippedFile:
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        return SkippedFile(path, "not a regular file")
    if info.st_size > bytes_max:
        advice = "split it into smaller files, or raise memory.file_bytes_max"
        return SkippedFile(path, f"{info.st_size:,} bytes, more than the limit of {bytes_max:,}: {advice}")
    return _decoded(file.read(info.st_size), info.st_mtime_ns)


def _decoded(data: bytes, mtime_ns: int) -> FileContent:
    body = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return FileContent(body.decode("utf-8").replace("\x00", "\ufffd"), data, mtime_ns, broken=False)
    except UnicodeDecodeError:
        return FileContent(body.decode("utf-8", "replace").replace("\x00", "\ufffd"), data, mtime_ns, broken=True)


def crosses_link(workspace: Path, path: str) -> bool:
    """Whether any step from the workspace to the file is a symbolic link."""
    current = workspace
    for part in PurePosixPath(path).parts:
        current /= part
        try:
            if stat.S_ISLNK(current.lstat().st_mode):
                return True
        except (OSError, ValueError):
            return False
    return False


def resolve_readable(path: str) -> str:
    """A path as a tool or a person gives it, as the workspace-relative path of a memory file.

    Raises:
        MemoryPathError: it leaves the workspace, or is not a memory file.
    """
    cleaned = path.strip().removeprefix("./")
    parts = PurePosixPath(cleaned).parts
    if "\\" in cleaned or "\x00" in cleaned or not parts or cleaned.startswith("/") or ".." in parts:
        raise MemoryPathError(f"path required: {path!r} is not a path inside the memory")
    normal = "/".join(parts)
    if not normal.endswith(".md") or (normal not in READABLE_ROOT_FILES and parts[0] != MEMORY_FOLDER):
        message = f"path required: {path!r} is not a memory file (MEMORY.md, USER.md, DREAMS.md or memory/**/*.md)"
        raise MemoryPathError(message)
    return normal


def split_lines(text: str) -> list[str]:
    """The lines as an editor counts them: ended by LF or CRLF; a final line end opens no further line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def without_comments(text: str) -> str:
    """The text without its HTML comments, which are for whoever edits it; every line keeps its number."""
    return _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text) if "<!--" in text else text


def parse_markdown(text: str) -> MarkdownDocument:
    """Lines, headings and front matter of a Markdown text. Comments count as empty lines."""
    text = without_comments(text)
    lines = split_lines(text)
    body_start = _front_matter_lines(lines)
    headings = [""] * len(lines)
    heading_lines: set[int] = set()
    if len(text) <= HEADINGS_BYTES_MAX:
        _place_headings(lines, body_start, headings, heading_lines)
    return MarkdownDocument(tuple(lines), tuple(headings), frozenset(heading_lines), body_start)


def _front_matter_lines(lines: list[str]) -> int:
    """How many lines the front matter takes: from a first line `---` to the next `---` or `...`; else none."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    for number, line in enumerate(lines[1:FRONT_MATTER_LINES_MAX], 2):
        if line.rstrip() in {"---", "..."}:
            return number
    return 0


@cache
def _block_parser() -> MarkdownIt:
    """A parser that looks for blocks only: headings, and what a heading must not be looked for in."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("zero")
    parser.enable(["heading", "lheading", "fence", "code", "html_block"])
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _place_headings(lines: list[str], body_start: int, headings: list[str], heading_lines: set[int]) -> None:
    """Write the heading path of every line; a lone CR is no line end here, so that the parser counts as we do."""
    body = "\n".join(line.replace("\r", " ") for line in lines[body_start:])
    tokens = _block_parser().parse(body)
    path: list[tuple[int, str]] = []
    marks: list[tuple[int, str]] = [(body_start, "")]
    for token, inline in pairwise(tokens):
        if token.type != "heading_open" or token.map is None:
            continue
        level = int(token.tag[1:])
        path = [*(step for step in path if step[0] < level), (level, inline.content.strip())]
        start, end = token.map[0] + body_start, token.map[1] + body_start
        heading_lines.update(range(start + 1, end + 1))
        marks.append((start, " > ".join(title for _, title in path if title)))
    for (start, heading), (end, _) in pairwise([*marks, (len(lines), "")]):
        headings[start:end] = [heading] * (end - start)
