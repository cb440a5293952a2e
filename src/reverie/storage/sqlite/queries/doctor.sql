-- Queries of `reverie doctor`, by the database they look at. A table is gone through in ranges of its ids, one statement
-- a range, so that no snapshot is held for long beside a running server.


-- Any database -------------------------------------------------------------------------------------------------

-- name: integrity_check
-- Everything that is wrong with the file's structure, at most 20 lines; `ok` when nothing is.
PRAGMA integrity_check(20);

-- name: quick_check
-- As `integrity_check`, without comparing indexes with their tables.
PRAGMA quick_check(20);

-- name: foreign_key_check
-- Rows that name a row which is not there; the caller stops reading after a few.
PRAGMA foreign_key_check;

-- name: count_tables
-- How many tables and indexes there are; 0 in a file that was only made.
SELECT count(*) FROM sqlite_schema;

-- name: table_sizes
-- What each table takes on disk with its indexes and overflow, largest first; goes through every page.
SELECT coalesce(s.tbl_name, d.name) AS name, sum(d.pgsize) AS size_bytes
FROM dbstat d LEFT JOIN sqlite_schema s ON s.name = d.name
WHERE d.aggregate = TRUE GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100;

-- name: sequences
-- The last numbers that were given out by table.
SELECT name, seq FROM sqlite_sequence ORDER BY name LIMIT 100;


-- index.db: rows that belong together --------------------------------------------------------------------------

-- name: last_chunk_id
-- The highest number of a chunk, of its words or of its vector.
SELECT max(coalesce((SELECT max(id) FROM chunks), 0), coalesce((SELECT max(id) FROM chunks_fts_docsize), 0),
           coalesce((SELECT max(chunk_id) FROM vectors), 0));

-- name: last_document_id
-- The highest number of a document.
SELECT coalesce(max(id), 0) FROM documents;

-- name: check_chunks
-- What is wrong with a range of chunks: how many of each kind, and one example of each.
SELECT count(*) FILTER (WHERE without_words) AS words_missing, min(id) FILTER (WHERE without_words) AS words_missing_id,
  count(*) FILTER (WHERE without_document) AS document_missing,
  min(id) FILTER (WHERE without_document) AS document_missing_id,
  count(*) FILTER (WHERE without_vector) AS vector_missing, min(id) FILTER (WHERE without_vector) AS vector_missing_id,
  count(*) FILTER (WHERE unmarked) AS vector_unmarked, min(id) FILTER (WHERE unmarked) AS vector_unmarked_id,
  count(*) FILTER (WHERE implausible) AS implausible, min(id) FILTER (WHERE implausible) AS implausible_id,
  count(*) FILTER (WHERE refused) AS refused, min(id) FILTER (WHERE refused) AS refused_id
FROM (
  SELECT c.id, NOT EXISTS (SELECT 1 FROM chunks_fts_docsize f WHERE f.id = c.id) AS without_words,
    NOT EXISTS (SELECT 1 FROM documents d WHERE d.id = c.document_id) AS without_document,
    c.embedded = 1 AND v.chunk_id IS NULL AS without_vector,
    c.embedded <> 1 AND v.chunk_id IS NOT NULL AS unmarked,
    c.embedded NOT IN (0, 1) AND v.chunk_id IS NULL AS refused,
    c.start_line < 1 OR c.end_line < c.start_line OR c.unit < 1 OR c.part < 0 OR c.unit_chars < 0 AS implausible
  FROM chunks c LEFT JOIN vectors v ON v.chunk_id = c.id WHERE c.id > :after AND c.id <= :upto
);

-- name: check_words
-- Rows of the full text that belong to no chunk, in a range.
SELECT count(*) AS words_orphaned, min(f.id) AS words_orphaned_id FROM chunks_fts_docsize f
WHERE f.id > :after AND f.id <= :upto AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = f.id);

-- name: check_vectors
-- Vectors that belong to no chunk, or are not of the size that most have, in a range.
SELECT count(*) FILTER (WHERE orphaned) AS vector_orphaned, min(id) FILTER (WHERE orphaned) AS vector_orphaned_id,
  count(*) FILTER (WHERE misfit AND NOT orphaned) AS vector_misfit,
  min(id) FILTER (WHERE misfit AND NOT orphaned) AS vector_misfit_id
FROM (
  SELECT v.chunk_id AS id, length(v.vector) <> :size_bytes AS misfit,
    NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = v.chunk_id) AS orphaned
  FROM vectors v WHERE v.chunk_id > :after AND v.chunk_id <= :upto
);

-- name: check_documents
-- Documents of no known agent, in a range.
SELECT count(*) AS agent_missing, min(d.id) AS agent_missing_id FROM documents d
WHERE d.id > :after AND d.id <= :upto AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.id = d.agent_id);

-- name: vector_size
-- How many bytes the newest vectors have, and how many of them; packed as size and count.
SELECT length(vector) AS size_bytes, count(*) AS n FROM (SELECT vector FROM vectors ORDER BY chunk_id DESC LIMIT 200)
GROUP BY 1 ORDER BY 2 DESC LIMIT 1;

-- name: count_tally
-- What the tally should say; goes through both tables once.
SELECT (SELECT count(*) FROM chunks) AS chunks, (SELECT count(*) FROM vectors) AS vectors,
  (SELECT coalesce(sum((chunk_id * 48271) % 2147483647), 0) % 9007199254740992 FROM vectors) AS vectors_checksum;

-- name: kept_tally
-- What the tally says.
SELECT chunks, vectors, vectors_checksum FROM tally;


-- index.db: repairs, each of a bounded number of rows -----------------------------------------------------------

-- name: list_words_orphaned
-- Rows of the full text that belong to no chunk.
SELECT f.id FROM chunks_fts_docsize f
WHERE f.id > :after AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = f.id) ORDER BY f.id LIMIT :limit;

-- name: delete_words
-- Take some rows out of the full text.
DELETE FROM chunks_fts WHERE rowid IN (SELECT value FROM json_each(:ids));

-- name: list_words_missing
-- Chunks that cannot be found by their words, with what their words are made of.
SELECT c.id, c.start_line, c.end_line, c.unit, c.part, c.text, c.heading, c.speaker, c.said_by, c.said_on, c.created_at,
  d.agent_id, d.source
FROM chunks c JOIN documents d ON d.id = c.document_id
WHERE c.id > :after AND NOT EXISTS (SELECT 1 FROM chunks_fts_docsize f WHERE f.id = c.id) ORDER BY c.id LIMIT :limit;

-- name: add_words
-- Make a chunk findable by its words.
INSERT INTO chunks_fts (rowid, body, header, scope) VALUES (:id, :body, :header, :scope);

-- name: list_document_missing
-- Chunks of no document.
SELECT c.id FROM chunks c
WHERE c.id > :after AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.id = c.document_id) ORDER BY c.id LIMIT :limit;

-- name: delete_chunks
-- Some chunks go, and their vectors with them.
DELETE FROM chunks WHERE id IN (SELECT value FROM json_each(:ids));

-- name: list_vector_orphaned
-- Vectors that belong to no chunk.
SELECT v.chunk_id AS id FROM vectors v
WHERE v.chunk_id > :after AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = v.chunk_id)
ORDER BY v.chunk_id LIMIT :limit;

-- name: list_vector_misfit
-- Vectors that are not of a given size.
SELECT v.chunk_id AS id FROM vectors v WHERE v.chunk_id > :after AND length(v.vector) <> :size_bytes
ORDER BY v.chunk_id LIMIT :limit;

-- name: delete_vectors
-- Some vectors go.
DELETE FROM vectors WHERE chunk_id IN (SELECT value FROM json_each(:ids));

-- name: list_vector_missing
-- Chunks that are said to have a vector and have none.
SELECT c.id FROM chunks c
WHERE c.id > :after AND c.embedded = 1 AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.chunk_id = c.id)
ORDER BY c.id LIMIT :limit;

-- name: list_vector_unmarked
-- Chunks that have a vector and are said to have none.
SELECT c.id FROM chunks c
WHERE c.id > :after AND c.embedded <> 1 AND EXISTS (SELECT 1 FROM vectors v WHERE v.chunk_id = c.id)
ORDER BY c.id LIMIT :limit;

-- name: mark_vectors
-- Say of some chunks whether they have a vector.
UPDATE chunks SET embedded = :embedded WHERE id IN (SELECT value FROM json_each(:ids));

-- name: rewrite_tally
-- Count again what the tally keeps; the revision tells everybody that the vectors changed.
UPDATE tally SET chunks = (SELECT count(*) FROM chunks), vectors = (SELECT count(*) FROM vectors),
  vectors_checksum = (SELECT coalesce(sum((chunk_id * 48271) % 2147483647), 0) % 9007199254740992 FROM vectors),
  vectors_revision = vectors_revision + 1;


-- index.db: compared with what is on disk and in state.db -------------------------------------------------------

-- name: meta
-- A stored fact about the index.
SELECT value FROM meta WHERE key = :key;

-- name: count_waiting
-- How many chunks wait for a vector; goes through their own index.
SELECT count(*) FROM chunks WHERE embedded = 0;

-- name: list_files
-- An agent's files as the index knows them, in path order, after a path.
SELECT d.path, d.content_hash, d.mtime_ns, d.size_bytes FROM documents d JOIN agents a ON a.id = d.agent_id
WHERE a.name = :agent AND d.source = 'memory' AND d.path > :after ORDER BY d.path LIMIT :limit;

-- name: indexed_of_agent
-- What is indexed of an agent, by source: documents, passages, and those of them that have a vector.
SELECT d.source, count(DISTINCT d.id) AS documents, count(c.id) AS passages, coalesce(sum(c.embedded = 1), 0) AS vectors
FROM documents d JOIN agents a ON a.id = d.agent_id LEFT JOIN chunks c ON c.document_id = d.id
WHERE a.name = :agent GROUP BY d.source;

-- name: count_words
-- How many passages can be found by their words.
SELECT count(*) FROM chunks_fts_docsize;

-- name: which_sessions_indexed
-- Those of some transcripts, given as agent and session, of which something is indexed.
SELECT j.value ->> 1 FROM json_each(:sessions) j JOIN agents a ON a.name = j.value ->> 0
JOIN documents d ON d.agent_id = a.id AND d.source = 'sessions' AND d.path = 'sessions/' || (j.value ->> 1);

-- name: sample_passages
-- Up to as many chunks as numbers are given: the first from each number on. For looking their vectors up.
SELECT c.heading, c.text FROM chunks c
WHERE c.embedded = 1
  AND c.id IN (SELECT (SELECT x.id FROM chunks x WHERE x.id >= j.value ORDER BY x.id LIMIT 1) FROM json_each(:ids) j);


-- embeddings.db -------------------------------------------------------------------------------------------------

-- name: spaces
-- How many vectors are kept of each embedder, and their size; goes through an index once.
SELECT s.id, s.identity, s.dims, (SELECT count(*) FROM embeddings e WHERE e.space_id = s.id) AS entries
FROM vector_spaces s ORDER BY s.id LIMIT 1000;

-- name: count_cached
-- How many of some texts have a vector; the caller passes at most 400 hashes.
SELECT count(*) FROM embeddings e JOIN vector_spaces s ON s.id = e.space_id
WHERE s.identity = :identity AND e.text_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: last_cached_id
-- The highest number of a kept vector.
SELECT coalesce(max(id), 0) FROM embeddings;

-- name: sample_misfits
-- How many of a sample of kept vectors are not of their embedder's size: the first from each number on.
SELECT count(*) FILTER (WHERE length(e.vector) <> 4 * s.dims) AS misfits, count(*) AS looked_at
FROM embeddings e JOIN vector_spaces s ON s.id = e.space_id
WHERE e.id IN (SELECT (SELECT x.id FROM embeddings x WHERE x.id >= j.value ORDER BY x.id LIMIT 1)
               FROM json_each(:ids) j);

-- name: list_misfits
-- Kept vectors that are not of their embedder's size, or of no embedder.
SELECT e.id FROM embeddings e LEFT JOIN vector_spaces s ON s.id = e.space_id
WHERE e.id > :after AND (s.id IS NULL OR length(e.vector) <> 4 * s.dims) ORDER BY e.id LIMIT :limit;

-- name: delete_cached
-- Some kept vectors go.
DELETE FROM embeddings WHERE id IN (SELECT value FROM json_each(:ids));


-- state.db ------------------------------------------------------------------------------------------------------

-- name: old_unfinished_turns
-- Turns that were accepted long ago and have not ended, oldest first.
SELECT id, state, coalesce(started_at, accepted_at) AS since FROM turns
WHERE state IN ('accepted', 'running') AND coalesce(started_at, accepted_at) < :before
ORDER BY accepted_at LIMIT :limit;

-- name: miscounted_sessions
-- Those of the sessions used last whose count differs from their messages, or whose messages are not numbered 1 to n.
-- Sessions in which a turn runs or waits are left out: they are counted when it ends.
SELECT * FROM (
  SELECT s.id, s.message_count AS said, count(m.seq) AS counted, coalesce(max(m.seq), 0) AS last
  FROM (SELECT id, message_count, last_interaction_at FROM sessions ORDER BY last_interaction_at DESC, id LIMIT :sessions) s
  LEFT JOIN messages m ON m.session_id = s.id GROUP BY s.id
) f WHERE (said <> counted OR counted <> last)
  AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_id = f.id AND t.state IN ('accepted', 'running')) LIMIT :limit;

-- name: sessions_to_be_found
-- Sessions that said something worth remembering up to a log position, those used last first.
SELECT s.agent, s.id FROM (SELECT id, agent, last_interaction_at FROM sessions
                           ORDER BY last_interaction_at DESC, id LIMIT :limit) s
WHERE EXISTS (SELECT 1 FROM messages m WHERE m.session_id = s.id AND m.id <= :position AND m.remember = 1
              AND m.role IN ('user', 'assistant') AND trim(m.text, char(32, 9, 10, 13)) <> '');

-- name: count_messages_after
-- How many messages are to be remembered after a log position, counted up to a bound.
SELECT count(*) FROM (SELECT 1 FROM messages WHERE id > :position AND remember = 1 LIMIT :limit);

-- name: last_message
-- The end of the log of all sessions.
SELECT coalesce(max(id), 0) FROM messages;

-- name: last_recall_event
-- The number of the newest search on record.
SELECT coalesce(max(id), 0) FROM recall_events;

-- name: large_sessions
-- Of the sessions used last, the current ones that are larger than they should be.
SELECT key, message_count AS entries, transcript_bytes AS bytes FROM (
  SELECT key, message_count, transcript_bytes, ended_at FROM sessions
  ORDER BY last_interaction_at DESC, id LIMIT :sessions
) WHERE ended_at IS NULL AND (transcript_bytes > :bytes_max OR message_count > :entries_max)
ORDER BY transcript_bytes DESC LIMIT :limit;

-- name: log_end
-- The end of the log of all sessions; messages that were archived and deleted since count.
SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0),
           coalesce((SELECT max(id) FROM messages), 0));
