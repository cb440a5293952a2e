-- How far an import of vectors from another system's database has come, so that one that was killed goes on.

CREATE TABLE imports (
  source TEXT NOT NULL,                   -- the database that is read: its full path
  source_table TEXT NOT NULL,
  fingerprint TEXT NOT NULL,              -- its size, time and first row, and how it is read; another one begins anew
  room INTEGER,                           -- how many of its most recent rows are taken; NULL: all
  last_rowid INTEGER NOT NULL,
  finished INTEGER NOT NULL,
  tally TEXT NOT NULL,                    -- what was counted so far, as JSON
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (source, source_table)
) STRICT;
