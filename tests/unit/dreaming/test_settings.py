"""What a mode comes to, with what was set in its place."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from reverie.config import DreamingConfig
from reverie.dreaming.settings import cron_for, rules_for


@pytest.mark.parametrize(
    ("mode", "preset"),
    [
        ("off", ("0 3 * * *", 0.75, 3, 2, 10)),
        ("core", ("0 3 * * *", 0.75, 3, 2, 10)),
        (" Deep ", ("0 */12 * * *", 0.80, 3, 3, 10)),
        ("REM", ("0 */6 * * *", 0.85, 4, 3, 10)),
    ],
)
def test_the_presets(mode: str, preset: tuple[object, ...]) -> None:
    """Hours and gates as OpenClaw had them in April 2026; a mode may be written in any case."""
    config = DreamingConfig.model_validate({"mode": mode})
    rules = rules_for(config)
    assert (cron_for(config), rules.score_min, rules.recalls_min, rules.queries_min, rules.limit) == preset


def test_what_is_set_wins_over_the_preset() -> None:
    """Each value by itself; 0 is a value."""
    config = DreamingConfig(mode="deep", cron="30 2 * * 1", limit=0, score_min=0.5, recalls_min=0)
    rules = rules_for(config)
    found = (cron_for(config), rules.limit, rules.score_min, rules.recalls_min, rules.queries_min)
    assert found == ("30 2 * * 1", 0, 0.5, 0, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cron", "0 3 * *"),
        ("cron", "0 0 31 2 *"),
        ("cron", "99 3 * * *"),
        ("cron", "* * * * * *"),
        ("time_zone", "Mars/Olympus"),
        ("limit", -1),
        ("score_min", 1.5),
        ("recalls_min", -2),
        ("mode", "sometimes"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: object) -> None:
    """By the key's name, with the value."""
    with pytest.raises(ValidationError) as refused:
        DreamingConfig.model_validate({name: value})
    error = refused.value.errors()[0]
    assert (error["loc"], error["input"]) == ((name,), value)


def test_the_usual_words_for_a_schedule() -> None:
    """`@daily` and the like."""
    assert DreamingConfig(cron="@Daily").cron == "0 0 * * *"
