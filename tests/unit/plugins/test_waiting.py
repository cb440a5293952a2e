"""Events that wait for a plugin are bounded; the oldest give way."""

from __future__ import annotations

from reverie.plugins import ResetText, SessionReset
from reverie.plugins.waiting import WaitingEvents


def event(session: str, text: str = "") -> SessionReset:
    """A reset with a text of some size."""
    return SessionReset(session, "next", "main", 1, "manual", 2, ResetText("k", text))


def taken(waiting: WaitingEvents) -> list[str]:
    """The sessions of the events that are left, in order."""
    found: list[str] = []
    while (next_one := waiting.take()) is not None:
        found.append(next_one[1].session_id)
    return found


def test_the_oldest_give_way_by_number() -> None:
    """The newest are kept, in order, and the lost are counted."""
    waiting = WaitingEvents(events_max=2)
    for name in "abc":
        waiting.add("on_reset", event(name))

    assert (len(waiting), waiting.dropped) == (2, 1)
    assert taken(waiting) == ["b", "c"]


def test_the_oldest_give_way_by_size() -> None:
    """Text counts; what is taken makes room again."""
    waiting = WaitingEvents(characters_max=100)
    waiting.add("on_reset", event("a", "x" * 50))
    waiting.add("on_reset", event("b", "x" * 50))
    first = taken(waiting)
    waiting.add("on_reset", event("c", "x" * 200))

    assert (first, waiting.dropped) == (["b"], 1)
    assert taken(waiting) == ["c"]
