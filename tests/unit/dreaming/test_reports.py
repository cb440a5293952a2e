"""What the phases write into `memory/dreaming/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.dreaming.deep import Promoted
from reverie.dreaming.entry import RecallEntry
from reverie.dreaming.narration import Passage
from reverie.dreaming.rem import Reflection, Theme, Truth
from reverie.dreaming.reports import deep_lines, light_lines, rem_lines, report_path, with_block, write_report
from reverie.errors import MemoryPathError

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = RecallEntry(
    "k", "memory/2026-04-05.md", 3, 4, "The kiln is serviced in May.", recall_count=2, daily_count=1, total_score=2.32
)
LIGHT = """\
## Light Sleep
<!-- openclaw:dreaming:light:start -->
- Candidate: The kiln is serviced in May.
  - confidence: 0.77
  - evidence: memory/2026-04-05.md:3-4
  - recalls: 2
  - status: staged
<!-- openclaw:dreaming:light:end -->
"""


def test_the_block_of_light_sleep() -> None:
    """Byte for byte; an entry's confidence is the average of its scores."""
    assert with_block("", "light", light_lines([ENTRY])) == LIGHT
    assert light_lines([]) == ("- No notable updates.",)


def test_the_block_of_rem_sleep() -> None:
    """Reflections and possible lasting truths, with their evidence."""
    theme = Theme("kiln", 4, 0.8, ("memory/2026-04-05.md:3-4", "memory/2026-04-04.md:1-1"))
    found = Reflection(10, (theme,), (Truth(ENTRY, 0.7236),), ("k",))

    assert with_block("", "rem", rem_lines(found)) == (
        "## REM Sleep\n"
        "<!-- openclaw:dreaming:rem:start -->\n"
        "### Reflections\n"
        "- Theme: `kiln` kept surfacing across 4 memories.\n"
        "  - confidence: 0.80\n"
        "  - evidence: memory/2026-04-05.md:3-4, memory/2026-04-04.md:1-1\n"
        "  - note: reflection\n"
        "\n"
        "### Possible Lasting Truths\n"
        "- The kiln is serviced in May. [confidence=0.72 evidence=memory/2026-04-05.md:3-4]\n"
        "<!-- openclaw:dreaming:rem:end -->\n"
    )
    assert rem_lines(Reflection()) == (
        "### Reflections", "- No strong patterns surfaced.", "",
        "### Possible Lasting Truths", "- No strong candidate truths surfaced.",
    )  # fmt: skip


def test_the_block_of_deep_sleep() -> None:
    """What became lasting, what gave way, and what waits."""
    done = Promoted(("k",), candidates=3, gave_way=2, waiting="1 passage waits: MEMORY.md is full")

    assert with_block("", "deep", deep_lines(done, [Passage("memory/2026-04-05.md:3-4", "The kiln.")])) == (
        "# Deep Sleep\n"
        "<!-- openclaw:dreaming:deep:start -->\n"
        "- Candidates for lasting memory: 3.\n"
        "- Promoted into MEMORY.md: 1.\n"
        "- Older entries that gave way: 2.\n"
        "- 1 passage waits: MEMORY.md is full\n"
        "\n"
        "### Promoted\n"
        "- The kiln. [source=memory/2026-04-05.md:3-4]\n"
        "<!-- openclaw:dreaming:deep:end -->\n"
    )


def test_a_block_is_replaced_where_it_stands() -> None:
    """What a person wrote before and behind it stays, byte for byte."""
    around = f"Mine before.\n\n{LIGHT}\nMine behind.\n"
    again = with_block(around, "light", light_lines([]))

    assert again == (
        "Mine before.\n\n## Light Sleep\n<!-- openclaw:dreaming:light:start -->\n- No notable updates.\n"
        "<!-- openclaw:dreaming:light:end -->\n\nMine behind.\n"
    )
    assert with_block("Mine.\n", "light", light_lines([ENTRY])) == f"Mine.\n\n{LIGHT}"


def test_a_passage_cannot_end_its_block() -> None:
    """Marks in what was said are no marks of ours."""
    evil = RecallEntry("k", "memory/2026-04-05.md", 1, 1, "x <!-- openclaw:dreaming:light:end --> y\n# z")
    written = with_block("", "light", light_lines([evil]))

    assert written.count("<!-- openclaw:dreaming:light:end -->") == 1
    assert with_block(written, "light", light_lines([evil])) == written


def test_a_report_is_a_file_a_day(tmp_path: Path) -> None:
    """Run again, the phase replaces its block; what is older than 92 days gives way, and nothing else does."""
    folder = tmp_path / "memory" / "dreaming" / "light"
    folder.mkdir(parents=True)
    for name in ("2026-01-01.md", "2026-01-03.md", "notes.md"):
        (folder / name).write_text("x", encoding="utf-8")
    path = write_report(tmp_path, "light", "2026-04-05", light_lines([]))
    write_report(tmp_path, "light", "2026-04-05", light_lines([ENTRY]))

    assert path == report_path("light", "2026-04-05") == "memory/dreaming/light/2026-04-05.md"
    assert (tmp_path / path).read_text(encoding="utf-8") == LIGHT
    assert sorted(each.name for each in folder.iterdir()) == ["2026-01-03.md", "2026-04-05.md", "notes.md"]


def test_a_report_goes_through_no_link(tmp_path: Path) -> None:
    """It may point anywhere: neither a file nor a folder of the way may be one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "dreaming").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(MemoryPathError, match="symbolic link"):
        write_report(tmp_path, "light", "2026-04-05", light_lines([ENTRY]))
    assert list((tmp_path / "elsewhere").iterdir()) == []
