-- Queries of an OpenClaw memory database, which is only ever read. SOURCE stands for the table, whose name differs by
-- version; it is replaced by one of a fixed list of names.

-- name: list_tables
-- The tables there are; the caller looks for a few known names.
SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 10000;

-- name: list_columns
-- The columns of a table.
SELECT name FROM pragma_table_info(:source) LIMIT 1000;

-- name: read_meta
-- What the index says of itself, as JSON.
SELECT value FROM SOURCE WHERE key = 'memory_index_meta_v1' LIMIT 1;

-- name: count_rows
-- How many rows there are; goes through the smallest index once.
SELECT count(*) FROM SOURCE;

-- name: first_row
-- The hash of the first row, by which a file is known again.
SELECT hash FROM SOURCE ORDER BY rowid LIMIT 1;

-- name: choose_newest
-- The most recently updated rows, as many as there is room for; found by the index on updated_at where there is one.
CREATE TEMP TABLE chosen AS SELECT rowid AS id FROM SOURCE ORDER BY updated_at DESC, rowid DESC LIMIT :room;

-- name: index_chosen
-- So that the chosen rows can be read in the order in which they stand.
CREATE UNIQUE INDEX temp.chosen_by_id ON chosen (id);

-- name: read_cache_rows
-- A range of the cache in the order of its rows; vectors beyond the bound are left in the file.
SELECT rowid, provider, model, hash, dims, updated_at, octet_length(embedding),
  CASE WHEN octet_length(embedding) <= :bytes_max THEN embedding END
FROM SOURCE WHERE rowid > :after ORDER BY rowid LIMIT :limit;

-- name: read_chosen_cache_rows
-- As read_cache_rows, of the chosen rows only.
SELECT s.rowid, s.provider, s.model, s.hash, s.dims, s.updated_at, octet_length(s.embedding),
  CASE WHEN octet_length(s.embedding) <= :bytes_max THEN s.embedding END
FROM temp.chosen c CROSS JOIN SOURCE s ON s.rowid = c.id WHERE c.id > :after ORDER BY c.id LIMIT :limit;

-- name: read_chunk_rows
-- A range of the indexed chunks; their provider stands in the index's own description.
SELECT rowid, NULL, model, hash, NULL, updated_at, octet_length(embedding),
  CASE WHEN octet_length(embedding) <= :bytes_max THEN embedding END
FROM SOURCE WHERE rowid > :after ORDER BY rowid LIMIT :limit;

-- name: read_chosen_chunk_rows
-- As read_chunk_rows, of the chosen rows only.
SELECT s.rowid, NULL, s.model, s.hash, NULL, s.updated_at, octet_length(s.embedding),
  CASE WHEN octet_length(s.embedding) <= :bytes_max THEN s.embedding END
FROM temp.chosen c CROSS JOIN SOURCE s ON s.rowid = c.id WHERE c.id > :after ORDER BY c.id LIMIT :limit;
