-- What is known of each passage that searches surfaced: the evidence for keeping it. Instants are milliseconds since
-- 1970 UTC. Bounded for each agent by those who write.

CREATE TABLE recall_entries (
  id INTEGER PRIMARY KEY AUTOINCREMENT,    -- the order of arrival
  agent TEXT NOT NULL,
  key TEXT NOT NULL,
  path TEXT NOT NULL,                      -- workspace-relative
  start_line INTEGER NOT NULL,             -- from 1, both included
  end_line INTEGER NOT NULL,
  snippet TEXT NOT NULL,
  recall_count INTEGER NOT NULL,           -- searches of people and models
  daily_count INTEGER NOT NULL,            -- passes over notes and transcripts
  grounded_count INTEGER NOT NULL,         -- evidence from elsewhere
  total_score REAL NOT NULL,
  max_score REAL NOT NULL,
  first_recalled_at INTEGER NOT NULL,
  last_recalled_at INTEGER NOT NULL,
  queries TEXT NOT NULL,                   -- JSON list of hashes
  user_queries TEXT NOT NULL,              -- JSON list of hashes: only those of people and models
  days TEXT NOT NULL,                      -- JSON list of YYYY-MM-DD
  tags TEXT NOT NULL,                      -- JSON list
  claim_hash TEXT NOT NULL,
  promoted_at INTEGER,
  provenance TEXT NOT NULL CHECK (provenance IN ('owner', 'agent', 'untrusted', 'system')),
  light_hits INTEGER NOT NULL,
  light_at INTEGER,
  rem_hits INTEGER NOT NULL,
  rem_at INTEGER,
  signals INTEGER NOT NULL AS (recall_count + daily_count + grounded_count) VIRTUAL,
  UNIQUE (agent, key)
) STRICT;
CREATE INDEX recall_entries_by_agent ON recall_entries (agent, id);
-- Those at the beginning of it give way first; read from its end, it lists what was recalled last.
CREATE INDEX recall_entries_by_retention ON recall_entries
  (agent, last_recalled_at, signals, total_score, max_score, coalesce(promoted_at, 0), key DESC);

-- How many entries an agent has, so that nothing counts them, and when they changed last.
CREATE TABLE recall_totals (
  agent TEXT PRIMARY KEY,
  entries INTEGER NOT NULL DEFAULT 0,
  updated_at INTEGER NOT NULL DEFAULT 0,
  phases_updated_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TRIGGER recall_entry_enters AFTER INSERT ON recall_entries BEGIN
  INSERT INTO recall_totals (agent, entries) VALUES (NEW.agent, 1)
  ON CONFLICT (agent) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER recall_entry_leaves AFTER DELETE ON recall_entries BEGIN
  UPDATE recall_totals SET entries = entries - 1 WHERE agent = OLD.agent;
END;
