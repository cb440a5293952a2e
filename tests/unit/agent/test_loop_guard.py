"""After a compaction, the same tool call over and over ends the turn."""

from __future__ import annotations

import pytest

from reverie.agent.loop_guard import LoopGuard
from reverie.errors import ToolLoopError
from reverie.types import ToolCall

CALL = ToolCall("1", "look", '{"at":"x"}')


def test_three_identical_calls_end_the_turn() -> None:
    """Same tool, same arguments, same result; the id does not count."""
    guard = LoopGuard(armed=True)
    guard.saw(CALL, "nothing")
    guard.saw(ToolCall("2", "look", '{"at":"x"}'), "nothing")
    with pytest.raises(ToolLoopError) as raised:
        guard.saw(ToolCall("3", "look", '{"at":"x"}'), "nothing")

    assert raised.value.code == "compaction_loop_persisted"


def test_another_result_is_progress() -> None:
    """Armed for three calls only: what comes after them is not watched."""
    guard = LoopGuard(armed=True)
    for result in ("a", "b", "b", "b", "b"):
        guard.saw(CALL, result)


def test_without_a_compaction_nothing_is_watched() -> None:
    """Until one happens in the middle of the turn."""
    guard = LoopGuard(armed=False)
    for _ in range(5):
        guard.saw(CALL, "a")
    guard.arm()
    guard.saw(CALL, "a")
    guard.saw(CALL, "a")
    with pytest.raises(ToolLoopError):
        guard.saw(CALL, "a")
