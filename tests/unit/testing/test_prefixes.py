"""How much of a prompt was sent before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reverie.testing.prefixes import Repetition, as_tokens, identical_prefix, repetition


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_the_identical_prefix_is_the_longest(common: bytes, before: bytes, after: bytes) -> None:
    """Two texts are equal up to it, and differ or end behind it."""
    one, other = common + before, common + after
    length = identical_prefix(one, other)
    assert one[:length] == other[:length]
    assert length >= len(common)
    assert length in {len(one), len(other)} or one[length] != other[length]


@given(st.lists(st.binary(max_size=9), max_size=6), st.lists(st.binary(max_size=9), max_size=6))
def test_the_three_parts_add_up_to_the_prompt(before: list[bytes], after: list[bytes]) -> None:
    """Whatever two prompts are, each byte of the later one is counted once."""
    repeated = repetition(before, after)
    assert repeated.prompt_bytes == len(b"".join(after))
    assert min(repeated.identical_bytes, repeated.changed_bytes, repeated.new_bytes) >= 0


def test_a_prompt_that_only_grew() -> None:
    """All of the prompt before it is a cached beginning, and the rest is new."""
    assert repetition([b"system", b"one"], [b"system", b"one", b"two"]) == Repetition(9, 0, 3)


def test_a_change_at_the_beginning() -> None:
    """What stands behind the first difference is sent again, but no cache holds it."""
    repeated = repetition([b"recall A", b"one", b"two"], [b"recall B", b"one", b"two", b"three"])
    assert repeated == Repetition(7, 6, 6)
    assert repeated.identical_share == 7 / 13


def test_a_first_prompt_is_new() -> None:
    """Nothing was sent before it, so nothing is sent again."""
    assert repetition([], [b"one"]) == Repetition(0, 0, 3)
    assert repetition([], [b"one"]).identical_share == 1


def test_a_part_that_stood_once_counts_once() -> None:
    """A message said twice was sent before only as often as it stood there."""
    assert repetition([b"a", b"xx"], [b"b", b"xx", b"xx"]) == Repetition(0, 2, 3)


def test_four_bytes_are_a_token() -> None:
    """The doubles count tokens by bytes, rounded up."""
    assert [as_tokens(size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]
