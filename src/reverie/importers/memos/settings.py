"""The settings of a MemOS plugin in our words: its camel-case names under `algorithm` become keys of `[learning]`.

Values keep their meaning: milliseconds become hours where ours are hours. One that is out of our range is refused with
its own name. What has no counterpart is named, never its value: it may be a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from reverie.config import LearningConfig, field_range
from reverie.errors import ConfigError, ImportFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from reverie.types import JsonObject

FILE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 8
MS_PER_S, MS_PER_HOUR = 1_000, 3_600_000
ROOT = "algorithm."

_CONSTRUCTOR_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What PyYAML raises besides its own, for a value that is not what its form or its tag says."""

_SECTIONS: dict[str, tuple[str, str]] = {
    "capture": ("capture", ("maxTextChars=max_text_chars maxToolOutputChars=max_tool_output_chars "
                "alphaScoring=alpha_scoring synthReflections=synth_reflections batchThreshold=window_steps")),
    "reward": ("reward", ("gamma=gamma decayHalfLifeDays=decay_half_life_days llmScoring=llm_scoring "
               "implicitThreshold=implicit_threshold feedbackWindowSec=feedback_window_s "
               "summaryMaxChars=summary_max_chars minExchangesForCompletion=min_exchanges "
               "minContentCharsForCompletion=min_content_chars toolHeavyRatio=tool_heavy_ratio "
               "minAssistantCharsForToolHeavy=min_assistant_chars_for_tool_heavy")),
    "l2Induction": ("policies", ("minSimilarity=min_similarity candidateTtlDays=candidate_ttl_days "
                    "minEpisodesForInduction=min_episodes minTraceValue=min_trace_value useLlm=use_llm "
                    "traceCharCap=trace_chars_max gainEmaAlpha=gain_ema archiveGain=archive_gain")),
    "l3Abstraction": ("world_models", ("minPolicies=min_policies minPolicyGain=min_policy_gain "
                      "minPolicySupport=min_policy_support clusterMinSimilarity=cluster_min_similarity "
                      "policyCharCap=policy_chars_max traceCharCap=trace_chars_max useLlm=use_llm "
                      "cooldownDays=cooldown_days confidenceDelta=confidence_delta "
                      "minConfidenceForRetrieval=min_confidence")),
    "skill": ("skills", ("minSupport=min_support minGain=min_gain candidateTrials=candidate_trials "
              "traceCharCap=trace_chars_max evidenceLimit=evidence_max useLlm=use_llm etaDelta=eta_delta "
              "archiveEta=archive_eta minEtaForRetrieval=min_eta")),
    "feedback": ("feedback", ("failureThreshold=failure_threshold failureWindow=failure_window valueDelta=value_delta "
                 "minLowValueThreshold=min_low_value useLlm=use_llm attachToPolicy=attach_to_policies "
                 "traceCharCap=trace_chars_max evidenceLimit=evidence_max")),
    "session": ("session", ("followUpMode=follow_up_mode mergeMaxGapMs=merge_max_gap_ms "
                "maxTurnsPerEpisode=max_turns_per_episode classifyTimeoutMs=classify_timeout_ms")),
    "retrieval": ("recall", ("tier1TopK=skills tier2TopK=traces tier3TopK=world_models mmrLambda=mmr_lambda "
                  "includeLowValue=include_low_value minTraceSim=min_trace_similarity skillInjectionMode=skill_mode "
                  "skillSummaryChars=skill_summary_chars")),
}  # fmt: skip
"""For each of their sections ours, and the names of both."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One of our keys below `learning`, and how a value of theirs becomes one of ours."""

    key: str
    convert: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True, slots=True)
class Translated:
    """Settings in our words: `values` by their whole keys; `unknown` are the names of theirs without a counterpart."""

    values: dict[str, bool | int | float | str]
    unknown: tuple[str, ...]
    embedding_model: str = ""


def read_settings(path: Path) -> Translated:
    """Translate a configuration file. Blocks.

    Raises:
        ImportFileError: it cannot be read, or is no YAML.
        ConfigError: a value is out of the range of ours; named as it stands there.
    """
    import yaml  # comes with DBOS; loaded where a configuration is given

    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise ImportFileError(f"{path} is larger than {FILE_BYTES_MAX:,} bytes: it is no configuration")
        found: Any = yaml.safe_load(raw.decode("utf-8"))
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, *_CONSTRUCTOR_ERRORS) as error:
        raise ImportFileError(
            f"{path} is no YAML{_place(error)}"
        ) from None  # its text quotes the file, secrets and all
    if not isinstance(found, dict):
        raise ImportFileError(f"{path} holds no settings")
    return translate(cast("JsonObject", found))


def _place(error: Exception) -> str:
    """Where it is none, as far as that is known."""
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f": see line {mark.line + 1}, column {mark.column + 1}"


def translate(settings: JsonObject) -> Translated:
    """Translate settings. `algorithm.` may be left out before a section.

    Raises:
        ConfigError: a value is out of the range of ours; named as it stands there.
    """
    values: dict[str, bool | int | float | str] = {}
    unknown: list[str] = []
    model = ""
    for name, value in _leaves(settings):
        setting = KNOWN.get(name.removeprefix(ROOT))
        if name == "embedding.model":
            model = value if isinstance(value, str) else ""
        if setting is None:
            unknown.append(name)
            continue
        converted = _converted(name, value, setting)
        _check(name, value, setting.key, converted)
        values[f"learning.{setting.key}"] = converted
    return Translated(values, tuple(unknown), model)


def _leaves(settings: JsonObject, before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every setting with its whole name."""
    for name, value in settings.items():
        whole = f"{before}{name}"
        if isinstance(value, dict) and depth < DEPTH_MAX:
            yield from _leaves(cast("JsonObject", value), f"{whole}.", depth + 1)
        else:
            yield whole, value


def _converted(name: str, value: Any, setting: Setting) -> Any:
    try:
        return setting.convert(value)
    except TypeError as error:
        raise ConfigError(name, value, _range(setting.key) or str(error)) from None


def _check(name: str, value: Any, key: str, converted: Any) -> None:
    """Refuse what our settings would refuse."""
    section, _, field = key.rpartition(".")
    nested: JsonObject = {section: {field: converted}} if section else {field: converted}
    try:
        LearningConfig.model_validate(nested, strict=isinstance(converted, bool | str))
    except ValidationError as error:
        raise ConfigError(name, value, _range(key) or error.errors()[0]["msg"]) from None


def _range(key: str) -> str:
    """What is allowed, in words: `5 ≤ learning.session.max_turns_per_episode ≤ 200`."""
    return field_range(("learning", *key.split(".")))


def _mode(value: Any) -> Literal["lightweight", "full"]:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return "lightweight" if value else "full"


def _divided(by: int) -> Callable[[Any], Any]:
    """A number in a larger unit."""

    def divide(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError("a number")
        return value / by

    return divide


def _known() -> dict[str, Setting]:
    """Every setting of theirs that has a counterpart, without `algorithm.`."""
    known: dict[str, Setting] = {}
    for theirs, (ours, names) in _SECTIONS.items():
        for pair in names.split():
            camel, _, snake = pair.partition("=")
            known[f"{theirs}.{camel}"] = Setting(f"{ours}.{snake}")
    return {
        **known,
        "session.bgLlmConcurrency": Setting("background_llm_concurrency"),
        "lightweightMemory.enabled": Setting("mode", _mode),
        "reward.tauSoftmax": Setting("policies.tau_softmax"),
        "skill.cooldownMs": Setting("skills.cooldown_hours", _divided(MS_PER_HOUR)),
        "feedback.cooldownMs": Setting("feedback.cooldown_s", _divided(MS_PER_S)),
        "llm.timeoutMs": Setting("model_timeout_s", _divided(MS_PER_S)),
    }


KNOWN = _known()
