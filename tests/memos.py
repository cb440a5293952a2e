"""Databases of a MemOS local plugin for tests: the tables that are read, with rows of realistic shape."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T0 = 1_750_000_000_000
OWNER = """owner_agent_kind TEXT NOT NULL DEFAULT 'unknown', owner_profile_id TEXT NOT NULL DEFAULT 'default',
  owner_workspace_id TEXT"""
SHARE = "share_scope TEXT DEFAULT 'private', share_target TEXT, shared_at INTEGER"
SCHEMA = f"""
CREATE TABLE sessions (id TEXT PRIMARY KEY, agent TEXT NOT NULL, {OWNER}, started_at INTEGER NOT NULL,
  last_seen_at INTEGER NOT NULL, meta_json TEXT NOT NULL DEFAULT '{{}}') STRICT;
CREATE TABLE episodes (id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  {OWNER}, share_scope TEXT DEFAULT 'private', started_at INTEGER NOT NULL, ended_at INTEGER,
  trace_ids_json TEXT NOT NULL DEFAULT '[]', r_task REAL, status TEXT NOT NULL, meta_json TEXT NOT NULL DEFAULT '{{}}')
  STRICT;
CREATE TABLE traces (id TEXT PRIMARY KEY, episode_id TEXT NOT NULL, session_id TEXT NOT NULL, {OWNER},
  ts INTEGER NOT NULL, user_text TEXT NOT NULL DEFAULT '', agent_text TEXT NOT NULL DEFAULT '', summary TEXT,
  tool_calls_json TEXT NOT NULL DEFAULT '[]', reflection TEXT, agent_thinking TEXT, value REAL NOT NULL DEFAULT 0,
  alpha REAL NOT NULL DEFAULT 0, r_human REAL, priority REAL NOT NULL DEFAULT 0, tags_json TEXT NOT NULL DEFAULT '[]',
  error_signatures_json TEXT NOT NULL DEFAULT '[]', vec_summary BLOB, vec_action BLOB, {SHARE},
  turn_id INTEGER NOT NULL, schema_version INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE INDEX traces_session_ts ON traces (session_id, ts);
CREATE TABLE policies (id TEXT PRIMARY KEY, {OWNER}, title TEXT NOT NULL, trigger TEXT NOT NULL DEFAULT '',
  procedure TEXT NOT NULL DEFAULT '', verification TEXT NOT NULL DEFAULT '', boundary TEXT NOT NULL DEFAULT '',
  support INTEGER NOT NULL DEFAULT 0, gain REAL NOT NULL DEFAULT 0, status TEXT NOT NULL,
  experience_type TEXT NOT NULL DEFAULT 'success_pattern', evidence_polarity TEXT NOT NULL DEFAULT 'positive',
  salience REAL NOT NULL DEFAULT 0, confidence REAL NOT NULL DEFAULT 0.5,
  source_episodes_json TEXT NOT NULL DEFAULT '[]', source_feedback_ids_json TEXT NOT NULL DEFAULT '[]',
  source_trace_ids_json TEXT NOT NULL DEFAULT '[]', induced_by TEXT NOT NULL DEFAULT '',
  decision_guidance_json TEXT NOT NULL DEFAULT '{{}}', verifier_meta_json TEXT, skill_eligible INTEGER DEFAULT 1,
  vec BLOB, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, {SHARE}, edited_at INTEGER) STRICT;
CREATE TABLE trace_policy_links (trace_id TEXT NOT NULL, policy_id TEXT NOT NULL, episode_id TEXT NOT NULL,
  created_at INTEGER NOT NULL, PRIMARY KEY (trace_id, policy_id)) STRICT, WITHOUT ROWID;
CREATE TABLE l2_candidate_pool (id TEXT PRIMARY KEY, {OWNER}, policy_id TEXT, evidence_trace_ids_json TEXT NOT NULL,
  signature TEXT NOT NULL, similarity REAL NOT NULL, expires_at INTEGER NOT NULL) STRICT;
CREATE TABLE world_model (id TEXT PRIMARY KEY, {OWNER}, title TEXT NOT NULL, body TEXT NOT NULL,
  policy_ids_json TEXT NOT NULL DEFAULT '[]', structure_json TEXT NOT NULL DEFAULT '{{}}',
  domain_tags_json TEXT NOT NULL DEFAULT '[]', confidence REAL NOT NULL DEFAULT 0.5,
  source_episodes_json TEXT NOT NULL DEFAULT '[]', induced_by TEXT NOT NULL DEFAULT '', vec BLOB,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, {SHARE}, edited_at INTEGER,
  status TEXT NOT NULL DEFAULT 'active', archived_at INTEGER, version INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE TABLE skills (id TEXT PRIMARY KEY, {OWNER}, name TEXT NOT NULL, status TEXT NOT NULL,
  invocation_guide TEXT NOT NULL DEFAULT '', procedure_json TEXT NOT NULL DEFAULT '{{}}', eta REAL NOT NULL,
  support INTEGER NOT NULL DEFAULT 0, gain REAL NOT NULL DEFAULT 0, trials_attempted INTEGER NOT NULL DEFAULT 0,
  trials_passed INTEGER NOT NULL DEFAULT 0, source_policies_json TEXT NOT NULL DEFAULT '[]',
  source_world_json TEXT NOT NULL DEFAULT '[]', evidence_anchors_json TEXT NOT NULL DEFAULT '[]', vec BLOB,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, version INTEGER NOT NULL DEFAULT 1, {SHARE},
  edited_at INTEGER, usage_count INTEGER NOT NULL DEFAULT 0, last_used_at INTEGER) STRICT;
CREATE TABLE feedback (id TEXT PRIMARY KEY, {OWNER}, ts INTEGER NOT NULL, episode_id TEXT, trace_id TEXT,
  channel TEXT NOT NULL, polarity TEXT NOT NULL, magnitude REAL NOT NULL, rationale TEXT, raw_json TEXT) STRICT;
CREATE TABLE decision_repairs (id TEXT PRIMARY KEY, {OWNER}, ts INTEGER NOT NULL, context_hash TEXT NOT NULL,
  preference TEXT NOT NULL, anti_pattern TEXT NOT NULL, high_value_traces_json TEXT NOT NULL DEFAULT '[]',
  low_value_traces_json TEXT NOT NULL DEFAULT '[]', validated INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE kv (key TEXT PRIMARY KEY, value_json TEXT NOT NULL, updated_at INTEGER NOT NULL) STRICT;
"""
TOOL_CALL = {"name": "bash", "input": {"command": "ls"}, "output": "main.py", "errorCode": None, "toolCallId": "c1",
             "startedAt": T0, "endedAt": T0 + 5, "assistantTextBefore": "Let me look."}  # fmt: skip


@dataclass
class MemosBuilder:
    """A database in the making; each method writes rows of one kind and gives their number so far."""

    path: Path
    encoding: str = "UTF-8"

    def __post_init__(self) -> None:
        self._connection = apsw.Connection(str(self.path))
        self._connection.pragma("encoding", self.encoding)
        self._connection.pragma("journal_mode", "wal")
        self._connection.execute(SCHEMA)

    def put(self, table: str, **columns: Any) -> None:
        """Write one row."""
        names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
        values = tuple(json.dumps(v) if isinstance(v, list | dict) else v for v in columns.values())
        self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 (our own words)

    def execute(self, sql: str) -> None:
        """Change what no version of the plugin writes by itself."""
        self._connection.execute(sql)

    def exchanges(self, session: str, episode: str, count: int, *, start: int = 0, dims: int = 4) -> None:
        """So many exchanges of an episode: a question with a call of a tool, and the answer to it. Two traces each."""
        vector = np.full(dims, 2.0, dtype="<f4").tobytes()
        with self._connection:
            for number in range(start, start + count):
                at = T0 + number * 10_000
                ids = {"episode_id": episode, "session_id": session, "turn_id": at}
                self.put("traces", id=f"tr_{session}_{number:05}a", ts=at, user_text=f"Question {number}?",
                         tool_calls_json=[TOOL_CALL], value=0.4, alpha=0.6, priority=0.4, reflection="It looked.",
                         summary=f"looked for {number}", tags_json=["shell"], vec_summary=vector, vec_action=vector,
                         **ids)  # fmt: skip
                self.put("traces", id=f"tr_{session}_{number:05}b", ts=at + 5_000, agent_text=f"Answer {number}.",
                         value=0.5, alpha=0.2, priority=0.5, summary=f"answered {number}", vec_summary=vector,
                         vec_action=vector, **ids)  # fmt: skip

    def session(self, session: str, episode: str, **columns: Any) -> None:
        """A session with one episode."""
        self.put("sessions", id=session, agent="openclaw", started_at=T0, last_seen_at=T0)
        scored = {"r_task": 0.75, "status": "closed", "started_at": T0, "ended_at": T0 + 90_000}
        meta = {"initialUserText": "Question 0?", "intent": {"kind": "task"}, "reward": {"axes": {"goal": 0.8}}}
        self.put("episodes", id=episode, session_id=session, **{"meta_json": meta, **scored, **columns})

    def close(self) -> None:
        """Fold the WAL into the file, as the plugin does when it stops."""
        self._connection.close()


def small(path: Path) -> None:
    """One of everything: a session of two exchanges, and what was learned of it."""
    builder = MemosBuilder(path)
    builder.session("se_1", "ep_1")
    builder.exchanges("se_1", "ep_1", 2)
    first = "tr_se_1_00000a"
    builder.put("policies", id="po_1", title="List first", trigger="a task in a folder", procedure="ls", support=2,
                gain=0.3, status="active", source_episodes_json=["ep_1"], source_trace_ids_json=[first],
                decision_guidance_json={"preference": ["ls"], "antiPattern": ["guessing"]}, created_at=T0,
                updated_at=T0 + 1)  # fmt: skip
    builder.put("trace_policy_links", trace_id=first, policy_id="po_1", episode_id="ep_1", created_at=T0)
    builder.put("l2_candidate_pool", id="cand_1_tr", evidence_trace_ids_json=[first], signature="shell|_|bash|_",
                similarity=0.3, expires_at=T0 + 10**12)  # fmt: skip
    entry = {"label": "shell", "description": "there is one", "evidenceIds": ["po_1"]}
    builder.put("world_model", id="wm_1", title="The folder", body="It has files.", policy_ids_json=["po_1"],
                structure_json={"environment": [entry]}, domain_tags_json=["shell"], created_at=T0,
                updated_at=T0)  # fmt: skip
    builder.put("skills", id="sk_1", name="List_Files", status="active", invocation_guide="# List", eta=0.6,
                procedure_json={"summary": "List files.", "tools": ["bash"]}, trials_attempted=3, trials_passed=2,
                usage_count=5, source_policies_json=["po_1"], created_at=T0, updated_at=T0)  # fmt: skip
    builder.put("feedback", id="fb_1", ts=T0, trace_id=first, channel="explicit", polarity="positive", magnitude=1,
                rationale="Good.", raw_json="{}")  # fmt: skip
    builder.put("decision_repairs", id="dr_1", ts=T0, context_hash="0123456789abcdef", preference="ls",
                anti_pattern="guessing", validated=1)  # fmt: skip
    builder.close()


def large(path: Path, traces: int = 5_000, sessions: int = 5) -> None:
    """So many traces, in sessions that took turns."""
    builder = MemosBuilder(path)
    exchanges = traces // (2 * sessions)
    for number in range(sessions):
        builder.session(f"se_{number}", f"ep_{number}")
        builder.exchanges(f"se_{number}", f"ep_{number}", exchanges)
    builder.close()


def rows_of(state_db: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """What a query finds in a database."""
    with closing(apsw.Connection(str(state_db))) as connection:
        yield from connection.execute(sql).fetchall()
