-- Queries of index.db. Every result is bounded by a key, a LIMIT or a list the caller bounds.

-- name: get_meta
-- A stored fact about the index.
SELECT value FROM meta WHERE key = :key;

-- name: set_meta
-- Remember a fact about the index.
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: list_file_notices
-- What is noted of each agent's files that are left out or damaged; the key ends with the agent's number.
SELECT a.name, m.value FROM agents a JOIN meta m ON m.key = :key || a.id ORDER BY a.id LIMIT 10000;

-- name: list_agents
-- The agents that ever had a document.
SELECT id, name FROM agents ORDER BY id LIMIT 10000;

-- name: add_agent
-- Give an agent its number, once.
INSERT INTO agents (name) VALUES (:agent);

-- name: find_agent
-- An agent's number.
SELECT id FROM agents WHERE name = :agent;

-- name: list_speakers
-- Who ever spoke, by name.
SELECT agent_id, name FROM speakers ORDER BY agent_id, name LIMIT :limit;

-- name: add_speaker
-- Someone who spoke.
INSERT INTO speakers (agent_id, name) VALUES (:agent_id, :speaker) ON CONFLICT DO NOTHING;

-- name: count_documents
-- Documents per source.
SELECT source, count(*) AS n FROM documents GROUP BY source;

-- name: read_tally
-- How many chunks and vectors there are, and what the vectors add up to.
SELECT chunks, vectors, vectors_checksum, vectors_revision FROM tally;

-- name: find_documents
-- What is known of some paths.
SELECT id, path, content_hash, mtime_ns, size_bytes, indexed_at FROM documents
WHERE agent_id = :agent_id AND source = :source AND path IN (SELECT value FROM json_each(:paths));

-- name: find_session_document
-- What is known of one session's transcript.
SELECT id FROM documents WHERE agent_id = :agent_id AND source = 'sessions' AND path = :path;

-- name: list_documents
-- An agent's files in path order, after one path and before another.
SELECT id, path, content_hash, mtime_ns, size_bytes, indexed_at FROM documents
WHERE agent_id = :agent_id AND source = 'memory' AND path > :after AND path < :high ORDER BY path LIMIT :limit;

-- name: add_document
-- A file or session that was not known.
INSERT INTO documents (agent_id, source, path, session_id, content_hash, mtime_ns, size_bytes, indexed_at)
VALUES (:agent_id, :source, :path, :session_id, :content_hash, :mtime_ns, :size_bytes, :indexed_at);

-- name: update_document
-- A file as it was last read.
UPDATE documents SET content_hash = :content_hash, mtime_ns = :mtime_ns, size_bytes = :size_bytes,
  indexed_at = :indexed_at WHERE id = :id;

-- name: move_document
-- A file that has another name.
UPDATE documents SET path = :path WHERE id = :id;

-- name: delete_document
-- A file that is gone; its chunks and vectors go with it.
DELETE FROM documents WHERE id = :id;

-- name: forget_transcript_fulltext
-- The words of every transcript go.
DELETE FROM chunks_fts WHERE rowid IN (
  SELECT c.id FROM documents d JOIN chunks c ON c.document_id = d.id WHERE d.source = 'sessions'
);

-- name: forget_transcript_documents
-- Every transcript goes, and its chunks and vectors with it.
DELETE FROM documents WHERE source = 'sessions';

-- name: list_document_chunks
-- The chunks of one document, in reading order.
SELECT id, start_line, end_line, unit, part, provenance, content_hash FROM chunks
WHERE document_id = :document_id ORDER BY unit, part, id;

-- name: passages_after
-- Passages of one document in reading order with their texts, after a place in that order.
SELECT id, unit, part, start_line, end_line, content_hash, speaker, heading, text FROM chunks
WHERE document_id = :document_id AND (unit, part, id) > (:unit, :part, :id) ORDER BY unit, part, id LIMIT :limit;

-- name: texts_in_slice
-- Which of some texts stand in a slice of the index, and in which passages.
SELECT id, content_hash FROM chunks
WHERE id > :after AND id <= :upto AND content_hash IN (SELECT unhex(value) FROM json_each(:hashes));

-- name: speakers_in_slice
-- Which of some names of an agent's speakers stand in a slice of the index, and in which passages.
SELECT c.id, c.speaker FROM chunks c JOIN documents d ON d.id = c.document_id
WHERE c.id > :after AND c.id <= :upto AND d.agent_id = :agent_id
  AND c.speaker IN (SELECT value FROM json_each(:names));

-- name: forget_speakers
-- Names that nobody of an agent's transcripts bears any more.
DELETE FROM speakers WHERE agent_id = :agent_id AND name IN (SELECT value FROM json_each(:names));

-- name: merge_words
-- Merge some pages of the full text; below zero: begin to merge all of it.
INSERT INTO chunks_fts (chunks_fts, rank) VALUES ('merge', :pages);

-- name: some_chunks
-- Chunks of one document, for a batch.
SELECT id FROM chunks WHERE document_id = :document_id LIMIT :limit;

-- name: which_chunks
-- Those of some chunks that are there.
SELECT c.id FROM json_each(:ids) j JOIN chunks c ON c.id = j.value;

-- name: last_unit
-- The number of a document's last unit.
SELECT coalesce(max(unit), 0) FROM chunks WHERE document_id = :document_id;

-- name: add_chunk
-- A new piece of a document.
INSERT INTO chunks (document_id, start_line, end_line, unit, part, unit_chars, content_hash, text, heading,
  speaker, said_by, said_on, provenance, created_at)
VALUES (:document_id, :start_line, :end_line, :unit, :part, :unit_chars, :content_hash, :text, :heading,
  :speaker, :said_by, :said_on, :provenance, :created_at);

-- name: move_chunk
-- The same text on other lines, or known to be somebody else's: its full-text row and vector stay.
UPDATE chunks SET start_line = :start_line, end_line = :end_line, unit = :unit, part = :part, provenance = :provenance
WHERE id = :id;

-- name: delete_chunk
-- A piece that is gone; its vector goes with it.
DELETE FROM chunks WHERE id = :id;

-- name: add_fulltext
-- Make a chunk findable by its words.
INSERT INTO chunks_fts (rowid, body, header, scope) VALUES (:id, :body, :header, :scope);

-- name: delete_fulltext
-- A chunk's words are gone.
DELETE FROM chunks_fts WHERE rowid = :id;

-- name: count_rows_with
-- In how many chunks each of some expressions matches, counted up to a bound; packed.
SELECT json_group_array(n ORDER BY key) FROM (
  SELECT w.key, (SELECT count(*) FROM (SELECT 1 FROM chunks_fts WHERE chunks_fts MATCH w.value LIMIT :bound)) AS n
  FROM json_each(:matches) w
);

-- name: newest_with
-- The oldest of the newest :rows chunks that match an expression.
SELECT min(id) FROM (SELECT rowid AS id FROM chunks_fts WHERE chunks_fts MATCH :match ORDER BY rowid DESC LIMIT :rows);

-- name: rank_fulltext
-- The best chunks for an expression from :first on, without those of the hidden document after :shown_to (the asker
-- has them before their eyes), and only from paths in a range when :high is not empty. What is left out is looked up
-- row by row, and never scored. A bm25 is better the lower it is. Packed.
SELECT json_group_array(json_array(id, score) ORDER BY score, id) FROM (
  SELECT rowid AS id, bm25(chunks_fts, 1.0, :header_weight, 0.0) AS score FROM chunks_fts
  WHERE chunks_fts MATCH :match AND rowid >= :first
    AND (+rowid <= :shown_to
         OR NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = chunks_fts.rowid AND c.document_id = :hidden_document))
    AND (:high = ''
         OR EXISTS (SELECT 1 FROM chunks c JOIN documents d ON d.id = c.document_id
                    WHERE c.id = chunks_fts.rowid AND d.agent_id = :agent_id AND d.path >= :low AND d.path < :high))
  ORDER BY score LIMIT :limit
);

-- name: locate_words
-- Which of some chunks each of some expressions matches, as pairs of expression and chunk, from :first on; packed. It
-- goes through all that an expression matches: asking for each chunk costs twenty times as much.
SELECT json_group_array(json_array(w.key, f.rowid)) FROM json_each(:matches) w
JOIN chunks_fts f ON f.chunks_fts MATCH w.value
WHERE f.rowid >= :first AND +f.rowid IN (SELECT value FROM json_each(:ids));

-- name: last_chunk_before
-- The last chunk of a transcript before a line: its chunks have ascending ids.
SELECT id FROM chunks WHERE document_id = :document_id AND start_line < :line ORDER BY unit DESC, part DESC LIMIT 1;

-- name: find_document
-- A document by its path, whatever its source.
SELECT id FROM documents WHERE agent_id = :agent_id AND path = :path;

-- name: find_documents_below
-- The documents in a range of paths.
SELECT id FROM documents WHERE agent_id = :agent_id AND path >= :low AND path < :high ORDER BY path LIMIT :limit;

-- name: find_places
-- Where some chunks stand and who said them, without their texts, whether they are a given message, and whether they
-- are a short message that ends with a question mark (Latin, full-width, Arabic); packed.
SELECT json_group_array(json_array(
  c.id, c.document_id, c.unit, c.said_by, c.unit_chars, c.said_by <> '' AND c.content_hash = :echo,
  c.said_by <> '' AND c.unit_chars <= :short_chars
    AND substr(rtrim(c.text, char(9, 10, 13, 32)), -1) IN ('?', char(65311), char(1567))))
FROM json_each(:ids) j JOIN chunks c ON c.id = j.value;

-- name: find_units
-- The first chunk of some units, given as a list of [document, unit]; packed.
SELECT json_group_array(json_array(c.id, c.document_id, c.unit, c.said_by, c.unit_chars, c.start_line))
FROM json_each(:units) j
JOIN chunks c ON c.document_id = j.value ->> 0 AND c.unit = j.value ->> 1 AND c.part = 0;

-- name: find_dates
-- The paths of some chunks and when they were said or written; packed.
SELECT json_group_array(json_array(c.id, d.path, c.created_at))
FROM json_each(:ids) j JOIN chunks c ON c.id = j.value JOIN documents d ON d.id = c.document_id;

-- name: find_chunks
-- Some chunks with everything a hit shows; packed, each as an object.
SELECT json_group_array(json_object(
  'id', c.id, 'source', d.source, 'path', d.path, 'session_id', d.session_id, 'start_line', c.start_line,
  'end_line', c.end_line, 'part', c.part, 'text', c.text, 'heading', c.heading, 'speaker', c.speaker,
  'said_by', c.said_by, 'said_on', c.said_on, 'provenance', c.provenance, 'created_at', c.created_at))
FROM json_each(:ids) j JOIN chunks c ON c.id = j.value JOIN documents d ON d.id = c.document_id;

-- name: list_waiting_chunks
-- Chunks that have no vector yet, oldest first.
SELECT id, heading, text FROM chunks WHERE embedded = 0 ORDER BY id LIMIT :limit;

-- name: count_waiting_chunks
-- How many chunks have no vector yet.
SELECT count(*) FROM chunks WHERE embedded = 0;

-- name: find_vector_facts
-- What the vector of a chunk that waits for one is filtered by.
SELECT d.agent_id, d.source, c.document_id, c.start_line
FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.id = :id AND c.embedded = 0;

-- name: add_vector
-- A chunk's vector.
INSERT INTO vectors (chunk_id, vector) VALUES (:id, :vector);

-- name: mark_embedded
-- A chunk has its vector.
UPDATE chunks SET embedded = 1 WHERE id = :id;

-- name: mark_refused
-- The embedder does not take this chunk's text: it stays without a vector, and does not wait for one.
UPDATE chunks SET embedded = 2 WHERE id = :id;

-- name: list_vectors
-- A slice of the vectors with what filters them, in id order.
SELECT v.chunk_id, v.vector, d.agent_id, d.source, c.document_id, c.start_line
FROM vectors v JOIN chunks c ON c.id = v.chunk_id JOIN documents d ON d.id = c.document_id
WHERE v.chunk_id > :after ORDER BY v.chunk_id LIMIT :limit;

-- name: find_vectors
-- The exact vectors of some chunks.
SELECT v.chunk_id, v.vector FROM json_each(:ids) j JOIN vectors v ON v.chunk_id = j.value;

-- name: sample_texts
-- Up to as many chunks as numbers are given: the first from each number on.
SELECT c.heading, c.text FROM chunks c
WHERE c.id IN (SELECT (SELECT x.id FROM chunks x WHERE x.id >= j.value ORDER BY x.id LIMIT 1) FROM json_each(:ids) j);

-- name: last_chunk
-- The newest chunk's id.
SELECT coalesce(max(id), 0) FROM chunks;
