-- Queries of a MemOS plugin's database, which is only ever read. SOURCE stands for the table, COLUMNS for those of its
-- columns that are read, KEYS for those it is ordered by, PLACE for their values in the row before, and USABLE for whether
-- such values can be gone on after; all of them are of fixed lists.

-- name: list_tables
-- The tables there are; the caller looks for known names.
SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 10000;

-- name: text_encoding
-- What texts are written in.
SELECT encoding FROM pragma_encoding;

-- name: list_columns
-- The columns of a table.
SELECT name FROM pragma_table_info(:source) LIMIT 1000;

-- name: count_rows
-- How many rows there are; goes through the smallest index once.
SELECT count(*) FROM SOURCE;

-- name: count_without_key
-- How many rows have a key that cannot be gone on after.
SELECT count(*) FROM SOURCE WHERE NOT (USABLE);

-- name: read_page
-- The next rows in order of their key.
SELECT COLUMNS FROM SOURCE WHERE (KEYS) > (PLACE) AND USABLE ORDER BY KEYS LIMIT :limit;
