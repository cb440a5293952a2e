"""What a session knows of its prompt's size, after a turn."""

from __future__ import annotations

import pytest

from reverie.sessions.compactions import TokenSnapshot, next_snapshot


@pytest.mark.parametrize(
    ("before", "counted", "after"),
    [
        (TokenSnapshot(500, fresh=False), 700, TokenSnapshot(700, fresh=True)),
        (TokenSnapshot(300, fresh=True, compacted=True), 0, TokenSnapshot(300, fresh=True, compacted=True)),
        (TokenSnapshot(500, fresh=True), 0, TokenSnapshot(500, fresh=False)),
        (TokenSnapshot(None, fresh=False), 0, TokenSnapshot(None, fresh=False)),
        (TokenSnapshot(0, fresh=True), 0, TokenSnapshot(None, fresh=False)),
        (TokenSnapshot(300, fresh=True, compacted=True), 900, TokenSnapshot(900, fresh=True)),
    ],
)
def test_the_four_rows(before: TokenSnapshot, counted: int, after: TokenSnapshot) -> None:
    """Counted; left by a compaction, which stays fresh; an old figure, no longer fresh; nothing."""
    assert next_snapshot(before, counted=counted) == after
