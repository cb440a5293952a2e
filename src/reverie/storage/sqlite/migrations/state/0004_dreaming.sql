-- Dreaming: whose words are whose, what was changed in MEMORY.md, how far passes over notes and transcripts came, when
-- it is due, and what was forgotten. Instants are milliseconds since 1970 UTC.

-- Whose words a message is. NULL: written before that was known; by its role (user: owner, assistant: agent), and
-- untrusted in an import.
ALTER TABLE messages ADD COLUMN provenance TEXT CHECK (provenance IN ('owner', 'agent', 'untrusted', 'system'));
-- The messages of a session up to this number came out of a file, and nobody vouched for what it says of them.
ALTER TABLE sessions ADD COLUMN unvouched_seq INTEGER NOT NULL DEFAULT 0;

-- Messages with whose words they are: the one place that decides it.
CREATE VIEW said AS
SELECT messages.*, sessions.agent, sessions.origin,
       CASE WHEN messages.seq <= sessions.unvouched_seq THEN 'untrusted'
            WHEN messages.provenance IS NOT NULL THEN messages.provenance
            WHEN sessions.origin = 'import' THEN 'untrusted'
            WHEN messages.role = 'user' THEN 'owner'
            WHEN messages.role = 'assistant' THEN 'agent'
            ELSE 'untrusted' END AS whose
FROM messages JOIN sessions ON sessions.id = messages.session_id;

-- Paragraphs that programs wrote into notes, and their longer lines and sentences. What is not named here was written
-- by a person. Bounded for each agent: when it is full, programs write no more.
CREATE TABLE note_origins (
  agent TEXT NOT NULL,
  digest BLOB NOT NULL,                    -- of its words alone: neither marks, spaces nor case
  provenance TEXT NOT NULL CHECK (provenance IN ('owner', 'agent', 'untrusted', 'system')),
  session_id TEXT,                         -- the conversation it came from, if one
  at INTEGER NOT NULL,
  PRIMARY KEY (agent, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX note_origins_by_session ON note_origins (session_id) WHERE session_id IS NOT NULL;
-- How many an agent has, so that nothing counts them.
CREATE TABLE note_origin_totals (
  agent TEXT PRIMARY KEY,
  pieces INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TRIGGER note_origin_enters AFTER INSERT ON note_origins BEGIN
  INSERT INTO note_origin_totals VALUES (NEW.agent, 1) ON CONFLICT (agent) DO UPDATE SET pieces = pieces + 1;
END;
CREATE TRIGGER note_origin_leaves AFTER DELETE ON note_origins BEGIN
  UPDATE note_origin_totals SET pieces = pieces - 1 WHERE agent = OLD.agent;
END;

-- Each change of a workspace's MEMORY.md by dreaming, from the moment it is planned: with what stood there before.
-- Bounded: the oldest that have ended give way.
CREATE TABLE memory_changes (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  path TEXT NOT NULL,                      -- workspace-relative
  kind TEXT NOT NULL CHECK (kind IN ('promotion', 'consolidation', 'undo', 'forgetting')),
  state TEXT NOT NULL CHECK (state IN ('planned', 'applied', 'abandoned', 'undone')),
  before BLOB,                             -- the file as it was; NULL: there was none, or it is kept no longer
  before_digest BLOB NOT NULL,             -- SHA-256; empty: no file
  after_digest BLOB NOT NULL,
  details TEXT NOT NULL DEFAULT '{}',      -- JSON: the entries it added, joined or removed
  planned_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;
CREATE INDEX memory_changes_by_agent ON memory_changes (agent);
CREATE INDEX memory_changes_planned ON memory_changes (agent) WHERE state = 'planned';

-- Daily notes as a pass has read them last: one row a file, whatever the window of the pass.
CREATE TABLE ingested_notes (
  agent TEXT NOT NULL,
  path TEXT NOT NULL,
  mtime_ns INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  next_line INTEGER NOT NULL DEFAULT 0,    -- where the next pass goes on in a file that was too long for one; 0: read
  at INTEGER NOT NULL,
  PRIMARY KEY (agent, path)
) STRICT, WITHOUT ROWID;

-- How far the passes have read the log of all messages, agent by agent.
CREATE TABLE ingested_transcripts (
  agent TEXT PRIMARY KEY,
  position INTEGER NOT NULL,
  since INTEGER NOT NULL,                  -- what was said before is passed over: the look-back of the first pass
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When something is due. What manages a row is named by `managed_by`, and nothing else tells whose it is.
CREATE TABLE schedules (
  id TEXT PRIMARY KEY,
  managed_by TEXT NOT NULL DEFAULT '',
  name TEXT NOT NULL DEFAULT '',
  cron TEXT NOT NULL,
  time_zone TEXT NOT NULL,
  enabled INTEGER NOT NULL DEFAULT 1,
  created_at INTEGER NOT NULL,
  fired_for INTEGER NOT NULL               -- the due instant that was taken last; at first when the row was made
) STRICT;
CREATE INDEX schedules_managed ON schedules (managed_by, created_at, id);

-- Firings, each under an id made of its schedule and its due instant: of many processes one gets it. Bounded: the
-- oldest give way.
CREATE TABLE dream_runs (
  id TEXT PRIMARY KEY,
  cause TEXT NOT NULL CHECK (cause IN ('schedule', 'late', 'trigger', 'manual')),
  due_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'interrupted')),
  holder TEXT NOT NULL,                    -- the process that runs it
  lease_until INTEGER NOT NULL,            -- after this, another process may go on with it
  interruptions INTEGER NOT NULL DEFAULT 0, -- how often it was taken up again
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  report TEXT NOT NULL DEFAULT '{}',       -- JSON: counts
  error TEXT
) STRICT;
CREATE INDEX dream_runs_by_start ON dream_runs (started_at);

-- What of a run is done: written with the work itself, so that no phase counts twice.
CREATE TABLE dream_steps (
  run_id TEXT NOT NULL REFERENCES dream_runs (id) ON DELETE CASCADE,
  agent TEXT NOT NULL,
  step TEXT NOT NULL,                      -- repair, notes, transcripts, light, rem, deep, diary
  done_at INTEGER NOT NULL,
  report TEXT NOT NULL DEFAULT '{}',       -- JSON
  PRIMARY KEY (run_id, agent, step)
) STRICT, WITHOUT ROWID;

-- What dreaming spent on a model, by day.
CREATE TABLE dream_spend (
  day TEXT NOT NULL,                       -- YYYY-MM-DD in the user's time zone
  kind TEXT NOT NULL,                      -- diary, consolidation
  calls INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (day, kind)
) STRICT, WITHOUT ROWID;

-- What a person had forgotten: it is not taken in again, by whatever way it comes.
CREATE TABLE forgotten (
  agent TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('session', 'history', 'message', 'note', 'paragraph')),
  name TEXT NOT NULL,                      -- a session's id or key, the keys of a history, a path, or a digest
  at INTEGER NOT NULL,
  PRIMARY KEY (agent, kind, name)
) STRICT, WITHOUT ROWID;

-- A message that is forgotten keeps its row and loses its words.
CREATE TRIGGER message_changes AFTER UPDATE OF text ON messages BEGIN
  UPDATE sessions SET transcript_bytes = transcript_bytes + octet_length(NEW.text) - octet_length(OLD.text)
  WHERE id = NEW.session_id;
END;

-- Whether an entry is known to be right, so that a repair looks only at what was written since. `rules` says by which
-- rules an agent's entries were looked at last.
ALTER TABLE recall_entries ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recall_totals ADD COLUMN rules INTEGER NOT NULL DEFAULT 0;
CREATE INDEX recall_entries_unchecked ON recall_entries (agent, id) WHERE checked = 0;
CREATE TRIGGER recall_entry_changes AFTER UPDATE OF
  path, start_line, end_line, snippet, recall_count, daily_count, grounded_count, total_score, max_score,
  first_recalled_at, last_recalled_at, queries, user_queries, days, tags, claim_hash, promoted_at, provenance,
  light_hits, light_at, rem_hits, rem_at
ON recall_entries WHEN NEW.checked <> 0 BEGIN
  UPDATE recall_entries SET checked = 0 WHERE id = NEW.id;
END;
