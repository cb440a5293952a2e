-- How many rows there are, kept with every change, so that nobody counts a large table; and what the vectors add up to,
-- by which a copy of them in memory proves that it is complete.

CREATE TABLE tally (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  chunks INTEGER NOT NULL,
  vectors INTEGER NOT NULL,
  vectors_checksum INTEGER NOT NULL,      -- the sum of (chunk id * 48271) % 2147483647, modulo 2^53
  vectors_revision INTEGER NOT NULL       -- grows with every vector that is added or removed
) STRICT;
INSERT INTO tally
SELECT 1, (SELECT count(*) FROM chunks), (SELECT count(*) FROM chunks WHERE embedded = 1),
  (SELECT coalesce(sum((id * 48271) % 2147483647), 0) % 9007199254740992 FROM chunks WHERE embedded = 1), 1;

CREATE TRIGGER tally_chunk_added AFTER INSERT ON chunks BEGIN
  UPDATE tally SET chunks = chunks + 1;
END;
CREATE TRIGGER tally_chunk_removed AFTER DELETE ON chunks BEGIN
  UPDATE tally SET chunks = chunks - 1;
END;
CREATE TRIGGER tally_vector_added AFTER INSERT ON vectors BEGIN
  UPDATE tally SET vectors = vectors + 1, vectors_revision = vectors_revision + 1,
    vectors_checksum = (vectors_checksum + (NEW.chunk_id * 48271) % 2147483647) % 9007199254740992;
END;
CREATE TRIGGER tally_vector_removed AFTER DELETE ON vectors BEGIN
  UPDATE tally SET vectors = vectors - 1, vectors_revision = vectors_revision + 1,
    vectors_checksum = (vectors_checksum - (OLD.chunk_id * 48271) % 2147483647 + 9007199254740992) % 9007199254740992;
END;
