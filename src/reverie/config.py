"""Every setting: its default, its unit, its range, and who would change it.

Values come, strongest first, from command-line flags, the environment (`REVERIE_UPSTREAM__BASE_URL`), the file
`config.toml` in the home, and the defaults here. They are parsed once; a package receives its own section and never
reads the environment. A value out of range is refused with its key, the value and what is allowed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

from reverie.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails
    from pydantic_settings import PydanticBaseSettingsSource

DEFAULT_HOME = Path("~/.reverie")
DEFAULT_PORT = 8377
MIB = 1024 * 1024
PRIVATE = 0o700
"""The permissions of a home: conversations are nobody else's."""


class Section(BaseModel):
    """A table of `config.toml`. Unknown keys are refused: a misspelt setting must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _http_url(value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise ValueError("a URL that starts with http:// or https://")
    return value.rstrip("/") if value else None


class GatewayConfig(Section):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", description="Address to bind. Anything but loopback requires a token.")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65_535, description="TCP port; 0 picks a free one.")
    auth: Literal["none", "token"] = Field(
        default="none", description="`token` asks every `/v1` caller for a bearer token."
    )
    token_env: str = Field(default="REVERIE_TOKEN", description="Environment variable that holds the token.")
    token_file: Path | None = Field(default=None, description="File that holds the token; wins over `token_env`.")
    body_bytes_max: int = Field(default=20 * MIB, ge=1024, le=1024 * MIB, description="Largest request body.")
    body_read_s: float = Field(default=30.0, gt=0, le=600, description="Time a client has to send its body.")
    turn_s_max: float = Field(default=600.0, gt=0, le=86_400, description="Longest time one turn may take.")
    image_parts_max: int = Field(default=8, ge=0, le=64, description="Images per request.")
    image_bytes_max: int = Field(default=10 * MIB, ge=1, le=256 * MIB, description="One image, decoded.")
    image_total_bytes_max: int = Field(
        default=20 * MIB, ge=1, le=1024 * MIB, description="All images of a request, decoded."
    )
    drain_s: float = Field(default=10.0, ge=0, le=600, description="How long running turns may finish after SIGTERM.")
    probe_port: int = Field(
        default=0, ge=0, le=65_535, description="Port of `/livez`, answered by a thread of its own; 0: none."
    )
    stall_s_max: float = Field(
        default=60.0, gt=0, le=3_600, description="`/livez` fails when the event loop has not moved for so long."
    )

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class UpstreamConfig(Section):
    """The model that answers: any OpenAI-compatible server."""

    base_url: str | None = Field(
        default=None, description="For example `https://api.openai.com/v1`. Unset: answer offline."
    )
    model: str | None = Field(default=None, description="Model name sent upstream. Unset: the first the server lists.")
    api_key_env: str = Field(default="REVERIE_UPSTREAM_API_KEY", description="Environment variable that holds the key.")
    api_key_file: Path | None = Field(default=None, description="File that holds the key; wins over `api_key_env`.")
    connect_s: float = Field(default=10.0, gt=0, le=300, description="Time to open a connection.")
    read_s: float = Field(default=120.0, gt=0, le=3_600, description="Longest silence of the model's server.")
    retries_max: int = Field(
        default=3, ge=0, le=10, description="Further tries after a refused connection, 429 or 5xx."
    )
    retry_wait_s_max: float = Field(
        default=30.0, gt=0, le=600, description="Longest single wait, Retry-After included."
    )
    calls_max: int = Field(default=64, ge=1, le=1_024, description="Model calls at the same time.")
    background_calls_max: int = Field(
        default=2, ge=1, le=8, description="Of these, calls that nobody waits for; one place is always left."
    )
    context_tokens: int = Field(default=32_768, ge=2_048, le=10_000_000, description="The model's context window.")
    output_tokens: int = Field(default=4_096, ge=64, le=1_000_000, description="Part of the window kept for the reply.")
    streaming: bool = Field(default=True, description="False for a server that cannot stream: clients still can.")
    cache_hints: Literal["auto", "openai", "anthropic", "off"] = Field(
        default="auto",
        description="What helps the server find the beginning of a prompt again: `openai` sends `prompt_cache_key`, "
        "`anthropic` marks parts with `cache_control`, `auto` goes by its host.",
    )
    detect: bool = Field(
        default=True, description="With no base_url: look for Ollama, llama.cpp, LM Studio on their ports."
    )

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return _http_url(value)


class MemoryConfig(Section):
    """What is remembered and how it is found."""

    embedder: Literal["bundled", "openai", "none"] = Field(
        default="bundled",
        description="`bundled` works offline; `openai` asks `embedder_base_url`; `none`: full text only.",
    )
    embedder_base_url: str | None = Field(default=None, description="An OpenAI-compatible `/v1` for embeddings.")
    embedder_model: str = Field(default="text-embedding-3-small", description="Model of that server.")
    embedder_key_env: str = Field(default="REVERIE_EMBEDDER_API_KEY", description="Environment variable with its key.")
    chunker: Literal["headings", "lines"] = Field(
        default="headings",
        description="`headings` finds best; `lines` cuts as OpenClaw does: vectors imported from it serve.",
    )
    cache_entries_max: int = Field(default=50_000, ge=0, le=10_000_000, description="Vectors kept in embeddings.db.")
    cache_bytes_max: int = Field(
        default=512 * MIB, ge=0, le=1024 * 1024 * MIB, description="Size of the vectors kept in embeddings.db."
    )
    recall_hits: int = Field(
        default=6, ge=0, le=50, description="Memories quoted to the model with a new message; 0: none."
    )
    recall_score_min: float = Field(
        default=0.3, ge=0, le=1, description="Memories found with less certainty are not quoted."
    )
    mmr_lambda: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Relevance against repetition when up to 20 hits are chosen; 1: relevance alone; 0.7: variety.",
    )
    decay_half_life_days: float = Field(
        default=0.0,
        ge=0,
        le=36_500,
        description="After this a message or a daily note counts half; 0: nothing fades. Other files never fade.",
    )
    recall_tokens_max: int = Field(default=1_500, ge=0, le=100_000, description="Size of all quoted memories together.")
    recall_ms_max: int = Field(default=250, ge=1, le=10_000, description="After this a turn goes on without recall.")
    tools: bool = Field(default=True, description="Offer memory_search, memory_get and memory_append to the model.")
    tool_s_max: float = Field(default=15.0, gt=0, le=300, description="Longest time memory_search may take.")
    tool_cooldown_s: float = Field(
        default=60.0, ge=0, le=3_600, description="After a search that took too long, its failure is repeated so long."
    )
    citations: Literal["auto", "on", "off"] = Field(
        default="auto", description="Sources in results of the tools; `auto`: not in sessions of channels and groups."
    )
    append: Literal["off", "daily", "any"] = Field(
        default="daily", description="Where memory_append may write: nowhere, today's note, any file of the memory."
    )
    append_trust: Literal["untrusted", "agent"] = Field(
        default="untrusted",
        description="Whose words notes are that come over MCP or HTTP: nobody knows what their sender had read. "
        "`agent`: you trust all who can send some, so that they may become lasting memory.",
    )
    append_bytes_max: int = Field(default=16 * 1024, ge=64, le=MIB, description="Largest note of memory_append.")
    append_file_bytes_max: int = Field(
        default=MIB, ge=1024, le=64 * MIB, description="Files larger than this get no more notes from memory_append."
    )
    tool_rounds_max: int = Field(default=6, ge=1, le=50, description="Rounds of our tools within one turn.")
    watch: bool = Field(default=True, description="Notice files changed by hand.")
    watch_debounce_ms: int = Field(
        default=150, ge=10, le=10_000, description="Quiet time before a changed file is read."
    )
    reconcile_s: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds between comparisons of files and index, which find what was not noticed; 0: none.",
    )
    file_bytes_max: int = Field(
        default=16 * MIB, ge=1024, le=1024 * MIB, description="Larger Markdown files are skipped."
    )
    recall_events_max: int = Field(
        default=50_000, ge=100, le=10_000_000, description="Searches kept as recall evidence."
    )


ResetMode = Literal["off", "daily", "idle", "both"]
"""When a session that is not used ends by itself."""


def _time_zone(value: str) -> str:
    if value != "local":
        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError) as error:
            raise ValueError("`local`, or a name such as Europe/Berlin") from error
    return value


class ResetOverride(Section):
    """What differs from `[sessions.reset]` for one channel, or one type of session. What is unset does not."""

    mode: ResetMode | None = Field(default=None, description="When its sessions end by themselves.")
    hour: int | None = Field(default=None, ge=0, le=23, description="Hour of the daily boundary.")
    idle_minutes: int | None = Field(default=None, ge=0, le=5_256_000, description="Longest pause.")


class ResetConfig(Section):
    """When a session ends by itself and a successor with a summary of it goes on."""

    mode: ResetMode = Field(
        default="off",
        description="`daily` at `hour`, `idle` after `idle_minutes`, `both`: the first of them, or `off`.",
    )
    hour: int = Field(default=4, ge=0, le=23, description="Hour of the daily boundary, in `time_zone`.")
    time_zone: Annotated[str, AfterValidator(_time_zone)] = Field(
        default="local", description="`local` is this machine's; else a name such as Europe/Berlin."
    )
    idle_minutes: int = Field(
        default=0, ge=0, le=5_256_000, description="A pause longer than this ends the session; 0: none does."
    )
    defer_active_minutes: int = Field(
        default=60, ge=0, le=1_440, description="The daily boundary waits for a pause this long."
    )
    triggers: tuple[str, ...] = Field(
        default=("/new", "/reset"), description="A message that begins with one of these words begins a new session."
    )
    by_channel: dict[str, ResetOverride] = Field(
        default_factory=dict[str, ResetOverride], description="What differs for single channels, such as `telegram`."
    )
    by_type: dict[Literal["direct", "group", "thread"], ResetOverride] = Field(
        default_factory=dict[Literal["direct", "group", "thread"], ResetOverride],
        description="What differs for conversations with one person, with a group, in a thread.",
    )


class RetentionConfig(Section):
    """How long sessions that have ended are kept."""

    keep_days: int = Field(default=0, ge=0, le=36_500, description="Days an ended session is kept; 0: for ever.")
    archive: bool = Field(
        default=True, description="Write it to `archive/` in the home before it is deleted; false: it is gone."
    )


class SessionsConfig(Section):
    """How conversations are told apart, when they end, and how long they are kept."""

    main_key: str = Field(
        default="main", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Name of the shared session."
    )
    user_field: Literal["session", "metadata", "off"] = Field(
        default="session", description="`session`: OpenAI's `user` names a session. `metadata`, `off`: it does not."
    )
    history_messages_max: int = Field(default=2_000, ge=2, le=100_000, description="Messages of history ever sent.")
    alarm_bytes: int = Field(
        default=64 * MIB, ge=0, le=1024 * 1024 * MIB, description="A larger transcript is warned of; 0: never."
    )
    alarm_messages: int = Field(
        default=20_000, ge=0, le=1_000_000_000, description="A transcript of more entries is warned of; 0: never."
    )
    reset: ResetConfig = Field(default_factory=ResetConfig, description="When a session ends by itself.")
    retention: RetentionConfig = Field(
        default_factory=RetentionConfig, description="How long sessions that have ended are kept."
    )


QueueMode = Literal["wait", "followup", "collect", "steer", "interrupt", "reject"]
"""What happens to a message whose session is busy."""
DropPolicy = Literal["new", "old", "summarize"]

QUEUE_MODE_ALIASES: dict[str, QueueMode] = {
    "steering": "steer", "queue": "steer", "queued": "steer", "steer-backlog": "steer", "steer+backlog": "steer",
    "steer_backlog": "steer", "follow-up": "followup", "follow-ups": "followup", "followups": "followup",
    "coalesce": "collect", "interrupts": "interrupt", "abort": "interrupt",
}  # fmt: skip
"""OpenClaw's words for the modes. Its steer-backlog answered twice; here a steered message has one reply."""
DROP_POLICY_ALIASES: dict[str, DropPolicy] = {"oldest": "old", "newest": "new", "summary": "summarize"}


def _queue_mode(value: object) -> object:
    return QUEUE_MODE_ALIASES.get(value.strip().lower(), value.strip().lower()) if isinstance(value, str) else value


def _drop_policy(value: object) -> object:
    return DROP_POLICY_ALIASES.get(value.strip().lower(), value.strip().lower()) if isinstance(value, str) else value


ModeSetting = Annotated[QueueMode, BeforeValidator(_queue_mode)]
DropSetting = Annotated[DropPolicy, BeforeValidator(_drop_policy)]


class QueueConfig(Section):
    """What happens to a message whose session is busy."""

    mode: ModeSetting = Field(
        default="wait",
        description="`wait` up to `wait_ms`, then say that it is queued; `followup`, `collect`, `steer`, `interrupt` "
        "say so at once; `reject` answers 409.",
    )
    by_channel: dict[str, ModeSetting] = Field(
        default_factory=dict[str, QueueMode], description="Modes of single channels, such as `telegram`."
    )
    wait_ms: int = Field(default=30_000, ge=0, le=3_600_000, description="Longest wait of a caller in mode `wait`.")
    debounce_ms: int = Field(
        default=500, ge=0, le=600_000, description="Quiet time before queued messages are taken up."
    )
    cap: int = Field(default=20, ge=1, le=10_000, description="Messages that may wait in one session.")
    drop: DropSetting = Field(
        default="new",
        description="At the cap: `new` refuses, `old` drops the oldest, `summarize` drops it and keeps a line of it.",
    )
    waiting_max: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Messages that may wait in all sessions together."
    )
    ttl_s: int = Field(
        default=0, ge=0, le=31_536_000, description="A message that has not begun after this expires; 0: never."
    )
    directives: bool = Field(default=True, description="Let `/queue …` in a message change its session's settings.")


class CompactionConfig(Section):
    """When the beginning of a long conversation is replaced by a summary in the prompt. Transcripts stay whole."""

    enabled: bool = Field(default=True, description="False: what no longer fits is left out of the prompt.")
    reserve_tokens: int = Field(
        default=16_384, ge=0, le=10_000_000, description="Part of the window above which a conversation is compacted."
    )
    reserve_tokens_floor: int = Field(
        default=20_000, ge=0, le=10_000_000, description="`reserve_tokens` counts as at least this; 0: as it is."
    )
    keep_recent_tokens: int = Field(
        default=20_000, ge=0, le=10_000_000, description="Newest part that stays word for word; half the threshold at "
        "most."
    )  # fmt: skip
    recent_turns_kept: int = Field(
        default=3, ge=0, le=12, description="Last turns of what is summarised that the summary quotes, shortened."
    )
    transcript_bytes_max: int = Field(
        default=0, ge=0, le=1024**4, description="A transcript of this size is compacted whatever its tokens; 0: never."
    )
    timeout_s: float = Field(default=180.0, gt=0, le=3_600, description="Longest time one try may take.")
    quality_retries: int = Field(
        default=1, ge=0, le=3, description="Further answers asked for when a summary lacks something."
    )
    identifiers: Literal["strict", "off"] = Field(
        default="strict", description="`strict`: paths, URLs, ids of the last messages must stand in the summary."
    )
    model: str | None = Field(default=None, description="Model that summarises. Unset: the one that answers.")


ENGINE_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class ContextConfig(Section):
    """What decides which part of a conversation a prompt shows."""

    engine: str = Field(
        default="builtin",
        pattern=ENGINE_NAME,
        description="`builtin` (or `legacy`), or the name of an engine that an installed package offers.",
    )
    deadline_ms: int = Field(
        default=5_000, ge=1, le=600_000, description="Longest time an engine may take while a turn waits for it."
    )
    background_deadline_ms: int = Field(
        default=60_000, ge=1, le=3_600_000, description="Longest time of its compactions and of what nobody waits for."
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict[str, dict[str, Any]],
        description="`[context.settings.NAME]`: an engine's own; it checks them.",
    )


CRON_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def _cron(value: str) -> str:
    expression = CRON_MACROS.get(value.strip().lower(), " ".join(value.split()))
    wanted = "a cron expression of five fields, such as `0 3 * * *`"
    if len(expression.split()) != CRON_FIELDS:
        raise ValueError(wanted)
    try:
        CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"{wanted} ({error})") from error
    return expression


def _trimmed_lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


CRON_FIELDS = 5
DreamingMode = Literal["off", "core", "deep", "rem"]
"""How eagerly what is recalled becomes lasting memory: presets of hours and thresholds."""
Cron = Annotated[str, AfterValidator(_cron)]


class LightSleepConfig(Section):
    """Light sleep: what was noted and said lately is looked at, and what is recalled is staged."""

    enabled: bool = Field(default=True, description="False: this phase is left out.")
    lookback_days: int = Field(default=2, ge=0, le=366, description="What was recalled so long ago counts.")
    limit: int = Field(default=100, ge=0, le=1_000, description="Passages staged at most.")
    similarity: float = Field(default=0.9, ge=0, le=1, description="Passages of a note this alike count as one.")


class RemSleepConfig(Section):
    """REM sleep: themes that come back, and what may be a lasting truth."""

    enabled: bool = Field(default=True, description="False: this phase is left out.")
    lookback_days: int = Field(default=7, ge=0, le=366, description="What was recalled so long ago counts.")
    limit: int = Field(default=10, ge=0, le=100, description="Themes named at most.")
    strength_min: float = Field(default=0.75, ge=0, le=1, description="Weaker themes are not named.")


class DreamingConfig(Section):
    """What is kept as evidence of which passages are recalled, and when and how some become lasting memory."""

    mode: Annotated[DreamingMode, BeforeValidator(_trimmed_lower)] = Field(
        default="core",
        description="`core`: nightly, 0.75/3/2 (score, recalls, questions); `deep`: every 12 hours, 0.8/3/3; `rem`: "
        "every 6 hours, 0.85/4/3; `off`: never by itself.",
    )
    cron: Cron | None = Field(
        default=None, description="When, in `time_zone`: minute, hour, day, month, weekday. Unset: the mode's."
    )
    time_zone: Annotated[str, AfterValidator(_time_zone)] = Field(
        default="local", description="Whose days count; `local` is this machine's, else a name such as Europe/Berlin."
    )
    limit: int | None = Field(
        default=None, ge=0, le=1_000, description="Promotions of one night at most; 0: none. Unset: the mode's, 10."
    )
    score_min: float | None = Field(default=None, ge=0, le=1, description="The least score. Unset: the mode's.")
    recalls_min: int | None = Field(
        default=None, ge=0, le=10_000, description="Searches of people and models that surfaced it. Unset: the mode's."
    )
    queries_min: int | None = Field(
        default=None, ge=0, le=32, description="Their different questions. Unset: the mode's."
    )
    days_min: int = Field(default=0, ge=0, le=16, description="Different days on which it was recalled.")
    age_days_max: float | None = Field(
        default=None, gt=0, le=36_500, description="Days since the last recall at most. Unset: any."
    )
    half_life_days: float = Field(default=14.0, gt=0, le=36_500, description="After this recency counts half.")
    memory_chars_max: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="MEMORY.md does not grow beyond this by dreaming; its oldest generated sections give way; 0: no "
        "bound.",
    )
    snippet_chars_max: int = Field(
        default=640, ge=40, le=10_000, description="One promoted passage, cut at a sentence."
    )
    loss_fraction_max: float = Field(
        default=0.25, ge=0, le=1, description="Part of the generated entries that may give way in one night."
    )
    changes_kept: int = Field(
        default=100, ge=1, le=10_000, description="Changes of MEMORY.md that can be undone, for each agent."
    )
    entries_max: int = Field(
        default=4_096,
        ge=16,
        le=100_000,
        description="Passages kept for each agent; those recalled longest ago give way.",
    )
    ingest_notes: bool = Field(default=True, description="Passes look at new daily notes.")
    ingest_transcripts: bool = Field(default=True, description="Passes look at new conversations.")
    ingest_messages_max: int = Field(default=240, ge=1, le=10_000, description="Messages that one pass looks at.")
    reports: bool = Field(default=True, description="Each phase says what it found in `memory/dreaming/`.")
    diary: bool = Field(default=True, description="Each night that changed something has an entry in DREAMS.md.")
    model: str | None = Field(
        default=None, description="Model for the diary's prose and for `consolidate`. Unset: no model is asked."
    )
    consolidate: bool = Field(
        default=False, description="Let that model propose which promoted passages say the same as older ones."
    )
    model_calls_day_max: int = Field(default=8, ge=0, le=1_000, description="Calls of the model a day at most.")
    model_tokens_day_max: int = Field(
        default=50_000, ge=0, le=100_000_000, description="Tokens of the model a day at most."
    )
    model_timeout_s: float = Field(default=60.0, gt=0, le=600, description="Longest time one call may take.")
    light: LightSleepConfig = Field(default_factory=LightSleepConfig, description="Light sleep.")
    rem: RemSleepConfig = Field(default_factory=RemSleepConfig, description="REM sleep.")


class LearningSessionConfig(Section):
    """How a conversation is cut into episodes, and when one ends."""

    max_turns_per_episode: int = Field(
        default=30,
        ge=5,
        le=200,
        description="Entries (messages and results of tools) of one episode: then another one begins that continues "
        "it, whatever the next message is about.",
    )
    max_steps_per_episode: int = Field(
        default=60, ge=5, le=1_000, description="Tool calls and replies of one episode, also within one exchange."
    )
    max_tokens_per_episode: int = Field(
        default=32_000, ge=1_000, le=1_000_000, description="Size of one episode in tokens, estimated."
    )
    classify_timeout_ms: int = Field(
        default=5_000,
        ge=1_000,
        le=30_000,
        description="Longest time a model may take to say what a message is about. Later than that it counts as a new "
        "task until it is decided again. No reply waits for it.",
    )
    follow_up_mode: Literal["merge_follow_ups", "episode_per_turn"] = Field(
        default="merge_follow_ups", description="`episode_per_turn`: each message is a task of its own."
    )
    merge_max_gap_ms: int = Field(
        default=7_200_000,
        ge=0,
        le=86_400_000,
        description="After a longer pause only a correction is part of what was before; 0: whatever the pause.",
    )
    idle_minutes: int = Field(
        default=30, ge=1, le=1_440, description="An episode ends when nothing was said for so long."
    )
    redecide_attempts_max: int = Field(
        default=3, ge=0, le=10, description="How often a decision that came too late is looked at again."
    )


class CaptureConfig(Section):
    """How the steps of a conversation are kept and reflected on."""

    max_text_chars: int = Field(default=4_000, ge=200, le=64_000, description="Text of one step; its middle is cut.")
    max_tool_output_chars: int = Field(default=2_000, ge=200, le=32_000, description="Result of one tool call.")
    window_steps: int = Field(default=12, ge=1, le=64, description="Steps that one call of the model reflects on.")
    alpha_scoring: bool = Field(default=True, description="Let the model say how much a step contributed.")
    synth_reflections: bool = Field(default=True, description="Keep what the model says of a step.")


class RewardConfig(Section):
    """How a task that has ended is scored, and how its steps share in that."""

    llm_scoring: bool = Field(default=True, description="Let the model judge; else feedback alone counts.")
    feedback_window_s: int = Field(
        default=30, ge=0, le=86_400, description="Time for feedback after a task's end; 0: only feedback has it scored."
    )
    gamma: float = Field(default=0.9, ge=0, le=1, description="What a step passes on to the one before it.")
    decay_half_life_days: float = Field(default=30.0, ge=1, le=365, description="After this a step's priority halves.")
    implicit_threshold: float = Field(
        default=0.2, ge=0, le=1, description="Feedback found in a message counts from this magnitude on."
    )
    summary_max_chars: int = Field(default=2_000, ge=200, le=16_000, description="Of a task, as the model judges it.")
    min_exchanges: int = Field(default=1, ge=1, le=20, description="A task with fewer is not scored.")
    min_content_chars: int = Field(default=40, ge=0, le=4_000, description="Nor is one that says less.")
    tool_heavy_ratio: float = Field(
        default=0.7, ge=0, le=1, description="Nor one of so many tool calls among its steps …"
    )
    min_assistant_chars_for_tool_heavy: int = Field(
        default=80, ge=0, le=10_000, description="… and so little said, after one message."
    )


class PoliciesConfig(Section):
    """How good steps become policies."""

    use_llm: bool = Field(default=True, description="False: steps are linked to policies, and none is made.")
    min_similarity: float = Field(default=0.65, ge=0, le=1, description="A step this near follows a policy.")
    min_trace_value: float = Field(default=0.005, ge=-1, le=1, description="The least value of a step.")
    candidate_ttl_days: float = Field(default=30.0, ge=1, le=3_650, description="How long a step waits for others.")
    min_episodes: int = Field(default=2, ge=1, le=20, description="Different tasks that show the same.")
    single_task_value: float = Field(default=0.5, ge=-1, le=1, description="One task is enough from this value on.")
    inductions_max: int = Field(default=3, ge=0, le=50, description="New policies after one task, at most.")
    trace_chars_max: int = Field(default=3_000, ge=200, le=32_000, description="Of one step, as the model sees it.")
    gain_ema: float = Field(default=0.4, ge=0, le=1, description="Weight of a new gain against the old one.")
    tau_softmax: float = Field(default=0.5, ge=0.01, le=10, description="How much the best steps count in a gain.")
    activate_gain: float = Field(default=0.02, ge=-1, le=1, description="A policy is active from this gain on …")
    activate_support: int = Field(default=1, ge=1, le=100, description="… and so many tasks.")
    archive_gain: float = Field(default=-0.05, ge=-1, le=1, description="Below this it is given up.")


class WorldModelsConfig(Section):
    """How policies become knowledge of a domain."""

    use_llm: bool = Field(default=True, description="False: none is made.")
    min_policies: int = Field(default=1, ge=1, le=100, description="Policies of one domain.")
    min_policy_gain: float = Field(default=0.02, ge=-1, le=1, description="Their least gain.")
    min_policy_support: int = Field(default=1, ge=1, le=100, description="Their least support.")
    cluster_min_similarity: float = Field(default=0.3, ge=0, le=1, description="To the middle of their cluster.")
    cooldown_days: float = Field(default=1.0, ge=0, le=365, description="Rest of a domain between two changes.")
    policy_chars_max: int = Field(default=800, ge=100, le=16_000, description="Of one policy, as the model sees it.")
    trace_chars_max: int = Field(default=500, ge=100, le=16_000, description="Of one step that shows it.")
    confidence_delta: float = Field(default=0.05, ge=0, le=1, description="What a confirmation or an objection moves.")
    min_confidence: float = Field(default=0.2, ge=0, le=1, description="What is less certain is not recalled.")


class SkillsConfig(Section):
    """How policies become skills, and when a skill is trusted or given up."""

    use_llm: bool = Field(default=True, description="False: none is made.")
    min_gain: float = Field(default=0.02, ge=-1, le=1, description="Of the policy.")
    min_support: int = Field(default=1, ge=1, le=100, description="Of the policy.")
    candidate_trials: int = Field(default=1, ge=1, le=100, description="Scored uses before a candidate is decided on.")
    cooldown_hours: float = Field(default=6.0, ge=0, le=720, description="Between two builds of one skill.")
    rebuild_gain: float = Field(default=0.05, ge=0, le=1, description="Change of gain that is worth a rebuild.")
    eta_delta: float = Field(default=0.1, ge=0, le=1, description="What a thumb up or down moves.")
    archive_eta: float = Field(default=0.1, ge=0, le=1, description="Below this success rate a skill is given up.")
    min_eta: float = Field(default=0.1, ge=0, le=1, description="Below this it is not recalled.")
    trace_chars_max: int = Field(default=500, ge=100, le=16_000, description="Of one step, as the model sees it.")
    evidence_max: int = Field(default=6, ge=1, le=50, description="Steps a skill is made of.")


class FeedbackConfig(Section):
    """What becomes of corrections, praise and bursts of failures."""

    use_llm: bool = Field(default=True, description="False: templates word what is learned of it.")
    failure_threshold: int = Field(default=3, ge=2, le=20, description="Failures of one tool …")
    failure_window: int = Field(default=5, ge=2, le=50, description="… among its last calls that are a burst.")
    cooldown_s: float = Field(default=60.0, ge=0, le=86_400, description="Between two repairs of the same.")
    value_delta: float = Field(default=0.5, ge=0, le=2, description="Difference of good and bad steps for a repair.")
    min_low_value: float = Field(default=0.01, ge=0, le=1, description="A step is bad below minus this.")
    attach_to_policies: bool = Field(default=True, description="Policies of the same episodes learn of a repair.")
    trace_chars_max: int = Field(default=500, ge=100, le=16_000, description="Of one step, as the model sees it.")
    evidence_max: int = Field(default=4, ge=1, le=50, description="Good and bad steps of a repair, each.")


class LearnedRecallConfig(Section):
    """What of all that was learned joins the recall of a turn, within `memory.recall_tokens_max`."""

    enabled: bool = Field(default=True, description="False: memories alone are recalled.")
    skills: int = Field(default=3, ge=0, le=20, description="Skills, at most.")
    traces: int = Field(default=5, ge=0, le=50, description="Earlier steps, episodes and policies, at most.")
    world_models: int = Field(default=2, ge=0, le=20, description="World models, at most.")
    share: float = Field(default=0.5, ge=0, le=1, description="Part of `memory.recall_tokens_max` it may take.")
    min_trace_similarity: float = Field(default=0.25, ge=0, le=1, description="Steps less similar are not recalled.")
    mmr_lambda: float = Field(default=0.7, ge=0, le=1, description="Relevance against repetition.")
    include_low_value: bool = Field(default=False, description="Recall steps that led nowhere, too.")
    skill_mode: Literal["summary", "full"] = Field(
        default="summary", description="`summary`: what a skill is for, and where it stands; `full`: its guide."
    )
    skill_summary_chars: int = Field(default=200, ge=40, le=800, description="Of a skill in `summary`.")


class LearningBudgetConfig(Section):
    """What learning may spend. What is refused waits until the next hour or day; nothing of it is lost."""

    calls_hour: int = Field(default=300, ge=0, le=1_000_000, description="Calls of the model an hour.")
    calls_day: int = Field(default=1_500, ge=0, le=10_000_000, description="Calls of the model a day.")
    tokens_hour: int = Field(default=1_000_000, ge=0, le=10_000_000_000, description="Tokens an hour.")
    tokens_day: int = Field(default=4_000_000, ge=0, le=10_000_000_000, description="Tokens a day.")
    calls_episode: int = Field(default=60, ge=0, le=10_000, description="Calls for one episode, in all.")
    money_day: float = Field(
        default=0.0, ge=0, le=1_000_000, description="Money a day, by the prices below; 0: no bound."
    )
    price_in: float = Field(default=0.0, ge=0, le=100_000, description="Of a million tokens that are read.")
    price_out: float = Field(default=0.0, ge=0, le=100_000, description="Of a million tokens that are written.")
    kinds: dict[str, Annotated[int, Field(ge=0, le=10_000_000)]] = Field(
        default_factory=dict[str, int], description="Calls a day of single kinds of jobs, such as `induce = 50`."
    )


class LearningJobsConfig(Section):
    """How background work is run."""

    database_url: str | None = Field(
        default=None, description="PostgreSQL for the job engine, `postgresql://…`. Unset: `jobs.db` in the home."
    )
    attempts_max: int = Field(default=5, ge=1, le=50, description="Tries of a job before it is put aside as dead.")
    retry_wait_s: float = Field(
        default=10.0, ge=0.01, le=3_600, description="Wait after the first failure; it doubles."
    )
    retry_wait_s_max: float = Field(default=3_600.0, ge=0.01, le=86_400, description="Longest wait between two tries.")
    idle_quiet_s: float = Field(
        default=20.0, ge=0, le=3_600, description="Idle work begins when no turn has run for so long."
    )
    starve_s_max: float = Field(
        default=900.0, ge=0, le=86_400, description="Work that has waited so long runs beside turns, too."
    )
    poll_s: float = Field(default=1.0, ge=0.05, le=60, description="How often work that is due is looked for.")
    keep_days: float = Field(default=14.0, ge=0.1, le=3_650, description="How long ended jobs and answers are kept.")
    pause_s: float = Field(
        default=300.0, ge=30, le=86_400, description="Rest after a server refuses the key or the bill."
    )
    storm_factor: float = Field(
        default=5.0, ge=1, le=1_000, description="So many times the usual jobs or calls a minute are warned of."
    )
    storm_floor: int = Field(default=30, ge=1, le=100_000, description="Fewer a minute never are.")


class LearningConfig(Section):
    """What is learned from finished work, in the background, and what that may cost."""

    mode: Literal["full", "lightweight", "off"] = Field(
        default="full",
        description="`full`: steps, policies, world models and skills; `lightweight`: steps alone, without any call of "
        "a model; `off`: nothing.",
    )
    model: str | None = Field(default=None, description="Model for all of it. Unset: the upstream's.")
    background_llm_concurrency: int = Field(
        default=2, ge=1, le=8, description="Calls of the model at the same time, over all stages and processes."
    )
    model_timeout_s: float = Field(default=120.0, gt=0, le=3_600, description="Longest time one call may take.")
    session: LearningSessionConfig = Field(default_factory=LearningSessionConfig, description="Episodes.")
    capture: CaptureConfig = Field(default_factory=CaptureConfig, description="Steps and reflections.")
    reward: RewardConfig = Field(default_factory=RewardConfig, description="Scores.")
    policies: PoliciesConfig = Field(default_factory=PoliciesConfig, description="Policies.")
    world_models: WorldModelsConfig = Field(default_factory=WorldModelsConfig, description="World models.")
    skills: SkillsConfig = Field(default_factory=SkillsConfig, description="Skills.")
    feedback: FeedbackConfig = Field(default_factory=FeedbackConfig, description="Feedback and repairs.")
    recall: LearnedRecallConfig = Field(default_factory=LearnedRecallConfig, description="Recall of what was learned.")
    budget: LearningBudgetConfig = Field(default_factory=LearningBudgetConfig, description="What it may spend.")
    jobs: LearningJobsConfig = Field(default_factory=LearningJobsConfig, description="How it is run.")


_BYTE_UNITS = {unit: 1024**power for power, letter in enumerate(("", "k", "m", "g", "t"))
               for unit in ((letter, f"{letter}b", f"{letter}ib") if letter else ("", "b"))}  # fmt: skip
_BYTE_COUNT = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)", re.ASCII)
BYTES_MAX = 1024**5


def byte_count(text: str) -> int | None:
    """A size in words, such as `20mb`, `1.5g` or `512 KiB`, in bytes; units are of 1,024. None for what is none."""
    found = _BYTE_COUNT.fullmatch(text.strip().lower())
    if found is None or found[2] not in _BYTE_UNITS:
        return None
    size = int(Fraction(found[1]) * _BYTE_UNITS[found[2]])
    return size if size <= BYTES_MAX else None


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    size = byte_count(value)
    if size is None:
        raise ValueError("a size such as `20mb`, `1.5g` or a number of bytes")
    return size


def _token_guard(value: object) -> object:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in {"auto", "off"}:
        return word
    number = (
        int(word) if isinstance(word, str) and word.isascii() and word.isdigit() and len(word) < DIGITS_MAX else word
    )
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= TOKENS_MAX:
        return number
    raise ValueError(f"a number of tokens from 1 to {TOKENS_MAX}, `auto` or `off`")


TOKENS_MAX, DIGITS_MAX = 100_000_000, 12
Size = Annotated[int, BeforeValidator(_size)]
TokenGuard = Annotated[int | Literal["auto", "off"], BeforeValidator(_token_guard)]


class ThreadsOverride(Section):
    """What differs from `[threads]` for one agent. What is unset does not."""

    guard_tokens: TokenGuard | None = Field(default=None, description="A number of tokens, `auto` or `off`.")
    guard_bytes: Size | None = Field(default=None, ge=1, le=BYTES_MAX, description="A size such as `20mb`.")
    reserve_tokens: int | None = Field(default=None, ge=0, le=10_000_000, description="Part of the window kept free.")
    projection_chars_max: int | None = Field(
        default=None, ge=24_000, le=1_000_000, description="Characters of conversation told at a thread's beginning."
    )


class ThreadsConfig(Section):
    """Native threads: when one is gone on with, and what is told to one. Only agents with such a runtime have them."""

    guard_tokens: TokenGuard = Field(
        default="auto",
        description="A thread as full as this is not gone on with: a number of tokens; `auto`: the model's window less "
        "`reserve_tokens` and the new turn; `off`: never.",
    )
    guard_bytes: Size | None = Field(
        default=None,
        ge=1,
        le=BYTES_MAX,
        description="Nor one whose file is as large as this, such as `20mb`. Unset: whatever its size.",
    )
    reserve_tokens: int = Field(
        default=20_000, ge=0, le=10_000_000, description="Part of the window kept free for the turn's own work."
    )
    windows: dict[str, Annotated[int, Field(ge=1_024, le=100_000_000)]] = Field(
        default_factory=dict[str, int],
        description="Windows of single models in tokens, where they are smaller than what the runtime reports.",
    )
    projection_chars_max: int = Field(
        default=1_000_000,
        ge=24_000,
        le=1_000_000,
        description="Characters of conversation told at a thread's beginning, at most.",
    )
    keep_over_reset: Literal["automatic", "always", "never"] = Field(
        default="automatic",
        description="A thread stays when its session ends and another goes on: `automatic`, unless you asked for a new "
        "conversation; `always`; `never`.",
    )
    churn_rotations: int = Field(
        default=3, ge=0, le=1_000, description="So many new threads within `churn_turns` are warned of; 0: never."
    )
    churn_turns: int = Field(default=10, ge=1, le=1_000, description="The last turns that are looked at for that.")


AgentName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""What an agent may be called: it is the name of a folder and part of session keys."""


class CodexConfig(Section):
    """Codex, for an agent whose `runtime` it is. What is unset is as Codex would have it."""

    model: str | None = Field(default=None, description="Model that answers.")
    effort: str | None = Field(default=None, description="Its effort, such as `low` or `high`.")
    base_url: str | None = Field(
        default=None,
        description="A server of OpenAI's Responses API, such as `http://127.0.0.1:8080/v1`. Unset: OpenAI's, with the "
        "login in `codex/NAME` of the home.",
    )
    api_key_env: str = Field(
        default="REVERIE_CODEX_API_KEY", description="Environment variable with the key of `base_url`."
    )
    api_key_file: Path | None = Field(default=None, description="File that holds the key; wins over `api_key_env`.")
    context_tokens: int | None = Field(
        default=None, ge=2_048, le=10_000_000, description="The model's window, where Codex does not know it."
    )
    approvals: Literal["deny", "allow"] = Field(
        default="deny",
        description="What becomes of what Codex asks leave for, such as commands outside of its sandbox: nobody is "
        "there to ask.",
    )
    sandbox: Literal["read-only", "workspace-write", "danger-full-access"] = Field(
        default="read-only", description="What its commands may do by themselves; `workspace-write`: in the workspace."
    )
    steer_quiet_ms: int = Field(
        default=500,
        ge=0,
        le=60_000,
        description="Messages for a running turn are handed over when nobody has written for so long; 0: at once.",
    )
    binary: Path | None = Field(
        default=None, description="The program. Unset: that of the package `openai-codex-cli-bin`."
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict[str, JsonValue],
        description="Settings of Codex's own, as in its `config.toml`; they win over ours.",
    )

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return _http_url(value)


class AgentConfig(Section):
    """One agent: `[agents.NAME]`."""

    workspace: Path | None = Field(
        default=None, description="Its Markdown. Unset: `agents/NAME/workspace` in the home."
    )
    runtime: Literal["chat", "codex"] = Field(
        default="chat",
        description="`chat`: the upstream is called; `codex`: threads of the Codex app-server, with the extra "
        "`reverie[codex]`.",
    )
    codex: CodexConfig = Field(default_factory=CodexConfig, description="Codex, where it is the runtime.")
    threads: ThreadsOverride = Field(
        default_factory=ThreadsOverride, description="What of `[threads]` differs for this agent."
    )
    engine: str | None = Field(
        default=None, pattern=ENGINE_NAME, description="Its context engine. Unset: `context.engine`."
    )


PLUGINS_MAX = 16


class PluginConfig(Section):
    """One plugin: `[plugins.NAME]`, by the name of its entry point. What is not named here is not loaded."""

    enabled: bool = Field(default=True, description="False: it is not loaded, and its settings are kept.")
    conversation_access: bool = Field(
        default=False, description="May it see what is said? Else it sees ids, times, counts, usage and states."
    )
    deadline_ms: int = Field(
        default=500, ge=1, le=10_000, description="Longest time that `before_turn` may hold a turn up."
    )
    background_deadline_ms: int = Field(
        default=30_000, ge=1, le=600_000, description="Longest time of the other hooks, for which nobody waits."
    )
    settings: dict[str, Any] = Field(default_factory=dict[str, Any], description="Its own settings; it checks them.")


class Config(BaseSettings):
    """All settings of one home."""

    model_config = SettingsConfigDict(
        env_prefix="REVERIE_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    gateway: GatewayConfig = Field(default_factory=GatewayConfig)
    upstream: UpstreamConfig = Field(default_factory=UpstreamConfig)
    memory: MemoryConfig = Field(default_factory=MemoryConfig)
    sessions: SessionsConfig = Field(default_factory=SessionsConfig)
    queue: QueueConfig = Field(default_factory=QueueConfig)
    compaction: CompactionConfig = Field(default_factory=CompactionConfig)
    context: ContextConfig = Field(default_factory=ContextConfig)
    dreaming: DreamingConfig = Field(default_factory=DreamingConfig)
    learning: LearningConfig = Field(default_factory=LearningConfig)
    threads: ThreadsConfig = Field(default_factory=ThreadsConfig)
    agents: dict[AgentName, AgentConfig] = Field(default_factory=dict[str, AgentConfig])
    plugins: dict[AgentName, PluginConfig] = Field(default_factory=dict[str, PluginConfig], max_length=PLUGINS_MAX)

    def agent_names(self) -> tuple[str, ...]:
        """The configured agents; the default agent `main` always exists and stands first."""
        return ("main", *(name for name in self.agents if name != "main"))

    def threads_of(self, agent: str) -> ThreadsConfig:
        """The settings of an agent's native threads."""
        configured = self.agents.get(agent)
        if configured is None:
            return self.threads
        own = {name: value for name, value in configured.threads if value is not None}
        return self.threads.model_copy(update=own)

    def engine_of(self, agent: str) -> str:
        """The name of an agent's context engine."""
        own = self.agents[agent].engine if agent in self.agents else None
        return own or self.context.engine


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one installation, and where things stand in it."""

    path: Path

    @property
    def config_file(self) -> Path:
        """`config.toml`."""
        return self.path / "config.toml"

    @property
    def state_db(self) -> Path:
        """Canonical: sessions, turns, recall evidence."""
        return self.path / "state.db"

    @property
    def embeddings_db(self) -> Path:
        """The embedding cache."""
        return self.path / "embeddings.db"

    @property
    def jobs_db(self) -> Path:
        """The job engine's own."""
        return self.path / "jobs.db"

    @property
    def archive(self) -> Path:
        """Sessions that were exported before they were deleted."""
        return self.path / "archive"

    def codex(self, agent: str) -> Path:
        """What the Codex of an agent keeps: its threads, its login, its settings."""
        return self.path / "codex" / agent

    @property
    def lock_file(self) -> Path:
        """Held by the one process that serves this home."""
        return self.path / "reverie.lock"

    def workspace(self, config: Config, agent: str) -> Path:
        """The folder with an agent's Markdown."""
        configured = config.agents.get(agent)
        if configured is not None and configured.workspace is not None:
            return configured.workspace.expanduser()
        return self.path / "agents" / agent / "workspace"


def resolve_home(given: Path | None) -> Home:
    """The home to use: the one given, else `REVERIE_HOME`, else `~/.reverie`."""
    chosen = given or Path(os.environ.get("REVERIE_HOME") or DEFAULT_HOME)
    return Home(chosen.expanduser().resolve())


def load_config(home: Home, flags: Mapping[str, Any] | None = None) -> Config:
    """Read the settings of a home; `flags` are the command line's, in the shape of the file.

    Raises:
        ConfigError: the file is not TOML, a key is unknown, or a value is out of range.
    """
    try:
        file_values = tomllib.loads(home.config_file.read_text(encoding="utf-8")) if home.config_file.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config.toml", str(home.config_file), f"a TOML file ({error})") from error
    except OSError as error:
        raise ConfigError("config.toml", str(home.config_file), f"a readable file ({error})") from error

    class Loaded(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the hook's signature)
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file_values))

    try:
        return Loaded(**(flags or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(_key(first), first["input"], _allowed(first)) from error


def read_secret(env: str, file: Path | None) -> str | None:
    """A secret from a file if one is named, else from the environment; None when neither holds one.

    Raises:
        ConfigError: the file cannot be read or is empty. The message never holds the secret.
    """
    if file is None:
        return os.environ.get(env, "").strip() or None
    try:
        secret = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("secret file", str(file), f"a readable text file ({error})") from error
    if not secret:
        raise ConfigError("secret file", str(file), "a file that is not empty")
    return secret


def _key(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"])


def _allowed(error: ErrorDetails) -> str:
    """What pydantic says of the value, with the field's whole range beside it."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return "there is no such setting; `reverie config` lists them all"
    bounds = field_range(error["loc"])
    return f"{message} (allowed: {bounds})" if bounds else message


def section_of(info: FieldInfo) -> type[BaseModel] | None:
    """The table, or the tables with names of their own (`[agents.NAME]`), that a field holds; None for a setting."""
    kind: Any = get_args(info.annotation)[-1] if get_origin(info.annotation) is dict else info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def field_range(location: tuple[int | str, ...]) -> str:
    """The range of a setting in words, for example `0 ≤ gateway.port ≤ 65535`; empty when it has none."""
    model: type[BaseModel] = Config
    bounds: dict[str, Any] = {}
    parts = iter(location)
    for part in parts:
        info = model.model_fields.get(str(part))
        if info is None:
            return ""
        bounds = {
            name: getattr(m, name) for m in info.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)
        }
        inner = section_of(info)
        if inner is not None:
            model = inner
            if get_origin(info.annotation) is dict:
                next(parts, None)  # the table's own name
    low = f"{bounds['ge']} ≤ " if "ge" in bounds else f"{bounds['gt']} < " if "gt" in bounds else ""
    high = f" ≤ {bounds['le']}" if "le" in bounds else f" < {bounds['lt']}" if "lt" in bounds else ""
    return f"{low}{'.'.join(str(p) for p in location)}{high}" if bounds else ""
