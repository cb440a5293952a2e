-- Sessions, turns and transcripts.

-- name: find_current_session
-- The session that a key leads to now.
SELECT * FROM sessions WHERE key = :key AND ended_at IS NULL;

-- name: find_session
-- A session by its id.
SELECT * FROM sessions WHERE id = :id;

-- name: insert_session
-- Open a session for a key.
INSERT INTO sessions (id, key, agent, origin, title, started_at, last_interaction_at, updated_at)
VALUES (:id, :key, :agent, :origin, :title, :now, :now, :now);

-- name: list_sessions
-- The sessions by last interaction, newest first.
SELECT id, key, agent, origin, title, started_at, last_interaction_at, message_count, epoch
FROM sessions ORDER BY last_interaction_at DESC, id LIMIT :limit;

-- name: count_sessions
-- How many sessions there are.
SELECT count(*) FROM sessions;

-- name: count_messages
-- How many messages there are in all transcripts.
SELECT count(*) FROM messages;

-- name: count_turns_by_state
-- How many turns stand in each state.
SELECT state, count(*) AS turns FROM turns GROUP BY state;

-- name: insert_turn
-- Accept a turn: from here on it is never lost.
INSERT INTO turns (id, session_id, position, state, request, accepted_at)
VALUES (:id, :session_id, (SELECT coalesce(max(position), 0) + 1 FROM turns WHERE session_id = :session_id),
        'accepted', :request, :now);

-- name: start_turn
-- The turn leaves the queue; a turn that is not waiting is left alone.
UPDATE turns SET state = 'running', started_at = :now WHERE id = :id AND state = 'accepted';

-- name: end_turn
-- The turn is over. Its request is in the transcript by now and is not kept twice.
UPDATE turns SET state = :state, finished_at = :now, model = :model, finish_reason = :finish_reason, usage = :usage,
                 error = :error, request = '{}'
WHERE id = :id AND state IN ('accepted', 'running');

-- name: find_turn
-- A turn by its id.
SELECT * FROM turns WHERE id = :id;

-- name: unfinished_turns
-- Turns that were accepted and not ended, in order of arrival, after a given one.
SELECT turns.id, turns.session_id, turns.state, turns.request, turns.accepted_at, turns.position
FROM turns
WHERE turns.state IN ('accepted', 'running') AND (turns.accepted_at, turns.rowid) > (:after_at, :after_rowid)
ORDER BY turns.accepted_at, turns.rowid LIMIT :limit;

-- name: turn_rowid
-- The place of a turn among those accepted in the same millisecond.
SELECT rowid FROM turns WHERE id = :id;

-- name: next_seq
-- The number the next message of a session gets.
SELECT coalesce(max(seq), 0) + 1 FROM messages WHERE session_id = :session_id;

-- name: insert_message
-- Append to a transcript.
INSERT INTO messages (session_id, seq, turn_id, role, text, speaker, said_on, extra, visible, remember, fingerprint,
                      created_at)
VALUES (:session_id, :seq, :turn_id, :role, :text, :speaker, :said_on, :extra, :visible, :remember, :fingerprint,
        :now);

-- name: touch_session
-- A real turn happened.
UPDATE sessions SET last_interaction_at = :now, updated_at = :now,
       message_count = (SELECT coalesce(max(seq), 0) FROM messages WHERE session_id = :id)
WHERE id = :id;

-- name: record_epoch
-- What the stable prefix of a session's prompt now is, and why it changed.
UPDATE sessions SET epoch = :epoch, epoch_reason = :reason, prefix_fingerprint = :fingerprint,
       history_start = :history_start, updated_at = :now
WHERE id = :id;

-- name: newest_fingerprints
-- The fingerprints of the newest messages a client knows of, newest first.
SELECT fingerprint FROM messages
WHERE session_id = :session_id AND visible = 1 AND kind = 'message' ORDER BY seq DESC LIMIT :limit;

-- name: newest_messages
-- The newest messages of a session from a number on, newest first.
SELECT seq, role, text, extra FROM messages
WHERE session_id = :session_id AND seq >= :from_seq AND kind = 'message' ORDER BY seq DESC LIMIT :limit;

-- name: messages_after
-- What is to be remembered of all sessions, after a position in their log.
SELECT messages.id AS position, messages.session_id, sessions.agent, messages.seq, messages.role, messages.text,
       messages.speaker, messages.said_on, messages.created_at AS created_at_ms, sessions.origin
FROM messages JOIN sessions ON sessions.id = messages.session_id
WHERE messages.id > :position AND messages.remember = 1 AND messages.kind = 'message' ORDER BY messages.id LIMIT :limit;

-- name: read_lines
-- A stretch of one transcript.
SELECT messages.id AS position, messages.session_id, sessions.agent, messages.seq, messages.role, messages.text,
       messages.speaker, messages.said_on, messages.created_at AS created_at_ms, sessions.origin
FROM messages JOIN sessions ON sessions.id = messages.session_id
WHERE messages.session_id = :session_id AND messages.seq >= :start AND messages.kind = 'message' ORDER BY messages.seq LIMIT :limit;

-- name: last_position
-- The end of the log of all sessions.
-- Messages that were archived and deleted since count: their places are never given out again.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0);


-- Recall evidence ----------------------------------------------------------------------------------------------

-- name: add_recall_event
-- A search, and how many places it surfaced.
INSERT INTO recall_events (at, agent, session_id, turn_id, kind, query, hits)
VALUES (:at, :agent, :session_id, :turn_id, :kind, :query, :hits);

-- name: add_recall_hits
-- What one search surfaced, from a JSON list.
INSERT INTO recall_hits (event_id, rank, source, path, start_line, end_line, score, snippet)
SELECT :event_id, value ->> 'rank', value ->> 'source', value ->> 'path', value ->> 'start_line', value ->> 'end_line',
  value ->> 'score', value ->> 'snippet' FROM json_each(:hits);

-- name: prune_recall_events
-- The oldest searches give way; what they surfaced goes with them.
DELETE FROM recall_events WHERE id <= :oldest;

-- name: list_recall_events
-- The newest searches.
SELECT id, at, agent, session_id, turn_id, kind, query, hits FROM recall_events ORDER BY id DESC LIMIT :limit;

-- name: list_recall_hits
-- What one search surfaced, best first.
SELECT rank, source, path, start_line, end_line, score, snippet FROM recall_hits
WHERE event_id = :event_id ORDER BY rank;


-- The tree of entries, resets, retention ------------------------------------------------------------------------

-- name: insert_mark
-- Append what is no message to a transcript.
INSERT INTO messages (session_id, seq, turn_id, role, text, extra, visible, remember, fingerprint, created_at, kind,
                      parent_seq)
VALUES (:session_id, :seq, :turn_id, 'assistant', '', :extra, 0, 0, x'', :now, :kind, :parent_seq);

-- name: entry_sizes_before
-- The newest entries below a number, newest first, with their sizes; no text is read.
SELECT seq, octet_length(text) + octet_length(extra) FROM messages
WHERE session_id = :session_id AND seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: entry_sizes_after
-- The oldest entries above a number, oldest first, with their sizes; no text is read.
SELECT seq, octet_length(text) + octet_length(extra) FROM messages
WHERE session_id = :session_id AND seq > :after AND seq <= :last ORDER BY seq LIMIT :limit;

-- name: read_entries
-- A stretch of a transcript whose size is known to fit, oldest first.
SELECT seq, kind, role, text, extra, turn_id, speaker, said_on, visible, remember, fingerprint, created_at, parent_seq
FROM messages WHERE session_id = :session_id AND seq BETWEEN :first AND :last ORDER BY seq;

-- name: find_parent
-- The session that a session follows.
SELECT parent_id FROM sessions WHERE id = :id;

-- name: find_session_of_turn
-- The session that a turn belongs to now.
SELECT sessions.* FROM turns JOIN sessions ON sessions.id = turns.session_id WHERE turns.id = :turn_id;

-- name: session_of_turn
-- The id of the session that a turn belongs to now.
SELECT session_id FROM turns WHERE id = :id;

-- name: end_session
-- A session ends; its key is free for a successor.
UPDATE sessions SET ended_at = :now, end_reason = :reason, updated_at = :now WHERE id = :id AND ended_at IS NULL;

-- name: insert_successor
-- A session that follows another: it has its key, its title, and the settings of its queue.
INSERT INTO sessions (id, key, agent, origin, title, started_at, last_interaction_at, updated_at, parent_id,
                      queue_settings)
SELECT :id, key, agent, 'live', title, :now, :now, :now, id, queue_settings FROM sessions WHERE id = :parent;

-- name: move_waiting_turns
-- Turns that have not begun go on in the successor, in the order they had. The index holds unfinished turns only.
UPDATE turns SET session_id = :new WHERE id IN (
  SELECT id FROM turns INDEXED BY turns_unfinished
  WHERE state IN ('accepted', 'queued', 'running') AND state <> 'running' AND session_id = :old
);

-- name: give_up_compactions
-- A summary of a session that has ended is not adopted any more.
UPDATE compactions SET state = 'stale' WHERE session_id = :session_id AND state IN ('preparing', 'flushed', 'ready');

-- name: adopted_summary
-- The summary that stands for the beginning of a session.
SELECT compactions.summary FROM sessions JOIN compactions ON compactions.id = sessions.compaction_id
WHERE sessions.id = :session_id;

-- name: find_continuity
-- The mark with which a session began that follows another.
SELECT extra FROM messages WHERE session_id = :session_id AND seq = 1 AND kind = 'continuity';

-- name: last_exchange
-- What was said last, newest first: the beginning of each message.
SELECT role, substr(text, 1, :characters) AS text FROM (
  SELECT role, text, visible, kind, seq FROM messages WHERE session_id = :session_id ORDER BY seq DESC LIMIT :entries
) WHERE kind = 'message' AND visible = 1 AND role IN ('user', 'assistant') AND text <> ''
ORDER BY seq DESC LIMIT :messages;

-- name: count_entries
-- How many entries a session has, without saying that anybody spoke.
UPDATE sessions SET message_count = (SELECT coalesce(max(seq), 0) FROM messages WHERE session_id = :id)
WHERE id = :id;

-- name: touch_session_quietly
-- A turn that nobody asked for happened: it does not keep the session fresh.
UPDATE sessions SET updated_at = :now,
       message_count = (SELECT coalesce(max(seq), 0) FROM messages WHERE session_id = :id)
WHERE id = :id;

-- name: session_page
-- Sessions by last interaction, newest first, from a place in that order on; one that is being imported is not there.
SELECT * FROM sessions
WHERE last_interaction_at <= :at AND (last_interaction_at < :at OR id > :after) AND key NOT LIKE 'importing:%'
ORDER BY last_interaction_at DESC, id LIMIT :limit;

-- name: newest_session_of_key
-- Of the sessions that a key has led to, the one that began last.
SELECT * FROM sessions WHERE key = :key ORDER BY started_at DESC LIMIT 1;

-- name: unended_turns_of
-- The turns of a session that have not ended, in order of arrival.
SELECT id, state, source, mode, position, accepted_at, started_at, deadline_at FROM turns INDEXED BY turns_unfinished
WHERE state IN ('accepted', 'queued', 'running') AND session_id = :session_id ORDER BY position LIMIT :limit;

-- name: oversized_sessions
-- Of the sessions used last, the current ones that are larger than they should be.
SELECT id, key, message_count AS entries, transcript_bytes AS bytes FROM (
  SELECT id, key, message_count, transcript_bytes, ended_at FROM sessions
  ORDER BY last_interaction_at DESC, id LIMIT :sessions
) WHERE ended_at IS NULL AND (transcript_bytes > :bytes_max OR message_count > :entries_max)
ORDER BY transcript_bytes DESC LIMIT :limit;

-- name: first_unended_entry
-- Where in a transcript the turns begin that have not ended.
SELECT min(messages.seq) FROM turns INDEXED BY turns_unfinished CROSS JOIN messages ON messages.turn_id = turns.id
WHERE turns.state IN ('accepted', 'queued', 'running') AND messages.session_id = :session_id;

-- name: settled_compactions
-- Up to which row the summaries of a session are settled.
SELECT coalesce(min(CASE WHEN state IN ('preparing', 'flushed', 'ready') THEN rowid END) - 1, max(rowid), 0)
FROM compactions WHERE session_id = :session_id;

-- name: compaction_page
-- The settled summaries of a session, in the order in which they were made, after a place.
SELECT rowid AS place, id, state, cause, base_id, first_seq, last_seq, focus, summary, audit, flushed_to,
       tokens_before, tokens_after, attempts, error, created_at, adopted_at FROM compactions
WHERE session_id = :session_id AND (created_at, rowid) > (:created_at, :after) AND rowid <= :last
ORDER BY created_at, rowid LIMIT :limit;

-- name: turn_that_begins
-- A turn of which an entry is the first one.
SELECT id, position, state, accepted_at, started_at, finished_at, model, finish_reason, usage, error, source, mode
FROM turns WHERE id = :turn_id AND session_id = :session_id
AND :seq = (SELECT min(seq) FROM messages WHERE turn_id = :turn_id AND session_id = :session_id);
