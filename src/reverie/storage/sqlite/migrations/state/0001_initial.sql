-- Sessions, their messages and turns, and the evidence of what was recalled. Instants are milliseconds since 1970 UTC.

CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  key TEXT NOT NULL,                      -- routing bucket; several ids may have had it, one is current
  agent TEXT NOT NULL,
  origin TEXT NOT NULL CHECK (origin IN ('live', 'import')),
  title TEXT NOT NULL DEFAULT '',
  started_at INTEGER NOT NULL,
  last_interaction_at INTEGER NOT NULL,   -- only real turns move it
  updated_at INTEGER NOT NULL,
  ended_at INTEGER,                       -- NULL: the current session of its key
  message_count INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  epoch_reason TEXT NOT NULL DEFAULT '',
  prefix_fingerprint TEXT NOT NULL DEFAULT '{}', -- JSON: part of the stable prefix -> its fingerprint
  history_start INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE UNIQUE INDEX sessions_current_key ON sessions (key) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_interaction ON sessions (last_interaction_at DESC, id);

CREATE TABLE turns (
  id TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES sessions (id),
  position INTEGER NOT NULL,              -- arrival order within the session
  state TEXT NOT NULL CHECK (state IN ('accepted', 'running', 'answered', 'failed', 'cancelled')),
  request TEXT NOT NULL,                  -- JSON of the turn's request, enough to run it again after a restart
  accepted_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  model TEXT,
  finish_reason TEXT,
  usage TEXT,                             -- JSON
  error TEXT,                             -- why it failed, for people
  UNIQUE (session_id, position)
) STRICT;
CREATE INDEX turns_unfinished ON turns (accepted_at) WHERE state IN ('accepted', 'running');

-- The transcript. `seq` numbers the messages of a session from 1; `id` is the position in the log of all sessions,
-- which the index follows.
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id TEXT NOT NULL REFERENCES sessions (id),
  seq INTEGER NOT NULL,
  turn_id TEXT REFERENCES turns (id),
  role TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'tool')),
  text TEXT NOT NULL,
  speaker TEXT NOT NULL DEFAULT '',
  said_on TEXT NOT NULL DEFAULT '',       -- the date as an import gave it, in its own words
  extra TEXT NOT NULL DEFAULT '{}',       -- JSON: tool_calls, tool_call_id, images
  visible INTEGER NOT NULL DEFAULT 1,     -- 0: a round of our own tools, which the client never saw
  remember INTEGER NOT NULL DEFAULT 1,    -- 0: quotes memory only, so that it must not become memory again
  fingerprint BLOB NOT NULL,              -- of role and normalised text: recognises replayed history
  created_at INTEGER NOT NULL,
  UNIQUE (session_id, seq)
) STRICT;

-- What a search surfaced, and to whom. Bounded: the oldest events give way.
CREATE TABLE recall_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  agent TEXT NOT NULL,
  session_id TEXT,
  turn_id TEXT,
  kind TEXT NOT NULL CHECK (kind IN ('turn', 'tool', 'cli', 'api')),
  query TEXT NOT NULL,
  hits INTEGER NOT NULL
) STRICT;
CREATE TABLE recall_hits (
  event_id INTEGER NOT NULL REFERENCES recall_events (id) ON DELETE CASCADE,
  rank INTEGER NOT NULL,
  source TEXT NOT NULL,
  path TEXT NOT NULL,
  start_line INTEGER NOT NULL,
  end_line INTEGER NOT NULL,
  score REAL NOT NULL,
  snippet TEXT NOT NULL,
  PRIMARY KEY (event_id, rank)
) STRICT, WITHOUT ROWID;
