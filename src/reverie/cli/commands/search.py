"""`reverie search`: places in memory, best first."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from reverie.cli.opening import check_agent, find_home, open_home
from reverie.cli.output import bold, dim, highlighted, say, say_json, warn
from reverie.errors import EmbedderError
from reverie.llm.offline import snippet
from reverie.memory.index import SearchQuery

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.app import OpenMemory
    from reverie.memory.index import SearchResult
    from reverie.types import JsonObject, MemorySource, SearchHit

SNIPPET_CHARACTERS_MAX = 240
EMBEDDED_FIRST_MAX = 128


async def search_memory(
    given: Path | None,
    query: str,
    *,
    limit: int,
    agent: str,
    source: MemorySource | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Search, show the hits, and record what was surfaced as evidence of recall.

    Nobody else having the home, files and conversations that changed meanwhile are indexed first.

    Raises:
        ReverieError: there is no such home or agent, or its memory cannot be read.
    """
    home, config = await asyncio.to_thread(find_home, given)
    async with open_home(home, config) as opened:
        check_agent(opened.memory, agent)
        memory = opened.memory.memory
        if opened.alone:
            await _catch_up(opened.memory, agent)
        sources: tuple[MemorySource, ...] = (source,) if source else ("memory", "sessions")
        result = await memory.search(SearchQuery(query, agent, limit=limit, sources=sources))
        await opened.memory.evidence.record("cli", agent, query, result.hits)
    if as_json:
        say_json(as_object(query, result))
    else:
        show(query, result, explain=explain)


async def _catch_up(opened: OpenMemory, agent: str) -> None:
    """Index what changed since the last time; of what waits for vectors, as much as a moment allows."""
    await opened.memory.sync_workspace(agent)
    await opened.memory.follow_transcripts()
    try:
        await opened.memory.embed_backlog(EMBEDDED_FIRST_MAX)
    except EmbedderError:
        return  # the search itself says that meaning is missing, and why


def as_object(query: str, result: SearchResult) -> JsonObject:
    """A result for programs; what `--explain` shows is always in it."""
    hits = [asdict(hit) | {"citation": hit.citation} for hit in result.hits]
    return {
        "query": query,
        "hits": hits,
        "partial": result.partial,
        "reasons": list(result.reasons),
        "took_ms": round(result.took_ms, 1),
        "weights": result.weights,
    }


def show(query: str, result: SearchResult, *, explain: bool) -> None:
    """A result for people."""
    if not result.hits:
        say("Nothing found.")
    for number, hit in enumerate(result.hits, start=1):
        _show_hit(number, hit, query, explain=explain)
    if explain:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in result.weights.items())
        say(dim(f"{result.took_ms:.0f} ms; weights: {weights} ({result.weights_reason})"))
    for reason in result.reasons:
        warn(f"note: {reason}")


def _show_hit(number: int, hit: SearchHit, query: str, *, explain: bool) -> None:
    facts = [dim(fact) for fact in (hit.when, hit.speaker) if fact]
    say("  ".join([f"{number:>2}", f"{hit.score:.2f}", bold(hit.citation), *facts]))
    say(f"    {highlighted(snippet(hit.text, query, SNIPPET_CHARACTERS_MAX), query)}")
    if explain:
        parts = ", ".join(f"{name} {value:.3f}" for name, value in sorted(hit.parts.items()))
        say(dim(f"    {parts or 'no parts'}: {hit.reason}"))
