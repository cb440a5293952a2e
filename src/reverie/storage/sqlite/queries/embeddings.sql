-- Queries of embeddings.db, the cache of vectors already paid for.

-- name: find_embeddings
-- The cached vectors of some texts; the caller passes at most 400 hashes.
SELECT id, content_hash, vector FROM embeddings
WHERE identity = :identity AND content_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: count_embeddings
-- How many vectors are kept.
SELECT count(*) FROM embeddings;

-- name: put_embedding
-- Keep a vector.
INSERT INTO embeddings (identity, content_hash, vector, used_at) VALUES (:identity, :content_hash, :vector, :used_at);

-- name: drop_embeddings
-- The vectors of some texts, because newer ones follow; at most 400 hashes.
DELETE FROM embeddings
WHERE identity = :identity AND content_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: touch_embeddings
-- These vectors were just used.
UPDATE embeddings SET used_at = :used_at WHERE id IN (SELECT value FROM json_each(:ids));

-- name: delete_embeddings
-- Rows that cannot be used.
DELETE FROM embeddings WHERE id IN (SELECT value FROM json_each(:ids));

-- name: evict_embeddings
-- Make room: the vectors that were not used for longest give way.
DELETE FROM embeddings WHERE id IN (SELECT id FROM embeddings ORDER BY used_at, id LIMIT :rows);
