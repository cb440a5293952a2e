"""`reverie memory promote` and `promote-explain`: what would be promoted, why (not), and having it written."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from reverie.cli.opening import check_agent, find_home, open_home
from reverie.cli.output import columns, counted, dim, printable, say, say_json, warn
from reverie.clock import iso_instant, parse_instant
from reverie.dreaming.candidates import GATES, Components, best, explain, rank, rules_of
from reverie.dreaming.contamination import contaminated
from reverie.dreaming.settings import rules_for
from reverie.errors import ConfigError, MemoryPathError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from reverie.dreaming.candidates import Candidate, Counting, Explanation, GateCheck, Options, Rules
    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.promotion import PromotionReport
    from reverie.types import JsonObject

MATCHES_MAX = 10
SNIPPET_SHOWN = 60
REJECTED_SHOWN = 20
_WANTED = {
    "source": "of a daily note or a conversation",
    "content": "it says something",
    "provenance": "written by you or the agent",
    "promoted": "not promoted yet",
    "signals": "signals of any kind",
    "recalls": "recalls",
    "queries": "different questions",
    "days": "different days",
    "ingested": "asked for by somebody",
    "age": "days since the last recall",
    "score": "score",
}
_WANTED_UPSTREAM = {"recalls": "signals of any kind", "queries": "questions or days"}
_YES_NO = frozenset({"source", "content", "provenance", "promoted", "ingested"})


class EntryPages(Protocol):
    """Where recalled passages are read, a page at a time."""

    def pages(self, agent: str) -> AsyncIterator[Sequence[RecallEntry]]:
        """All entries of an agent, at most 1,000 at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Promotion:
    """What would be promoted, best first, and how many each gate refused; `limit` are those beyond it."""

    candidates: tuple[Candidate, ...]
    rejected: dict[str, int]


def parse_now(given: str | None, now_ms: int) -> int:
    """The instant that `--now` names, in milliseconds since 1970; the clock's without it. No zone means UTC.

    Raises:
        ConfigError: it is not ISO 8601.
    """
    if given is None:
        return now_ms
    try:
        return parse_instant(given)
    except ValueError as error:
        raise ConfigError("--now", given, "an instant as ISO 8601, such as 2026-04-03T03:00:00Z") from error


@dataclass(frozen=True, slots=True)
class PromoteFlags:
    """What the two commands have in common: whose memory, by which rules, when, and for whom it is shown.

    `apply` writes what is listed, `dry_run` only says what that would do.
    """

    agent: str
    options: Options
    now: str | None
    as_json: bool
    apply: bool = False
    dry_run: bool = False


async def promote_here(given: Path | None, flags: PromoteFlags) -> None:
    """List what would be promoted from a home, or promote it.

    Raises:
        ReverieError: there is no such home or agent, its memory cannot be read or written, or the instant is none.
    """
    home, config = await asyncio.to_thread(find_home, given)
    writes = flags.apply or flags.dry_run
    base = rules_for(config.dreaming)
    rules = rules_of(flags.options, base if writes else replace(base, limit=None))
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, flags.agent)
        now_ms = parse_now(flags.now, opened.memory.clock.now_ms())
        if not writes:
            await promote(opened.memory.recalls, flags.agent, rules, now_ms, as_json=flags.as_json)
            return
        listed = await promotion(opened.memory.recalls, flags.agent, rules, now_ms)
        report = await opened.memory.promoter.promote(flags.agent, rules, now_ms, dry_run=flags.dry_run)
    if flags.as_json:
        say_json(promotion_json(flags.agent, listed, rules, now_ms) | {"apply": report_json(report)})
    else:
        say_report(report)


async def explain_here(given: Path | None, selector: str, flags: PromoteFlags) -> None:
    """Explain what a selector names in a home.

    Raises:
        ReverieError: as for `promote_here`, or nothing matches.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config, with_vectors=False) as opened:
        check_agent(opened.memory, flags.agent)
        now_ms = parse_now(flags.now, opened.memory.clock.now_ms())
        rules = rules_of(flags.options, replace(rules_for(config.dreaming), limit=None))
        recalls = opened.memory.recalls
        await promote_explain(recalls, flags.agent, selector, rules, now_ms, as_json=flags.as_json)


async def promote(pages: EntryPages, agent: str, rules: Rules, now_ms: int, *, as_json: bool) -> None:
    """List what would be promoted now. Raises `ReverieError` when the entries cannot be read."""
    found = await promotion(pages, agent, rules, now_ms)
    if as_json:
        say_json(promotion_json(agent, found, rules, now_ms))
        return
    if found.candidates:
        rows = [_row(each, rules) for each in found.candidates]
        say("\n".join(columns([("score", "recalls", "questions", "days", "place", "passage"), *rows], indent="")))
    refused = ", ".join(f"{gate} {count:,}" for gate, count in found.rejected.items())
    say(dim(f"{counted(len(found.candidates), 'candidate')}; nothing is written. Refused: {refused or 'none'}"))


async def promotion(pages: EntryPages, agent: str, rules: Rules, now_ms: int) -> Promotion:
    """Rank an agent's entries, a page at a time: only the candidates are held."""
    each_page = replace(rules, limit=None)
    found: list[Candidate] = []
    refused = Counter[str]()
    async for page in pages.pages(agent):
        ranking = await asyncio.to_thread(rank, page, each_page, now_ms)
        found += ranking.candidates
        refused.update(ranking.counts())
    kept, waiting = best(found, rules.limit)
    refused["limit"] = len(waiting)
    return Promotion(kept, {gate: refused[gate] for gate in (*GATES, "limit") if refused[gate]})


async def promote_explain(
    pages: EntryPages, agent: str, selector: str, rules: Rules, now_ms: int, *, as_json: bool
) -> None:
    """Show the score of what a selector names, part by part, and every counter against every gate.

    Raises:
        MemoryPathError: nothing that was recalled matches.
    """
    found, more = await matching(pages, agent, selector)
    if not found:
        raise MemoryPathError(
            f"nothing that was recalled matches {selector[:200]!r}: give a key, or part of a path or of the passage. "
            "What no search has surfaced has no evidence."
        )
    explained = [explain(entry, rules, now_ms) for entry in found]
    if as_json:
        matches = [explanation_json(each, rules) for each in explained]
        say_json({"selector": selector, **_head(agent, rules, now_ms), "matches": matches, "more": more})
        return
    say("\n\n".join("\n".join(explanation_lines(each, rules)) for each in explained))
    if more:
        warn(f"{counted(more, 'further passage')} match as well: name one more closely")


async def matching(pages: EntryPages, agent: str, selector: str) -> tuple[list[RecallEntry], int]:
    """The first ten entries that a selector names, and how many more there are; one whose key it is, alone."""
    wanted = " ".join(selector.split()).casefold()
    found: list[RecallEntry] = []
    more = 0
    async for page in pages.pages(agent):
        for entry in page:
            if wanted == entry.key.casefold():
                return [entry], 0
            if wanted and any(wanted in text.casefold() for text in (entry.key, entry.path, entry.snippet)):
                found, more = (found, more + 1) if len(found) >= MATCHES_MAX else ([*found, entry], more)
    return found, more


# -- for programs ------------------------------------------------------------------------------------------------


def candidate_json(candidate: Candidate, rules: Rules) -> JsonObject:
    """A candidate under OpenClaw's names. `days` is how many, `ageDays` since the last recall."""
    entry = candidate.entry
    return {
        "key": entry.key,
        "path": entry.path,
        "startLine": entry.start_line,
        "endLine": entry.end_line,
        "snippet": entry.snippet,
        "score": candidate.score,
        "recallCount": entry.recall_count,
        "dailyCount": entry.daily_count,
        "groundedCount": entry.grounded_count,
        "signalCount": entry.signals,
        "uniqueQueries": _questions(entry, rules),
        "days": len(entry.days),
        "recallDays": list(entry.days),
        "avgScore": candidate.components.relevance,
        "maxScore": entry.max_score,
        "ageDays": candidate.age_days,
        "firstRecalledAt": _iso(entry.first_recalled_at_ms),
        "lastRecalledAt": _iso(entry.last_recalled_at_ms),
        "conceptTags": list(entry.tags),
        "components": candidate.components._asdict(),
        "phaseBoost": candidate.boost,
        "provenance": entry.provenance,
        "promotedAt": _iso(entry.promoted_at_ms),
    }


def promotion_json(agent: str, listed: Promotion, rules: Rules, now_ms: int) -> JsonObject:
    """What was listed, and how many each gate refused."""
    found = [candidate_json(each, rules) for each in listed.candidates]
    return _head(agent, rules, now_ms) | {"candidates": found, "rejected": listed.rejected}


def report_json(report: PromotionReport) -> JsonObject:
    """A promotion under OpenClaw's names, and what it does not know: the change's id, the difference, what waits."""
    return {
        "memoryPath": report.memory_path,
        "dryRun": report.dry_run,
        "changeId": report.change_id,
        "applied": len(report.applied),
        "appended": report.appended,
        "reconciledExisting": report.reconciled,
        "appliedCandidates": [
            {
                "key": each.key,
                "path": each.path,
                "startLine": each.start_line,
                "endLine": each.end_line,
                "snippet": each.text,
                "score": each.score,
                "reconciled": each.reconciled,
            }
            for each in report.applied
        ],
        "rejectedCandidates": [
            {
                "key": each.key,
                "path": each.path,
                "startLine": each.start_line,
                "endLine": each.end_line,
                "category": each.category,
                "reason": each.reason,
            }
            for each in report.rejected
        ],
        "rejections": dict(report.rejections),
        "gates": dict(report.gates),
        "compactedSections": report.compacted_sections,
        "compactedDates": list(report.compacted_days),
        "gaveWay": report.gave_way,
        "merged": report.merged,
        "superseded": report.superseded,
        "unconsolidated": report.unconsolidated,
        "waiting": report.waiting,
        "diff": report.diff,
    }


def explanation_json(explained: Explanation, rules: Rules) -> JsonObject:
    """An explanation: the candidate, whether it passes, and every gate with what there is and what is needed."""
    checks = [check._asdict() for check in explained.checks]
    weights = rules.weights.normalised()._asdict()
    return {
        **candidate_json(explained.candidate, rules),
        "passed": explained.passed,
        "weights": weights,
        "gates": checks,
    }


def _head(agent: str, rules: Rules, now_ms: int) -> JsonObject:
    shown = {
        "minScore": rules.score_min,
        "minRecallCount": rules.recalls_min,
        "minUniqueQueries": rules.queries_min,
        "minDays": rules.days_min,
        "minSignals": rules.signals_min,
        "maxAgeDays": rules.age_days_max,
        "recencyHalfLifeDays": rules.half_life_days,
        "limit": rules.limit,
        "includePromoted": rules.include_promoted,
    }
    return {"agent": agent, "counting": rules.counting, "now": _iso(now_ms), "rules": shown}


def _iso(at_ms: int | None) -> str | None:
    return iso_instant(at_ms) if at_ms else None


# -- for people --------------------------------------------------------------------------------------------------


def say_report(report: PromotionReport) -> None:
    """A promotion to read: the difference, what was not written and why, and how to take it back."""
    if report.diff:
        say(printable(report.diff, lines=True).rstrip("\n"))
    rows = [
        (each.category, printable(f"{each.path}:{each.start_line}-{each.end_line}"), printable(each.reason))
        for each in report.rejected[:REJECTED_SHOWN]
    ]
    if rows:
        say("\n".join(columns([("not written", "place", "reason"), *rows], indent="")))
    more = sum(report.rejections.values()) - len(rows)
    if more > 0:
        say(dim(f"{counted(more, 'further candidate')} not written"))
    if report.compacted_sections:
        say(f"{counted(report.compacted_sections, 'section')} gave way: {', '.join(report.compacted_days)}")
    if report.waiting:
        warn(report.waiting)
    would = "would be " if report.dry_run else ""
    marked = f", {counted(report.reconciled, 'other')} {would}marked as there" if report.reconciled else ""
    say(f"{counted(report.appended, 'entry', 'entries')} {would}written to MEMORY.md{marked}")
    if report.change_id is not None:
        say(dim(f"`reverie memory undo {report.change_id}` takes it back"))


def explanation_lines(explained: Explanation, rules: Rules) -> list[str]:
    """An explanation to read: the verdict, the parts of the score, and every gate."""
    candidate = explained.candidate
    verdict = "would be promoted" if explained.passed else "would not be promoted"
    failed = ", ".join(check.gate for check in explained.checks if not check.passed)
    reasons = f" ({failed})" if failed else ""
    names, weights = Components._fields, rules.weights.normalised()
    parts = [
        (name, f"{value:.3f}", f"× {weight:.2f}", f"= {value * weight:.3f}")
        for name, value, weight in zip(names, candidate.components, weights, strict=True)
    ]
    return [
        f"{_place(candidate.entry)}: {verdict}{reasons}",
        f"  {printable(candidate.entry.snippet)}",
        f"score {candidate.score:.3f}",
        *columns([*parts, ("phases of sleep", "", "", f"+ {candidate.boost:.3f}")]),
        "gates",
        *columns([_check_row(check, explained, rules.counting) for check in explained.checks]),
    ]


def _check_row(check: GateCheck, explained: Explanation, counting: Counting) -> tuple[str, str, str]:
    wanted = (_WANTED_UPSTREAM if counting == "upstream" else {}).get(check.gate, _WANTED[check.gate])
    if check.gate == "content" and not check.has:
        figures = f"{wanted}: no, {contaminated(explained.candidate.entry.snippet)}"
    elif check.gate in _YES_NO:
        figures = f"{wanted}: {'yes' if check.has else 'no'}"
    elif check.needs is None:
        figures = f"{_figure(check.has)} {wanted}, any allowed"
    else:
        figures = (
            f"{_figure(check.has)} {wanted}, {_figure(check.needs)} {'at most' if check.gate == 'age' else 'needed'}"
        )
    return ("passed" if check.passed else "FAILED", check.gate, figures)


def _row(candidate: Candidate, rules: Rules) -> tuple[str, ...]:
    entry = candidate.entry
    snippet = printable(entry.snippet)
    shown = snippet if len(snippet) <= SNIPPET_SHOWN else f"{snippet[:SNIPPET_SHOWN]}…"
    figures = (f"{candidate.score:.3f}", str(entry.recall_count), str(_questions(entry, rules)), str(len(entry.days)))
    return (*figures, _place(entry), shown)


def _questions(entry: RecallEntry, rules: Rules) -> int:
    return len(entry.user_queries if rules.counting == "strict" else entry.queries)


def _place(entry: RecallEntry) -> str:
    return printable(f"{entry.path}:{entry.start_line}-{entry.end_line}")


def _figure(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
