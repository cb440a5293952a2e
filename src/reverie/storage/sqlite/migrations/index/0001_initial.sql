-- The derived index: what stands where, for full-text and vector search. Everything here can be rebuilt.

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- A workspace file, or a session of which messages are indexed.
CREATE TABLE documents (
  id INTEGER PRIMARY KEY,
  agent TEXT NOT NULL,
  source TEXT NOT NULL CHECK (source IN ('memory', 'sessions')),
  path TEXT NOT NULL,
  content_hash BLOB NOT NULL,             -- empty for sessions, which only grow
  mtime_ns INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  indexed_at INTEGER NOT NULL,
  UNIQUE (agent, source, path)
) STRICT;

CREATE TABLE chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: a vector row can name it safely
  document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  start_line INTEGER NOT NULL,
  end_line INTEGER NOT NULL,
  part INTEGER NOT NULL DEFAULT 0,        -- the n-th piece of one very long line or message
  content_hash BLOB NOT NULL,
  text TEXT NOT NULL,
  heading TEXT NOT NULL DEFAULT '',
  speaker TEXT NOT NULL DEFAULT '',
  said_on TEXT NOT NULL DEFAULT '',
  provenance TEXT NOT NULL DEFAULT 'owner' CHECK (provenance IN ('owner', 'agent', 'untrusted', 'system')),
  created_at INTEGER NOT NULL             -- when it was said or written
) STRICT;
CREATE INDEX chunks_by_place ON chunks (document_id, start_line, part);

-- Full text over prepared text (CJK runs expanded to single characters and pairs), so it keeps no copy of its own.
CREATE VIRTUAL TABLE chunks_fts USING fts5 (
  body, header,
  content = '', contentless_delete = 1,
  tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE TABLE vectors (
  chunk_id INTEGER PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
  vector BLOB NOT NULL                    -- little-endian float32, of the embedder named in meta
) STRICT;
