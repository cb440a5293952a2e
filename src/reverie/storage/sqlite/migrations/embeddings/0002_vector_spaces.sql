-- The identity of an embedder is written once for all its vectors, with the size they must have. Vectors kept until now
-- were keyed by another hash and could not be found again, so they go.

CREATE TABLE vector_spaces (
  id INTEGER PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE,          -- provider, model, version, dimensions, normalisation
  dims INTEGER NOT NULL
) STRICT;

DROP TABLE embeddings;
CREATE TABLE embeddings (
  id INTEGER PRIMARY KEY,
  space_id INTEGER NOT NULL REFERENCES vector_spaces (id),
  text_hash BLOB NOT NULL,                -- of exactly the text that was embedded: the first 16 bytes of its SHA-256
  used_at INTEGER NOT NULL,
  vector BLOB NOT NULL,                   -- little-endian float32 of length 1; last, so that reading the rest skips it
  UNIQUE (space_id, text_hash)
) STRICT;
CREATE INDEX embeddings_by_use ON embeddings (used_at, id);
