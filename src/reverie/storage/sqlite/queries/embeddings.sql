-- Queries of embeddings.db, the cache of vectors already paid for.

-- name: find_space
-- The number of an embedder's vector space.
SELECT id FROM vector_spaces WHERE identity = :identity;

-- name: add_space
-- Give an embedder's vector space its number, once.
INSERT INTO vector_spaces (identity, dims) VALUES (:identity, :dims);

-- name: count_by_space
-- How many vectors are kept of each embedder, and their size; goes through an index once.
SELECT s.id, s.identity, s.dims, (SELECT count(*) FROM embeddings e WHERE e.space_id = s.id) AS entries
FROM vector_spaces s ORDER BY s.id LIMIT 1000;

-- name: find_import
-- How far the import of one table of another system's database has come.
SELECT fingerprint, room, last_rowid, finished, tally FROM imports WHERE source = :source AND source_table = :table;

-- name: put_import
-- Note how far an import has come.
INSERT INTO imports (source, source_table, fingerprint, room, last_rowid, finished, tally, updated_at)
VALUES (:source, :table, :fingerprint, :room, :last_rowid, :finished, :tally, :updated_at)
ON CONFLICT (source, source_table) DO UPDATE SET fingerprint = excluded.fingerprint, room = excluded.room,
  last_rowid = excluded.last_rowid, finished = excluded.finished, tally = excluded.tally,
  updated_at = excluded.updated_at;

-- name: drop_old_imports
-- Imports that were not continued for longest are forgotten; so many are remembered.
DELETE FROM imports WHERE rowid IN (SELECT rowid FROM imports ORDER BY updated_at DESC LIMIT -1 OFFSET :kept);

-- name: seed_embeddings
-- Take over many vectors of one size in one statement, so that no row takes Python's lock; rows that are there stay.
INSERT OR IGNORE INTO embeddings (space_id, text_hash, used_at, vector)
SELECT :space_id, substr(:hashes, key * 16 + 1, 16), value, substr(:vectors, key * :size + 1, :size)
FROM json_each(:used_at);

-- name: find_embeddings
-- The cached vectors of some texts; the caller passes at most 400 hashes.
SELECT id, text_hash, vector FROM embeddings
WHERE space_id = :space_id AND text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: put_embedding
-- Keep a vector.
INSERT INTO embeddings (space_id, text_hash, used_at, vector) VALUES (:space_id, :text_hash, :used_at, :vector);

-- name: drop_embeddings
-- The vectors of some texts, because newer ones follow; at most 400 hashes.
DELETE FROM embeddings
WHERE space_id = :space_id AND text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: touch_embeddings
-- These vectors were just used.
UPDATE embeddings SET used_at = :used_at WHERE id IN (SELECT value FROM json_each(:ids));

-- name: delete_embeddings
-- Rows that cannot be used.
DELETE FROM embeddings WHERE id IN (SELECT value FROM json_each(:ids));

-- name: evict_embeddings
-- Make room: the vectors that were not used for longest give way.
DELETE FROM embeddings WHERE id IN (SELECT id FROM embeddings ORDER BY used_at, id LIMIT :rows);
