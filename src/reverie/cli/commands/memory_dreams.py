"""`reverie memory rem-harness` and `rem-backfill`: what REM sleep would find, and what notes of the past say."""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from reverie.cli.commands.memory_promote import candidate_json, parse_now, promotion
from reverie.cli.opening import check_agent, find_home, open_home
from reverie.cli.output import columns, counted, dim, printable, say, say_json, warn
from reverie.clock import iso_instant
from reverie.dreaming.backfill import Backfill
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.diary import edit_diary, with_backfill, without_backfill
from reverie.dreaming.grounded import diary_entry_of
from reverie.dreaming.reports import rem_lines
from reverie.dreaming.settings import rules_for
from reverie.dreaming.sweep import rem_reflection
from reverie.dreaming.window import Window, place_of
from reverie.errors import ConfigError
from reverie.sessions.reset import zone_named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.cli.commands.memory_promote import Promotion
    from reverie.config import Config
    from reverie.dreaming.backfill import Change
    from reverie.dreaming.candidates import Rules
    from reverie.dreaming.diary import DiaryEdit
    from reverie.dreaming.grounded import GroundedNote
    from reverie.dreaming.rem import Reflection
    from reverie.types import JsonObject

SNIPPET_SHOWN = 60
CHANGES_SHOWN_MAX = 200


async def rem_harness(
    given: Path | None, *, agent: str, now: str | None, include_promoted: bool, as_json: bool
) -> None:
    """Show what REM sleep would find now, and all candidates of deep sleep. Nothing is written.

    Raises:
        ReverieError: there is no such home or agent, its memory cannot be read, or the instant is none.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, agent)
        recalls = opened.memory.recalls
        now_ms = parse_now(now, opened.memory.clock.now_ms())
        zone = await asyncio.to_thread(zone_named, config.dreaming.time_zone)
        rem = config.dreaming.rem
        window = Window.of(now_ms, rem.lookback_days, zone)
        found = await rem_reflection(recalls, agent, window, rem, include_promoted=include_promoted)
        rules = replace(rules_for(config.dreaming), limit=None, include_promoted=include_promoted)
        deep = await promotion(recalls, agent, rules, now_ms)
    if as_json:
        say_json({"agent": agent, "now": iso_instant(now_ms), **_harness_json(config, found, deep, rules)})
        return
    say("\n".join(map(printable, rem_lines(found))))
    say()
    say(dim(f"{counted(found.entries, 'passage')} of {counted(rem.lookback_days, 'day')}; nothing is written"))
    rows = [(f"{each.score:.3f}", place_of(each.entry), _shown(each.entry.snippet)) for each in deep.candidates]
    if rows:
        say("\n".join(["", "Candidates of deep sleep", *columns(rows)]))


def _harness_json(config: Config, found: Reflection, deep: Promotion, rules: Rules) -> JsonObject:
    rem = config.dreaming.rem
    settings = {
        "enabled": rem.enabled,
        "lookbackDays": rem.lookback_days,
        "limit": rem.limit,
        "minPatternStrength": rem.strength_min,
    }
    preview = {
        "sourceEntryCount": found.entries,
        "reflections": [
            {"tag": each.tag, "count": each.count, "strength": each.strength, "evidence": list(each.evidence)}
            for each in found.themes
        ],
        "candidateTruths": [
            {
                "key": each.entry.key,
                "snippet": each.entry.snippet,
                "confidence": each.confidence,
                "evidence": place_of(each.entry),
            }
            for each in found.truths
        ],
        "candidateKeys": [each.entry.key for each in found.truths],
        "bodyLines": list(rem_lines(found)),
    }
    candidates = [candidate_json(each, rules) for each in deep.candidates]
    return {
        "remConfig": settings,
        "rem": preview,
        "deep": {"candidateCount": len(candidates), "candidates": candidates, "rejected": deep.rejected},
    }


@dataclass(frozen=True, slots=True)
class BackfillFlags:
    """What is asked of `rem-backfill`. `path` is a daily note, or a folder of them."""

    agent: str
    path: Path | None
    stage: bool
    rollback: bool
    rollback_staged: bool
    now: str | None
    as_json: bool


async def rem_backfill(given: Path | None, flags: BackfillFlags) -> None:
    """Write what notes of the past say into the diary, and count it as evidence if that is asked for; or undo that.

    Raises:
        ConfigError: nothing is asked for, or both to add and to take back.
        MemoryPathError: the path names no daily note of this memory, or the diary is a link.
        ReverieError: the home cannot be used, or something cannot be written.
    """
    _check(flags)
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, flags.agent)
        memory = opened.memory
        now_ms = parse_now(flags.now, memory.clock.now_ms())
        backfill = _backfill(memory, flags.agent)
        workspace = memory.workspaces[flags.agent]
        report = (
            await _take_back(backfill, workspace, flags, now_ms)
            if flags.path is None
            else await _add(backfill, workspace, flags.path, flags, now_ms)
        )
    if flags.as_json:
        say_json({"agent": flags.agent, **report})
    else:
        _show(report)


def _check(flags: BackfillFlags) -> None:
    takes_back = flags.rollback or flags.rollback_staged
    if flags.path is None and not takes_back:
        raise ConfigError("--path", None, "a daily note or a folder of them; or --rollback, --rollback-short-term")
    if flags.path is not None and takes_back:
        raise ConfigError("--rollback", True, "not together with --path: first take back, then add")
    if flags.stage and flags.path is None:
        raise ConfigError("--stage-short-term", True, "only together with --path")


def _backfill(memory: OpenMemory, agent: str) -> Backfill:
    return Backfill(
        memory.state,
        memory.recalls,
        agent=agent,
        workspace=memory.workspaces[agent],
        origins=memory.origins,
        tags=concept_tags,
        bytes_max=memory.config.memory.file_bytes_max,
    )


async def _add(backfill: Backfill, workspace: Path, path: Path, flags: BackfillFlags, now_ms: int) -> JsonObject:
    sources = await backfill.sources(path)
    notes: list[GroundedNote] = []
    skipped: list[str] = []
    changes: list[Change] = []
    for source in sources.paths:
        note = await backfill.read(source)
        if note is None:
            skipped.append(source)
            continue
        notes.append(note)
        if flags.stage:
            changes += await backfill.stage(note, now_ms)
    entries = [entry for note in notes if (entry := diary_entry_of(note)) is not None]
    edit = await asyncio.to_thread(edit_diary, workspace, partial(with_backfill, entries=entries))
    return {
        "notes": len(notes),
        "skipped": skipped,
        "more": sources.more,
        "lasting": sum(len(note.of("lasting")) for note in notes),
        "candidates": sum(len(note.of("candidate")) for note in notes),
        "diary": _diary_json(edit),
        "staged": _changes_json(changes) if flags.stage else None,
    }


async def _take_back(backfill: Backfill, workspace: Path, flags: BackfillFlags, now_ms: int) -> JsonObject:
    edit: DiaryEdit | None = None
    if flags.rollback:
        edit = await asyncio.to_thread(edit_diary, workspace, without_backfill)
    changes: list[Change] = []
    if flags.rollback_staged:
        async for page in backfill.take_back(now_ms):
            changes += page
    return {
        "diary": None if edit is None else _diary_json(edit),
        "staged": _changes_json(changes) if flags.rollback_staged else None,
    }


def _diary_json(edit: DiaryEdit) -> JsonObject:
    before, after = (data.decode("utf-8", "replace").splitlines() for data in (edit.before, edit.after))
    diff = list(difflib.unified_diff(before, after, edit.path, edit.path, lineterm="", n=2))
    return {"path": edit.path, "written": edit.changed, "diff": diff}


def _changes_json(changes: Sequence[Change]) -> JsonObject:
    """How many entries came, changed and went, and the first of them."""
    kinds = [_kind_of(change) for change in changes]
    shown = [_change_json(change) for change in changes[:CHANGES_SHOWN_MAX]]
    return {**{kind: kinds.count(kind) for kind in ("added", "changed", "removed")}, "entries": shown}


def _change_json(change: Change) -> JsonObject:
    entry = change.after or change.before
    assert entry is not None, "a change has at least one side"
    counts = [0 if side is None else side.grounded_count for side in (change.before, change.after)]
    return {
        "change": _kind_of(change),
        "key": entry.key,
        "place": place_of(entry),
        "snippet": entry.snippet,
        "groundedCount": counts,
    }


def _kind_of(change: Change) -> str:
    if change.before is None:
        return "added"
    return "removed" if change.after is None else "changed"


def _show(report: JsonObject) -> None:
    if "notes" in report:
        found = f"{counted(report['lasting'], 'lasting update')}, {counted(report['candidates'], 'candidate')}"
        say(f"{counted(report['notes'], 'note')}: {found}")
        for path in report["skipped"]:
            warn(f"left out: {printable(path)} cannot be read")
        if report["more"]:
            warn("there are more notes than are looked at at once: name a part of the folder")
    diary, staged = report["diary"], report["staged"]
    if diary is not None:
        say("\n".join(map(printable, diary["diff"])) or f"{diary['path']}: nothing to change")
    if staged is not None:
        signs = {"added": "+", "changed": "~", "removed": "-"}
        for each in staged["entries"]:
            before, after = each["groundedCount"]
            say(f"{signs[each['change']]} {printable(each['place'])}  {before} → {after}  {_shown(each['snippet'])}")
        say(f"evidence: {staged['added']:,} added, {staged['changed']:,} changed, {staged['removed']:,} removed")


def _shown(snippet: str) -> str:
    text = printable(snippet)
    return text if len(text) <= SNIPPET_SHOWN else f"{text[:SNIPPET_SHOWN]}…"
