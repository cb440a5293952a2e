-- The derived index: what stands where, for full-text and vector search. Everything here can be rebuilt.

-- How far the transcripts are followed, and which embedder the vectors belong to.
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- Agents by number: the scope of a search is a word of the full text and a column of the vector matrix.
CREATE TABLE agents (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- Who ever spoke in an agent's transcripts, by name: a question may be about one of them.
CREATE TABLE speakers (
  agent_id INTEGER NOT NULL REFERENCES agents (id),
  name TEXT NOT NULL,
  PRIMARY KEY (agent_id, name)
) STRICT, WITHOUT ROWID;

-- A workspace file, or a session of which messages are indexed.
CREATE TABLE documents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_id INTEGER NOT NULL REFERENCES agents (id),
  source TEXT NOT NULL CHECK (source IN ('memory', 'sessions')),
  path TEXT NOT NULL,
  session_id TEXT,                        -- of a transcript; NULL for a file
  content_hash BLOB NOT NULL,             -- empty for sessions, which only grow
  mtime_ns INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  indexed_at INTEGER NOT NULL,
  UNIQUE (agent_id, source, path)
) STRICT;

CREATE TABLE chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: a vector row can name it safely
  document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  start_line INTEGER NOT NULL,
  end_line INTEGER NOT NULL,
  unit INTEGER NOT NULL,                  -- running number within the document: neighbours differ by one
  part INTEGER NOT NULL DEFAULT 0,        -- the n-th piece of one very long line or message
  unit_chars INTEGER NOT NULL,            -- length of the whole unit: a long one inherits less from its neighbours
  said_by TEXT NOT NULL DEFAULT '',       -- a folded name, or user, or assistant; empty for a note
  provenance TEXT NOT NULL DEFAULT 'owner' CHECK (provenance IN ('owner', 'agent', 'untrusted', 'system')),
  embedded INTEGER NOT NULL DEFAULT 0,    -- 1: has a row in vectors
  created_at INTEGER NOT NULL,            -- when it was said or written
  content_hash BLOB NOT NULL,             -- of what is embedded: two chunks with the same hash share a vector
  speaker TEXT NOT NULL DEFAULT '',
  said_on TEXT NOT NULL DEFAULT '',
  heading TEXT NOT NULL DEFAULT '',
  text TEXT NOT NULL                      -- last: ranking reads the columns before it and must not pass over long texts
) STRICT;
CREATE INDEX chunks_by_place ON chunks (document_id, unit, part);
CREATE INDEX chunks_without_vector ON chunks (id) WHERE embedded = 0;

-- Full text over prepared text (CJK runs expanded to single characters and pairs), so it keeps no copy of its own.
-- `scope` holds one word that names agent and source: a search is filtered before anything is scored.
CREATE VIRTUAL TABLE chunks_fts USING fts5 (
  body, header, scope,
  content = '', contentless_delete = 1,
  tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE TABLE vectors (
  chunk_id INTEGER PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
  vector BLOB NOT NULL                    -- little-endian float32, of the embedder named in meta
) STRICT;
