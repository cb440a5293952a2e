"""What would be promoted, and why (not), as the command line says it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reverie.cli.commands.memory_promote import matching, parse_now, promote, promote_explain
from reverie.dreaming.candidates import DAY_MS, Rules
from reverie.dreaming.entry import RecallEntry, entry_key, query_hash
from reverie.errors import ConfigError, MemoryPathError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

NOW_MS = 1_776_000_000_000
NOTE = "memory/2026-04-01.md"


pytestmark = pytest.mark.anyio


class Pages:
    """Entries in memory, given as the database gives them."""

    def __init__(self, *entries: RecallEntry, page: int = 1_000) -> None:
        self._entries = entries
        self._page = page

    async def pages(self, agent: str) -> AsyncIterator[Sequence[RecallEntry]]:
        assert agent == "main"
        for start in range(0, len(self._entries), self._page):
            yield self._entries[start : start + self._page]


def entry(
    line: int, recalls: int = 5, questions: int = 4, snippet: str = "The roaster is serviced in March."
) -> RecallEntry:
    hashes = tuple(query_hash(f"{line} {number}") for number in range(questions))
    return RecallEntry(
        entry_key(NOTE, line, line), NOTE, line, line, snippet,
        recall_count=recalls, total_score=0.85 * recalls, max_score=0.9,
        first_recalled_at_ms=NOW_MS - 5 * DAY_MS, last_recalled_at_ms=NOW_MS - DAY_MS,
        queries=hashes, user_queries=hashes, days=("2026-04-01", "2026-04-03", "2026-04-05"),
        tags=("roaster", "serviced", "march", "a", "b", "c"),
    )  # fmt: skip


GOOD, RARE = entry(3), entry(5, recalls=1)
INGESTED = replace(entry(7), recall_count=0, daily_count=5, user_queries=())


async def test_candidates_and_refusals_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs: the rules, each candidate under OpenClaw's names with its parts, and how many each gate refused."""
    await promote(Pages(GOOD, RARE, INGESTED, page=2), "main", Rules(), NOW_MS, as_json=True)
    said: dict[str, Any] = json.loads(capsys.readouterr().out)

    assert {key: said[key] for key in ("agent", "counting", "now", "rejected")} == {
        "agent": "main", "counting": "strict", "now": "2026-04-12T13:20:00.000Z", "rejected": {"recalls": 2},
    }  # fmt: skip
    assert said["rules"] == {
        "minScore": 0.75, "minRecallCount": 3, "minUniqueQueries": 2, "minDays": 0, "minSignals": 1, "maxAgeDays": None,
        "recencyHalfLifeDays": 14.0, "limit": None, "includePromoted": False,
    }  # fmt: skip
    (found,) = said["candidates"]
    assert found["score"] == pytest.approx(0.820345, abs=1e-6)
    assert found["components"]["consolidation"] == pytest.approx(0.632576, abs=1e-6)
    shown = (
        "key", "startLine", "endLine", "recallCount", "dailyCount", "uniqueQueries", "days", "ageDays", "phaseBoost",
        "promotedAt", "lastRecalledAt",
    )  # fmt: skip
    assert [found[key] for key in shown] == [
        "memory:memory/2026-04-01.md:3:3", 3, 3, 5, 0, 4, 3, 1.0, 0.0, None, "2026-04-11T13:20:00.000Z",
    ]  # fmt: skip


async def test_upstream_counting_and_limits_reach_the_ranking(capsys: pytest.CaptureFixture[str]) -> None:
    """As OpenClaw counts, what was only ingested is a candidate; one beyond the limit waits, over all pages."""
    rules = Rules(counting="upstream", limit=1)
    await promote(Pages(GOOD, INGESTED, page=1), "main", rules, NOW_MS, as_json=True)
    said = json.loads(capsys.readouterr().out)

    assert [found["startLine"] for found in said["candidates"]] == [3]
    assert said["rejected"] == {"limit": 1}


async def test_a_person_sees_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Best first, with the refusals below; text cannot steer the terminal."""
    await promote(Pages(entry(3, snippet="beans\x1b[2J"), RARE), "main", Rules(), NOW_MS, as_json=False)

    assert capsys.readouterr().out == (
        "score  recalls  questions  days  place                     passage\n"
        "0.820  5        4          3     memory/2026-04-01.md:3-3  beans\N{REPLACEMENT CHARACTER}[2J\n"
        "1 candidate; nothing is written. Refused: recalls 1\n"
    )


async def test_an_explanation_shows_every_part_and_every_gate(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those gates that were not what refused it."""
    await promote_explain(Pages(GOOD, INGESTED), "main", INGESTED.key, Rules(), NOW_MS, as_json=False)

    assert (
        capsys.readouterr().out
        == """\
memory/2026-04-01.md:7-7: would not be promoted (recalls, queries, ingested)
  The roaster is serviced in March.
score 0.820
  frequency        0.747  × 0.24  = 0.179
  relevance        0.850  × 0.30  = 0.255
  diversity        0.800  × 0.15  = 0.120
  recency          0.952  × 0.15  = 0.143
  consolidation    0.633  × 0.10  = 0.063
  conceptual       1.000  × 0.06  = 0.060
  phases of sleep                 + 0.000
gates
  passed  source      of a daily note or a conversation: yes
  passed  content     it says something: yes
  passed  provenance  written by you or the agent: yes
  passed  promoted    not promoted yet: yes
  passed  signals     5 signals of any kind, 1 needed
  FAILED  recalls     0 recalls, 3 needed
  FAILED  queries     0 different questions, 2 needed
  passed  days        3 different days, 0 needed
  FAILED  ingested    asked for by somebody: no
  passed  age         1 days since the last recall, any allowed
  passed  score       0.82 score, 0.75 needed
"""
    )


async def test_an_explanation_says_what_is_wrong_with_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    """The gate of content names what it saw."""
    await promote_explain(Pages(entry(3, snippet="When is it due?")), "main", NOTE, Rules(), NOW_MS, as_json=False)

    assert "  FAILED  content     it says something: no, nothing but questions\n" in capsys.readouterr().out


async def test_an_explanation_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures, with the weights and whether each gate is passed."""
    await promote_explain(Pages(GOOD), "main", "ROASTER", Rules(age_days_max=0), NOW_MS, as_json=True)
    said = json.loads(capsys.readouterr().out)

    assert (said["selector"], said["more"]) == ("ROASTER", 0)
    (match,) = said["matches"]
    assert not match["passed"]
    assert [check for check in match["gates"] if not check["passed"]] == [
        {"gate": "age", "has": 1.0, "needs": 0, "passed": False}
    ]


async def test_a_selector_is_a_key_a_path_or_a_passage() -> None:
    """Whole or a part, in any case; a whole key is meant alone, and ten are shown at most."""
    first, second = entry(1, snippet="Beans from Huila."), entry(11, snippet="The kettle.")
    pages = Pages(first, second)

    assert await matching(pages, "main", first.key.upper()) == ([first], 0)
    assert await matching(pages, "main", "from  huila") == ([first], 0)
    assert await matching(pages, "main", "2026-04-01") == ([first, second], 0)
    assert await matching(pages, "main", "  ") == ([], 0)
    many = Pages(*(entry(line) for line in range(1, 15)))
    found, more = await matching(many, "main", "roaster")
    assert (len(found), more) == (10, 4)


async def test_what_no_search_surfaced_is_said_so() -> None:
    """An error names what can be given."""
    with pytest.raises(MemoryPathError, match="give a key, or part of a path"):
        await promote_explain(Pages(GOOD), "main", "kettle", Rules(), NOW_MS, as_json=True)


def test_now_is_an_instant() -> None:
    """Without a zone it is UTC, without a value the clock's, and what is none is refused."""
    assert parse_now(None, NOW_MS) == NOW_MS
    assert parse_now("2026-04-12T13:20:00Z", 0) == parse_now("2026-04-12T13:20:00", 0) == NOW_MS
    assert parse_now("2026-04-12T15:20:00+02:00", 0) == NOW_MS
    with pytest.raises(ConfigError, match="ISO 8601"):
        parse_now("tomorrow", 0)
