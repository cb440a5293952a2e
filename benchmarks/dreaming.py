"""What it costs to weigh everything that was recalled.

    python -m benchmarks.dreaming [--scale full|small] [--json]

`rank_10k_ms` is the median time of 20 rankings of 10,000 passages by the default rules, `rank_10k_ms_max` the longest,
after a first one, `rank_10k_ms_first`, in which the words of every passage are read. Two thirds of the passages
reach the last gate, that of the score.
`tags_ms` is the median time in which the tags of one passage of 800 characters are found, over as many passages as are
ranked. `--scale small` ranks 200 passages twice: it is for trying it out, and its figures say nothing.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.report import Report, quantile
from reverie.dreaming.candidates import DAY_MS, Rules, rank
from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.entry import RecallEntry, entry_key, query_hash

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20_261_121
NOW_MS = 1_776_000_000_000
WORDS = (
    "roaster",
    "service",
    "März",
    "router",
    "备份",
    "バックアップ",
    "라우터",
    "invoice",
    "garden",
    "flight",
    "gateway",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How many passages, and how often they are ranked."""

    entries: int
    runs: int


SCALES = {"full": Scale(10_000, 20), "small": Scale(200, 2)}


def entry(chance: random.Random, number: int) -> RecallEntry:
    """A passage, recalled at random."""
    path, line = f"memory/2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}.md", 1 + number
    recalls, daily = chance.choice((0, 1, 3, 5, 9, 20)), chance.randint(0, 3)
    queries = tuple(query_hash(f"{number} {each}") for each in range(min(32, recalls)))
    days = sorted({f"2026-03-{chance.randint(1, 31):02}" for _ in range(min(16, recalls + daily))})
    return RecallEntry(
        entry_key(path, line, line), path, line, line, f"{number}. {' '.join(chance.choices(WORDS, k=20))}.",
        recall_count=recalls, daily_count=daily, total_score=chance.uniform(0.4, 1) * (recalls + daily),
        last_recalled_at_ms=NOW_MS - chance.randrange(60 * DAY_MS), queries=queries, user_queries=queries,
        days=tuple(days), tags=tuple(WORDS[: chance.randint(0, 8)]),
        light_hits=chance.randint(0, 6), light_at_ms=NOW_MS, rem_hits=chance.randint(0, 6), rem_at_ms=NOW_MS,
    )  # fmt: skip


def timed_ms(work: Callable[[], object]) -> float:
    """How long it took, in milliseconds."""
    started = time.perf_counter()
    work()
    return 1_000 * (time.perf_counter() - started)


def run(scale: Scale) -> Report:
    """All measurements."""
    chance = random.Random(SEED)
    entries = [entry(chance, number) for number in range(scale.entries)]
    first_ms = timed_ms(lambda: rank(entries, Rules(), NOW_MS))
    ranking = rank(entries, Rules(), NOW_MS)
    ranked = [timed_ms(lambda: rank(entries, Rules(), NOW_MS)) for _ in range(scale.runs)]
    texts = [" ".join(chance.choices(WORDS, k=150))[:800] for _ in range(scale.entries)]
    tagged = [timed_ms(lambda text=text: concept_tags("memory/2026-04-01.md", text)) for text in texts]
    figures = {
        "entries": float(scale.entries),
        "candidates": float(len(ranking.candidates)),
        "rejected": float(len(ranking.rejected)),
        "rank_10k_ms_first": first_ms,
        "rank_10k_ms": quantile(ranked, 0.5),
        "rank_10k_ms_max": max(ranked),
        "tags_ms": quantile(tagged, 0.5),
    }
    return Report("dreaming", figures)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dreaming", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run(SCALES[arguments.scale]).show(as_json=arguments.json)


if __name__ == "__main__":
    main()
