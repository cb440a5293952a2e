"""Three weeks of questions, and a dream every night: what becomes lasting memory, and what that is good for.

    python -m benchmarks.dream_weeks FILE [--limit N] [--mode core|deep|rem] [--chars N] [--show DIR]
                                      [--json]

FILE is JSON Lines as `benchmarks.retrieval` reads it. Each history is a home of its own, for whose conversations its
owner vouches. Its questions are asked as turns of a server without a model, spread evenly over 21 simulated days, in
an order drawn once by a fixed seed; each night at three a whole sweep runs. The clock is simulated, everything else is
what a server does.

A question is answered by the promoted file alone when all the turns that hold its answer (`gold_turns`) stand in
MEMORY.md at the moment it is asked, and touched when one of them does. The later questions are those of the third
week: nothing was known of them when the passages were chosen. `promoted_share_percent` is the part of all turns that
the file holds at the end, so what a file chosen blindly would answer. `--show` keeps each MEMORY.md and the
explanations of its entries in a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Report, mean
from benchmarks.retrieval import Kept, open_lines
from reverie.app import choose_embedder, open_app
from reverie.config import Home, load_config
from reverie.dreaming.candidates import explain
from reverie.dreaming.sections import generated_entries
from reverie.dreaming.settings import rules_for
from reverie.importers.conversations import History, ImportReport, import_conversations, parse_history, session_key
from reverie.llm.offline import OfflineModel
from reverie.testing import FakeClock
from reverie.types import Message, SessionKey, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverie.app import App
    from reverie.dreaming.candidates import Candidate
    from reverie.llm.embeddings import Embedder

SEED = 20_261_127
DAYS = 21
LATER_DAY = 14
START_MS = 1_772_409_600_000
"""Monday, 2 March 2026, 00:00 UTC: long after the conversations."""
DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000
BY_HAND = "0 0 1 1 *"
"""Once a year, when none of the simulated days is: the nights are begun by the benchmark."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question when it was asked: the day (from 0), the turns that answer it, and how many of them were promoted."""

    day: int
    gold: int
    promoted: int


@dataclass(slots=True)
class Weeks:
    """What three weeks of one history came to."""

    name: str
    turns: int
    asked: list[Asked] = field(default_factory=list[Asked])
    characters_max: int = 0
    nights: int = 0
    memory: str = ""
    explanations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def promoted(self) -> set[str]:
        """The messages that stand in MEMORY.md now, as `sessions/<id>#<number>`."""
        return {
            f"{entry.source_path}#{line}"
            for entry in generated_entries(self.memory)
            for line in range(entry.start_line, entry.end_line + 1)
        }


async def run(path: Path, mode: str, chars: int, limit: int | None, show: Path | None) -> Report:
    """All histories of a file, one after the other."""
    embedder = choose_embedder(load_config(Home(Path("/nonexistent"))).memory)
    weeks: list[Weeks] = []
    with open_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            if limit is not None and number > limit:
                break
            with tempfile.TemporaryDirectory() as folder:
                weeks.append(await three_weeks(Path(folder), line, mode, chars, Kept.of(embedder)))
            if show is not None:
                await asyncio.to_thread(keep, show, weeks[-1])
    if embedder is not None:
        await embedder.aclose()
    return summarise(weeks)


async def three_weeks(folder: Path, line: str, mode: str, chars: int, embedder: Embedder | None) -> Weeks:
    """One history: import, ask by day, dream by night."""
    file = folder / "history.jsonl"
    file.write_text(line, encoding="utf-8")
    history = parse_history(line, 1, file, START_MS, ImportReport())
    questions = [question for question in json.loads(line)["questions"] if question["gold_turns"]]
    random.Random(SEED).shuffle(questions)
    dreaming = {"mode": mode, "cron": BY_HAND, "time_zone": "UTC", "memory_chars_max": chars}
    flags = {"memory": {"watch": False}, "dreaming": dreaming}
    home, clock = Home(folder / "home"), FakeClock(START_MS)
    weeks = Weeks(history.name, len(history.places))
    config = load_config(home, flags)
    async with open_app(home, config, embedder=embedder, clock=clock, model=OfflineModel()) as app:
        await import_conversations(file, app.open.sessions, agent="main", now_ms=START_MS, mine=True)
        while await app.open.memory.follow_transcripts():
            pass
        await app.open.memory.settle()
        places = await places_of(app, history)
        for day in range(DAYS):
            await dream(app, clock, START_MS + day * DAY_MS + 3 * HOUR_MS, weeks)
            clock.set(START_MS + day * DAY_MS + 9 * HOUR_MS)
            for question in questions[day * len(questions) // DAYS : (day + 1) * len(questions) // DAYS]:
                gold = {places[turn] for turn in question["gold_turns"] if turn in places}
                weeks.asked.append(Asked(day, len(gold), len(gold & weeks.promoted())))
                await ask(app, day, question)
                clock.advance(ms=MINUTE_MS)
            await app.open.evidence.settle()
        await dream(app, clock, START_MS + DAYS * DAY_MS + 3 * HOUR_MS, weeks)
        await explained(app, clock.now_ms(), weeks)
    return weeks


async def places_of(app: App, history: History) -> dict[int, str]:
    """Where each turn of a history stands in the home."""
    ids: dict[str, str] = {}
    for past in history.sessions:
        key = session_key("main", history.name, past.name)
        ids[past.name], _ = await app.open.sessions.import_session(key, "", ())
    return {turn: f"sessions/{ids[place[0]]}#{place[1]}" for turn, place in enumerate(history.places) if place}


async def ask(app: App, day: int, question: dict[str, Any]) -> None:
    """One question, as a turn of that day's conversation."""
    key = SessionKey("main", f"agent:main:day-{day}")
    request = TurnRequest(f"chatcmpl_{question['id']}", key, (Message("user", question["text"]),))
    await (await app.submit(request)).result()


async def dream(app: App, clock: FakeClock, at_ms: int, weeks: Weeks) -> None:
    """One night."""
    clock.set(at_ms)
    begun = await app.dreaming.dream(at_ms)
    assert begun.run.state == "done", begun.run
    file = app.open.workspaces["main"] / "MEMORY.md"
    text = await asyncio.to_thread(file.read_text, "utf-8")
    weeks.nights += text != weeks.memory and bool(weeks.memory)
    weeks.memory = text
    weeks.characters_max = max(weeks.characters_max, len(text))


async def explained(app: App, now_ms: int, weeks: Weeks) -> None:
    """Why each entry of the file is there, by the figures of the last night."""
    rules = rules_for(app.config.dreaming)
    keys = {key for entry in generated_entries(weeks.memory) for key in entry.keys}
    async for page in app.open.recalls.pages("main"):
        weeks.explanations += [figures_of(explain(each, rules, now_ms).candidate) for each in page if each.key in keys]


def figures_of(candidate: Candidate) -> dict[str, Any]:
    """One entry's figures."""
    entry = candidate.entry
    parts = {name: round(value, 3) for name, value in candidate.components._asdict().items()}
    counts = {"recalls": entry.recall_count, "questions": len(entry.user_queries), "days": len(entry.days)}
    return {
        "key": entry.key,
        "says": entry.snippet,
        "score": round(candidate.score, 3),
        **parts,
        "boost": round(candidate.boost, 3),
        **counts,
    }


def keep(folder: Path, weeks: Weeks) -> None:
    """Write what a history came to into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{weeks.name}-MEMORY.md").write_text(weeks.memory, encoding="utf-8")
    explanations = "\n".join(json.dumps(each, ensure_ascii=False) for each in weeks.explanations)
    (folder / f"{weeks.name}-explanations.jsonl").write_text(f"{explanations}\n", encoding="utf-8")


def summarise(weeks: Sequence[Weeks]) -> Report:
    """Figures of all histories together, and of each."""
    return Report("dream_weeks", figures(weeks), groups={each.name: figures([each]) for each in weeks})


def figures(weeks: Sequence[Weeks]) -> dict[str, float]:
    """Counts, and shares in percent."""
    asked = [each for one in weeks for each in one.asked]
    later = [each for each in asked if each.day >= LATER_DAY]
    promoted = sum(len(one.promoted()) for one in weeks)
    return {
        "questions": len(asked),
        "later_questions": len(later),
        "answered_later": sum(each.promoted == each.gold for each in later),
        "touched_later": sum(each.promoted > 0 for each in later),
        "answered_later_percent": 100 * mean(float(each.promoted == each.gold) for each in later),
        "touched_later_percent": 100 * mean(float(each.promoted > 0) for each in later),
        "turns": sum(one.turns for one in weeks),
        "turns_promoted": promoted,
        "promoted_share_percent": 100 * promoted / max(1, sum(one.turns for one in weeks)),
        "memory_chars_max": max(one.characters_max for one in weeks),
        "nights_that_changed_it": sum(one.nights for one in weeks),
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dream_weeks", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=int, help="only the first N histories")
    parser.add_argument("--mode", choices=("core", "deep", "rem"), default="core")
    parser.add_argument("--chars", type=int, default=10_000, help="the budget of MEMORY.md (0: none)")
    parser.add_argument("--show", type=Path, help="a folder for each MEMORY.md and its explanations")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = asyncio.run(run(arguments.file, arguments.mode, arguments.chars, arguments.limit, arguments.show))
    report.show(as_json=arguments.json)


if __name__ == "__main__":
    main()
