-- Queries of a purge, which leaves no trace of what was deleted.

-- name: rewrite
-- Write the whole file anew, without anything that is free.
VACUUM;

-- name: make_filler
-- A table of zeros that grows into the free pages; one that a crash left is used on.
CREATE TABLE IF NOT EXISTS filler (zeros BLOB NOT NULL) STRICT;

-- name: fill
-- Take free pages and write zeros over them.
INSERT INTO filler (zeros) VALUES (zeroblob(:bytes));

-- name: drop_filler
-- Give the pages back.
DROP TABLE IF EXISTS filler;
