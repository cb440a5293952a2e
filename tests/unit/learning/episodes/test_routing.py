"""Where a message goes, by what stands before it, what it is about, the pause, and the limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reverie.config import LearningSessionConfig
from reverie.learning.episodes.routing import Limits, Load, Route, Routing, limit_reached, route

if TYPE_CHECKING:
    from reverie.learning.episodes.relation import Relation
    from reverie.learning.episodes.routing import Limit, Site

RULES = Routing.of(LearningSessionConfig())
SOME = Load(4, 2, 100)
HOUR_MS = 3_600_000


@pytest.mark.parametrize("site", ["open_episode", "recovered_open_topic"])
@pytest.mark.parametrize(
    ("relation", "action"),
    [
        ("revision", "append_to_open_episode"),
        ("follow_up", "append_to_open_episode"),
        ("unknown", "append_to_open_episode"),
        ("new_task", "close_open_and_start_new_task"),
    ],
)
def test_an_open_episode_is_gone_on_with_unless_it_is_a_new_task(site: Site, relation: Relation, action: str) -> None:
    """Whatever is no new task is appended, whether the episode was followed or found open."""
    assert route(site, relation, 0, SOME, 10, RULES) == Route(action, relation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("relation", "gap_ms", "expected"),
    [
        ("revision", 9 * HOUR_MS, Route("reopen_previous_episode", "revision")),
        ("follow_up", 2 * HOUR_MS, Route("reopen_previous_episode", "follow_up")),
        ("follow_up", 2 * HOUR_MS + 1, Route("start_new_task_episode", "merge_gap")),
        ("unknown", 2 * HOUR_MS + 1, Route("start_new_task_episode", "merge_gap")),
        ("new_task", 0, Route("start_new_task_episode", "new_task")),
    ],
)
def test_a_closed_episode_is_opened_within_the_merge_window(relation: Relation, gap_ms: int, expected: Route) -> None:
    """A revision always opens it again; what follows only within the window."""
    assert route("closed_episode", relation, gap_ms, SOME, 10, RULES) == expected


@pytest.mark.parametrize("relation", ["revision", "follow_up", "unknown"])
@pytest.mark.parametrize(
    ("site", "action"),
    [("open_episode", "close_open_and_start_new_task"), ("closed_episode", "start_new_task_episode")],
)
def test_nothing_goes_on_with_a_task_of_no_worth(site: Site, action: str, relation: Relation) -> None:
    """What was not worth a score never gets one, so what follows it is a task of its own."""
    assert route(site, relation, 0, SOME, 10, RULES, worth=False) == Route(action, "task_of_no_worth")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("merge_ms", "hard_ms"),
    [(60_000, 2 * HOUR_MS), (2 * HOUR_MS, 2 * HOUR_MS), (24 * HOUR_MS, 24 * HOUR_MS), (0, None)],
)
def test_no_pause_within_the_merge_window_is_a_new_task_for_sure(merge_ms: int, hard_ms: int | None) -> None:
    """The pause that is a new task without a model is two hours, the merge window where that is longer, or none."""
    assert replace(RULES, merge_max_gap_ms=merge_ms).hard_gap_ms == hard_ms


def test_without_a_cap_any_pause_is_merged() -> None:
    """A merge window of 0 is none."""
    rules = replace(RULES, merge_max_gap_ms=0)

    assert route("closed_episode", "follow_up", 90 * HOUR_MS, SOME, 10, rules).action == "reopen_previous_episode"


@pytest.mark.parametrize(
    ("site", "action"),
    [
        ("open_episode", "close_open_and_start_new_episode"),
        ("recovered_open_topic", "close_open_and_start_new_episode"),
        ("closed_episode", "start_new_episode"),
    ],
)
@pytest.mark.parametrize("relation", ["revision", "follow_up", "unknown"])
def test_a_full_episode_takes_nothing_at_any_site(site: Site, action: str, relation: Relation) -> None:
    """At 29 entries there is room, at 30 there is none: the action and the reason say so."""
    at_29 = route(site, relation, 0, Load(29, 2, 100), 10, RULES)
    at_30 = route(site, relation, 0, Load(30, 2, 100), 10, RULES)

    assert at_29.forced is None
    assert at_30 == Route(action, "turn_limit", "turn_limit")  # type: ignore[arg-type]


def test_the_first_message_begins_a_task() -> None:
    """With nothing before it a message begins a task."""
    assert route("none", "new_task", None, Load(), 10, RULES) == Route("start_new_task_episode", "first")


def test_what_was_open_for_too_long_is_over() -> None:
    """An episode found open is closed after twice the merge window, at least four hours."""
    rules = replace(RULES, merge_max_gap_ms=3 * HOUR_MS)

    assert (RULES.stale_ms, rules.stale_ms) == (4 * HOUR_MS, 6 * HOUR_MS)
    assert route("recovered_open_topic", "revision", 4 * HOUR_MS + 1, SOME, 10, RULES) == Route(
        "close_open_and_start_new_task", "hard_timeout_before_new_turn"
    )
    assert route("open_episode", "revision", 4 * HOUR_MS + 1, SOME, 10, RULES).action == "append_to_open_episode"


def test_each_message_its_own_episode() -> None:
    """In the mode `episode_per_turn` only a revision goes on."""
    rules = replace(RULES, mode="episode_per_turn")

    assert route("open_episode", "follow_up", 0, SOME, 10, rules) == Route(
        "close_open_and_start_new_task", "episode_per_turn"
    )
    assert route("closed_episode", "revision", 0, SOME, 10, rules).action == "reopen_previous_episode"


@pytest.mark.parametrize(
    ("held", "added", "expected"),
    [
        (Load(0, 0, 0), Load(900, 900, 900_000), None),
        (Load(29, 0, 0), Load(1, 0, 0), None),
        (Load(30, 0, 0), Load(1, 0, 0), "turn_limit"),
        (Load(28, 0, 0), Load(3, 2, 0), "turn_limit"),
        (Load(1, 60, 0), Load(1, 1, 0), "step_limit"),
        (Load(1, 59, 0), Load(1, 1, 0), None),
        (Load(1, 0, 31_999), Load(1, 0, 1), None),
        (Load(1, 0, 31_999), Load(1, 0, 2), "token_limit"),
        (Load(30, 60, 99_999), Load(1, 1, 1), "turn_limit"),
    ],
)
def test_limits(held: Load, added: Load, expected: Limit | None) -> None:
    """A limit is reached when it would be exceeded; an empty episode takes anything."""
    assert limit_reached(held, added, Limits(30, 60, 32_000)) == expected
