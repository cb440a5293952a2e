"""How full a native thread may be: a fuse, known by figures."""

from __future__ import annotations

import pytest

from reverie.config import byte_count
from reverie.context.thread_guards import Fullness, Guards, fullness, known_window, projected_turn_tokens, token_limit
from reverie.types import ThreadBinding, ThreadEngine, ThreadProjection, ThreadTokens

LEGACY = ThreadBinding("t", "s")
BOOTSTRAPPED = ThreadBinding("t", "s", engine=ThreadEngine("reverie", "p", ThreadProjection("e")))


def limit(binding: ThreadBinding, guards: Guards, *, window: int | None = None, turn: int = 1) -> int | None:
    return fullness(binding, guards, model="m", window=window, turn_tokens=turn, size=None).limit


@pytest.mark.parametrize(
    ("window", "reserve", "turn", "expected"),
    [
        (258_400, 20_000, 0, 238_400),
        (258_400, 20_000, 400, 238_000),
        (24_000, 20_000, 0, 8_000),  # the reserve leaves at least 8,000
        (10_000, 20_000, 0, 5_000),  # or half of a small window
        (258_400, 0, 0, 258_400),
        (258_400, 20_000, 10**9, 1),
        (1, 20_000, 1, 1),
    ],
)
def test_the_limit(window: int, reserve: int, turn: int, expected: int) -> None:
    """The window less a reserve that gives way in a small one, less what the turn adds; at least 1."""
    assert token_limit(window, reserve, turn) == expected


@pytest.mark.parametrize(
    ("binding", "window", "expected"),
    [
        (LEGACY, None, 70_000),
        (BOOTSTRAPPED, None, 279_999),
        (LEGACY, 258_400, 238_399),
        (BOOTSTRAPPED, 258_400, 238_399),
        (LEGACY, 32_000, 11_999),
    ],
)
def test_what_counts_where_no_window_is_known(binding: ThreadBinding, window: int | None, expected: int) -> None:
    """300,000 for what an engine bootstrapped, the old 70,000 for the rest; a window that is known counts for all."""
    assert limit(binding, Guards(), window=window) == expected


def test_a_limit_of_ones_own() -> None:
    """It is taken as it is, but never above what the model's window leaves; and it can be switched off."""
    assert limit(BOOTSTRAPPED, Guards(tokens=50_000)) == 50_000
    assert limit(LEGACY, Guards(tokens=500_000)) == 500_000
    assert limit(LEGACY, Guards(tokens=500_000), window=258_400) == 238_399
    assert limit(BOOTSTRAPPED, Guards(tokens="off"), window=1_000) is None
    assert limit(BOOTSTRAPPED, Guards(reserve_tokens=8_400), window=258_400) == 249_999


@pytest.mark.parametrize(
    ("reported", "of", "configured", "expected"),
    [
        (None, None, None, None),
        (None, None, 200_000, 200_000),
        (258_400, "m", None, 258_400),
        (258_400, "m", 200_000, 200_000),
        (258_400, "m", 400_000, 258_400),
        (258_400, None, 400_000, 258_400),
        (258_400, "other", 400_000, 400_000),
        (258_400, "other", None, 258_400),
    ],
)
def test_which_window_counts(
    reported: int | None, of: str | None, configured: int | None, expected: int | None
) -> None:
    """What was reported for this model, unless less is configured; of another model only where nothing is."""
    tokens = ThreadTokens(1, "last", reported, of)

    assert known_window(tokens, "m", configured) == expected


def test_the_figures_that_a_person_reads() -> None:
    """What is there, what is allowed, and where the figures come from."""
    binding = ThreadBinding("t", "s", tokens=ThreadTokens(241_198, "last", 258_400))
    full = fullness(binding, Guards(bytes_max=100), model=None, window=None, turn_tokens=1, size=99)

    assert full == Fullness(241_198, 238_399, 258_400, "last", 99, 100)
    assert (full.over_tokens, full.over_bytes) == (True, False)
    assert not Fullness().over_tokens
    assert not Fullness(bytes=5).over_bytes
    assert Fullness(bytes=5, bytes_max=5).over_bytes


def test_what_a_turn_adds() -> None:
    """A quarter of its characters, rounded up, and at least one token."""
    assert [projected_turn_tokens(*each) for each in ((0, 0), (1, 0), (4, 0), (4, 1), (10_000, 10_000))] == [
        1, 1, 1, 2, 5_000,
    ]  # fmt: skip


def test_nobody_looks_for_a_file_without_a_limit() -> None:
    """There is none by default."""
    assert not Guards().looks_at_bytes
    assert Guards(bytes_max=1).looks_at_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20mb", 20 * 1024**2),
        ("1.5g", 1536 * 1024**2),
        ("512k", 512 * 1024),
        ("512 KiB", 512 * 1024),
        ("7b", 7),
        ("7", 7),
        ("1t", 1024**4),
        ("0.5kb", 512),
        ("", None),
        ("mb", None),
        ("-1mb", None),
        ("1.2.3k", None),
        ("1x", None),
        ("1e3k", None),
        ("٣mb", None),
        ("nan", None),
        ("9" * 30 + "t", None),
    ],
)
def test_sizes_in_words(text: str, expected: int | None) -> None:
    """Units of 1,024, decimals allowed; what makes no sense is no size."""
    assert byte_count(text) == expected
