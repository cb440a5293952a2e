"""A MemOS plugin's database into a real state.db: once, resumable, streamed, without touching the source."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np
import pytest
from typer.testing import CliRunner

from reverie.cli.main import app
from reverie.errors import ImportFileError
from reverie.importers.memos.moving import move, survey
from reverie.importers.memos.report import Tally
from reverie.importers.memos.rows import Terms
from reverie.importers.memos.source import ROWS_AT_ONCE
from reverie.storage import STATE, Database
from tests.memos import T0, MemosBuilder, large, rows_of, small

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from reverie.importers.memos.report import TableReport

pytestmark = pytest.mark.anyio

NOW = T0 + 10**10
LEARNED = ("tasks", "episodes", "traces", "policies", "trace_policy_links", "l2_candidates", "world_models", "skills",
           "feedback", "decision_repairs", "episode_spans", "messages", "sessions")  # fmt: skip


@dataclass
class Target:
    """A state.db, and what goes into it."""

    state: Database

    async def take(self, source: Path, **terms: Any) -> dict[str, TableReport]:
        """Import a source; the reports by table."""
        chosen = replace(Terms("main", mine=False, dims=4, now_ms=NOW), **terms)
        return {report.name: report for report in await move(source, self.state, chosen)}

    def one(self, sql: str) -> tuple[Any, ...]:
        """The first row."""
        return next(rows_of(self.state.path, sql))

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return {table: self.one(f"SELECT count(*) FROM {table}")[0] for table in LEARNED}  # noqa: S608 (our own words)


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    """An empty state.db."""
    state = await Database.open(tmp_path / "state.db", STATE, now_ms=0)
    yield Target(state)
    await state.aclose()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One of everything."""
    path = tmp_path / "source" / "memos.db"
    path.parent.mkdir()
    small(path)
    return path


async def test_everything_comes_over_once(target: Target, source: Path) -> None:
    """One row each, under its id; again adds nothing; the source stays as it is, byte for byte."""
    before = {path.name: path.read_bytes() for path in source.parent.iterdir()}

    first = await target.take(source)
    counts = target.counts()
    again = await target.take(source)

    assert {name: report.tally.added for name, report in first.items()} == {
        "sessions": 1, "episodes": 1, "traces": 4, "policies": 1, "trace_policy_links": 1, "l2_candidate_pool": 1,
        "world_model": 1, "skills": 1, "feedback": 1, "decision_repairs": 1,
    }  # fmt: skip
    assert counts == {
        "tasks": 1, "episodes": 1, "traces": 4, "policies": 1, "trace_policy_links": 1, "l2_candidates": 1,
        "world_models": 1, "skills": 1, "feedback": 1, "decision_repairs": 1, "episode_spans": 1, "messages": 4,
        "sessions": 1,
    }  # fmt: skip
    assert all(report.was_finished for report in again.values())
    assert target.counts() == counts
    assert {path.name: path.read_bytes() for path in source.parent.iterdir()} == before


async def test_a_conversation_is_made_of_its_traces(target: Target, source: Path) -> None:
    """What was said stands in a transcript; each step says where, and an answer after a tool is nobody's."""
    await target.take(source, mine=True)

    assert [row[0] for row in rows_of(target.state.path, "SELECT text FROM messages ORDER BY seq")] == [
        "Question 0?", "Answer 0.", "Question 1?", "Answer 1.",
    ]  # fmt: skip
    assert target.one("SELECT key, origin, title FROM sessions") == (
        "agent:main:import:memos:se_1", "import", "memos: se_1",
    )  # fmt: skip
    places = "SELECT turn_seq, step, first_seq, last_seq, at FROM traces ORDER BY at"
    assert list(rows_of(target.state.path, places)) == [
        (1, 0, 1, 1, T0), (1, 1, 2, 2, T0 + 5_000), (3, 0, 3, 3, T0 + 10_000), (3, 1, 4, 4, T0 + 15_000),
    ]  # fmt: skip
    assert list(rows_of(target.state.path, "SELECT role, whose FROM said ORDER BY seq")) == [
        ("user", "owner"), ("assistant", "untrusted"), ("user", "owner"), ("assistant", "untrusted"),
    ]  # fmt: skip
    assert target.one("SELECT first_seq, last_seq FROM episode_spans") == (1, 4)
    assert target.one("SELECT entries, exchanges, steps, state, opened_for, closed_for, title FROM episodes") == (
        4, 2, 4, "closed", "import", "import", "Question 0?",
    )  # fmt: skip
    assert target.one("SELECT state, steps, reflected_by FROM reflection_windows") == ("reflected", 4, "import")


async def test_a_score_comes_over_and_is_final(target: Target, source: Path) -> None:
    """The task is of origin import, with its score; no job is asked for."""
    await target.take(source)

    state, origin, score, reward = target.one("SELECT state, origin, r_human, reward FROM tasks")
    assert (state, origin, score, json.loads(reward)) == (
        "scored", "import", 0.75, {"axes": {"goal": 0.8}, "source": "import"},
    )  # fmt: skip
    assert target.one("SELECT count(*) FROM job_requests") == (0,)


async def test_what_was_learned(target: Target, source: Path) -> None:
    """In our words: guidance, structure, the skill's name as a folder, what it was used as what it was shown."""
    await target.take(source)

    assert target.one("SELECT trigger_text, status, gain, gain_known, support, guidance, provenance FROM policies") == (
        "a task in a folder", "active", 0.3, 1, 2, '{"preference": ["ls"], "anti_pattern": ["guessing"]}', "untrusted",
    )  # fmt: skip
    assert json.loads(target.one("SELECT structure FROM world_models")[0])["environment"] == [
        {"label": "shell", "description": "there is one", "evidence": ["po_1"]}
    ]
    skill = "SELECT name, description, tools, eta, exposures, uses, trials, passes, file_planned FROM skills"
    assert target.one(skill) == (
        "list-files", "List files.", '["bash"]', 0.6, 5, 5, 3, 2, "due",
    )  # fmt: skip
    assert target.one("SELECT trace_id, episode_id, polarity, text, provenance FROM feedback") == (
        "tr_se_1_00000a", "ep_1", "positive", "Good.", "untrusted",
    )  # fmt: skip
    assert target.one("SELECT json_extract(tool_calls, '$[0].name'), json_extract(tool_calls, '$[0].text_before') "
                      "FROM traces ORDER BY at") == ("bash", "Let me look.")  # fmt: skip


@pytest.mark.parametrize(("mine", "whose"), [(False, {"untrusted"}), (True, {"agent", "untrusted"})])
async def test_whose_it_is(target: Target, source: Path, *, mine: bool, whose: set[str]) -> None:
    """A stranger's, unless the owner vouches; what followed a tool is nobody's either way."""
    await target.take(source, mine=mine)

    tables = ("traces", "policies", "world_models", "skills", "decision_repairs", "tasks")
    found = {row[0] for table in tables for row in rows_of(target.state.path, f"SELECT provenance FROM {table}")}  # noqa: S608 (our own words)
    assert found == whose


@pytest.mark.parametrize(("dims", "kept", "dropped"), [(4, 8, 0), (384, 0, 8), (None, 0, 8)])
async def test_vectors(target: Target, source: Path, dims: int | None, kept: int, dropped: int) -> None:
    """Those of our embedder's length come over with length 1; others are NULL, to be made anew."""
    tally = (await target.take(source, dims=dims))["traces"].tally

    assert (tally.vectors_kept, tally.vectors_dropped) == (kept, dropped)
    blob = target.one("SELECT vec_summary FROM traces")[0]
    assert (None if blob is None else np.frombuffer(blob, "<f4").tolist()) == ([0.5] * 4 if kept else None)


async def test_interrupted_and_gone_on_with(target: Target, tmp_path: Path) -> None:
    """Stopped after any page, it goes on there; the result is that of an import in one go."""
    path = tmp_path / "memos.db"
    large(path, traces=1_000)
    terms = Terms("main", mine=False, dims=4, now_ms=NOW)

    pages = 0

    def stop_after_three(_: int) -> None:
        nonlocal pages
        pages += 1
        if pages % 4 == 0:
            raise KeyboardInterrupt

    reports: list[TableReport] = []
    while not reports:
        with suppress(KeyboardInterrupt):
            reports = await move(path, target.state, terms, progress=stop_after_three)

    assert pages > 20
    assert [report.tally.added for report in reports if report.name == "traces"] == [1_000]
    assert target.one("SELECT count(*), count(DISTINCT id) FROM traces") == (1_000, 1_000)
    assert target.one("SELECT count(*), max(seq) FROM messages") == (1_000, 200)
    spans = "SELECT count(*), min(first_seq), max(last_seq) FROM episode_spans GROUP BY session_id"
    assert set(rows_of(target.state.path, spans)) == {(1, 1, 200)}
    assert set(rows_of(target.state.path, "SELECT entries, exchanges, steps FROM episodes")) == {(200, 100, 200)}


async def test_what_another_agent_has_stays_with_it(target: Target, source: Path) -> None:
    """Imported for a second agent, every row is left out and says whose it is; no empty session is made."""
    await target.take(source)
    with closing(apsw.Connection(str(source))) as connection:
        connection.execute("INSERT INTO traces (id, episode_id, session_id, ts, turn_id) "
                           "VALUES ('tr_new', 'ep_1', 'se_1', ?, 1)", (T0 + 10**6,))  # fmt: skip
    counts = target.counts()

    reports = await target.take(source, agent="helper")

    left_out = {name: report.tally.skipped for name, report in reports.items()}
    of_main = "belongs to agent main"
    assert left_out == {
        "sessions": {of_main: 1}, "episodes": {of_main: 1}, "traces": {of_main: 5}, "policies": {of_main: 1},
        "trace_policy_links": {of_main: 1}, "l2_candidate_pool": {of_main: 1}, "world_model": {of_main: 1},
        "skills": {of_main: 1}, "feedback": {of_main: 1}, "decision_repairs": {of_main: 1},
    }  # fmt: skip
    assert [report.tally.present for report in reports.values()] == [0] * len(reports)
    assert target.counts() == counts


async def test_two_sources_of_two_agents(target: Target, source: Path, tmp_path: Path) -> None:
    """Sessions that only share an id are two; what names a step of another agent is not joined to it."""
    await target.take(source)
    other = tmp_path / "other.db"
    builder = MemosBuilder(other)
    builder.put("sessions", id="se_1", agent="openclaw", started_at=T0 + 1, last_seen_at=T0 + 1)
    builder.put("episodes", id="ep_2", session_id="se_1", started_at=T0 + 1, status="closed")
    first = "tr_se_1_00000a"
    builder.put("policies", id="po_2", title="t", status="active", created_at=T0, updated_at=T0)
    builder.put("trace_policy_links", trace_id=first, policy_id="po_2", episode_id="ep_1", created_at=T0)
    builder.put("l2_candidate_pool", id="c_2", evidence_trace_ids_json=[first], signature="s", similarity=0.3,
                expires_at=T0 + 10**12)  # fmt: skip
    builder.put("feedback", id="fb_2", ts=T0, trace_id=first, episode_id="ep_1", channel="explicit",
                polarity="positive", magnitude=1)  # fmt: skip
    builder.close()

    reports = await target.take(other, agent="helper")

    assert {name: report.tally.added for name, report in reports.items() if report.tally.added} == {
        "sessions": 1, "episodes": 1, "policies": 1, "feedback": 1,
    }  # fmt: skip
    assert target.one("SELECT session_id, task_id, trace_id FROM feedback WHERE id = 'fb_2'") == (None, None, None)


async def test_a_source_that_grew(target: Target, source: Path) -> None:
    """What is new is added after what is there; nothing is added twice."""
    await target.take(source)
    with closing(apsw.Connection(str(source))) as connection:
        connection.execute("INSERT INTO traces (id, episode_id, session_id, ts, user_text, agent_text, turn_id) "
                           "VALUES ('tr_new', 'ep_1', 'se_1', ?, 'And now?', 'Done.', 1)", (T0 + 99_000,))  # fmt: skip

    tally = (await target.take(source))["traces"].tally

    assert (tally.added, tally.present) == (1, 4)
    assert target.one("SELECT first_seq, last_seq, turn_seq, step FROM traces WHERE id = 'tr_new'") == (5, 6, 5, 0)
    assert target.one("SELECT first_seq, last_seq FROM episode_spans") == (1, 6)


async def test_a_source_that_is_written_to(target: Target, tmp_path: Path) -> None:
    """What stands in its WAL is read, and neither file changes."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1")
    builder.exchanges("se_1", "ep_1", 3)
    wal = path.with_name("memos.db-wal")
    before = (path.read_bytes(), wal.read_bytes())

    added = (await target.take(path))["traces"].tally.added

    assert (added, before[1] != b"", (path.read_bytes(), wal.read_bytes())) == (6, True, before)
    builder.close()


async def test_what_makes_no_sense_is_left_out(target: Target, tmp_path: Path) -> None:
    """With its reason; figures are clamped, broken JSON is empty, a large text is cut, an open episode is closed."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1", status="open", ended_at=None, r_task=None, meta_json="[broken")
    builder.put("episodes", id="ep_lost", session_id="se_9", started_at=T0, status="closed")
    where = {"session_id": "se_1", "turn_id": 1}
    builder.put("traces", id="tr_1", episode_id="ep_1", ts=T0, user_text="x" * 20_000, value=7.0, alpha=-1.0,
                priority=9, tool_calls_json="{", tags_json='["a", 1, null]', vec_summary=b"abc", **where)  # fmt: skip
    builder.put("traces", id="tr_2", episode_id="ep_lost", ts=T0, **where)
    builder.put("traces", id="tr_3", episode_id="ep_1", ts=T0, reflection="of a tool call without words", **where)
    builder.put("policies", id="po_1", title="", status="strange", experience_type="new", gain=99.0, confidence=-3.0,
                created_at=-5, updated_at=-6)  # fmt: skip
    builder.put("trace_policy_links", trace_id="tr_2", policy_id="po_1", episode_id="ep_1", created_at=T0)
    builder.put(
        "l2_candidate_pool", id="c1", evidence_trace_ids_json=["tr_1"], signature="s", similarity=0, expires_at=5
    )
    builder.put(
        "l2_candidate_pool", id="c2", evidence_trace_ids_json=[], signature="s", similarity=0, expires_at=T0 + 10**12
    )
    builder.put("l2_candidate_pool", id="c3", evidence_trace_ids_json=["tr_2"], signature="s", similarity=0,
                expires_at=T0 + 10**12)  # fmt: skip
    for number, name in enumerate(("brew", "Brew", "brew!", "???")):
        builder.put("skills", id=f"sk_{number}", name=name, status="candidate", eta=2.0, trials_attempted=1,
                    trials_passed=9, created_at=T0, updated_at=T0)  # fmt: skip
    builder.put("decision_repairs", id="dr_1", ts=T0, context_hash="short", preference="", anti_pattern="")
    builder.close()

    reports = await target.take(path)

    assert {name: report.tally.skipped for name, report in reports.items() if report.tally.skipped} == {
        "episodes": {"its session was not taken over": 1},
        "traces": {"its episode was not taken over": 1},
        "trace_policy_links": {"what it links is not there": 1},
        "l2_candidate_pool": {"expired": 1, "no trace": 1, "what it links is not there": 1},
        "skills": {"no name": 1},
        "decision_repairs": {"no context": 1},
    }
    assert target.one("SELECT state, r_human, reward FROM tasks") == (
        "skipped", None, '{"skipped": true, "reason": "imported"}',
    )  # fmt: skip
    assert target.one("SELECT length(user_text), value, alpha, priority, tool_calls, tags, vec_summary FROM traces "
                      "WHERE id = 'tr_1'") == (16_000, 1.0, 0.0, 1.0, "[]", '["a"]', None)  # fmt: skip
    assert target.one("SELECT first_seq, last_seq, turn_seq, step, at FROM traces WHERE id = 'tr_3'") == (
        1, 1, 1, 1, T0 + 1,
    )  # fmt: skip
    assert target.one("SELECT title, status, type, gain, confidence, created_at, updated_at FROM policies") == (
        "untitled", "candidate", "procedural", 2.0, 0.0, NOW, NOW,
    )  # fmt: skip
    assert list(rows_of(target.state.path, "SELECT name, eta, trials, passes FROM skills ORDER BY id")) == [
        ("brew", 1.0, 1, 1), ("brew-2", 1.0, 1, 1), ("brew-3", 1.0, 1, 1),
    ]  # fmt: skip


async def test_texts_that_cannot_be_stored(target: Target, tmp_path: Path) -> None:
    """Half an emoji, a NUL or bytes that are no text become the replacement character; the rest comes over."""
    path = tmp_path / "memos.db"
    half = '{"a": ["cut \\ud83d"], "b\\u0000": 1e999}'
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1", meta_json='{"intent": {"why": "\\ud83d"}, "reward": {"reason": "\\ud83d"}}')
    where = {"episode_id": "ep_1", "session_id": "se_1", "turn_id": 1, "ts": T0}
    builder.put("traces", id="tr_1", user_text="one\0two", tags_json='["\\ud83d"]',
                tool_calls_json='[{"name": "\\ud83d", "input": {"x": "\\ud83d"}}]', **where)  # fmt: skip
    dated = {"created_at": T0, "updated_at": T0}
    builder.put("policies", id="po_1", title="t", status="active", verifier_meta_json=half, **dated)
    builder.put("skills", id="sk_1", name="brew", status="active", eta=0.5, procedure_json=half, **dated)
    builder.put("feedback", id="fb_1", ts=T0, channel="explicit", polarity="positive", magnitude=1, raw_json=half)
    builder.execute("UPDATE traces SET agent_text = CAST(x'6f6bff21' AS TEXT), summary = CAST(x'ff' AS TEXT)")
    builder.close()

    reports = await target.take(path)

    assert [report.tally.added for report in reports.values()] == [1, 1, 1, 1, 0, 0, 0, 1, 1, 0]
    kept = {"a": ["cut ?"], "b\ufffd": None}
    assert [json.loads(row[0]) for row in rows_of(
        target.state.path,
        "SELECT raw FROM feedback UNION ALL SELECT verifier FROM policies UNION ALL SELECT draft FROM skills",
    )] == [kept, kept, kept]  # fmt: skip
    assert target.one("SELECT user_text, agent_text, summary, tags FROM traces") == (
        "one\ufffdtwo", "ok\ufffd!", "\ufffd", '["?"]',
    )  # fmt: skip


@pytest.mark.parametrize(
    ("instant", "unit"), [(T0 // 1_000, 1_000), (T0, 1), (T0 * 1_000 + 7, 0.001), (T0 * 1_000_000 + 7, 0.000_001)]
)
async def test_instants_in_any_unit(target: Target, tmp_path: Path, instant: int, unit: float) -> None:
    """Seconds, milliseconds, micro- and nanoseconds are told apart by their range."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1", started_at=instant, ended_at=instant + int(2_000 / unit))
    builder.put("traces", id="tr_1", episode_id="ep_1", session_id="se_1", ts=instant, user_text="Now?", turn_id=1)
    builder.put("policies", id="po_1", title="t", status="active", created_at=instant, updated_at=instant)
    builder.close()

    await target.take(path)

    times = "e.opened_at, e.last_at, t.at, p.created_at, p.updated_at"
    assert target.one(f"SELECT {times} FROM episodes AS e, traces AS t, policies AS p") == (T0, T0 + 2_000, T0, T0, T0)  # noqa: S608 (our own words)


async def test_what_has_no_time_is_left_out(target: Target, tmp_path: Path) -> None:
    """A step or an episode of no time of this century is counted; one that only lacks its beginning has its end."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1", started_at=0)
    builder.put("episodes", id="ep_2", session_id="se_1", started_at=10**13, status="closed")
    for number, ts in enumerate((0, -T0, 10**13, 2**63 - 1, T0)):
        builder.put("traces", id=f"tr_{number}", episode_id="ep_1", session_id="se_1", ts=ts, turn_id=1)
    builder.close()

    reports = await target.take(path)

    assert reports["episodes"].tally.skipped == {"no time of this century": 1}
    assert reports["traces"].tally.skipped == {"no time of this century": 4}
    assert target.one("SELECT started_at, ended_at FROM tasks") == (T0 + 90_000, T0 + 90_000)


async def test_rows_without_a_usable_id_are_left_out(target: Target, tmp_path: Path) -> None:
    """No id, one that is no text, one with a NUL or too long: each is counted, none stops the import or repeats."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1")
    builder.exchanges("se_1", "ep_1", 1)
    columns = "id, ts, channel, polarity, magnitude, rationale, trace_id, episode_id"
    builder.execute(f"DROP TABLE feedback; CREATE TABLE feedback ({columns})")
    ids = (None, "", 7, 0.5, b"bytes", "x" * 17_000, "a\0b", "a\0c", "fb_1")
    for id_ in ids:
        builder.put("feedback", id=id_, ts=T0, channel="explicit", polarity="positive", magnitude=1)
    builder.execute("INSERT INTO feedback (id) VALUES (CAST(x'ff' AS TEXT)), (CAST(x'ff41' AS TEXT))")
    where = {"episode_id": "ep_1", "ts": T0 + 10**6, "turn_id": 1}
    for id_, session in (("zz\0", "se_1"), ("z" * 17_000, "se_1"), ("tr_9", "se_1\0"), ("tr_8", "")):
        builder.put("traces", id=id_, session_id=session, **where)
    builder.close()

    async with asyncio.timeout(20):
        reports = await target.take(path)

    assert (reports["feedback"].rows, reports["feedback"].tally.added) == (11, 1)
    assert reports["feedback"].tally.skipped == {"no usable id": 10}
    assert (reports["traces"].rows, reports["traces"].tally.added) == (6, 2)
    assert reports["traces"].tally.skipped == {"no usable id": 4}


async def test_a_page_that_does_not_go_on_ends_the_import(target: Target, tmp_path: Path) -> None:
    """A table whose rows come again after their own key is refused instead of being read for ever."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path)
    builder.session("12", "ep_1")
    builder.execute("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(replace(sql, 'id TEXT PRIMARY "
                    "KEY, agent', 'id NUMERIC PRIMARY KEY, agent'), 'STRICT', '') WHERE name = 'sessions'")  # fmt: skip
    builder.close()

    async with asyncio.timeout(20):
        with pytest.raises(ImportFileError, match="sessions.*out of order"):
            await target.take(path)


async def test_a_database_in_another_encoding(target: Target, tmp_path: Path) -> None:
    """Texts and ids are read in the encoding that the database is written in."""
    path = tmp_path / "memos.db"
    builder = MemosBuilder(path, encoding="UTF-16le")
    builder.session("se_ü", "ep_1")
    for number in range(ROWS_AT_ONCE + 1):
        builder.put("traces", id=f"tr_{number:04}é", episode_id="ep_1", session_id="se_ü", ts=T0, turn_id=1,
                    user_text=f"Grüße {number} 😀")  # fmt: skip
    builder.close()

    reports = await target.take(path)

    assert reports["traces"].tally.added == ROWS_AT_ONCE + 1
    assert target.one("SELECT user_text FROM traces WHERE id = 'tr_0100é'") == ("Grüße 100 😀",)


async def test_what_was_forgotten_stays_so(target: Target, source: Path) -> None:
    """A session that a person had forgotten does not come back, and nothing that rests on it."""
    key = "agent:main:import:memos:se_1"
    with closing(apsw.Connection(str(target.state.path))) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(forgotten)")]
        assert {"agent", "kind", "name"} <= set(columns)
        connection.execute("INSERT INTO forgotten (agent, kind, name, at) VALUES ('main', 'session', ?, 1)", (key,))

    reports = await target.take(source)

    assert reports["sessions"].tally.skipped == {"forgotten": 1}
    assert target.one("SELECT (SELECT count(*) FROM traces), (SELECT count(*) FROM messages)") == (0, 0)


async def test_an_older_version(target: Target, tmp_path: Path) -> None:
    """A column that it does not have reads as nothing, a table that it does not have as empty."""
    path = tmp_path / "memos.db"
    small(path)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("ALTER TABLE skills DROP COLUMN usage_count; DROP TABLE decision_repairs; "
                           "ALTER TABLE policies DROP COLUMN salience")  # fmt: skip

    reports = await target.take(path)

    assert (reports["decision_repairs"].rows, reports["policies"].tally.added) == (0, 1)
    assert target.one("SELECT uses, trials FROM skills") == (3, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "it has no table 'sessions'"), (b"no database at all" * 99, "not a SQLite database"), (None, "not a file")],
)
async def test_not_such_a_database(target: Target, tmp_path: Path, content: bytes | None, message: str) -> None:
    """It is said what it is, and nothing is written."""
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ImportFileError, match=message):
        await target.take(path)


async def test_five_thousand_traces_in_bounded_memory(target: Target, tmp_path: Path) -> None:
    """A page is held at a time, whatever the source holds."""
    path = tmp_path / "memos.db"
    await asyncio.to_thread(large, path)

    assert [report.rows for report in await asyncio.to_thread(survey, path)][:3] == [5, 5, 5_000]
    tracemalloc.start()
    try:
        await target.take(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert target.one("SELECT count(*) FROM traces") == (5_000,)
    assert peak < 24 * 1024 * 1024


# -- the command ---------------------------------------------------------------------------------------------------


CONFIG = """
llm: {apiKey: sk-secret, timeoutMs: 45000}
algorithm:
  lightweightMemory: {enabled: false}
  session: {maxTurnsPerEpisode: 40, classifyTimeoutMs: 2500, bgLlmConcurrency: 3}
  skill: {cooldownMs: 7200000}
"""


def run(*words: str) -> Any:
    """Run the command."""
    return CliRunner().invoke(app, ["import", "memos", *words])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that searches by words alone, to be quick."""
    home = tmp_path / "home"
    (home / "agents" / "main" / "workspace").mkdir(parents=True)
    (home / "config.toml").write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")
    return home


def test_the_command(home: Path, source: Path, tmp_path: Path) -> None:
    """A table of what came over, the settings to paste, and the conversations can be found."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG, encoding="utf-8")

    result = run(str(source), "--home", str(home), "--config", str(config))

    assert result.exit_code == 0, result.output
    assert "traces              4     4      0              0         0             8" in result.stdout
    snippet = result.stdout[result.stdout.index("[learning]") :]
    assert snippet == (
        '[learning]\nmodel_timeout_s = 45.0\nmode = "full"\nbackground_llm_concurrency = 3\n\n'
        "[learning.session]\nmax_turns_per_episode = 40\nclassify_timeout_ms = 2500\n\n"
        "[learning.skills]\ncooldown_hours = 2.0\n"
    )
    assert "llm.apiKey" in result.stderr
    assert "sk-secret" not in result.output
    found = CliRunner().invoke(app, ["search", "Answer 1", "--home", str(home), "--json"])
    assert "sessions/" in found.stdout


def test_the_command_again_for_programs(home: Path, source: Path) -> None:
    """With --json one object; the second time everything was read before."""
    first = json.loads(run(str(source), "--home", str(home), "--json").stdout)
    second = json.loads(run(str(source), "--home", str(home), "--json").stdout)

    assert first["tables"][2] == {
        "name": "traces", "rows": 4, "was_finished": False,
        "tally": {"added": 4, "present": 0, "vectors_kept": 0, "vectors_dropped": 8, "skipped": {}},
    }  # fmt: skip
    assert {table["was_finished"] for table in second["tables"]} == {True}
    nothing = asdict(Tally())
    assert [table["tally"] for table in second["tables"]] == [nothing] * len(second["tables"])
    assert [table["rows"] for table in second["tables"]][:3] == [1, 1, 4]
    assert (first["settings"], first["indexed_by_server"]) == (None, False)


def test_a_dry_run(tmp_path: Path, source: Path) -> None:
    """It is only counted; no home is made."""
    result = run(str(source), "--dry-run", "--home", str(tmp_path / "none"))

    assert (result.exit_code, "traces              4" in result.stdout) == (0, True), result.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--agent", "nobody"], 2, "one of this home's agents"),
        (["--config", "nowhere.yaml"], 1, "nowhere.yaml cannot be read"),
    ],
)
def test_the_command_refuses(home: Path, source: Path, words: list[str], code: int, message: str) -> None:
    """In one line, with an exit code."""
    result = run(str(source), "--home", str(home), *words)

    assert (result.exit_code, message in result.stderr) == (code, True), result.output
