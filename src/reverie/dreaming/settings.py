"""What the configuration of dreaming comes to: a mode's preset, with every value that was set in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from reverie.dreaming.candidates import PRESETS, Rules

if TYPE_CHECKING:
    from datetime import tzinfo

    from reverie.config import DreamingConfig


class Settings(Protocol):
    """What dreaming is set to now."""

    @property
    def current(self) -> DreamingConfig:
        """The settings."""
        ...

    @property
    def zone(self) -> tzinfo:
        """The time zone whose days count."""
        ...


@dataclass(frozen=True, slots=True)
class FixedSettings:
    """Settings that stay as they are."""

    current: DreamingConfig
    zone: tzinfo


def rules_for(config: DreamingConfig) -> Rules:
    """The gates of promotion. Mode `off` has those of `core`, for looking at what would be promoted."""
    preset = PRESETS[config.mode].rules
    return replace(
        preset,
        score_min=preset.score_min if config.score_min is None else config.score_min,
        recalls_min=preset.recalls_min if config.recalls_min is None else config.recalls_min,
        queries_min=preset.queries_min if config.queries_min is None else config.queries_min,
        limit=preset.limit if config.limit is None else config.limit,
        days_min=config.days_min,
        age_days_max=config.age_days_max,
        half_life_days=config.half_life_days,
    )


def cron_for(config: DreamingConfig) -> str:
    """When it is due, as a cron expression in the user's time zone."""
    return config.cron or PRESETS[config.mode].cron
