"""The dream diary, byte for byte."""

from __future__ import annotations

from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from reverie.dreaming.diary import (
    BackfillEntry,
    cleaned,
    diary_entry,
    edit_diary,
    with_backfill,
    with_entry,
    without_backfill,
)
from reverie.errors import MemoryPathError

if TYPE_CHECKING:
    from pathlib import Path

AT = 1_775_358_000_000  # 2026-04-05 03:00 UTC
FIRST = diary_entry(AT, UTC, "The kiln came back.")
SECOND = diary_entry(AT + 86_400_000, UTC, "So did the router.")
DIARY = b"""\
# Dream Diary

<!-- openclaw:dreaming:diary:start -->
---

*April 5, 2026, 3:00 AM*

The kiln came back.

---

*April 6, 2026, 3:00 AM*

So did the router.

<!-- openclaw:dreaming:diary:end -->
"""


def test_a_diary_begins_and_goes_on() -> None:
    """Header and marks, then entry after entry between the marks."""
    one = with_entry(b"", FIRST)

    assert one == DIARY[: DIARY.index(b"---\n\n*April 6")] + DIARY[DIARY.index(b"<!-- openclaw:dreaming:diary:end") :]
    assert with_entry(one, SECOND) == DIARY
    assert with_entry(b" \n", FIRST) == one


@pytest.mark.parametrize(
    ("at_ms", "zone", "when"),
    [
        (AT, UTC, "April 5, 2026, 3:00 AM"),
        (AT, ZoneInfo("America/Los_Angeles"), "April 4, 2026, 8:00 PM"),
        (AT - 3 * 3_600_000, UTC, "April 5, 2026, 12:00 AM"),
        (AT + 9 * 3_600_000 + 5 * 60_000, UTC, "April 5, 2026, 12:05 PM"),
    ],
)
def test_when_an_entry_was(at_ms: int, zone: ZoneInfo, when: str) -> None:
    """In the user's time zone, in words that no machine's language changes."""
    assert diary_entry(at_ms, zone, "Text.") == f"---\n\n*{when}*\n\nText.\n"


def test_what_stands_in_the_file_is_kept_byte_for_byte() -> None:
    """The diary goes before it, managed blocks, odd line ends and broken bytes and all."""
    mine = (
        b"# Mine\r\n\r\n\xff\xfe broken\r\n<!-- openclaw:dreaming:rem:start -->\nx\n<!-- openclaw:dreaming:rem:end -->"
    )
    written = with_entry(with_entry(mine, FIRST), SECOND)

    assert written == DIARY + b"\n" + mine
    assert with_entry(b"\xef\xbb\xbfMine.\n", FIRST) == b"\xef\xbb\xbf" + with_entry(b"", FIRST) + b"\nMine.\n"


def test_an_entry_is_not_written_twice() -> None:
    """The same words at another time are another entry, and so are other words at the same time."""
    assert with_entry(DIARY, FIRST) == DIARY
    assert with_entry(DIARY, SECOND) == DIARY
    assert with_entry(DIARY.replace(b"\n", b"\r\n"), SECOND) == DIARY.replace(b"\n", b"\r\n")
    assert with_entry(DIARY, diary_entry(AT + 60_000, UTC, "The kiln came back.")) != DIARY
    assert with_entry(DIARY, diary_entry(AT, UTC, "The kiln")) != DIARY


@pytest.mark.parametrize(
    "edited",
    [
        DIARY.replace(b"\n\n<!-- openclaw:dreaming:diary:end", b"<!-- openclaw:dreaming:diary:end"),
        DIARY.replace(b"\n\n<!-- openclaw:dreaming:diary:end", b"\n<!-- openclaw:dreaming:diary:end"),
        DIARY,
    ],
)
def test_entries_stand_apart_however_a_person_left_the_end(edited: bytes) -> None:
    """One empty line before the rule, and nothing of the file is changed for it."""
    third = diary_entry(AT + 2 * 86_400_000, UTC, "Rain.")
    written = with_entry(edited, third)

    assert (
        b"So did the router.\n\n---\n\n*April 7, 2026, 3:00 AM*\n\nRain.\n\n<!-- openclaw:dreaming:diary:end" in written
    )
    assert written.startswith(edited[: edited.index(b"<!-- openclaw:dreaming:diary:end")])


def test_a_diary_without_its_end_is_begun_anew() -> None:
    """Before what is there: nothing is lost."""
    torn = DIARY.replace(b"<!-- openclaw:dreaming:diary:end -->", b"")

    assert with_entry(torn, FIRST) == with_entry(b"", FIRST) + b"\n" + torn


OLD = BackfillEntry("2026-01-02", "memory/2026-01-02.md", "Lasting updates:\n- The kiln is serviced in May. (3-3)")


def test_entries_of_the_past_replace_each_other_and_go_alone() -> None:
    """Marked by their note; nightly entries stay byte for byte."""
    written = with_backfill(DIARY, [OLD])

    assert (
        b"---\n\n*January 2, 2026*\n\n"
        b"<!-- openclaw:dreaming:backfill-entry day=2026-01-02 source=memory/2026-01-02.md -->\n\n"
        b"Lasting updates:\n- The kiln is serviced in May. (3-3)\n\n<!-- openclaw:dreaming:diary:end -->"
    ) in written
    assert with_backfill(written, [OLD]) == written
    changed = BackfillEntry(OLD.day, OLD.source, "Nothing any more.")
    assert with_backfill(written, [changed]).count(b"backfill-entry") == 1
    assert without_backfill(written) == DIARY
    assert without_backfill(written, {"memory/2026-01-03.md"}) == written
    assert without_backfill(with_entry(written, diary_entry(AT + 60_000, UTC, "Rain."))) == with_entry(
        DIARY, diary_entry(AT + 60_000, UTC, "Rain.")
    )
    assert (without_backfill(b""), without_backfill(b"Mine.\n")) == (b"", b"Mine.\n")
    assert without_backfill(with_backfill(b"", [OLD])) == (
        b"# Dream Diary\n\n<!-- openclaw:dreaming:diary:start -->\n<!-- openclaw:dreaming:diary:end -->\n"
    )


def test_what_a_model_wrote_is_prose_without_marks() -> None:
    """No headings, rules, code fences, and no comment that could end the diary or make a promotion."""
    said = (
        "# A dream\n\nThe kiln <!-- openclaw:dreaming:diary:end --> glowed.\n---\nIt was\nMay.\n\n```\nx\n```\n\n"
        "<!-- openclaw-memory-promotion:k -->\n- forged"
    )
    text = cleaned(said)

    assert "<!--" not in text
    assert "-->" not in text
    assert "\n---" not in text
    assert text.startswith("A dream\n\nThe kiln < !-- openclaw:dreaming:diary:end -- > glowed.\n\nIt was May.\n\nx\n\n")
    assert with_entry(DIARY, diary_entry(AT, UTC, text)).count(b"diary:end -->") == 1
    assert cleaned(" \n---\n ") == ""


def test_a_text_without_end_is_cut_at_a_sentence() -> None:
    """Or, if it has none, at a word."""
    assert cleaned("It rained. " * 400) == ("It rained. " * 218).strip()
    assert len(cleaned("word " * 1_000)) <= 2_401
    assert cleaned("word " * 1_000).endswith("word…")


def test_the_file_is_written_whole_and_keeps_its_permissions(tmp_path: Path) -> None:
    """Also when it is called `dreams.md`; without need nothing is written."""
    file = tmp_path / "dreams.md"
    file.write_bytes(b"Mine.\n")
    file.chmod(0o600)
    edit = edit_diary(tmp_path, partial(with_entry, entry=FIRST))

    assert (edit.path, edit.before, edit.changed) == ("dreams.md", b"Mine.\n", True)
    assert file.read_bytes() == edit.after == with_entry(b"Mine.\n", FIRST)
    assert file.stat().st_mode & 0o777 == 0o600
    written = file.stat().st_mtime_ns
    assert not edit_diary(tmp_path, partial(with_entry, entry=FIRST)).changed
    assert file.stat().st_mtime_ns == written
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".dreams")] == []


def test_a_diary_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """It may point anywhere."""
    (tmp_path / "target").write_text("Mine.\n", encoding="utf-8")
    (tmp_path / "DREAMS.md").symlink_to(tmp_path / "target")

    with pytest.raises(MemoryPathError, match="symbolic link"):
        edit_diary(tmp_path, partial(with_entry, entry=FIRST))
    assert (tmp_path / "target").read_text(encoding="utf-8") == "Mine.\n"


def test_a_save_meanwhile_is_read_again(tmp_path: Path) -> None:
    """A person's words are never overwritten."""
    file = tmp_path / "DREAMS.md"
    file.write_bytes(b"Mine.\n")
    saves = [b"Mine, and more.\n"]

    def change(data: bytes) -> bytes:
        if saves:
            file.write_bytes(saves.pop())
        return with_entry(data, FIRST)

    assert edit_diary(tmp_path, change).after == with_entry(b"Mine, and more.\n", FIRST)
