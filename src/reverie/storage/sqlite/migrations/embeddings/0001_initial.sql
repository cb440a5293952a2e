-- Vectors already paid for, keyed by everything that makes two vectors comparable, and by the text's hash.

CREATE TABLE embeddings (
  id INTEGER PRIMARY KEY,
  identity TEXT NOT NULL,                 -- provider, model, version, dimensions, normalisation
  content_hash BLOB NOT NULL,
  vector BLOB NOT NULL,                   -- little-endian float32
  used_at INTEGER NOT NULL,
  UNIQUE (identity, content_hash)
) STRICT;
CREATE INDEX embeddings_by_use ON embeddings (used_at, id);
