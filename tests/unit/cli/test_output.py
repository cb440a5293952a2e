"""Words for people: tables, sizes, counts, highlights."""

from __future__ import annotations

import pytest

from reverie.cli.output import bold, columns, counted, highlighted, size_words


def test_columns_are_aligned() -> None:
    """Every column but the last is as wide as its widest cell."""
    assert columns([("a", "bb", "x"), ("aaa", "b", "long text")]) == ["  a    bb  x", "  aaa  b   long text"]


def test_no_rows() -> None:
    """No rows are no lines."""
    assert columns([]) == []


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_355_443, "3.2 MiB"), (5 * 1024**3, "5.0 GiB")],
)
def test_sizes(size: int, words: str) -> None:
    """Sizes have the unit that keeps them short."""
    assert size_words(size) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 entries"), (1, "1 entry"), (1_234, "1,234 entries")])
def test_counts(number: int, words: str) -> None:
    """A number agrees with its noun."""
    assert counted(number, "entry", "entries") == words


def test_highlighted() -> None:
    """Words of the question stand out whatever their case; short ones and parts of words do not."""
    text = "The Roaster is due; the roasters are not."

    assert highlighted(text, "is the roaster due?") == (
        f"{bold('The')} {bold('Roaster')} is {bold('due')}; {bold('the')} roasters are not."
    )
