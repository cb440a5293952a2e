"""What was recalled often becomes lasting memory: ranked, found again where it stands, and written into MEMORY.md.

`Promoter.promote` reads from top to bottom: repair, rank, find the live words of the best, have them written. Every
candidate ends as applied or as rejected with a category and a reason. Candidates are asked again at the last moment,
under the lock: what was forgotten, promoted or changed meanwhile stays out.

`Promoter.undo` takes one change back. What it had promoted stays marked, so that the next night does not bring it back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from reverie.dreaming.candidates import GATES, TRUSTED, best, explain, rank
from reverie.dreaming.consolidation import RefusedProposalError, consolidated
from reverie.dreaming.contamination import contaminated, unfit
from reverie.dreaming.memory_file import NO_FILE, Edit, decoded, digest, encoded
from reverie.dreaming.recording import day_of
from reverie.dreaming.relocation import excerpt, is_fenced, relocate, relocate_message
from reverie.dreaming.sections import (
    BUDGET_MARGIN,
    NewEntry,
    Plan,
    claim,
    claims,
    generated_entries,
    generated_sections,
    harmless,
    marker_key,
    markers,
    plan,
    says,
    with_restored,
    without_entries,
)
from reverie.errors import ConfigError, UndoRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from reverie.dreaming.candidates import Candidate, Gate, Rules
    from reverie.dreaming.consolidation import Consolidator, Proposal, Step
    from reverie.dreaming.entry import RecallEntry
    from reverie.dreaming.evidence import RecallEntries
    from reverie.dreaming.memory_file import ChangeKind, Held, MemoryFile
    from reverie.dreaming.relocation import Place
    from reverie.dreaming.settings import Settings
    from reverie.dreaming.sources import LiveSources, LiveText
    from reverie.types import JsonObject

Category = Literal[
    "thresholds", "origin", "contamination", "promoted", "present", "source", "changed", "budget", "limit"
]
"""Why a candidate was not written: a gate; whose words it is; what they are; it was promoted before, or stands in
MEMORY.md already; its source moved on; it changed while this ran; there is no room; others are better."""

CATEGORIES: tuple[Category, ...] = (
    "thresholds", "origin", "contamination", "promoted", "present", "source", "changed", "budget", "limit",
)  # fmt: skip
SPARE_MAX = 200
"""Candidates beyond the limit that are looked at where better ones turn out to be gone."""

LIMIT_MAX = 1_000
REJECTED_SHOWN_MAX = 200
_GATE_CATEGORIES: dict[Gate, Category] = {
    "source": "source",
    "content": "contamination",
    "provenance": "origin",
    "promoted": "promoted",
}
_BY_GATE: Category = "thresholds"


@dataclass(frozen=True, slots=True)
class Applied:
    """A candidate that MEMORY.md holds now, with the lines of its source where it was found.

    `reconciled`: it stood there before, and was marked only.
    """

    key: str
    path: str
    start_line: int
    end_line: int
    text: str
    score: float
    reconciled: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that was not written, and why."""

    key: str
    path: str
    start_line: int
    end_line: int
    category: Category
    reason: str


@dataclass(frozen=True, slots=True)
class PromotionReport:
    """What a promotion did, or would do (`dry_run`).

    `gates` counts what ranking refused, `rejections` the candidates that were not written by category; of these
    `rejected` shows the first. `compacted_sections` gave way as a whole, those of `compacted_days`; `gave_way` counts
    the entries. `waiting` says why some wait. `change_id` is what `undo` takes, None where nothing was written. With a
    model, `merged` and `superseded` count entries that took the place of older ones; `unconsolidated` says why all were
    added instead.
    """

    agent: str
    memory_path: str
    applied: tuple[Applied, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    rejections: Mapping[str, int] = field(default_factory=dict[str, int])
    gates: Mapping[str, int] = field(default_factory=dict[str, int])
    compacted_sections: int = 0
    compacted_days: tuple[str, ...] = ()
    gave_way: int = 0
    waiting: str = ""
    diff: str = ""
    change_id: str | None = None
    dry_run: bool = False
    merged: int = 0
    superseded: int = 0
    unconsolidated: str = ""

    @property
    def appended(self) -> int:
        """How many were written."""
        return sum(not each.reconciled for each in self.applied)

    @property
    def reconciled(self) -> int:
        """How many stood there already, and were marked."""
        return sum(each.reconciled for each in self.applied)


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What undoing a change did, or would do (`dry_run`).

    `exact`: the file is what it was before that change. Else it was edited since: `removed` entries were taken out,
    `restored` ones that had given way are back, and `left_out` had no room.
    """

    agent: str
    memory_path: str
    undone: str
    exact: bool
    removed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    diff: str = ""
    change_id: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A candidate with its live words: where they stand, what they say, and the entry they would become."""

    candidate: Candidate
    place: Place
    new: NewEntry

    @property
    def key(self) -> str:
        """The key of its recall entry."""
        return self.candidate.entry.key


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of ready candidates: the plan for the file, and those that stand in it already.

    `steps` are those of a model's proposal that the plan follows; `unconsolidated` says why it follows none.
    """

    plan: Plan
    reconciled: tuple[Ready, ...] = ()
    present: tuple[Ready, ...] = ()
    steps: tuple[Step, ...] = ()
    unconsolidated: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large MEMORY.md may be, and how much of it may give way."""

    chars_max: int
    loss_fraction_max: float


@dataclass(slots=True)
class _Tally:
    """The candidates that were not written, as they are found."""

    shown: list[Rejected] = field(default_factory=list[Rejected])
    counts: Counter[str] = field(default_factory=Counter[str])

    def add(self, entry: RecallEntry, category: Category, reason: str) -> None:
        self.counts[category] += 1
        if len(self.shown) < REJECTED_SHOWN_MAX:
            self.shown.append(Rejected(entry.key, entry.path, entry.start_line, entry.end_line, category, reason))

    def by_category(self) -> dict[str, int]:
        return {category: self.counts[category] for category in CATEGORIES if self.counts[category]}


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The best candidates, how many more there are, and what the gates refused."""

    candidates: tuple[Candidate, ...]
    beyond: int
    gates: Mapping[str, int]


class Promoter:
    """Promotes what an agent's recalls prove, and takes it back.

    `repair` is awaited before anything is ranked. The settings' time zone decides which day it is.
    `consolidator` asks a model, unless     nothing is written.
    """

    def __init__(
        self,
        file: MemoryFile,
        recalls: RecallEntries,
        sources: LiveSources,
        settings: Settings,
        *,
        repair: Callable[[str], Awaitable[object]] | None = None,
        consolidator: Consolidator | None = None,
    ) -> None:
        self.file = file
        self._recalls = recalls
        self._sources = sources
        self._settings = settings
        self._repair = repair
        self._consolidator = consolidator

    def consolidating(self, consolidator: Consolidator) -> Promoter:
        """This promoter, with a model that may propose what new entries mean for older ones."""
        return Promoter(
            self.file, self._recalls, self._sources, self._settings,
            repair=self._repair, consolidator=consolidator,
        )  # fmt: skip

    async def promote(self, agent: str, rules: Rules, now_ms: int, *, dry_run: bool = False) -> PromotionReport:
        """Write the best of what passes the rules into MEMORY.md. Doing it again changes nothing.

        Raises:
            ConfigError: the rules count as OpenClaw does, which is for comparing only.
            StorageError, HomeReadOnlyError, StorageFullError, MemoryPathError: as `MemoryFile.edit`; what is on disk is
                whole.
        """
        if rules.counting != "strict":
            raise ConfigError("counting", rules.counting, "`strict` where something is written")
        path = str(self.file.path(agent))
        if rules.limit == 0:
            return PromotionReport(agent, path, waiting="dreaming.limit is 0: nothing is promoted", dry_run=dry_run)
        if self._repair is not None and not dry_run:
            await self._repair(agent)
        rules = replace(rules, include_promoted=False)
        tally = _Tally()
        ranked = await self._ranked(agent, rules, now_ms)
        ready = await self._ready(agent, ranked, rules, tally)
        outcome = Outcome(Plan(""))
        own, day = await self._own_texts(agent), day_of(now_ms, self._settings.zone)
        proposal = "" if dry_run else await self._proposed(agent, ready, day, own, now_ms)

        async def decide(text: str) -> Edit | None:
            nonlocal outcome
            fresh = await self._fresh(agent, ready, rules, now_ms)
            outcome = await asyncio.to_thread(decided, text, fresh, day, self._bounds, own, proposal)
            if not outcome.plan.added:
                return None
            return await asyncio.to_thread(promotion_edit, text, outcome, fresh, now_ms)

        edited = await self.file.edit(agent, decide, dry_run=dry_run)
        await self._settle(agent, ready, outcome, tally, now_ms, dry_run=dry_run)
        added = {each.key: each for each in outcome.plan.added}
        actions = Counter(step.action for step in outcome.steps)
        return PromotionReport(
            agent,
            path,
            applied=tuple(
                _applied(each, added.get(each.key)) for each in ready if each.key in added or each in outcome.reconciled
            ),
            rejected=tuple(tally.shown),
            rejections=tally.by_category(),
            gates=ranked.gates,
            compacted_sections=len(outcome.plan.compacted),
            compacted_days=tuple(dict.fromkeys(section.day for section in outcome.plan.compacted)),
            gave_way=len(outcome.plan.gave_way),
            waiting=outcome.plan.why,
            diff=await asyncio.to_thread(edited.diff),
            change_id=edited.change_id,
            dry_run=dry_run,
            merged=actions["merged"],
            superseded=actions["superseded"],
            unconsolidated=outcome.unconsolidated,
        )

    async def undo(self, agent: str, change_id: str | None = None, *, dry_run: bool = False) -> UndoReport:
        """Take a change of MEMORY.md back; without an id the last promotion that was made and not taken back.

        If nobody has edited the file since, it becomes what it was, byte for byte. Else only the entries of that change
        are taken out, and those that had given way to them come back as far as there is room.

        Raises:
            UndoRefusedError: there is no such change, or it cannot be taken back.
            StorageError, HomeReadOnlyError, StorageFullError, MemoryPathError: as `MemoryFile.edit`.
        """
        await self.file.settle(agent)
        held = await (self.file.newest(agent) if change_id is None else self.file.find(agent, change_id))
        held = undoable(held, agent, change_id)
        undone = Undone(None, exact=False)

        async def decide(text: str) -> Edit | None:
            nonlocal undone
            undone = await asyncio.to_thread(taken_back, text, held, self._bounds)
            details: JsonObject = {
                "undoes": held.change.id,
                "removed": [*undone.removed],
                "restored": [*undone.restored],
            }
            return Edit("undo", undone.data, details)

        edited = await self.file.edit(agent, decide, dry_run=dry_run)
        if edited.change_id is None and not dry_run:
            await self.file.mark_undone(held.change.id)
        return UndoReport(
            agent,
            str(self.file.path(agent)),
            held.change.id,
            undone.exact,
            undone.removed,
            undone.restored,
            undone.left_out,
            await asyncio.to_thread(edited.diff),
            edited.change_id,
            dry_run,
        )

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self._settings.current.memory_chars_max, self._settings.current.loss_fraction_max)

    async def _ranked(self, agent: str, rules: Rules, now_ms: int) -> _Ranked:
        """Rank an agent's entries a page at a time; only those that may be wanted are held."""
        each_page = replace(rules, limit=None)
        most = min(LIMIT_MAX, LIMIT_MAX if rules.limit is None else rules.limit) + SPARE_MAX
        ranked = _Ranked((), 0, {})
        async for page in self._recalls.pages(agent):
            ranked = await asyncio.to_thread(_with_page, ranked, page, each_page, now_ms, most)
        return replace(ranked, gates={gate: ranked.gates[gate] for gate in GATES if gate in ranked.gates})

    async def _ready(self, agent: str, ranked: _Ranked, rules: Rules, tally: _Tally) -> tuple[Ready, ...]:
        """The live words of the best candidates, as many as the limit allows; why others have none is tallied."""
        limit = LIMIT_MAX if rules.limit is None else min(rules.limit, LIMIT_MAX)
        ready: list[Ready] = []
        for place, candidate in enumerate(ranked.candidates):
            if len(ready) >= limit:
                reason = f"{limit} better ones come first (dreaming.limit)"
                for each in ranked.candidates[place:]:
                    tally.add(each.entry, "limit", reason)
                break
            found = await self._live(agent, candidate)
            if isinstance(found, Ready):
                ready.append(found)
            else:
                tally.add(candidate.entry, *found)
        tally.counts["limit"] += ranked.beyond
        return tuple(ready)

    async def _live(self, agent: str, candidate: Candidate) -> Ready | tuple[Category, str]:
        """A candidate's words as they stand now, or why it has none that may be promoted."""
        entry = candidate.entry
        live = await self._sources.read(agent, entry.path, entry.start_line, entry.end_line)
        if live is None:
            return "source", "what it came from is gone"
        return await asyncio.to_thread(readied, candidate, live, self._settings.current.snippet_chars_max)

    async def _proposed(
        self, agent: str, ready: Sequence[Ready], day: str, own: Mapping[str, str], now_ms: int
    ) -> Proposal | str:
        """What a model proposes for what would be added now, or why there is no proposal; empty if none is asked."""
        if self._consolidator is None or not self._consolidator.enabled or not ready:
            return ""
        text = decoded(await self.file.read(agent))
        made = await asyncio.to_thread(decided, text, ready, day, self._bounds, own)
        return await self._consolidator.propose(text, (*made.plan.added, *made.plan.waiting), now_ms)

    async def _fresh(self, agent: str, ready: Sequence[Ready], rules: Rules, now_ms: int) -> list[Ready]:
        """Those whose entries still are what they were, as far as it matters."""
        kept: list[Ready] = []
        for each in ready:
            entry = await self._recalls.find(agent, each.key)
            if entry is not None and refusal(entry, rules, now_ms) is None:
                kept.append(each)
        return kept

    async def _settle(
        self, agent: str, ready: Sequence[Ready], outcome: Outcome, tally: _Tally, now_ms: int, *, dry_run: bool
    ) -> None:
        """Mark what stands there already, and tally what was not written."""
        waiting = {each.key for each in outcome.plan.waiting}
        written = {each.key for each in outcome.plan.added} | {each.key for each in outcome.reconciled}
        present = {each.key for each in outcome.present}
        for each in ready:
            entry = each.candidate.entry
            if each.key in waiting:
                tally.add(entry, "budget", outcome.plan.why)
            elif each.key in present:
                tally.add(entry, "present", "MEMORY.md says so already")
            elif each.key not in written:
                tally.add(entry, "changed", "it was promoted, forgotten or changed while this ran")
        if dry_run:
            return
        for each in (*outcome.reconciled, *outcome.present):
            await self._recalls.mark_promoted(
                agent, each.key, at_ms=now_ms, start_line=each.place.start_line, end_line=each.place.end_line,
                snippet=each.place.text,
            )  # fmt: skip

    async def _own_texts(self, agent: str) -> dict[str, str]:
        """What entries said when they were written, by marker, as far as the changes that are kept tell."""
        texts: dict[str, str] = {}
        for change in reversed(await self.file.changes(agent)):
            if change.state == "applied":
                for added in change.details.get("added", ()):
                    texts.update(dict.fromkeys(added["markers"], added["text"]))
        return texts


def _with_page(ranked: _Ranked, page: Sequence[RecallEntry], rules: Rules, now_ms: int, most: int) -> _Ranked:
    ranking = rank(page, rules, now_ms)
    found, rest = best((*ranked.candidates, *ranking.candidates), most)
    return _Ranked(found, ranked.beyond + len(rest), Counter(ranked.gates) + Counter(ranking.counts()))


# -- decisions -------------------------------------------------------------------------------------------------------


def refusal(entry: RecallEntry, rules: Rules, now_ms: int) -> tuple[Category, str] | None:
    """The first gate that refuses an entry, as a category and a reason; None if it passes all."""
    failed = next((check for check in explain(entry, rules, now_ms).checks if not check.passed), None)
    if failed is None:
        return None
    needed = "" if failed.needs is None else f", {failed.needs:g} needed"
    return _GATE_CATEGORIES.get(failed.gate, _BY_GATE), f"{failed.gate} {failed.has:g}{needed}"


def readied(candidate: Candidate, live: LiveText, chars_max: int) -> Ready | tuple[Category, str]:
    """A candidate with the words that stand in its source now, or why they may not be promoted."""
    entry = candidate.entry
    place = _found(entry, live)
    if place is None:
        return "source", "its words do not stand there any more"
    whose = live.trust(place.start_line, place.end_line)
    if whose not in TRUSTED:
        return "origin", f"it is {whose} text"
    first, last = place.start_line - live.first_line, place.end_line - live.first_line + 1
    raw = "\n".join(live.lines[first:last])
    shown = excerpt(place, chars_max)
    if (reason := unfit(raw) or contaminated(shown)) is not None:
        return "contamination", reason
    text = harmless((live.said[first] if live.said else "") + shown, chars_max)
    new = NewEntry(
        entry.key, text, candidate.score, entry.recall_count, candidate.components.relevance, live.path,
        place.start_line, place.end_line,
    )  # fmt: skip
    return Ready(candidate, place, new)


def _found(entry: RecallEntry, live: LiveText) -> Place | None:
    if not live.said:
        place = relocate(live.lines, entry.snippet, entry.start_line, entry.end_line)
        return None if place is None or is_fenced(live.lines, place.start_line, place.end_line) else place
    return relocate_message(live.lines[0], entry.snippet, live.first_line) if len(live.lines) == 1 else None


def decided(
    text: str,
    ready: Sequence[Ready],
    day: str,
    bounds: Bounds,
    own: Mapping[str, str],
    proposal: Proposal | str = "",
) -> Outcome:
    """What becomes of candidates and of the file: nothing twice, within the bounds.

    A proposal is followed as a whole if it was made for this file and these candidates, and fits; else all are added.
    `own` says what entries said when they were written; those that say something else now were edited by a person.
    """
    marked, known = markers(text), claims(text)
    reconciled: list[Ready] = []
    present: list[Ready] = []
    news: list[NewEntry] = []
    for each in ready:
        if marker_key(each.key) in marked:
            reconciled.append(each)
        elif says(known, each.place.text) or says(known, each.new.text):
            present.append(each)
        else:
            news.append(each.new)
            known = f"{known}| {claim(each.new.text)} "
    made = plan(
        text, day, news,
        chars_max=bounds.chars_max, loss_fraction_max=bounds.loss_fraction_max, edited=edited_keys(text, own),
    )  # fmt: skip
    outcome = Outcome(made, tuple(reconciled), tuple(present))
    if isinstance(proposal, str):
        return replace(outcome, unconsolidated=proposal)
    return _followed(outcome, proposal, text, day, bounds, news) if proposal.changes_entries else outcome


def _followed(
    outcome: Outcome, proposal: Proposal, text: str, day: str, bounds: Bounds, news: Sequence[NewEntry]
) -> Outcome:
    if text != proposal.text or [step.entry.key for step in proposal.steps] != [each.key for each in news]:
        return replace(outcome, unconsolidated="MEMORY.md or a candidate changed while the model was asked")
    try:
        made = consolidated(text, day, proposal.steps, chars_max=bounds.chars_max)
    except RefusedProposalError as error:
        return replace(outcome, unconsolidated=f"the model's answer is not accepted: {error}")
    return replace(outcome, plan=made, steps=proposal.steps)


def edited_keys(text: str, own: Mapping[str, str]) -> frozenset[str]:
    """The entries of which it is known that a person changed them."""
    return frozenset(
        key for each in generated_entries(text) for key in each.keys if key in own and own[key] != each.text
    )


def promotion_edit(text: str, outcome: Outcome, ready: Sequence[Ready], now_ms: int) -> Edit:
    """The edit that a plan comes to, with all that is needed to record it and to take it back."""
    made = outcome.plan
    places = {each.key: each.place for each in ready}
    days = {each.first_line: section for section in generated_sections(text) for each in section.entries}
    lines = text.split("\n")
    added = [
        {
            "keys": [new.key, *new.also],
            "markers": [marker_key(key) for key in (new.key, *new.also)],
            "text": new.text,
            "lines": [new.start_line, new.end_line],
            "words": places[new.key].text,
            "at": now_ms,
        }
        for new in made.added
    ]
    gave_way = [
        {
            "keys": list(each.keys),
            "day": each.section_day,
            "kind": days[each.first_line].kind if each.first_line in days else "promoted",
            "lines": [line.removesuffix("\r") for line in lines[each.first_line - 1 : each.last_line]],
        }
        for each in made.gave_way
    ]
    kind: ChangeKind = "consolidation" if outcome.steps else "promotion"
    return Edit(kind, encoded(made.text), {"added": added, "gave_way": gave_way})


@dataclass(frozen=True, slots=True)
class Undone:
    """What the file becomes when a change is taken back: bytes, or None for no file; and what of it that is."""

    data: bytes | None
    exact: bool
    removed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def undoable(held: Held | None, agent: str, change_id: str | None) -> Held:
    """A change that may be taken back.

    Raises:
        UndoRefusedError: it may not; the message says why.
    """
    if held is None:
        what = "nothing was promoted that could be undone" if change_id is None else f"there is no change {change_id!r}"
        raise UndoRefusedError(f"{what} in the memory of {agent!r}: `reverie memory changes` lists what can be")
    change = held.change
    reasons = {
        "undo": "is an undoing itself: what it took out can be written into MEMORY.md by hand",
        "forgetting": "is a forgetting: what was forgotten is not kept",
    }
    if change.kind in reasons:
        raise UndoRefusedError(f"{change.id} {reasons[change.kind]}")
    if change.state != "applied":
        state = "was undone already" if change.state == "undone" else "was never made"
        raise UndoRefusedError(f"{change.id} {state}")
    return held


def taken_back(text: str, held: Held, bounds: Bounds) -> Undone:
    """The file without a change: as it was if nobody touched it since, else without that change's entries."""
    details = held.change.details
    keys = [key for added in details.get("added", ()) for key in added["keys"]]
    gave_way: list[JsonObject] = details.get("gave_way", [])
    back = [key for part in gave_way for key in part["keys"]]
    if digest(encoded(text)) == held.after_digest and (held.before is not None or held.before_digest == NO_FILE):
        return Undone(held.before, exact=True, removed=tuple(keys), restored=tuple(back))
    present = {key for each in generated_entries(text) for key in each.keys}
    after = without_entries(text, keys)
    restored: list[str] = []
    left_out: list[str] = []
    for part in gave_way:
        if not part["day"] or not markers("\n".join(part["lines"])).isdisjoint(markers(after)):
            continue
        larger = with_restored(after, part["day"], part["kind"], part["lines"])
        if bounds.chars_max and len(larger) > bounds.chars_max - BUDGET_MARGIN:
            left_out += part["keys"]
        else:
            after = larger
            restored += part["keys"]
    removed = tuple(key for key in keys if marker_key(key) in present)
    return Undone(encoded(after), exact=False, removed=removed, restored=tuple(restored), left_out=tuple(left_out))


def _applied(each: Ready, entry: NewEntry | None) -> Applied:
    """A candidate as it stands in the file: as `entry` says, or as it stood there before."""
    place, text = each.place, each.new.text if entry is None else entry.text
    return Applied(
        each.key, each.new.source_path, place.start_line, place.end_line, text, each.candidate.score, entry is None
    )
