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
