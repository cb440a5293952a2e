-- Queries of embeddings.db, the cache of vectors already paid for.

-- name: find_space
-- The number of an embedder's vector space, and the size of its vectors.
SELECT id, dims FROM vector_spaces WHERE identity = :identity;

-- name: add_space
-- Give an embedder's vector space its number, once.
INSERT INTO vector_spaces (identity, dims) VALUES (:identity, :dims);

-- name: drop_empty_spaces
-- Forget embedders of which nothing is kept.
DELETE FROM vector_spaces WHERE NOT EXISTS (SELECT 1 FROM embeddings e WHERE e.space_id = vector_spaces.id);

-- name: list_spaces
-- The embedders of which something is kept, and the size of their vectors.
SELECT id, dims FROM vector_spaces ORDER BY id LIMIT 1000;

-- name: count_of_texts
-- How many vectors are kept of some texts, of all embedders; at most 400 hashes.
SELECT count(*) FROM vector_spaces s JOIN embeddings e ON e.space_id = s.id
WHERE e.text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

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
WHERE space_id = (SELECT id FROM vector_spaces WHERE identity = :identity AND dims = :dims) AND text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: find_present
-- Which of some texts have a vector already; at most 400 hashes.
SELECT text_hash FROM embeddings
WHERE space_id = :space_id AND text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: put_embedding
-- Keep a vector that is not there yet.
INSERT INTO embeddings (space_id, text_hash, used_at, vector) VALUES (:space_id, :text_hash, :used_at, :vector);

-- name: drop_embeddings
-- The vectors of some texts, because newer ones follow; at most 400 hashes.
DELETE FROM embeddings
WHERE space_id = :space_id AND text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: touch_embeddings
-- These vectors were just used.
UPDATE embeddings SET used_at = :used_at WHERE id IN (SELECT value FROM json_each(:ids));

-- name: delete_embeddings
-- Rows that cannot be used, or that give way.
DELETE FROM embeddings WHERE id IN (SELECT value FROM json_each(:ids));

-- name: list_oldest
-- The vectors that were not used for longest, of all embedders, with their size; without the vectors.
SELECT e.id, s.dims FROM embeddings e CROSS JOIN vector_spaces s ON s.id = e.space_id
ORDER BY e.used_at, e.id LIMIT :limit;

-- name: count_held
-- How many of some texts an embedder's vectors are kept of; the caller passes at most 400 hashes.
SELECT count(*) FROM vector_spaces s JOIN embeddings e ON e.space_id = s.id
WHERE s.identity = :identity AND e.text_hash IN (SELECT unhex(value) FROM json_each(:hashes));
