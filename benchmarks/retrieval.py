"""How well memory finds what was said: ordinary ingestion, ordinary search.

    python -m benchmarks.retrieval FILE [--level turn|session] [--limit N] [--embedder bundled|none] [--ablation]
                                        [--abstention] [--json]

FILE is JSON Lines (plain or gzipped), one history a line: `turns` as `reverie import conversation` reads them, and
`questions` with `text`, `category`, `gold_turns` (indexes into `turns`) and `gold_sessions`. Each history is its own
home; its questions are asked of the public search. Questions without gold at the asked level are left out.

`--ablation` asks every question again with one thing changed at a time, of the same index. `--abstention` asks each
history also the questions of the one before it, which it cannot answer, and compares how certain the search is.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import math
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from benchmarks.report import Report, mean, quantile, rss_mib_max
from reverie.app import choose_embedder, open_memory
from reverie.config import Home, load_config
from reverie.importers.conversations import History, ImportReport, parse_history, session_key
from reverie.memory.fusion import TUNING
from reverie.memory.index import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from reverie.app import OpenMemory
    from reverie.config import Config
    from reverie.llm.embeddings import Embedder

Level = Literal["turn", "session"]
HITS = 60
"""Hits asked for: enough to rank twenty distinct turns or sessions after several hits in the same one."""
UNCERTAIN = 0.3
"""Below this a hit is marked as uncertain, and not quoted to a model (`memory.recall_score_min`)."""

VARIANTS: dict[str, dict[str, Any]] = {
    "everything": {},
    "words only": {"semantic": False},
    "meaning only": {"tuning": replace(TUNING, lexical_weight=0.0)},
    "meaning at a constant weight (0.2)": {"tuning": replace(TUNING, weight_min=0.2, flat_weight=0.0)},
    "words by bm25 alone": {"tuning": replace(TUNING, bm25_share=1.0)},
    "words without bm25": {"tuning": replace(TUNING, bm25_share=0.0)},
    "no neighbours": {
        "tuning": replace(TUNING, previous_shares=(), next_shares=(), meaning_shares=(0.0, 0.0), question_share=0.0)
    },
    "no words of neighbours": {"tuning": replace(TUNING, previous_shares=(), next_shares=(), question_share=0.0)},
    "no meaning of neighbours": {"tuning": replace(TUNING, meaning_shares=(0.0, 0.0))},
    "adjacent neighbours only": {"tuning": replace(TUNING, previous_shares=(0.6,), next_shares=(0.5,))},
    "long units inherit fully": {"tuning": replace(TUNING, short_chars=1_000_000)},
    "questions like other messages": {"tuning": replace(TUNING, question_share=0.6, question_factor=1.0)},
    "speakers all alike": {"tuning": replace(TUNING, other_speaker_factor=1.0)},
    "50 candidates a signal": {"candidates": 50},
    "200 candidates a signal": {"candidates": 200},
    "10 hits": {"limit": 10},
    "10 hits, MMR 0.9": {"limit": 10, "tuning": replace(TUNING, mmr_lambda=0.9)},
    "10 hits, MMR 0.7": {"limit": 10, "tuning": replace(TUNING, mmr_lambda=0.7)},
    "plain bm25": {
        "semantic": False,
        "tuning": replace(
            TUNING,
            bm25_share=1.0,
            previous_shares=(),
            next_shares=(),
            question_share=0.0,
            question_factor=1.0,
            other_speaker_factor=1.0,
        ),
    },
}
"""What an ablation changes, one thing at a time; the last is what full text alone gives."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a run asks: at which level, and whether in every variant, and whether also what cannot be answered."""

    level: Level
    ablation: bool = False
    abstention: bool = False

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """The variants of this run."""
        return VARIANTS if self.ablation else {"everything": {}}


@dataclass(frozen=True, slots=True)
class Scores:
    """One question's figures, in percent."""

    category: str
    recall_at_5: float
    recall_at_10: float
    recall_at_20: float
    hit_at_1: float
    hit_at_5: float
    hit_at_10: float
    ndcg_at_10: float


@dataclass(slots=True)
class Totals:
    """What a run adds up; `scores` by variant, certainties of the best hit for own and for foreign questions."""

    scores: dict[str, list[Scores]] = field(default_factory=lambda: defaultdict(list))
    certain: list[float] = field(default_factory=list[float])
    certain_elsewhere: list[float] = field(default_factory=list[float])
    questions_before: list[str] = field(default_factory=list[str])
    query_ms: list[float] = field(default_factory=list[float])
    turns: int = 0
    ingest_s: float = 0.0


METRICS = tuple(name for name in Scores.__slots__ if name != "category")


def score(category: str, ranked: Sequence[str], gold: set[str]) -> Scores:
    """Recall, hit rate and binary NDCG of one ranking without repeats."""
    gains = [1.0 if place in gold else 0.0 for place in ranked[:10]]
    ideal = sum(1 / math.log2(n + 2) for n in range(min(len(gold), 10)))
    found = sum(gain / math.log2(n + 2) for n, gain in enumerate(gains))

    def recall(k: int) -> float:
        return 100 * len(gold.intersection(ranked[:k])) / len(gold)

    def hit(k: int) -> float:
        return 100.0 if gold.intersection(ranked[:k]) else 0.0

    return Scores(category, recall(5), recall(10), recall(20), hit(1), hit(5), hit(10), 100 * found / ideal)


async def run(path: Path, asked: Asked, config: Config, limit: int | None) -> Report:
    """Measure every history of a file."""
    totals = Totals()
    embedder = choose_embedder(config.memory)
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if limit is not None and number > limit:
                break
            await measure_history(line, number, path, asked, config, embedder, totals)
    if embedder is not None:
        await embedder.aclose()
    return summarise(totals, asked)


async def measure_history(
    line: str, number: int, path: Path, asked: Asked, config: Config, embedder: Embedder | None, totals: Totals
) -> None:
    """One history in a home of its own: import it, wait until it is indexed, ask its questions."""
    questions: list[dict[str, Any]] = json.loads(line)["questions"]
    with tempfile.TemporaryDirectory(prefix="reverie-bench-") as folder:
        async with open_memory(Home(Path(folder)), config, embedder=Kept.of(embedder)) as opened:
            started = time.perf_counter()
            history = parse_history(line, number, path, opened.clock.now_ms(), ImportReport())
            ids = await ingest(opened, history)
            totals.ingest_s += time.perf_counter() - started
            totals.turns += len(history.places)
            for question in questions:
                await ask(opened, question, asked, history, ids, totals)
            if asked.abstention:
                await ask_elsewhere(opened, [question["text"] for question in questions], totals)


async def ask_elsewhere(opened: OpenMemory, questions: list[str], totals: Totals) -> None:
    """Ask the questions of the history before, and keep these for the next."""
    for text in totals.questions_before:
        result = await opened.memory.search(SearchQuery(text=text, agent="main"))
        totals.certain_elsewhere.append(result.certainty)
    totals.questions_before = questions


async def ingest(opened: OpenMemory, history: History) -> dict[str, str]:
    """Import a history as `reverie import conversation` does; returns session name by session id."""
    names: dict[str, str] = {}
    for past in history.sessions:
        session_id, _ = await opened.sessions.import_session(
            session_key("main", history.name, past.name), past.name, past.messages
        )
        names[session_id] = past.name
    await opened.memory.settle()
    return names


async def ask(
    opened: OpenMemory, question: dict[str, Any], asked: Asked, history: History, names: dict[str, str], totals: Totals
) -> None:
    """One question in every variant: time the search, score the ranking."""
    gold = gold_places(question, asked.level, history)
    if not gold:
        return
    for variant, changes in asked.variants.items():
        query = replace(SearchQuery(text=question["text"], agent="main", limit=HITS), **changes)
        started = time.perf_counter()
        result = await opened.memory.search(query)
        if not changes:
            totals.query_ms.append(1_000 * (time.perf_counter() - started))
            totals.certain.append(result.certainty)
        ranked: dict[str, None] = {}
        for hit in result.hits:
            if hit.session_id is None:
                continue
            name = names[hit.session_id]
            if asked.level == "session":
                ranked[name] = None
            else:
                ranked |= dict.fromkeys(f"{name}#{line}" for line in range(hit.start_line, hit.end_line + 1))
        totals.scores[variant].append(score(question["category"], list(ranked), gold))


def gold_places(question: dict[str, Any], level: Level, history: History) -> set[str]:
    """The right answers as this benchmark names places."""
    if level == "session":
        return set(question["gold_sessions"])
    gold: list[int] = question["gold_turns"]
    places = [history.places[index] for index in gold]
    return {f"{place[0]}#{place[1]}" for place in places if place is not None}


def summarise(totals: Totals, asked: Asked) -> Report:
    """Means over questions, overall and by category, or by variant."""
    scores = totals.scores["everything"]
    by_category: dict[str, list[Scores]] = defaultdict(list)
    for scored in scores:
        by_category[scored.category].append(scored)
    figures = means(scores) | {
        "questions": len(scores),
        "query_ms_p50": quantile(totals.query_ms, 0.5),
        "query_ms_p95": quantile(totals.query_ms, 0.95),
        "turns": totals.turns,
        "turns_per_s": totals.turns / totals.ingest_s if totals.ingest_s else 0.0,
        "rss_mib_max": rss_mib_max(),
    }
    if asked.abstention:
        figures |= certainty(totals)
    if asked.ablation:
        return Report(f"ablation ({asked.level})", figures, groups=by_metric(totals.scores))
    groups = {name: means(scores) | {"questions": len(scores)} for name, scores in sorted(by_category.items())}
    return Report(f"retrieval ({asked.level})", figures, groups=groups)


def means(scores: Sequence[Scores]) -> dict[str, float]:
    """Each metric's mean."""
    return {metric: mean(getattr(scored, metric) for scored in scores) for metric in METRICS}


def by_metric(scores: dict[str, list[Scores]]) -> dict[str, dict[str, float]]:
    """The means of every variant: a column a metric, a row a variant."""
    table = {variant: means(scored) for variant, scored in scores.items()}
    return {metric: {variant: row[metric] for variant, row in table.items()} for metric in METRICS}


def certainty(totals: Totals) -> dict[str, float]:
    """How certain the search is where the answer is in memory and where it is not; shares in percent."""
    figures: dict[str, float] = {}
    for name, values in (("here", totals.certain), ("elsewhere", totals.certain_elsewhere)):
        figures[f"certainty_{name}_p50"] = quantile(values, 0.5)
        figures[f"uncertain_{name}"] = 100 * mean(float(value < UNCERTAIN) for value in values)
    pairs = len(totals.certain) * len(totals.certain_elsewhere)
    above = sum((own > other) + (own == other) / 2 for own in totals.certain for other in totals.certain_elsewhere)
    return figures | {"certainty_told_apart": 100 * above / pairs if pairs else 0.0}


@contextmanager
def open_lines(path: Path) -> Generator[IO[str]]:
    """A file's lines, gzipped or not."""
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as file:
        yield file


class Kept:
    """An embedder that outlives the homes of a run: closing a home does not unload it."""

    def __init__(self, embedder: Embedder) -> None:
        self.identity = embedder.identity
        self.embed_query = embedder.embed_query
        self.embed_passages = embedder.embed_passages

    @classmethod
    def of(cls, embedder: Embedder | None) -> Kept | None:
        """The embedder, kept; none stays none."""
        return None if embedder is None else cls(embedder)

    async def warm(self) -> None:
        """Nothing: it is loaded with the first text of the run."""

    async def aclose(self) -> None:
        """Nothing: the run closes the embedder itself."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--level", choices=("turn", "session"), default="turn")
    parser.add_argument("--limit", type=int, help="only the first N histories")
    parser.add_argument("--embedder", choices=("bundled", "none"), default="bundled")
    parser.add_argument("--ablation", action="store_true", help="ask again with one thing changed at a time")
    parser.add_argument("--abstention", action="store_true", help="ask also what a history cannot answer")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    config = load_config(Home(Path("/nonexistent")), {"memory": {"embedder": arguments.embedder, "watch": False}})
    asked = Asked(arguments.level, arguments.ablation, arguments.abstention)
    report = asyncio.run(run(arguments.file, asked, config, arguments.limit))
    report.show(as_json=arguments.json)


if __name__ == "__main__":
    main()
