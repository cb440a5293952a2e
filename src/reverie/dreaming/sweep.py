"""START of dreaming: one sweep over the memory of every agent.

    repair ── notes ── transcripts ── light ── rem ── deep ── diary

Each step is done once a run, and on record with its own work or right after it (`steps.py`): a sweep may be stopped
between any two writes, and goes on where it stopped when it is called with the same run again. One agent's failure does
not stop the others. Nobody waits for a sweep: what it reads comes in pages, and files and CPU are in threads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from reverie.dreaming.budget import Spend
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.deep import promoted_once
from reverie.dreaming.diary import diary_entry, edit_diary, with_entry
from reverie.dreaming.ingestion import Ingestion
from reverie.dreaming.light import Staging, freshest, stage
from reverie.dreaming.narration import PASSAGES_MAX, Narrator, Passage, Story
from reverie.dreaming.recording import day_of
from reverie.dreaming.rem import Recollection, Reflection, reflect
from reverie.dreaming.reports import deep_lines, light_lines, rem_lines, write_report
from reverie.dreaming.settings import rules_for
from reverie.dreaming.steps import RunSteps
from reverie.dreaming.window import Window, place_of
from reverie.errors import ReverieError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import DreamingConfig, LightSleepConfig, RemSleepConfig
    from reverie.dreaming.deep import Promotes
    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.evidence import Phase, RecallEntries
    from reverie.dreaming.reports import Sleep
    from reverie.dreaming.settings import Settings
    from reverie.dreaming.sources import NoteAuthors
    from reverie.llm.client import Model
    from reverie.storage.database import Database, Transaction
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

NAMED_MAX = PASSAGES_MAX
"""Passages whose keys a step leaves for the diary. Their words are not kept with a run."""


@dataclass(frozen=True, slots=True)
class Night:
    """One agent's part of a sweep. `done` are the steps that are done, with what they found."""

    run_id: str
    agent: str
    workspace: Path
    now_ms: int
    config: DreamingConfig
    zone: tzinfo
    done: dict[str, JsonObject]

    @property
    def day(self) -> str:
        """Whose night it is, `YYYY-MM-DD`."""
        return day_of(self.now_ms, self.zone)

    def window(self, lookback_days: int) -> Window:
        """The look-back of a phase."""
        return Window.of(self.now_ms, lookback_days, self.zone)


class Dreamer:
    """Dreams. `promotes` and `repair` None: those steps are skipped. `alone` is held by each step while it runs."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        recalls: RecallEntries,
        workspaces: Mapping[str, Path],
        settings: Settings,
        origins: NoteAuthors,
        narrator: Narrator,
        note_bytes_max: int,
        promotes: Promotes | None = None,
        repair: Callable[[str], Awaitable[JsonObject]] | None = None,
        alone: asyncio.Lock | None = None,
    ) -> None:
        self._database = database
        self._recalls = recalls
        self._workspaces = workspaces
        self._settings = settings
        self._origins = origins
        self._narrator = narrator
        self._note_bytes_max = note_bytes_max
        self._promotes = promotes
        self._repair_entries = repair
        self._alone = alone or asyncio.Lock()
        self._steps = RunSteps(database, clock)

    async def sweep(self, run_id: str, now_ms: int) -> JsonObject:
        """Dream for every agent, and say what was done. The run must be on record in `dream_runs`.

        Raises:
            ReverieError, or whatever else stopped it: no agent's night came to its end.
        """
        config, zone = self._settings.current, self._settings.zone
        told: dict[str, JsonObject] = {}
        failures: list[Exception] = []
        for agent, workspace in self._workspaces.items():
            done = await self._steps.done(run_id, agent)
            night = Night(run_id, agent, workspace, now_ms, config, zone, done)
            try:
                await self._dream(night)
            except Exception as error:  # a named border: one agent's failure does not stop the others
                failures.append(error)
                log.exception("a night of an agent failed", action="dream_agent_failed", run=run_id, agent=agent)
            told[agent] = _told(night) | ({"error": _named(failures[-1])} if failures and not _ended(night) else {})
        if failures and len(failures) == len(told):
            raise failures[0]
        return _summed(told)

    async def _dream(self, night: Night) -> None:
        """One agent's night: each step once, in this order."""
        for step, perform in (
            ("repair", self._repair),
            ("notes", self._notes),
            ("transcripts", self._transcripts),
            ("light", self._light),
            ("rem", self._rem),
            ("deep", self._deep),
            ("diary", self._diary),
        ):
            async with self._alone:
                night.done.update(await self._steps.done(night.run_id, night.agent))  # of which some may be forgotten
                if step not in night.done:
                    night.done[step] = await perform(night)
            await asyncio.sleep(0)

    # -- before sleep --------------------------------------------------------------------------------------------

    async def _repair(self, night: Night) -> JsonObject:
        if self._repair_entries is None:
            return await self._record(night, "repair", _skipped("nothing repairs here"))
        return await self._record(night, "repair", await self._repair_entries(night.agent))

    async def _notes(self, night: Night) -> JsonObject:
        config = night.config
        if not config.ingest_notes:
            return await self._record(night, "notes", _skipped("dreaming.ingest_notes is false"))
        done = await self._ingestion(night).notes(
            night.agent,
            night.workspace,
            now_ms=night.now_ms,
            lookback_days=_lookback_days(config),
            limit=config.light.limit,
        )
        return await self._record(night, "notes", done.as_json())

    async def _transcripts(self, night: Night) -> JsonObject:
        config = night.config
        if not config.ingest_transcripts:
            return await self._record(night, "transcripts", _skipped("dreaming.ingest_transcripts is false"))
        done = await self._ingestion(night).messages(
            night.agent,
            now_ms=night.now_ms,
            lookback_days=_lookback_days(config),
            messages_max=config.ingest_messages_max,
            pass_id=night.run_id,
        )
        return await self._record(night, "transcripts", done.as_json())

    def _ingestion(self, night: Night) -> Ingestion:
        return Ingestion(
            self._database,
            self._recalls,
            origins=self._origins,
            tags=concept_tags,
            zone=night.zone,
            bytes_max=self._note_bytes_max,
        )

    # -- the phases ----------------------------------------------------------------------------------------------

    async def _light(self, night: Night) -> JsonObject:
        config = night.config.light
        if not config.enabled:
            return await self._record(night, "light", _skipped("dreaming.light.enabled is false"))
        staging = await light_staging(self._recalls, night.agent, night.window(config.lookback_days), config)
        report: JsonObject = {"staged": len(staging.staged), "reinforced": len(staging.reinforced)}
        if staging.staged:
            report |= await self._report(night, "light", light_lines(staging.staged))
        report["keys"] = list(staging.reinforced[:NAMED_MAX])
        return await self._reinforce(night, "light", staging.reinforced, report)

    async def _rem(self, night: Night) -> JsonObject:
        config = night.config.rem
        if not config.enabled:
            return await self._record(night, "rem", _skipped("dreaming.rem.enabled is false"))
        found = await rem_reflection(self._recalls, night.agent, night.window(config.lookback_days), config)
        report: JsonObject = {
            "entries": found.entries,
            "themes": [theme.tag for theme in found.themes],
            "truths": len(found.truths),
            "reinforced": len(found.reinforced),
        }
        if found.themes or found.truths:
            report |= await self._report(night, "rem", rem_lines(found))
        return await self._reinforce(night, "rem", found.reinforced, report)

    async def _reinforce(self, night: Night, phase: Phase, keys: Sequence[str], report: JsonObject) -> JsonObject:
        """Reinforce passages and record the phase as done, in one transaction; once a run, whoever works on it."""

        def work(tx: Transaction) -> None:
            if self._steps.claim_in(tx, night.run_id, night.agent, phase, report):
                self._recalls.reinforce(tx, night.agent, phase, keys, night.now_ms)

        await self._database.write(work)
        return report

    async def _deep(self, night: Night) -> JsonObject:
        rules = rules_for(night.config)
        if self._promotes is None or rules.limit == 0:
            why = "dreaming.limit is 0" if rules.limit == 0 else "nothing promotes here"
            return await self._record(night, "deep", _skipped(why))
        begun = night.done.get("deep_begun")
        at_ms: int = (begun or await self._record(night, "deep_begun", {"at": night.now_ms}))["at"]
        done = await promoted_once(self._promotes, night.agent, rules, at_ms, goes_on=begun is not None)
        report: JsonObject = {
            "candidates": done.candidates,
            "promoted": len(done.keys),
            "gave_way": done.gave_way,
            "waiting": done.waiting,
            **done.counts,
        }
        if done.keys or done.gave_way or done.waiting:
            lines = deep_lines(done, await self._passages(night.agent, done.keys))
            report |= await self._report(night, "deep", lines)
        report["keys"] = list(done.keys[:NAMED_MAX])
        return await self._record(night, "deep", report)

    # -- the morning ---------------------------------------------------------------------------------------------

    async def _diary(self, night: Night) -> JsonObject:
        if not night.config.diary:
            return await self._record(night, "diary", _skipped("dreaming.diary is false"))
        story = await self._story(night)
        if not story.happened:
            return await self._record(night, "diary", _skipped("nothing happened"))
        entry = night.done.get("entry") or await self._entry(night, story)
        report: JsonObject = {name: value for name, value in entry.items() if name != "text"}
        try:
            done = await asyncio.to_thread(edit_diary, night.workspace, partial(with_entry, entry=entry["text"]))
            report |= {"path": done.path, "written": done.changed}
        except ReverieError as error:
            report |= _not_written(night, "diary", error)

        def work(tx: Transaction) -> None:
            self._steps.record_in(tx, night.run_id, night.agent, "entry", {})
            self._steps.record_in(tx, night.run_id, night.agent, "diary", report)

        await self._database.write(work)
        return report

    async def _entry(self, night: Night, story: Story) -> JsonObject:
        """The entry of a night, kept until it is written: a night that is interrupted tells nothing twice."""
        told = await self._narrator.tell(story, night.config, night.now_ms)
        entry: JsonObject = {"by": told.by, "text": diary_entry(night.now_ms, night.zone, told.text)}
        if told.problem:
            entry["problem"] = told.problem
        return await self._record(night, "entry", entry)

    async def _story(self, night: Night) -> Story:
        light, rem, deep = (night.done.get(step, {}) for step in ("light", "rem", "deep"))
        return Story(
            staged=light.get("reinforced", 0),
            passages=await self._passages(night.agent, light.get("keys", ())),
            themes=tuple(rem.get("themes", ())),
            promoted=await self._passages(night.agent, deep.get("keys", ())),
            promotions=deep.get("promoted", 0),
            gave_way=deep.get("gave_way", 0),
            waiting=deep.get("waiting", ""),
        )

    async def _passages(self, agent: str, keys: Sequence[str]) -> tuple[Passage, ...]:
        """The first of these passages as they are known now; what was forgotten meanwhile is not told."""

        def work(tx: Transaction) -> list[RecallEntry | None]:
            return [self._recalls.known_under(tx, agent, key) for key in keys[:NAMED_MAX]]

        found = await self._database.read(work)
        return tuple(Passage(place_of(entry), entry.snippet) for entry in found if entry is not None)

    # -- on record -----------------------------------------------------------------------------------------------

    async def _record(self, night: Night, step: str, report: JsonObject) -> JsonObject:
        await self._steps.record(night.run_id, night.agent, step, report)
        return report

    async def _report(self, night: Night, phase: Sleep, lines: Sequence[str]) -> JsonObject:
        """Write the day's report of a phase; that it could not be written stops no night."""
        if not night.config.reports:
            return {}
        try:
            return {"report": await asyncio.to_thread(write_report, night.workspace, phase, night.day, lines)}
        except ReverieError as error:
            return _not_written(night, f"the report of {phase} sleep", error)


async def light_staging(recalls: RecallEntries, agent: str, window: Window, config: LightSleepConfig) -> Staging:
    """What light sleep would stage now, read page by page.

    Raises:
        StorageError: it could not be read.
    """
    found: list[RecallEntry] = []
    async for page in recalls.recent(agent, window.read_from_ms):
        found = await asyncio.to_thread(freshest, found, page, window, config.limit)
    return await asyncio.to_thread(stage, found, config.similarity)


async def rem_reflection(
    recalls: RecallEntries, agent: str, window: Window, config: RemSleepConfig, *, include_promoted: bool = False
) -> Reflection:
    """What REM sleep would find now, read page by page.

    Raises:
        StorageError: it could not be read.
    """
    recollection = Recollection(window, include_promoted)
    async for page in recalls.recent(agent, window.read_from_ms):
        await asyncio.to_thread(recollection.take, page)
    return await asyncio.to_thread(partial(reflect, recollection, strength_min=config.strength_min, limit=config.limit))


def dreamer_of(
    *,
    database: Database,
    clock: Clock,
    recalls: RecallEntries,
    workspaces: Mapping[str, Path],
    settings: Settings,
    origins: NoteAuthors,
    note_bytes_max: int,
    model: Model | None = None,
    spend: Spend | None = None,
    promotes: Promotes | None = None,
    repair: Callable[[str], Awaitable[JsonObject]] | None = None,
    alone: asyncio.Lock | None = None,
) -> Dreamer:
    """A dreamer over an open home. `model` is asked only if `dreaming.model` is set; `spend` may be shared.

    `promotes` is a `DeepSleep` over the home's `Promoter`, and `repair` what puts an agent's entries right; without
    them those steps are skipped. `alone` is held by each step, so that what must not meet one can wait.
    """
    spend = spend or Spend(database, settings)
    return Dreamer(
        database=database,
        clock=clock,
        recalls=recalls,
        workspaces=workspaces,
        settings=settings,
        origins=origins,
        narrator=Narrator(model, spend),
        note_bytes_max=note_bytes_max,
        promotes=promotes,
        repair=repair,
        alone=alone,
    )


def _lookback_days(config: DreamingConfig) -> int:
    """How far back the passes begin: as far as a phase looks that is not left out."""
    phases = (config.light, config.rem)
    return max((phase.lookback_days for phase in phases if phase.enabled), default=0)


def _skipped(why: str) -> JsonObject:
    return {"skipped": why}


def _not_written(night: Night, what: str, error: ReverieError) -> JsonObject:
    log.warning("a night goes on without something it could not write", action="dream_unwritten", run=night.run_id,
                agent=night.agent, what=what, cause=str(error))  # fmt: skip
    return {"problem": f"{what} was not written: {error}"}


def _ended(night: Night) -> bool:
    return "diary" in night.done


def _told(night: Night) -> JsonObject:
    """What an agent's night did, without what only the diary needs."""
    return {
        step: {name: value for name, value in found.items() if name != "keys"}
        for step, found in night.done.items()
        if step not in {"entry", "deep_begun"}
    }


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, ReverieError) else f"{type(error).__name__}: {error}"


def _summed(told: Mapping[str, JsonObject]) -> JsonObject:
    """All nights together, and each by its agent."""

    def total(step: str, name: str) -> int:
        return sum(night.get(step, {}).get(name, 0) for night in told.values())

    return {
        "agents": len(told),
        "noticed": total("notes", "passages") + total("transcripts", "passages"),
        "staged": total("light", "staged"),
        "candidates": total("deep", "candidates"),
        "promoted": total("deep", "promoted"),
        "failed": sum("error" in night for night in told.values()),
        "by_agent": dict(told),
    }
