"""A workspace file becomes a document: which files count, how they are read, and what heading each line stands under.

Files are untrusted: a file may be damaged, enormous, a link out of the workspace, or gone between the listing and the
reading. None of that raises; it becomes a reason in the report.

Invariants: line numbers are those of the file on disk, front matter included; a symbolic link is never followed; no
more than `bytes_max` of a file is ever read.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from reverie.errors import MemoryPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it import MarkdownIt

ROOT_FILES = ("MEMORY.md", "USER.md")
READABLE_ROOT_FILES = ("AGENTS.md", "MEMORY.md", "USER.md", "DREAMS.md")
"""AGENTS.md may be too long for the prompt, and is read then; it is no memory, and never found."""
MEMORY_FOLDER = "memory"
SKILLS_FOLDER = "skills"
SKILL_FILE = "SKILL.md"
"""A skill is `skills/<name>/SKILL.md`: read by whoever recalls it, and no memory, so never found."""

GENERATED_FOLDER = "memory/dreaming"
IGNORED_FOLDERS = frozenset({"node_modules", "venv", "__pycache__"})
FILES_MAX = 200_000
"""Files of one workspace that are looked at; of those beyond, in path order, a report says that they are left out."""

LINK_REASON = "a symbolic link: not followed"
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


class SeenFile(NamedTuple):
    """A file as the directory shows it: path, modification time and size in bytes."""

    path: str
    mtime_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not indexed, and why."""

    path: str
    reason: str


def is_indexed_path(path: str) -> bool:
    """Whether a workspace-relative path is one that gets indexed, by its name alone."""
    first, *folders = path.split("/")
    if not path.endswith(".md"):
        return False
    if not folders:
        return path in ROOT_FILES
    name = folders.pop()
    if first != MEMORY_FOLDER or is_generated(path) or not name:
        return False
    return not any(not folder or is_ignored_folder(folder) for folder in folders)


def is_generated(path: str) -> bool:
    """Whether a path is a report that Reverie itself wrote: readable, but never memory again."""
    return path.startswith(f"{GENERATED_FOLDER}/")


def is_ignored_folder(name: str) -> bool:
    """Whether a folder of this name is never looked into: hidden ones, and the litter of programs."""
    return name.startswith(".") or name in IGNORED_FOLDERS


def walk_memory(workspace: Path, under: str = "") -> Iterator[SeenFile | SkippedFile]:
    """All files to index, sorted by path, and links and folders that are left out; missing folders are empty.

    Nothing but the listings of the folders on the way down is held. `under` limits the walk to one folder.
    """
    met = 0
    for found in _walked(workspace, under):
        if isinstance(found, SeenFile):
            met += 1
            if met > FILES_MAX:
                yield SkippedFile(
                    found.path, f"more than {FILES_MAX:,} files: this one and those after it are left out"
                )
                return
        yield found


def _walked(workspace: Path, under: str) -> Iterator[SeenFile | SkippedFile]:
    if under:
        yield from _walk_folder(workspace, under)
        return
    for name in ROOT_FILES:
        info = _lstat(workspace / name)
        if info is not None and stat.S_ISREG(info.st_mode):
            yield SeenFile(name, info.st_mtime_ns, info.st_size)
        elif info is not None and stat.S_ISLNK(info.st_mode):
            yield SkippedFile(name, LINK_REASON)
    yield from _walk_folder(workspace, MEMORY_FOLDER)


def _walk_folder(workspace: Path, top: str) -> Iterator[SeenFile | SkippedFile]:
    """Depth first, without recursion: however deep somebody nests folders, it is only a longer list here."""
    if crosses_link(workspace, top):
        yield SkippedFile(top, LINK_REASON)
        return
    level = _entries(workspace, top)
    above: list[Iterator[tuple[str, os.DirEntry[str] | OSError]]] = []
    while True:
        path, entry = next(level, ("", None))
        if entry is None:
            if not above:
                return
            level = above.pop()
        elif isinstance(entry, OSError):
            yield SkippedFile(_spelt(path), f"cannot be read: {entry.strerror or entry}")
        elif entry.is_dir(follow_symlinks=False):
            if path != GENERATED_FOLDER and not is_ignored_folder(entry.name):
                above.append(level)
                level = _entries(workspace, path)
        elif (found := _seen(entry, path)) is not None:
            yield found


def _entries(workspace: Path, folder: str) -> Iterator[tuple[str, os.DirEntry[str] | OSError]]:
    """Path and entry of all in a folder, or the error that listing it gave; nothing when it is gone."""
    try:
        entries = _sorted_entries(workspace / folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield folder, error
        return
    for entry in entries:
        yield f"{folder}/{entry.name}", entry


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries in the order of the paths below them: a folder sorts as if its name ended with a slash."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda e: f"{e.name}/" if e.is_dir(follow_symlinks=False) else e.name)


def _seen(entry: os.DirEntry[str], path: str) -> SeenFile | SkippedFile | None:
    """What a directory entry is; None for what is not Markdown, or went meanwhile."""
    try:
        if entry.is_symlink():
            counts = entry.name.endswith(".md") or (entry.is_dir() and not is_ignored_folder(entry.name))
            return SkippedFile(_spelt(path), LINK_REASON) if counts else None
        if not entry.name.endswith(".md") or not entry.is_file(follow_symlinks=False):
            return None
        if _spelt(path) != path:
            return SkippedFile(_spelt(path), "its name is not UTF-8, so that no citation could spell it: rename it")
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return SeenFile(path, info.st_mtime_ns, info.st_size)


def _spelt(path: str) -> str:
    """A path as it can be written down: bytes that are not UTF-8 as a backslash and their number."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (OSError, ValueError):
        return None


def find_file(workspace: Path, path: str) -> SeenFile | SkippedFile | None:
    """A file by its name, or why it is left out; None when there is none."""
    if crosses_link(workspace, path):
        return SkippedFile(path, LINK_REASON)
    info = _lstat(workspace / path)
    if info is None:
        return None
    if not stat.S_ISREG(info.st_mode):
        return SkippedFile(path, "not a regular file")
    return SeenFile(path, info.st_mtime_ns, info.st_size)


def stat_file(workspace: Path, path: str) -> FileStat | None:
    """Modification time and size of a regular file; None when it is gone, a link, or reached through a link."""
    found = find_file(workspace, path)
    return FileStat(found.mtime_ns, found.size_bytes) if isinstance(found, SeenFile) else None


def read_file(workspace: Path, path: str, bytes_max: int) -> FileContent | SkippedFile | None:
    """A file's text, why it is not read, or None when it is not there.

    Raises nothing for what a file can be; a directory or a device is "not a regular file".
    """
    if crosses_link(workspace, path):
        return SkippedFile(path, LINK_REASON)
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
    in_memory = parts[0] == MEMORY_FOLDER and normal.endswith(".md")
    if not in_memory and normal not in READABLE_ROOT_FILES and not is_skill_path(normal):
        known = "AGENTS.md, MEMORY.md, USER.md, DREAMS.md, memory/**/*.md or skills/<name>/SKILL.md"
        raise MemoryPathError(f"path required: {path!r} is not a memory file ({known})")
    return normal


def skill_path(name: str) -> str:
    """The workspace-relative path of a skill."""
    return f"{SKILLS_FOLDER}/{name}/{SKILL_FILE}"


def is_skill_path(path: str) -> bool:
    """Whether a workspace-relative path is that of a skill, by its name alone."""
    first, *rest = path.split("/")
    return first == SKILLS_FOLDER and len(rest) == 2 and bool(rest[0]) and rest[1] == SKILL_FILE  # noqa: PLR2004 (name, file)


def split_lines(text: str) -> list[str]:
    """The lines as an editor counts them: ended by LF or CRLF; a final line end opens no further line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def without_comments(text: str) -> str:
    """The text without its HTML comments, which are for whoever edits it; every line keeps its number.

    A comment that is never closed is text. One pass, whatever the text: a pattern would search to the end for each.
    """
    kept: list[str] = []
    at = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept += (text[at:start], "\n" * text.count("\n", start, end))
        at = end + 3
    return "".join([*kept, text[at:]]) if kept else text


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
