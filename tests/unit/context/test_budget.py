"""How the model's window is divided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.context.budget import (
    Budget,
    HistoryEntryCost,
    HistoryStart,
    choose_fewer_messages,
    choose_history_start,
    divide,
    prompt_budget,
)
from reverie.errors import ContextTooLongError

if TYPE_CHECKING:
    from reverie.types import Role


def entries(*tokens: int) -> list[HistoryEntryCost]:
    return [HistoryEntryCost(seq, "user" if seq % 2 else "assistant", cost) for seq, cost in enumerate(tokens, start=1)]


@pytest.mark.parametrize(
    ("window", "output", "prompt"),
    [(32_768, 4_096, 28_672), (4_096, 4_096, 2_048), (16_000, 12_000, 8_000), (200_000, 20_000, 180_000)],
)
def test_a_small_window_keeps_room_for_the_prompt(window: int, output: int, prompt: int) -> None:
    """A large reply share cannot starve the prompt."""
    assert prompt_budget(window, output) == prompt


def test_history_gets_what_is_left() -> None:
    """Prefix, input and recall come first."""
    assert divide(window=10_000, output=2_000, fixed=3_000, recall=1_000) == Budget(8_000, 4_000)


def test_a_message_larger_than_the_window_is_refused() -> None:
    """The error has OpenAI's code and says what to do."""
    with pytest.raises(ContextTooLongError, match="upstream.context_tokens") as caught:
        divide(window=4_000, output=1_000, fixed=3_500, recall=0)

    assert caught.value.code == "context_length_exceeded"


def test_history_that_fits_stays_where_it_is() -> None:
    """The prefix does not move with each turn."""
    assert choose_history_start(entries(10, 10, 10, 10), 1, 40) == HistoryStart(1, "")


def test_history_that_does_not_fit_is_cut_to_a_share_at_a_user_message() -> None:
    """It then grows for many turns before it is cut again."""
    cut = choose_history_start(entries(*[10] * 10), 1, 90)

    assert cut == HistoryStart(7, "history of about 100 tokens exceeded its room of 90")


def test_a_single_huge_entry_leaves_no_history() -> None:
    """Nothing fits, so nothing is kept."""
    assert choose_history_start(entries(500, 500), 1, 100).seq == 3


@given(st.lists(st.integers(1, 1_000), max_size=60), st.integers(0, 20_000))
def test_what_is_kept_always_fits(tokens: list[int], room: int) -> None:
    """For any history and room, the part in view is within the room and begins at a user message."""
    history = entries(*tokens)
    start = choose_history_start(history, 1, room).seq
    kept = [entry for entry in history if entry.seq >= start]

    assert sum(entry.tokens for entry in kept) <= room
    assert not kept or kept[0].role == "user" or start == 1


def test_more_messages_than_are_read_are_cut_once_at_a_question() -> None:
    """To six of ten, so that the beginning then stays for several turns."""
    entries: list[tuple[int, Role]] = [(seq, "user" if seq % 2 else "assistant") for seq in range(11, 31)]
    chosen = choose_fewer_messages(entries, 11, 20)

    assert chosen.seq == 19
    assert chosen.reason == "history of more than the 20 messages that are read"
    assert choose_fewer_messages([(7, "assistant")], 5, 1).seq == 8
