"""The rules of the inbox."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.config import QueueConfig
from reverie.sessions.inbox import (
    COLLECT_TITLE,
    DEBOUNCES_MAX,
    Admission,
    QueueSettings,
    Waiting,
    admit,
    collect_leads,
    collected,
    combined,
    drop_line,
    fits_together,
    next_round,
    order,
    overflow_note,
    parse_mode,
    quiet_in_ms,
    steerable,
)
from reverie.types import Delivery, Message, SessionKey, Turn, TurnRequest

REQUEST = TurnRequest("t", SessionKey("main", "k"), (Message("user", "hi"),))


def line_of(*arrivals: tuple[str, Delivery]) -> list[Waiting]:
    """Messages as they arrive at a session whose running turn has round 0."""
    waiting: list[Waiting] = []
    for number, (source, delivery) in enumerate(arrivals, start=1):
        place = next_round(waiting, source, 0)
        waiting.append(Waiting(f"{source}{number}", source, delivery, place, number))
    return waiting


def from_(*sources: str) -> list[tuple[str, Delivery]]:
    return [(source, "followup") for source in sources]


def ids(waiting: list[Waiting]) -> list[str]:
    return [entry.turn_id for entry in waiting]


def test_one_source_is_served_in_order_of_arrival() -> None:
    """Fairness changes nothing where nobody has to be fair to anybody."""
    waiting = line_of(*from_(*"aaaaa"))

    assert ids(order(waiting)) == ["a1", "a2", "a3", "a4", "a5"]


def test_nobody_waits_behind_all_that_another_has_sent() -> None:
    """Each source gets one turn in each round."""
    waiting = line_of(*from_(*"aaabc"))

    assert ids(order(waiting)) == ["a1", "b4", "c5", "a2", "a3"]


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_a_source_is_never_overtaken_by_itself_and_waits_for_one_round(sources: list[str]) -> None:
    """Its messages keep their order, and between two of them each other source has at most two."""
    ranked = order(line_of(*from_(*sources)))
    for source in set(sources):
        places = [rank for rank, entry in enumerate(ranked) if entry.source == source]
        arrivals = [ranked[place].arrived for place in places]
        assert arrivals == sorted(arrivals)
        for before, after in itertools.pairwise(places):
            between = [entry.source for entry in ranked[before + 1 : after]]
            assert all(between.count(other) <= 2 for other in between)


def test_messages_of_one_source_are_collected_in_a_row() -> None:
    """A message that wants a turn of its own parts them; another source's are not taken."""
    waiting = line_of(("a", "collect"), ("b", "collect"), ("a", "collect"), ("a", "followup"), ("a", "collect"))

    assert ids(collected(waiting)) == ["a1", "a3"]


def test_a_message_of_its_own_is_not_collected() -> None:
    """What is not to be collected runs alone."""
    assert ids(collected(line_of(("a", "followup"), ("a", "collect")))) == ["a1"]


def test_steering_overtakes_only_what_others_have_waiting() -> None:
    """An unrelated message does not hold a steer back; an earlier one of its own source does."""
    waiting = line_of(("b", "followup"), ("a", "steer"), ("a", "followup"), ("a", "steer"))

    assert ids(steerable(waiting)) == ["a2"]


@pytest.mark.parametrize(
    ("settings", "admission"),
    [
        (QueueSettings(cap=4), Admission(accepted=True, dropped=(), reason="there is room")),
        (QueueSettings(cap=3), Admission(accepted=False, dropped=(), reason="3 messages wait; the cap is 3")),
        (
            QueueSettings(cap=3, drop="old"),
            Admission(accepted=True, dropped=("b2",), reason="the oldest gives way at the cap of 3"),
        ),
        (
            QueueSettings(cap=2, drop="summarize"),
            Admission(accepted=True, dropped=("b2", "a1"), reason="the oldest gives way at the cap of 2"),
        ),
    ],
)
def test_the_cap(settings: QueueSettings, admission: Admission) -> None:
    """Below it there is room; at it the policy decides, and the source that has most waiting gives way first."""
    waiting = line_of(("a", "followup"), ("b", "followup"), ("b", "followup"))

    assert admit(waiting, settings) == admission


def test_settings_come_from_the_session_then_its_channel_then_everybody() -> None:
    """The nearest wins, each by itself."""
    config = QueueConfig(mode="followup", by_channel={"telegram": "collect"}, cap=7)

    assert QueueSettings.of(config).mode == "followup"
    assert QueueSettings.of(config, "telegram").mode == "collect"
    assert QueueSettings.of(config, "telegram", {"mode": "steer", "cap": 3}) == QueueSettings("steer", cap=3)


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("steer", "steer"), ("steering", "steer"), ("queue", "steer"), ("queued", "steer"), ("steer-backlog", "steer"),
        ("steer+backlog", "steer"), ("steer_backlog", "steer"), ("followup", "followup"), ("follow-ups", "followup"),
        ("followups", "followup"), ("collect", "collect"), ("coalesce", "collect"), ("interrupt", "interrupt"),
        ("interrupts", "interrupt"), (" ABORT ", "interrupt"), ("wait", "wait"), ("reject", "reject"), ("soon", None),
    ],
)  # fmt: skip
def test_every_name_of_a_mode(word: str, mode: str | None) -> None:
    """OpenClaw's words are known."""
    assert parse_mode(word) == mode


@pytest.mark.parametrize(
    ("word", "policy"),
    [("oldest", "old"), ("newest", "new"), ("summary", "summarize"), ("Summarize", "summarize")],
)
def test_every_name_of_a_drop_policy(word: str, policy: str) -> None:
    """OpenClaw's words are known to the settings."""
    assert QueueConfig.model_validate({"drop": word}).drop == policy


def test_a_mode_that_answers_at_once_delivers_as_it_says() -> None:
    """Who waits or is refused gets a turn of its own if it is accepted at all."""
    assert {mode: QueueSettings(mode).delivery() for mode in ("wait", "reject", "followup", "collect", "steer")} == {
        "wait": "followup",
        "reject": "followup",
        "followup": "followup",
        "collect": "collect",
        "steer": "steer",
    }


def test_a_dropped_message_leaves_one_short_line() -> None:
    """White space is collapsed, and 160 characters are the limit."""
    assert drop_line("two\n  words ") == "two words"
    assert len(drop_line("word " * 100)) == 160
    assert drop_line("word " * 100).endswith("word word word…")


def test_what_the_model_is_told_of_dropped_messages() -> None:
    """In OpenClaw's words."""
    assert overflow_note(0, []) == ""
    assert overflow_note(1, ["a"]) == "[Queue overflow] Dropped 1 message due to cap.\nSummary:\n- a"
    assert overflow_note(2, []) == "[Queue overflow] Dropped 2 messages due to cap."


def test_what_stands_before_collected_messages() -> None:
    """A title, what was dropped, and a number and sender for each; nothing before a single message."""
    assert collect_leads(["a"], "") == [""]
    assert collect_leads(["a"], "note") == ["note\n\n"]
    assert collect_leads(["a", ""], "note") == [
        f"{COLLECT_TITLE}\n\nnote\n\n---\nQueued #1 (from a)\n",
        "---\nQueued #2\n",
    ]


def test_a_queue_is_taken_up_when_it_is_quiet_and_at_last_in_any_case() -> None:
    """Messages that keep coming do not put it off for ever."""
    assert quiet_in_ms(1_000, 900, 900, 500) == 400
    assert quiet_in_ms(1_400, 900, 900, 500) == 0
    assert quiet_in_ms(900 + 500 * DEBOUNCES_MAX, 900 + 500 * DEBOUNCES_MAX, 900, 500) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"instructions": "be brief"},
        {"client_tools": ({"type": "function"},)},
        {"tool_choice": "required"},
        {"model_override": "other"},
        {"sampling": {"temperature": 0}},
    ],
)
def test_messages_with_settings_of_their_own_need_a_turn_of_their_own(changes: dict[str, object]) -> None:
    """What a request brought along is used when its turn runs."""
    assert fits_together(REQUEST, replace(REQUEST, turn_id="u"))
    assert not fits_together(REQUEST, replace(REQUEST, **changes))  # pyright: ignore[reportArgumentType]


def test_the_last_of_several_turns_carries_the_others() -> None:
    """One runs for all."""
    first, second = (Turn(name, "s", REQUEST, "queued", 0) for name in ("a", "b"))

    assert combined([first, second]) == replace(second, carries=(first,))
