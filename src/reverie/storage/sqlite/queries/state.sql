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
SELECT fingerprint FROM messages WHERE session_id = :session_id AND visible = 1 ORDER BY seq DESC LIMIT :limit;

-- name: newest_messages
-- The newest messages of a session from a number on, newest first.
SELECT seq, role, text, extra FROM messages
WHERE session_id = :session_id AND seq >= :from_seq AND kind = 'message' ORDER BY seq DESC LIMIT :limit;

-- name: messages_after
-- What is to be remembered of all sessions, after a position in their log.
SELECT messages.id AS position, messages.session_id, sessions.agent, messages.seq, messages.role, messages.text,
       messages.speaker, messages.said_on, messages.created_at AS created_at_ms, sessions.origin
FROM messages JOIN sessions ON sessions.id = messages.session_id
WHERE messages.id > :position AND messages.remember = 1 ORDER BY messages.id LIMIT :limit;

-- name: read_lines
-- A stretch of one transcript.
SELECT messages.id AS position, messages.session_id, sessions.agent, messages.seq, messages.role, messages.text,
       messages.speaker, messages.said_on, messages.created_at AS created_at_ms, sessions.origin
FROM messages JOIN sessions ON sessions.id = messages.session_id
WHERE messages.session_id = :session_id AND messages.seq >= :start AND messages.kind = 'message'
ORDER BY messages.seq LIMIT :limit;

-- name: last_position
-- The end of the log of all sessions.
SELECT coalesce(max(id), 0) FROM messages;


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


-- Compaction ---------------------------------------------------------------------------------------------------

-- name: session_load
-- How full a session is, from its own row and the sizes of what the last count of its prompt did not hold.
SELECT id, key, agent, ended_at, history_start, message_count, prompt_tokens, prompt_tokens_fresh, transcript_bytes,
       compaction_id,
       (SELECT coalesce(sum(size), 0) FROM
         (SELECT octet_length(text) AS size FROM messages
          WHERE session_id = sessions.id AND kind = 'message'
            AND seq > CASE WHEN prompt_tokens_fresh THEN prompt_tokens_seq ELSE history_start - 1 END
          ORDER BY seq DESC LIMIT :limit)) AS bytes_since
FROM sessions WHERE id = :id;

-- name: newest_span
-- The newest messages of a stretch of a transcript, newest first, long texts cut; images are counted, not read.
SELECT seq, role, substr(text, 1, :chars) AS text, octet_length(text) AS size, remember, created_at,
       coalesce(json_array_length(extra, '$.images'), 0) AS images,
       (SELECT json_group_array(value ->> 'name') FROM json_each(extra, '$.tool_calls')) AS calls,
       (SELECT coalesce(sum(length(value ->> 'arguments')), 0) FROM json_each(extra, '$.tool_calls')) AS arguments
FROM messages
WHERE session_id = :session_id AND seq BETWEEN :first_seq AND :last_seq AND kind = 'message'
ORDER BY seq DESC LIMIT :limit;

-- name: insert_compaction
-- Ask for a summary of a stretch.
INSERT INTO compactions (id, session_id, state, cause, base_id, first_seq, last_seq, focus, tokens_before, tokens_after,
                         summary, audit, flushed_to, created_at, adopted_at)
VALUES (:id, :session_id, :state, :cause, :base_id, :first_seq, :last_seq, :focus, :tokens_before, :tokens_after,
        :summary, :audit, :flushed_to, :now, :adopted_at);

-- name: find_compaction
-- A compaction by its id.
SELECT compactions.*, sessions.key, sessions.agent FROM compactions JOIN sessions ON sessions.id = session_id
WHERE compactions.id = :id;

-- name: compaction_under_way
-- The compaction of a session that is being prepared, or is ready to be adopted.
SELECT compactions.*, sessions.key, sessions.agent FROM compactions JOIN sessions ON sessions.id = session_id
WHERE session_id = :session_id AND state IN ('preparing', 'flushed', 'ready');

-- name: newest_compaction
-- The compaction of a session that was asked for last.
SELECT compactions.*, sessions.key, sessions.agent FROM compactions JOIN sessions ON sessions.id = session_id
WHERE session_id = :session_id ORDER BY created_at DESC, compactions.rowid DESC LIMIT 1;

-- name: open_compactions
-- Compactions that a restart finds unprepared, in the order in which they were asked for.
SELECT id FROM compactions
WHERE state IN ('preparing', 'flushed', 'ready') AND state <> 'ready' ORDER BY created_at, rowid LIMIT :limit;

-- name: list_compactions
-- The compactions of the sessions a key led to, the newest first.
SELECT compactions.*, sessions.key, sessions.agent
FROM sessions CROSS JOIN compactions ON compactions.session_id = sessions.id
WHERE sessions.key = :key ORDER BY compactions.created_at DESC, compactions.rowid DESC LIMIT :limit;

-- name: flush_compaction
-- The extract of the stretch stands in a memory file, durably.
UPDATE compactions SET state = 'flushed', flushed_to = :flushed_to WHERE id = :id AND state = 'preparing';

-- name: ready_compaction
-- The summary is there and may be adopted.
UPDATE compactions SET state = 'ready', summary = :summary, audit = :audit, tokens_after = :tokens_after, error = NULL
WHERE id = :id AND state = 'flushed' AND flushed_to IS NOT NULL;

-- name: miss_compaction
-- A try failed; the history is as it was.
UPDATE compactions SET attempts = attempts + 1, error = :error,
       state = CASE WHEN attempts + 1 >= :attempts_max THEN 'failed' ELSE state END
WHERE id = :id AND state IN ('preparing', 'flushed', 'ready') AND state <> 'ready'
RETURNING state;

-- name: outdate_compactions
-- What was being prepared for a session is of no use any more.
UPDATE compactions SET state = 'stale', error = :error
WHERE session_id = :session_id AND state IN ('preparing', 'flushed', 'ready') AND id <> :but;

-- name: find_ready_compaction
-- The summary that waits to be adopted by a session.
SELECT * FROM compactions WHERE session_id = :session_id AND state = 'ready';

-- name: adopt_summary
-- The session goes on with a summary, if the one it was made on still stands.
UPDATE sessions SET compaction_id = :id, history_start = :last_seq + 1, compaction_count = compaction_count + 1,
       prompt_tokens = :tokens, prompt_tokens_seq = :mark_seq, prompt_tokens_fresh = :tokens IS NOT NULL,
       updated_at = :now
WHERE id = :session_id AND ended_at IS NULL AND compaction_id IS :base_id;

-- name: adopted_compaction
-- The summary stands in the prompt from now on.
UPDATE compactions SET state = 'adopted', adopted_at = :now WHERE id = :id AND state = 'ready';

-- name: insert_compaction_mark
-- Where in a transcript a summary was adopted.
INSERT INTO messages (session_id, seq, role, text, extra, visible, remember, fingerprint, created_at, kind)
VALUES (:session_id, :seq, 'assistant', '', :extra, 0, 0, x'', :now, 'compaction');

-- name: read_snapshot
-- What a session knows of its prompt's size, and whether that comes from a compaction.
SELECT prompt_tokens AS tokens, prompt_tokens_fresh AS fresh,
       EXISTS (SELECT 1 FROM messages
               WHERE session_id = sessions.id AND seq = prompt_tokens_seq AND kind = 'compaction') AS compacted
FROM sessions WHERE id = :id;

-- name: record_snapshot
-- What a session's last prompt took, and up to which message that counts; NULL leaves the place as it is.
UPDATE sessions SET prompt_tokens = :tokens, prompt_tokens_fresh = :fresh,
       prompt_tokens_seq = coalesce(:seq, prompt_tokens_seq)
WHERE id = :id;

-- name: expand_span
-- The messages of a stretch of a transcript as they were said, after a number.
SELECT seq, role, text, extra, created_at FROM messages
WHERE session_id = :session_id AND seq BETWEEN :first_seq AND :last_seq AND kind = 'message' ORDER BY seq LIMIT :limit;
