"""The memory tools, `memory_search`, `memory_get` and `memory_append`: one object behind every door to them.

A model in a turn, `/v1/memory/…` and MCP all end here. Nothing raises into a model: `answer` and `call` give what goes
wrong as a structured answer that says what happened and what to do. Recalled text is data: the answer says so, and
quotes it in JSON strings, never as prose of its own.

    search   deadline `memory.tool_s_max`; after one that passed, the same failure for `memory.tool_cooldown_s`
             nothing found: files and transcripts are compared once with the index, and it is asked again
    get      the lines of a file or a transcript, from the disk
    append   guarded by `memory.append`; returns once the note can be found. Whose words it is is known before it is
             written; MEMORY.md takes none that may not become lasting memory
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog

from reverie.clock import utc_date
from reverie.errors import MemoryPathError, RequestError, ReverieError, StorageError
from reverie.memory.append import append_note, daily_path, resolve_appendable, standing_note
from reverie.memory.search import SearchQuery
from reverie.memory.tool_contracts import (
    APPEND,
    APPEND_DISABLED,
    APPEND_TOOL,
    ERROR_CHARS_MAX,
    GET,
    GET_TOOL,
    NOTE,
    SEARCH,
    SEARCH_TOOL,
    ToolAnswer,
    as_results,
    partial_notice,
    read_append,
    read_get,
    read_search,
    refused_answer,
    shown_by,
    shows_citations,
    unavailable,
    unknown_tool,
)
from reverie.types import TRUSTED, JsonObject, least_trusted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.config import MemoryConfig
    from reverie.llm.embeddings import Embedder
    from reverie.memory.append import AppendedNote
    from reverie.memory.index import IndexStatistics, MemoryExcerpt
    from reverie.memory.origins import NoteOrigins
    from reverie.memory.recall import RecallEvidence
    from reverie.memory.search import SearchResult
    from reverie.memory.sync import SyncReport
    from reverie.memory.tool_contracts import Asker, SearchArguments
    from reverie.types import Provenance, ToolCall

log = structlog.get_logger(__name__)

SKIPPED_SHOWN_MAX = 100
SYNC_SHARE = 0.5
"""The part of the time left that a comparison with the files may take, after a search that found nothing."""

LASTING = "MEMORY.md"
NOT_LASTING = (
    "path required: MEMORY.md takes no note that may rest on a stranger's words (a tool's result, a page, an import): "
    "leave `path` out. For programs of the owner there is memory.append_trust"
)

_INNER_CAPITAL = re.compile(r"_([a-z])")


class Searched(Protocol):
    """The part of the memory index that the tools need."""

    async def search(self, query: SearchQuery) -> SearchResult:
        """The best hits for a query."""
        ...

    async def get(self, agent: str, path: str, from_line: int | None = None, lines: int | None = None) -> MemoryExcerpt:
        """Lines of a memory."""
        ...

    async def sync_workspace(self, agent: str, paths: Collection[str] | None = None) -> SyncReport:
        """Bring the index in step with an agent's files."""
        ...

    async def follow_transcripts(self) -> int:
        """Index the messages written since the last time."""
        ...

    def statistics(self) -> IndexStatistics:
        """A snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class _Cooldown:
    """A failure that is given again until an instant of the monotonic clock, without another search."""

    until_s: float
    failure: JsonObject


class MemoryTools:
    """The tools of all agents of one home.

    `owns_index` False: another process has the home and indexes it, so nothing here does. Without `origins`, nothing is
    known afterwards of whose words a note is.
    """

    def __init__(
        self,
        index: Searched,
        evidence: RecallEvidence | None,
        *,
        workspaces: Mapping[str, Path],
        embedder: Embedder | None,
        config: MemoryConfig,
        clock: Clock,
        origins: NoteOrigins | None = None,
        owns_index: bool = True,
    ) -> None:
        self._index = index
        self._evidence = evidence
        self._workspaces = workspaces
        self._embedder = embedder
        self._config = config
        self._clock = clock
        self._origins = origins
        self._owns_index = owns_index
        self._cooldowns: dict[str, _Cooldown] = {}  # by agent: as many as there are agents
        self._syncing = asyncio.Lock()
        self._appending = asyncio.Lock()  # one at a time: those who wait must not take the threads of everybody else

    def definitions(self) -> tuple[JsonObject, ...]:
        """The tools as functions in OpenAI's format."""
        return offered_tools(self._config)

    async def call(self, call: ToolCall, asker: Asker) -> ToolAnswer:
        """Run a model's call and give the answer as JSON text; never raises for what it was called with."""
        try:
            arguments = _parsed(call.arguments)
        except RequestError as error:
            answer: JsonObject = {"results": [], "error": str(error), "action": "Call it again with valid arguments."}
        else:
            answer = await self.answer(call.name, arguments, asker)
        return ToolAnswer(json.dumps(answer, ensure_ascii=False), shown_by(answer))

    async def answer(self, name: str, arguments: JsonObject, asker: Asker) -> JsonObject:
        """Run a tool by its name. What goes wrong is in the answer, as `error` and `action`."""
        tools = {SEARCH: self.search, GET: self.get, APPEND: self.append}
        if name not in tools:
            return unknown_tool(name)
        try:
            return await tools[name](arguments, asker)
        except ReverieError as error:
            return refused_answer(name, arguments, error)

    # -- search --------------------------------------------------------------------------------------------------

    async def search(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """`memory_search`: results, or the structured failure. What was surfaced is recorded as evidence.

        Raises:
            RequestError: the arguments make no sense.
        """
        asked = read_search(arguments)
        if not asked.sources:
            return self._described(()) | {
                "warning": "There is no wiki in this memory, so nothing of it was searched.",
                "action": "Search again with corpus memory, sessions or all.",
            }
        held = self._cooldowns.get(asker.agent)
        if held is not None and self._clock.monotonic_s() < held.until_s:
            return held.failure
        try:
            async with asyncio.timeout(self._config.tool_s_max) as deadline:
                result = await self._found(asked, asker.agent, deadline.when() or 0.0)
        except TimeoutError:
            return self._late(asker.agent)
        except ReverieError as error:
            return unavailable(str(error))
        if result.partial and not result.weights:  # no signal was weighed: the search itself ran out of time
            return self._late(asker.agent)
        self._cooldowns.pop(asker.agent, None)
        await self._record(asked, asker, result)
        return self._search_answer(asked, asker, result)

    async def _found(self, asked: SearchArguments, agent: str, deadline: float) -> SearchResult:
        """Search; when nothing is found, compare the index with the files and search once more."""
        loop = asyncio.get_running_loop()

        def query() -> SearchQuery:
            left_ms = max(1, int((deadline - loop.time()) * 1000))
            return SearchQuery(
                text=asked.text,
                agent=agent,
                limit=asked.limit,
                sources=asked.sources,
                min_score=asked.min_score,
                deadline_ms=left_ms,
            )

        result = await self._index.search(query())
        if result.hits or not self._owns_index:
            return result
        now = loop.time()
        try:
            async with asyncio.timeout_at(now + (deadline - now) * SYNC_SHARE):
                await self._bring_up_to_date(agent)
        except TimeoutError:
            return result  # it goes on in the background; to find nothing is no failure
        return await self._index.search(query())

    async def _bring_up_to_date(self, agent: str) -> None:
        await self._index.sync_workspace(agent)
        await self._index.follow_transcripts()

    def _late(self, agent: str) -> JsonObject:
        """The failure of a search that ran out of time, kept so that the next ones need not wait for theirs."""
        cooldown_s = self._config.tool_cooldown_s
        failure = unavailable(f"memory search did not finish within {self._config.tool_s_max:g} s")
        failure["action"] += f" Searches are tried again after {cooldown_s:g} s."
        self._cooldowns[agent] = _Cooldown(self._clock.monotonic_s() + cooldown_s, failure)
        log.warning("a memory search ran out of time", action="search_late", agent=agent, cooldown_s=cooldown_s)
        return failure

    async def _record(self, asked: SearchArguments, asker: Asker, result: SearchResult) -> None:
        """Keep what was surfaced as evidence. The answer does not depend on it."""
        if self._evidence is None:
            return
        session, turn = asker.session_id, asker.turn_id
        hits = result.hits
        try:
            await self._evidence.record(asker.kind, asker.agent, asked.text, hits, session_id=session, turn_id=turn)
        except StorageError as error:
            log.warning("what was searched is not on record", action="evidence_lost", turn=turn, cause=str(error))

    def _search_answer(self, asked: SearchArguments, asker: Asker, result: SearchResult) -> JsonObject:
        statistics = self._index.statistics()
        paused = statistics.vectors_reason if statistics.vectors_state == "paused" else ""
        cited = shows_citations(self._config.citations, asker.session_key)
        answer = self._described(result.reasons)
        answer["results"] = as_results(result.hits, asked.limit, cited=cited)
        return answer | partial_notice(result.reasons, paused)

    def _described(self, reasons: tuple[str, ...]) -> JsonObject:
        """An answer without results: by what it was looked up. `fallback` says why it was by words alone."""
        missing = next((reason for reason in reasons if reason.startswith("semantic:")), "")
        identity = None if self._embedder is None else self._embedder.identity
        provider = "none" if identity is None else identity.provider
        answer: JsonObject = {
            "note": NOTE,
            "results": list[JsonObject](),
            "provider": provider,
            "model": None if identity is None else identity.model,
            "citations": self._config.citations,
            "mode": "fts-only" if identity is None or missing else "hybrid",
        }
        return answer | ({"fallback": {"from": provider, "reason": missing[:ERROR_CHARS_MAX]}} if missing else {})

    # -- get -----------------------------------------------------------------------------------------------------

    async def get(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """`memory_get`: lines of a memory; a file that is missing is an empty text.

        Raises:
            RequestError: the arguments make no sense.
            MemoryPathError: the path is none of this memory, or cannot be read as such.
            StorageError: the transcript could not be read.
        """
        asked = read_get(arguments)
        excerpt = await self._index.get(asker.agent, asked.path, asked.from_line, asked.lines)
        answer: JsonObject = {
            "note": NOTE,
            "path": excerpt.path,
            "startLine": excerpt.start_line,
            "endLine": excerpt.end_line,
            "text": excerpt.text,
        }
        if excerpt.provenance not in TRUSTED:
            answer["provenance"] = excerpt.provenance
        return answer | ({"truncated": True, "nextLine": excerpt.end_line + 1} if excerpt.cut else {})

    # -- append --------------------------------------------------------------------------------------------------

    async def append(self, arguments: JsonObject, asker: Asker) -> JsonObject:
        """`memory_append`: where the note stands. When it returns, the note is on disk and can be found.

        Beside another process that has the home, that one indexes it a moment later; `warning` says so. Where the asker
        may have it from a stranger, the note is kept as a stranger's.

        Raises:
            RequestError: the arguments make no sense, or appending is switched off.
            MemoryPathError: notes may not go there, or the file would be too large.
            OriginsFullError: no more notes of programs can be told from the owner's.
            StorageError, HomeReadOnlyError: it could not be written.
        """
        mode = self._config.append
        if mode == "off":
            message = 'notes may not be added (memory.append = "off"); the owner allows it with "daily" or "any"'
            raise RequestError(message, code=APPEND_DISABLED, status=403)
        asked = read_append(arguments, self._config.append_bytes_max)
        date = utc_date(self._clock.now_ms())
        path = resolve_appendable(asked.path or daily_path(date))
        if mode == "daily" and path != daily_path(date):
            allowed = 'memory.append = "daily"; the owner allows more with "any"'
            raise MemoryPathError(f"path required: notes go to {daily_path(date)} only ({allowed}): leave `path` out")
        bytes_max = min(self._config.append_file_bytes_max, self._config.file_bytes_max)
        workspace = self._workspaces[asker.agent]
        whose = await self._whose(asked.text, asker)
        if path == LASTING and whose not in TRUSTED:
            raise MemoryPathError(NOT_LASTING)
        async with self._appending:
            known = await asyncio.to_thread(standing_note, workspace, asked.text, path, file_bytes_max=bytes_max)
            if known is None and self._origins is not None:
                await self._origins.register(asker.agent, asked.text, whose, asker.session_id)
            note = known or await asyncio.to_thread(
                append_note, workspace, asked.text, date, path, file_bytes_max=bytes_max
            )
        log.info("a note was added" if note.appended else "a note stood there already", action="memory_appended",
                 agent=asker.agent, path=note.path, line=note.start_line, kind=asker.kind, whose=whose)  # fmt: skip
        return _append_answer(note) | await self._indexed(asker.agent, note.path)

    async def _whose(self, text: str, asker: Asker) -> Provenance:
        """Whose words a note is that is to be added; what is known as a stranger's stays his, whoever repeats it."""
        whose = self._config.append_trust if asker.judge is None else await asker.judge(text)
        known = () if self._origins is None else await self._origins.of_lines(asker.agent, text)
        return least_trusted((whose, *known))

    async def _indexed(self, agent: str, path: str) -> JsonObject:
        """Make a written file findable; what the caller should know when it is not yet."""
        if not self._owns_index:
            warning = "Another process has this home: it indexes the note within about a second, not this call."
            return {"indexed": False, "warning": warning}
        try:
            await self._index.sync_workspace(agent, [path])
        except StorageError as error:
            warning = f"The note is saved but not indexed yet ({error}); that is tried again by itself."
            return {"indexed": False, "warning": warning[:ERROR_CHARS_MAX]}
        return {"indexed": True}

    # -- the index -----------------------------------------------------------------------------------------------

    def status(self, agent: str) -> JsonObject:
        """The state of the index, of all agents together, and what `agent` may do. Waits for nothing."""
        statistics = self._index.statistics()
        described = _in_camel_case(asdict(statistics))
        described["skipped"] = described["skipped"][:SKIPPED_SHOWN_MAX]
        shown = self._described(())
        kept = {key: shown[key] for key in ("provider", "model", "citations")}
        return {"agent": agent, **kept, "append": self._config.append, **described}

    async def sync(self, agent: str) -> JsonObject:
        """Compare the index with an agent's files and the transcripts now; what that changed. One at a time.

        Raises:
            StorageError: the index could not be written.
        """
        async with self._syncing:
            report = await self._index.sync_workspace(agent)
            messages = await self._index.follow_transcripts()
        described = _in_camel_case(asdict(report))
        described["skipped"] = described["skipped"][:SKIPPED_SHOWN_MAX]
        described["broken"] = described["broken"][:SKIPPED_SHOWN_MAX]
        described["tookMs"] = round(described["tookMs"], 1)
        return {"agent": agent, **described, "messages": messages}


def offered_tools(config: MemoryConfig) -> tuple[JsonObject, ...]:
    """The tools as functions in OpenAI's format; `memory_append` unless it is switched off."""
    return (SEARCH_TOOL, GET_TOOL) if config.append == "off" else (SEARCH_TOOL, GET_TOOL, APPEND_TOOL)


def _append_answer(note: AppendedNote) -> JsonObject:
    lines = f"L{note.start_line}" if note.start_line == note.end_line else f"L{note.start_line}-L{note.end_line}"
    answer: JsonObject = {
        "path": note.path,
        "startLine": note.start_line,
        "endLine": note.end_line,
        "appended": note.appended,
        "citation": f"{note.path}#{lines}",
    }
    return answer if note.appended else answer | {"reason": "this note stands there already"}


def _parsed(arguments: str) -> JsonObject:
    try:
        parsed: object = json.loads(arguments or "{}")
    except ValueError as error:
        raise RequestError(f"the arguments are not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise RequestError("the arguments must be a JSON object")
    return cast("JsonObject", parsed)


def _in_camel_case(value: Any) -> Any:
    """The fields of a value of ours as JSON names them."""
    match value:
        case dict():
            fields = cast("dict[str, Any]", value)
            return {
                _INNER_CAPITAL.sub(lambda m: m[1].upper(), key): _in_camel_case(held) for key, held in fields.items()
            }
        case list() | tuple():
            return [_in_camel_case(held) for held in cast("list[Any]", value)]
        case _:
            return value
