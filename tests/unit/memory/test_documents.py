"""Which files are memory, how they are read, and what their lines are."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from reverie.errors import MemoryPathError
from reverie.memory.documents import (
    LINK_REASON,
    FileContent,
    SeenFile,
    SkippedFile,
    find_file,
    is_indexed_path,
    parse_markdown,
    read_file,
    resolve_readable,
    split_lines,
    stat_file,
    walk_memory,
    without_comments,
)

if TYPE_CHECKING:
    from pathlib import Path


def put(workspace: Path, path: str, data: str = "x") -> None:
    """Write a file and the folders above it."""
    (workspace / path).parent.mkdir(parents=True, exist_ok=True)
    (workspace / path).write_text(data, encoding="utf-8")


def test_the_walk_finds_memory_and_nothing_else(tmp_path: Path) -> None:
    """Only MEMORY.md, USER.md and Markdown below memory/ count; generated, hidden and foreign files do not."""
    wanted = {"MEMORY.md", "USER.md", "memory/2026-01-01.md", "memory/people/luna.md"}
    others = {
        "AGENTS.md",
        "DREAMS.md",
        "notes.md",
        "skills/cook/SKILL.md",
        "memory/upper.MD",
        "memory/note.txt",
        "memory/dreaming/deep/report.md",
        "memory/.git/HEAD.md",
        "memory/node_modules/readme.md",
    }
    for path in wanted | others:
        put(tmp_path, path)
    assert {found.path for found in walk_memory(tmp_path)} == wanted
    assert {path for path in wanted | others if is_indexed_path(path)} == wanted


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    """A link is neither listed nor read, whether it is the file itself or a folder on the way."""
    outside = tmp_path / "outside"
    put(outside, "secret.md", "secret")
    workspace = tmp_path / "workspace"
    put(workspace, "memory/real.md")
    (workspace / "memory/link.md").symlink_to(outside / "secret.md")
    (workspace / "memory/folder").symlink_to(outside)
    (workspace / "MEMORY.md").symlink_to(outside / "secret.md")
    links = ["MEMORY.md", "memory/folder", "memory/link.md"]
    found = list(walk_memory(workspace))
    assert [file.path for file in found if isinstance(file, SeenFile)] == ["memory/real.md"]
    assert [file for file in found if isinstance(file, SkippedFile)] == [
        SkippedFile(path, LINK_REASON) for path in links
    ]
    for path in ("memory/link.md", "memory/folder/secret.md", "MEMORY.md"):
        assert read_file(workspace, path, 1_000) == SkippedFile(path, "a symbolic link: not followed")
        assert stat_file(workspace, path) is None


def test_a_memory_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A memory that lies elsewhere brings nothing in, and is named."""
    put(tmp_path, "outside/secret.md", "secret")
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace/memory").symlink_to(tmp_path / "outside")
    assert list(walk_memory(tmp_path / "workspace")) == [SkippedFile("memory", LINK_REASON)]


def test_the_walk_is_in_the_order_of_the_paths(tmp_path: Path) -> None:
    """Folders and files come as their whole paths sort, so that a walk can be laid beside the index."""
    paths = [
        "MEMORY.md",
        "USER.md",
        "memory/a-b/c.md",
        "memory/a.md",
        "memory/a/b/c.md",
        "memory/a/b.md",
        "memory/é.md",
    ]
    for path in reversed(paths):
        put(tmp_path, path)
    assert [found.path for found in walk_memory(tmp_path)] == sorted(paths)


def test_a_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    """A file that no citation could name is left out, and named as far as it can be written."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / os.fsdecode(b"a\xff.md")).write_text("x")
    [skipped] = walk_memory(tmp_path)
    assert isinstance(skipped, SkippedFile)
    assert (skipped.path, "not UTF-8" in skipped.reason) == ("memory/a\\xff.md", True)


def test_comments_that_never_close_cost_one_pass() -> None:
    """A megabyte of opened comments is text, at once: nothing searches to the end for each of them."""
    text = "<!--" * 250_000
    started = time.perf_counter()
    assert without_comments(text) == text
    assert time.perf_counter() - started < 0.5
    assert without_comments("a<!-- b\nc -->d<!-- e") == "a\nd<!-- e"


def test_a_missing_workspace_is_empty(tmp_path: Path) -> None:
    """Nothing there is nothing to index, not an error."""
    assert list(walk_memory(tmp_path / "none")) == []
    assert read_file(tmp_path, "memory/none.md", 100) is None


def test_a_folder_or_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    """What is not a regular file is skipped with a reason, and never waited for."""
    (tmp_path / "memory/folder.md").mkdir(parents=True)
    os.mkfifo(tmp_path / "memory/pipe.md")
    assert list(walk_memory(tmp_path)) == []
    assert find_file(tmp_path, "memory/pipe.md") == SkippedFile("memory/pipe.md", "not a regular file")
    assert read_file(tmp_path, "memory/pipe.md", 100) == SkippedFile("memory/pipe.md", "not a regular file")


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    """A file that is too large is skipped with its size and the setting; the limit itself is allowed."""
    put(tmp_path, "MEMORY.md", "12345")
    assert isinstance(read_file(tmp_path, "MEMORY.md", 5), FileContent)
    skipped = read_file(tmp_path, "MEMORY.md", 4)
    assert isinstance(skipped, SkippedFile)
    assert skipped.reason.startswith("5 bytes, more than the limit of 4")


def test_broken_utf8_is_replaced_and_reported(tmp_path: Path) -> None:
    """Bytes that are no text become the replacement character; the rest of the file stays readable."""
    (tmp_path / "MEMORY.md").write_bytes(b"\xef\xbb\xbfLuna \xff\xfe cat\x00\n")
    content = read_file(tmp_path, "MEMORY.md", 100)
    assert isinstance(content, FileContent)
    assert (content.text, content.broken) == ("Luna \ufffd\ufffd cat\ufffd\n", True)


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", []), ("a", ["a"]), ("a\n", ["a"]), ("a\r\nb\r\n", ["a", "b"]), ("a\n\n", ["a", ""]), ("a\rb", ["a\rb"])],
)
def test_lines_are_counted_as_an_editor_does(text: str, lines: list[str]) -> None:
    """LF and CRLF end a line; a line end at the end of the file opens no further line."""
    assert split_lines(text) == lines


def test_headings_and_front_matter_keep_line_numbers() -> None:
    """Front matter is left out of the text, headings inside code are none, and every line knows its headings."""
    document = parse_markdown("---\ntitle: x\n---\n# A\r\ntext\n```\n# no\n```\nB\n---\nunder b\n### C #\n")
    assert document.body_start == 3
    assert document.heading_lines == {4, 9, 10, 12}
    assert document.headings[3:] == ("A", "A", "A", "A", "A", "A > B", "A > B", "A > B", "A > B > C")


def test_front_matter_must_end() -> None:
    """A rule at the top of a file is not front matter when nothing closes it."""
    assert parse_markdown("---\nhello\n").body_start == 0


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("MEMORY.md", "MEMORY.md"),
        ("./memory/a.md", "memory/a.md"),
        ("DREAMS.md", "DREAMS.md"),
        ("memory/dreaming/x.md", "memory/dreaming/x.md"),
        ("./skills/release-notes/SKILL.md", "skills/release-notes/SKILL.md"),
    ],
)
def test_memory_files_can_be_asked_for(given: str, path: str) -> None:
    """Memory files are readable, generated reports and skills too."""
    assert resolve_readable(given) == path


@pytest.mark.parametrize(
    "given",
    [
        "",
        "/etc/passwd",
        "../secret.md",
        "memory/../../x.md",
        "memory/a.txt",
        "SOUL.md",
        "skills/SKILL.md",
        "skills/x/notes.md",
        "skills/x/y/SKILL.md",
        "skills/../x/SKILL.md",
        "memory\\a.md",
        "memory/\x00.md",
        "..",
        "/",
    ],
)
def test_other_paths_are_refused(given: str) -> None:
    """A path that leaves the memory, or is no Markdown, is refused with what is allowed."""
    with pytest.raises(MemoryPathError, match="path required"):
        resolve_readable(given)


def test_comments_are_not_read_and_lines_keep_their_numbers() -> None:
    """What is for the editor of a file is no memory, and citations stay exact."""
    document = parse_markdown("one\n<!-- two\nthree -->\nfour <!-- x --> five\n")

    assert document.lines == ("one", "", "", "four  five")
