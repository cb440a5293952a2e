"""The workspace files of the stable prefix: read once per change, bounded, named by their text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reverie.context.fragments import FRAGMENT_BYTES_MAX, Fragment, FragmentReader, fit, text_fingerprint
from reverie.llm.tokens import raw_tokens

if TYPE_CHECKING:
    from pathlib import Path


def fragment(name: str, text: str) -> Fragment:
    return Fragment(name, text, text_fingerprint(text))


@pytest.mark.anyio
async def test_files_come_in_fixed_order_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    """Empty files are as good as missing."""
    (tmp_path / "MEMORY.md").write_text("Likes tea.\n")
    (tmp_path / "AGENTS.md").write_text("Be brief.\n")
    (tmp_path / "USER.md").write_text(" \n")

    assert await FragmentReader().read(tmp_path) == (
        fragment("AGENTS.md", "Be brief."),
        fragment("MEMORY.md", "Likes tea."),
    )


@pytest.mark.anyio
async def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Size or time of change tells."""
    reader, file = FragmentReader(), tmp_path / "USER.md"
    file.write_text("one")
    first = await reader.read(tmp_path)
    file.write_text("two")
    os.utime(file, ns=(1, 1))

    assert [f.text for f in (*first, *await reader.read(tmp_path))] == ["one", "two"]


@pytest.mark.anyio
async def test_a_huge_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """The rest is announced, not silently lost."""
    (tmp_path / "MEMORY.md").write_bytes(b"x" * (FRAGMENT_BYTES_MAX + 10))
    (read,) = await FragmentReader().read(tmp_path)

    assert not read.whole
    assert len(read.text) < FRAGMENT_BYTES_MAX + 100
    assert "the rest of MEMORY.md is not shown" in read.text


@pytest.mark.anyio
async def test_broken_utf8_is_shown_as_far_as_it_can_be(tmp_path: Path) -> None:
    """A bad byte costs itself."""
    (tmp_path / "USER.md").write_bytes(b"caf\xe9 owner")

    assert [f.text for f in await FragmentReader().read(tmp_path)] == ["caf\ufffd owner"]


def test_what_fits_is_left_alone() -> None:
    """Nothing is cut without need."""
    fragments = (fragment("AGENTS.md", "a" * 400), fragment("MEMORY.md", "b" * 400))

    assert fit(fragments, 200) == fragments


def test_the_longest_file_loses_its_end() -> None:
    """A short file keeps all it has; the prompt keeps its room."""
    short, long = fragment("AGENTS.md", "a" * 400), fragment("MEMORY.md", "word " * 10_000)
    kept = fit((short, long), 1_000)

    assert kept[0] == short
    assert not kept[1].whole
    assert raw_tokens(kept[1].text) < 950
    assert "MEMORY.md is not shown" in kept[1].text
    assert fit((short, long), 1_000) == kept


@pytest.mark.anyio
async def test_comments_are_not_sent(tmp_path: Path) -> None:
    """A file as it was created says nothing yet."""
    (tmp_path / "USER.md").write_text("<!-- name,\nlanguage -->\n")
    (tmp_path / "MEMORY.md").write_text("# Memory\n\n<!-- facts -->\nLikes tea.\n")

    assert [f.text for f in await FragmentReader().read(tmp_path)] == ["# Memory\n\n\nLikes tea."]
