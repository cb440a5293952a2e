"""The camel-case settings of a MemOS plugin in our words."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import LearningConfig
from reverie.errors import ConfigError, ImportFileError
from reverie.importers.memos.settings import KNOWN, Translated, read_settings, translate

if TYPE_CHECKING:
    from pathlib import Path


def test_every_counterpart_exists() -> None:
    """Each of our names is a setting of `[learning]`."""
    missing: list[str] = []
    for setting in KNOWN.values():
        section, _, field = setting.key.rpartition(".")
        model: Any = LearningConfig.model_fields[section].annotation if section else LearningConfig
        if field not in model.model_fields:
            missing.append(setting.key)

    assert missing == []


def test_translated() -> None:
    """With or without `algorithm`, units as ours; what has no counterpart is named."""
    given = {
        "algorithm": {
            "session": {"maxTurnsPerEpisode": 5, "classifyTimeoutMs": 30_000, "bgLlmConcurrency": 8},
            "skill": {"cooldownMs": 1_800_000},
            "lightweightMemory": {"enabled": True},
        },
        "reward": {"tauSoftmax": 0.5, "gamma": 1},
        "embedding": {"model": "mini"},
        "viewer": {"port": 18799},
    }

    assert translate(given) == Translated(
        {
            "learning.session.max_turns_per_episode": 5,
            "learning.session.classify_timeout_ms": 30_000,
            "learning.background_llm_concurrency": 8,
            "learning.skills.cooldown_hours": 0.5,
            "learning.mode": "lightweight",
            "learning.policies.tau_softmax": 0.5,
            "learning.reward.gamma": 1,
        },
        ("embedding.model", "viewer.port"),
        "mini",
    )


@pytest.mark.parametrize(
    ("section", "name", "value", "allowed"),
    [
        ("session", "maxTurnsPerEpisode", 4, "5 ≤ learning.session.max_turns_per_episode ≤ 200"),
        ("session", "maxTurnsPerEpisode", 201, "5 ≤ learning.session.max_turns_per_episode ≤ 200"),
        ("session", "maxTurnsPerEpisode", "many", "5 ≤ learning.session.max_turns_per_episode ≤ 200"),
        ("session", "classifyTimeoutMs", 999, "1000 ≤ learning.session.classify_timeout_ms ≤ 30000"),
        ("session", "classifyTimeoutMs", 30_001, "1000 ≤ learning.session.classify_timeout_ms ≤ 30000"),
        ("session", "bgLlmConcurrency", 0, "1 ≤ learning.background_llm_concurrency ≤ 8"),
        ("session", "bgLlmConcurrency", 9, "1 ≤ learning.background_llm_concurrency ≤ 8"),
        ("session", "followUpMode", "never", "Input should be 'merge_follow_ups' or 'episode_per_turn'"),
        ("skill", "cooldownMs", 10**12, "0 ≤ learning.skills.cooldown_hours ≤ 720"),
        ("skill", "cooldownMs", "soon", "0 ≤ learning.skills.cooldown_hours ≤ 720"),
        ("lightweightMemory", "enabled", 1, "true or false"),
        ("lightweightMemory", "enabled", "yes", "true or false"),
        ("capture", "alphaScoring", "perhaps", "Input should be a valid boolean"),
    ],
)
def test_out_of_range(section: str, name: str, value: Any, allowed: str) -> None:
    """Refused with its own name, its value and our range."""
    with pytest.raises(ConfigError) as caught:
        translate({"algorithm": {section: {name: value}}})

    error = caught.value
    assert (error.key, error.value, error.allowed) == (f"algorithm.{section}.{name}", value, allowed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is no YAML: see line 1, column 5"),
        ("- a", "holds no settings"),
        ("!!python/none x: 1", "is no YAML: see line 1, column 1"),
        ("a: 2001-99-99", "is no YAML"),
        ("a: !!timestamp soon", "is no YAML"),
        ("a: !!bool perhaps", "is no YAML"),
        ("a: !!int ''", "is no YAML"),
        ("a: \x07", "is no YAML"),
        ("a: " + "[" * 5_000, "is no YAML"),
    ],
)
def test_not_settings(tmp_path: Path, content: str, message: str) -> None:
    """It is said what it is; nothing in it is executed."""
    path = tmp_path / "config.yaml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ImportFileError, match=message):
        read_settings(path)


@pytest.mark.parametrize(
    "content", ["a: 1\nllm: {apiKey: sk-secret, ..", "a: *sk-secret", "a: !sk-secret 1", "sk-secret: 'a"]
)
def test_a_broken_file_is_not_quoted(tmp_path: Path, content: str) -> None:
    """A line that is no YAML may hold a secret: it is said where it stands, and nothing of it."""
    path = tmp_path / "config.yaml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ImportFileError) as caught:
        read_settings(path)

    assert "sk-secret" not in "".join(traceback.format_exception(caught.value))
