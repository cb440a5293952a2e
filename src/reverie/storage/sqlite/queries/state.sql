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
SELECT coalesce((SELECT total FROM tally WHERE name = 'sessions'), 0);

-- name: count_messages
-- How many messages there are in all transcripts.
SELECT coalesce((SELECT total FROM tally WHERE name = 'messages'), 0);

-- name: count_turns_by_state
-- How many turns stand in each state.
SELECT substr(name, 7) AS state, total AS turns FROM tally WHERE name LIKE 'turns.%' AND total > 0;

-- name: insert_turn
-- Accept a turn: from here on it is never lost.
INSERT INTO turns (id, session_id, position, state, request, accepted_at, source, message_key, request_digest, mode,
                   deadline_at, client_model)
VALUES (:id, :session_id, (SELECT coalesce(max(position), 0) + 1 FROM turns WHERE session_id = :session_id),
        :state, :request, :now, :source, :message_key, :request_digest, :mode, :deadline_at, :client_model);

-- name: find_turn_by_message_key
-- The turn that a client's key for a message stands for.
SELECT id, session_id, state, accepted_at, request_digest FROM turns
WHERE source = :source AND message_key = :message_key;

-- name: start_turn
-- The turn leaves the queue; a turn that is not waiting is left alone.
UPDATE turns SET state = 'running', started_at = :now WHERE id = :id AND state IN ('accepted', 'queued');

-- name: carry_turn
-- The turn enters another, which answers it; a turn that is not waiting is left alone.
UPDATE turns SET state = 'running', started_at = :now, carrier_id = :carrier_id
WHERE id = :id AND state IN ('accepted', 'queued');

-- name: give_back_turn
-- The turn did not enter the one that carried it after all, and waits again; one that has ended is left alone.
UPDATE turns SET state = 'queued', started_at = NULL, carrier_id = NULL
WHERE id = :id AND carrier_id = :carrier_id AND state = 'running';

-- name: end_turn
-- The turn is over. Its request is in the transcript by now and is not kept twice.
UPDATE turns SET state = :state, finished_at = :now, model = :model, finish_reason = :finish_reason, usage = :usage,
                 error = :error, reply = :reply, request = '{}'
WHERE id = :id AND state IN ('accepted', 'queued', 'running');

-- name: end_carried_turns
-- What a turn carried ends with it, in the same way.
UPDATE turns SET state = :state, finished_at = :now, model = :model, finish_reason = :finish_reason, usage = :usage,
                 error = :error, request = '{}'
WHERE carrier_id = :carrier_id AND state = 'running';

-- name: end_waiting_turn
-- A turn ends before it began; one that is not waiting is left alone.
UPDATE turns SET state = :state, finished_at = :now, error = :error, drop_line = :drop_line
WHERE id = :id AND state IN ('accepted', 'queued');

-- name: carried_untold
-- Turns that a turn carries and whose text is not in the transcript yet, in order of arrival.
SELECT id, request FROM turns
WHERE carrier_id = :carrier_id AND state = 'running' AND NOT EXISTS (SELECT 1 FROM messages WHERE turn_id = turns.id)
ORDER BY position;

-- name: dropped_untold
-- Messages that gave way and that no turn has been told of yet.
SELECT id, drop_line FROM turns
WHERE session_id = :session_id AND state = 'dropped' AND drop_line IS NOT NULL ORDER BY position LIMIT :limit;

-- name: told_of_dropped
-- A turn tells the model of the messages that gave way.
UPDATE turns SET drop_line = NULL, carrier_id = :carrier_id
WHERE session_id = :session_id AND state = 'dropped' AND drop_line IS NOT NULL;

-- name: turn_with_session
-- Where a turn stands, and the session that it belongs to now; its request may be large and is not read.
SELECT sessions.*, turns.state AS turn_state, turns.deadline_at AS turn_deadline
FROM turns JOIN sessions ON sessions.id = turns.session_id WHERE turns.id = :id;

-- name: find_turn
-- A turn by its id.
SELECT * FROM turns WHERE id = :id;

-- name: find_inbox_entry
-- A turn with its session's key, without its content.
SELECT turns.id, sessions.key, turns.session_id, turns.state, turns.source, turns.message_key, turns.mode,
       turns.accepted_at, turns.started_at, turns.finished_at, turns.deadline_at, turns.carrier_id,
       turns.client_model, turns.error, sessions.agent
FROM turns JOIN sessions ON sessions.id = turns.session_id WHERE turns.id = :id;

-- name: unended_turns_of_key
-- The turns of a session key that run or wait, in order of arrival.
SELECT turns.id, sessions.key, turns.session_id, turns.state, turns.source, turns.message_key, turns.mode,
       turns.accepted_at, turns.started_at, turns.finished_at, turns.deadline_at, turns.carrier_id,
       turns.client_model, turns.error, sessions.agent
FROM sessions JOIN turns ON turns.session_id = sessions.id
WHERE sessions.key = :key AND turns.state IN ('accepted', 'queued', 'running')
ORDER BY sessions.started_at, turns.position LIMIT :limit;

-- name: unended_turns
-- Turns that have no end, by session and order of arrival, after a given one.
SELECT turns.id, turns.session_id, turns.position, sessions.agent, sessions.key, turns.state, turns.source, turns.mode,
       turns.accepted_at, turns.deadline_at, turns.message_key, turns.carrier_id, turns.request_digest,
       sessions.queue_settings
FROM turns JOIN sessions ON sessions.id = turns.session_id
WHERE turns.state IN ('accepted', 'queued', 'running')
  AND (turns.session_id, turns.position) > (:session_id, :position)
ORDER BY turns.session_id, turns.position LIMIT :limit;

-- name: session_queue_settings
-- The queue settings of a session's own.
SELECT queue_settings FROM sessions WHERE key = :key AND ended_at IS NULL;

-- name: set_session_queue_settings
-- Give a session queue settings of its own.
UPDATE sessions SET queue_settings = :settings, updated_at = :now WHERE key = :key AND ended_at IS NULL;

-- name: session_events_after
-- What happened in a session after an event, oldest first.
SELECT id, session_key, turn_id, at, kind, data FROM session_events
WHERE session_key = :key AND id > :after ORDER BY id LIMIT :limit;

-- name: next_seq
-- The number the next message of a session gets.
SELECT coalesce(max(seq), 0) + 1 FROM messages WHERE session_id = :session_id;

-- name: insert_message
-- Append to a transcript.
INSERT INTO messages (session_id, seq, turn_id, role, text, speaker, said_on, extra, visible, remember, fingerprint,
                      created_at, provenance)
VALUES (:session_id, :seq, :turn_id, :role, :text, :speaker, :said_on, :extra, :visible, :remember, :fingerprint,
        :now, :provenance);

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
-- The newest messages of a session from a number on, newest first; those that were forgotten are left out.
SELECT seq, role, text, extra, whose FROM said
WHERE session_id = :session_id AND seq >= :from_seq AND kind = 'message' AND extra <> '{"forgotten":true}'
ORDER BY seq DESC LIMIT :limit;

-- name: messages_after
-- What is to be remembered of all sessions, after a position in their log.
SELECT id AS position, session_id, agent, seq, role, text, speaker, said_on, created_at AS created_at_ms, origin,
       whose AS provenance
FROM said messages
WHERE messages.id > :position AND messages.remember = 1 AND messages.kind = 'message' ORDER BY messages.id LIMIT :limit;

-- name: read_lines
-- A stretch of one transcript.
SELECT id AS position, session_id, agent, seq, role, text, speaker, said_on, created_at AS created_at_ms, origin,
       whose AS provenance, extra = '{"forgotten":true}' AS forgotten, fingerprint
FROM said WHERE session_id = :session_id AND seq >= :start AND kind = 'message' ORDER BY seq LIMIT :limit;

-- name: whose_words
-- Whose words some messages are, by session and number; a list in JSON names them.
SELECT said.session_id, said.seq, said.whose FROM json_each(:places) place
JOIN said ON said.session_id = place.value ->> 0 AND said.seq = place.value ->> 1 WHERE said.kind = 'message';

-- name: whose_stretch
-- Whose words the messages of a stretch of a transcript are, each kind once.
SELECT DISTINCT whose FROM said
WHERE agent = :agent AND session_id = :session_id AND seq BETWEEN :first_seq AND :last_seq AND kind = 'message';

-- name: vouch_for_message
-- The owner vouches for a message of an imported conversation.
UPDATE messages SET provenance = :provenance
WHERE session_id = :session_id AND seq = :seq AND kind = 'message' AND provenance IS NOT :provenance;

-- name: vouch_for_session
-- What a file said of whose words a session holds is believed from now on.
UPDATE sessions SET unvouched_seq = 0 WHERE id = :session_id AND unvouched_seq > 0;

-- name: vouch_for_recalls
-- What is known of the passages of a session that its owner vouched for: they are whose they are.
UPDATE recall_entries SET provenance = coalesce((
  SELECT CASE WHEN max(whose = 'untrusted') THEN 'untrusted' WHEN max(whose = 'system') THEN 'system'
              WHEN max(whose = 'agent') THEN 'agent' WHEN max(whose = 'owner') THEN 'owner' END
  FROM said WHERE session_id = :session_id AND seq BETWEEN recall_entries.start_line AND recall_entries.end_line
    AND kind = 'message'), provenance)
WHERE agent = (SELECT agent FROM sessions WHERE id = :session_id) AND path = 'sessions/' || :session_id;

-- name: last_position
-- The end of the log of all sessions.
-- Messages that were archived and deleted since count: their places are never given out again.
SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0),
           coalesce((SELECT max(id) FROM messages), 0));


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
SELECT seq, kind, role, text, extra, turn_id, speaker, said_on, visible, remember, fingerprint, created_at, parent_seq,
       provenance
FROM messages WHERE session_id = :session_id AND seq BETWEEN :first AND :last ORDER BY seq;

-- name: find_parent
-- The session that a session follows.
SELECT parent_id FROM sessions WHERE id = :id;

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
-- Turns that have not begun go on in the successor, in the order they had. The index holds unended turns only.
UPDATE turns SET session_id = :new WHERE id IN (
  SELECT id FROM turns INDEXED BY turns_unended
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

-- name: oversized_sessions
-- Of the sessions used last, the current ones that are larger than they should be.
SELECT id, key, message_count AS entries, transcript_bytes AS bytes FROM (
  SELECT id, key, message_count, transcript_bytes, ended_at FROM sessions
  ORDER BY last_interaction_at DESC, id LIMIT :sessions
) WHERE ended_at IS NULL AND (transcript_bytes > :bytes_max OR message_count > :entries_max)
ORDER BY transcript_bytes DESC LIMIT :limit;

-- name: first_unended_entry
-- Where in a transcript the turns begin that have not ended.
SELECT min(messages.seq) FROM turns INDEXED BY turns_unended CROSS JOIN messages ON messages.turn_id = turns.id
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


-- Condensed fragments ------------------------------------------------------------------------------------------

-- name: find_condensed
-- What a model made of a workspace file's text, for a room.
SELECT text FROM condensed_fragments WHERE name = :file AND source = :source AND tokens_max = :tokens_max;

-- name: keep_condensed
-- Keep what a model made of a workspace file's text.
INSERT OR REPLACE INTO condensed_fragments (name, source, tokens_max, text, by_model, at)
VALUES (:file, :source, :tokens_max, :text, :by_model, :now);


-- Plugins ------------------------------------------------------------------------------------------------------

-- name: add_plugin_event
-- An event of a plugin in its session's stream; nothing for a session that does not exist.
INSERT INTO session_events (session_key, turn_id, at, kind, data)
SELECT key, :turn_id, :now, :kind, :data FROM sessions WHERE id = :session_id RETURNING session_key;

-- name: newest_plugin_failures
-- What went wrong in plugins last, newest first.
SELECT at AS at_ms, session_key, data ->> 'plugin' AS plugin, data ->> 'hook' AS hook, data ->> 'error' AS error
FROM session_events WHERE kind = 'plugin.failed' ORDER BY id DESC LIMIT :limit;

-- name: newest_engine_quarantines
-- What ended the service of context engines last, newest first.
SELECT at AS at_ms, session_key, data ->> 'engine' AS engine, data ->> 'operation' AS operation,
       data ->> 'error' AS error
FROM session_events WHERE kind = 'engine.quarantined' ORDER BY id DESC LIMIT :limit;


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
SELECT seq, role, substr(text, 1, :chars) AS text, octet_length(text) AS size, remember, created_at, whose,
       coalesce(json_array_length(extra, '$.images'), 0) AS images,
       (SELECT json_group_array(value ->> 'name') FROM json_each(extra, '$.tool_calls')) AS calls,
       (SELECT coalesce(sum(length(value ->> 'arguments')), 0) FROM json_each(extra, '$.tool_calls')) AS arguments
FROM said
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

-- name: native_boundary
-- Up to which message a session's conversation was in memory when its native thread was last compacted.
SELECT data ->> 'through' FROM session_events
WHERE session_key = :key AND kind = 'thread.compacted' AND data ->> 'session' = :session_id ORDER BY id DESC LIMIT 1;

-- name: add_native_boundary
-- The native thread of a session was compacted, and what was said up to a message is in memory.
INSERT INTO session_events (session_key, at, kind, data)
SELECT key, :now, 'thread.compacted',
       json_object('session', id, 'first', :first_seq, 'through', :last_seq, 'memory', :flushed_to)
FROM sessions WHERE id = :session_id;

-- name: find_ready_compaction
-- The summary that waits to be adopted by a session.
SELECT * FROM compactions
WHERE session_id = :session_id AND state IN ('preparing', 'flushed', 'ready') AND state = 'ready';

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


-- Events of a session ------------------------------------------------------------------------------------------

-- name: oldest_session_event
-- The number of the first event that is kept.
SELECT coalesce(min(id), 0) FROM session_events;


-- Health and status --------------------------------------------------------------------------------------------

-- name: note_probe
-- A write that means nothing, to learn whether one can be made.
INSERT INTO tally VALUES ('probes', 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;

-- name: tallies
-- How many rows stand where; a handful of names.
SELECT name, total FROM tally;

-- name: waiting_by_session
-- The sessions in which a turn has waited longest, with what waits and runs there. At most `queue.waiting_max` turns
-- are looked at, through the index of unfinished ones.
SELECT sessions.key AS session_key, count(*) FILTER (WHERE turns.state <> 'running') AS waiting,
       count(*) FILTER (WHERE turns.state = 'running') AS running,
       min(turns.accepted_at) FILTER (WHERE turns.state <> 'running') AS oldest_at
FROM turns JOIN sessions ON sessions.id = turns.session_id
WHERE turns.state IN ('accepted', 'queued', 'running')
GROUP BY sessions.key ORDER BY oldest_at IS NULL, oldest_at LIMIT :limit;

-- Import and retention of sessions -------------------------------------------------------------------------------

-- name: stage_session
-- A session whose import begins: its key leads nowhere, it is not current, and nobody vouches for it yet.
INSERT INTO sessions (id, key, agent, origin, started_at, last_interaction_at, updated_at, ended_at, unvouched_seq,
                      restored_seq)
VALUES (:id, :key, :agent, :origin, :now, :now, :now, :now, :entries, :entries);

-- name: restore_turn
-- A turn as it was exported; one that is there stays as it is.
INSERT INTO turns (id, session_id, position, state, request, accepted_at, started_at, finished_at, model,
                   finish_reason, usage, error, source, mode)
VALUES (:id, :session_id, :position, :state, '{}', :accepted_at, :started_at, :finished_at, :model, :finish_reason,
        :usage, :error, :source, :mode) ON CONFLICT (id) DO NOTHING;

-- name: restore_compaction
-- A summary as it was exported; one that is there stays as it is.
INSERT INTO compactions (id, session_id, state, cause, base_id, first_seq, last_seq, focus, summary, audit, flushed_to,
                         tokens_before, tokens_after, attempts, error, created_at, adopted_at)
VALUES (:id, :session_id, :state, :cause, :base_id, :first_seq, :last_seq, :focus, :summary, :audit, :flushed_to,
        :tokens_before, :tokens_after, :attempts, :error, :created_at, :adopted_at) ON CONFLICT (id) DO NOTHING;

-- name: session_of_compaction
-- The session that a summary is of.
SELECT session_id FROM compactions WHERE id = :id;

-- name: restore_entry
-- An entry as it was exported.
INSERT INTO messages (session_id, seq, turn_id, role, text, speaker, said_on, extra, visible, remember, fingerprint,
                      created_at, kind, parent_seq, provenance)
VALUES (:session_id, :seq, :turn_id, :role, :text, :speaker, :said_on, :extra, :visible, :remember, :fingerprint,
        :now, :kind, :parent_seq, :provenance);

-- name: forget_staged_events
-- What an import wrote into the record of events happened long ago, elsewhere.
DELETE FROM session_events WHERE session_key = :key;

-- name: publish_session
-- A session is whole: it gets its key and its state.
UPDATE sessions SET key = :key, title = :title, parent_id = :parent_id, started_at = :started_at,
       last_interaction_at = :last_interaction_at, updated_at = :updated_at, ended_at = :ended_at,
       end_reason = :end_reason, epoch = :epoch, epoch_reason = :epoch_reason,
       prefix_fingerprint = :prefix_fingerprint, history_start = :history_start, queue_settings = :queue_settings,
       prompt_tokens = :prompt_tokens, prompt_tokens_seq = :prompt_tokens_seq,
       prompt_tokens_fresh = :prompt_tokens_fresh, compaction_count = :compaction_count,
       compaction_id = :compaction_id, message_count = :message_count, unvouched_seq = :unvouched_seq
WHERE id = :id;

-- name: delete_newest_entries
-- Shorten a transcript from its end, so that what is left is numbered from 1 on.
DELETE FROM messages WHERE id IN (
  SELECT id FROM messages WHERE session_id = :session_id ORDER BY seq DESC LIMIT :limit
);

-- name: newest_turn_ids
-- The turns of a session that came last.
SELECT id FROM turns WHERE session_id = :session_id ORDER BY position DESC LIMIT :limit;

-- name: release_carried_turns
-- Turns that were answered by turns which are to be deleted name them no more.
UPDATE turns SET carrier_id = NULL WHERE carrier_id IN (SELECT value FROM json_each(:ids));

-- name: release_entries_of_turns
-- Entries of other sessions that belong to turns which are to be deleted name them no more.
UPDATE messages SET turn_id = NULL WHERE turn_id IN (SELECT value FROM json_each(:ids));

-- name: delete_turns
-- Turns of a session that is deleted.
DELETE FROM turns WHERE id IN (SELECT value FROM json_each(:ids));

-- name: delete_newest_compactions
-- Summaries of a session that is deleted, the newest first: they rest on older ones.
DELETE FROM compactions WHERE rowid IN (
  SELECT rowid FROM compactions WHERE session_id = :session_id ORDER BY rowid DESC LIMIT :limit
);

-- name: delete_session
-- The row of a session of which nothing else is left.
DELETE FROM sessions WHERE id = :id;

-- name: sessions_to_retire
-- Sessions that ended before an instant and in which no turn runs or waits, after one of them.
SELECT id, key, agent FROM sessions
WHERE ended_at < :before AND id > :after AND key NOT LIKE 'importing:%' AND NOT EXISTS (
  SELECT 1 FROM turns INDEXED BY turns_unended
  WHERE turns.state IN ('accepted', 'queued', 'running') AND turns.session_id = sessions.id
) ORDER BY id LIMIT :limit;

-- name: prune_session_events
-- The oldest events of sessions give way.
DELETE FROM session_events WHERE id <= (SELECT max(id) FROM session_events) - :kept
AND id IN (SELECT id FROM session_events ORDER BY id LIMIT :limit);


-- Recall entries: what is known of passages ---------------------------------------------------------------------

-- name: find_recall_entry
-- A passage of an agent by its key.
SELECT * FROM recall_entries WHERE agent = :agent AND key = :key;

-- name: recall_entries_after
-- A page of an agent's passages in the order of their arrival.
SELECT * FROM recall_entries WHERE agent = :agent AND id > :after ORDER BY id LIMIT :limit;

-- name: put_recall_entry
-- Keep a passage; one that is there keeps its place in the order.
INSERT INTO recall_entries (agent, key, path, start_line, end_line, snippet, recall_count, daily_count, grounded_count,
  total_score, max_score, first_recalled_at, last_recalled_at, queries, user_queries, days, tags, claim_hash,
  promoted_at, provenance, light_hits, light_at, rem_hits, rem_at)
VALUES (:agent, :key, :path, :start_line, :end_line, :snippet, :recall_count, :daily_count, :grounded_count,
  :total_score, :max_score, :first_recalled_at, :last_recalled_at, :queries, :user_queries, :days, :tags, :claim_hash,
  :promoted_at, :provenance, :light_hits, :light_at, :rem_hits, :rem_at)
ON CONFLICT (agent, key) DO UPDATE SET path = excluded.path, start_line = excluded.start_line,
  end_line = excluded.end_line, snippet = excluded.snippet, recall_count = excluded.recall_count,
  daily_count = excluded.daily_count, grounded_count = excluded.grounded_count, total_score = excluded.total_score,
  max_score = excluded.max_score, first_recalled_at = excluded.first_recalled_at,
  last_recalled_at = excluded.last_recalled_at, queries = excluded.queries, user_queries = excluded.user_queries,
  days = excluded.days, tags = excluded.tags, claim_hash = excluded.claim_hash, promoted_at = excluded.promoted_at,
  provenance = excluded.provenance, light_hits = excluded.light_hits, light_at = excluded.light_at,
  rem_hits = excluded.rem_hits, rem_at = excluded.rem_at;

-- name: prune_recall_entries
-- The lowest passages of an agent give way: those recalled longest ago, of these those with the fewest signals.
DELETE FROM recall_entries WHERE id IN (
  SELECT id FROM recall_entries INDEXED BY recall_entries_by_retention WHERE agent = :agent
  ORDER BY last_recalled_at, signals, total_score, max_score, coalesce(promoted_at, 0), key DESC
  LIMIT max(0, coalesce((SELECT entries FROM recall_totals WHERE agent = :agent), 0) - :entries_max)
);

-- name: recall_entries_changed
-- When an agent's passages changed last.
INSERT INTO recall_totals (agent, updated_at) VALUES (:agent, :at)
ON CONFLICT (agent) DO UPDATE SET updated_at = max(updated_at, excluded.updated_at);

-- name: recall_phases_changed
-- When the reinforcements of an agent's passages changed last.
INSERT INTO recall_totals (agent, phases_updated_at) VALUES (:agent, :at)
ON CONFLICT (agent) DO UPDATE SET phases_updated_at = max(phases_updated_at, excluded.phases_updated_at);

-- name: recall_totals_of
-- How many passages an agent has, and when they changed last.
SELECT entries, updated_at, phases_updated_at FROM recall_totals WHERE agent = :agent;


-- Origins of notes ----------------------------------------------------------------------------------------------

-- name: origins_of
-- Whose words some pieces of notes are; a JSON list of digests in hexadecimal names them.
SELECT digest, provenance FROM note_origins
WHERE agent = :agent AND digest IN (SELECT unhex(value) FROM json_each(:digests));

-- name: count_note_origins
-- How many pieces of notes an agent's programs wrote, as far as they are known.
SELECT coalesce((SELECT pieces FROM note_origin_totals WHERE agent = :agent), 0);

-- name: put_note_origins
-- Pieces of a note that a program wrote. Of two who wrote the same, the less trusted counts.
INSERT INTO note_origins (agent, digest, provenance, session_id, at)
SELECT :agent, unhex(value), :provenance, :session_id, :at FROM json_each(:digests) WHERE true
ON CONFLICT (agent, digest) DO UPDATE SET provenance = excluded.provenance, session_id = excluded.session_id
WHERE instr('owner agent system untrusted', excluded.provenance) > instr('owner agent system untrusted', provenance);


-- Changes of MEMORY.md ------------------------------------------------------------------------------------------

-- name: plan_memory_change
-- A change that is about to be made, with what stands there before it.
INSERT INTO memory_changes (id, agent, path, kind, state, before, before_digest, after_digest, details, planned_at)
VALUES (:id, :agent, :path, :kind, 'planned', :before, :before_digest, :after_digest, :details, :at);

-- name: end_memory_change
-- A planned change was made, or was not: then there is nothing to take back.
UPDATE memory_changes SET state = :state, ended_at = :at, before = CASE :state WHEN 'abandoned' THEN NULL ELSE before END
WHERE id = :id AND state = 'planned';

-- name: planned_memory_changes
-- Changes of an agent of which it is not known whether they were made: of writers that were killed.
SELECT id, kind, before_digest, after_digest, details FROM memory_changes INDEXED BY memory_changes_planned
WHERE agent = :agent AND state = 'planned' ORDER BY rowid LIMIT :limit;

-- name: undo_memory_change
-- A change that was made is taken back.
UPDATE memory_changes SET state = 'undone' WHERE id = :id AND state = 'applied';

-- name: find_memory_change
-- A change by its id, with what stood there before it.
SELECT * FROM memory_changes WHERE agent = :agent AND id = :id;

-- name: newest_memory_change
-- The last promotion of an agent that was made and not taken back.
SELECT id FROM memory_changes WHERE agent = :agent AND state = 'applied' AND kind IN ('promotion', 'consolidation')
ORDER BY rowid DESC LIMIT 1;

-- name: list_memory_changes
-- An agent's changes, the newest first.
SELECT id, agent, path, kind, state, planned_at, ended_at, details, length(before) AS before_bytes FROM memory_changes
WHERE agent = :agent ORDER BY rowid DESC LIMIT :limit;

-- name: prune_memory_changes
-- The oldest changes that have ended give way, beyond a count and beyond the bytes that they keep.
DELETE FROM memory_changes WHERE id IN (
  SELECT id FROM (
    SELECT id, state, row_number() OVER newest AS place, sum(coalesce(length(before), 0)) OVER newest AS bytes
    FROM memory_changes WHERE agent = :agent WINDOW newest AS (ORDER BY rowid DESC)
  ) WHERE state <> 'planned' AND place > 1 AND (place > :kept OR bytes > :bytes_max)
);

-- name: forget_memory_before
-- What stood in the file before a change is kept no longer.
UPDATE memory_changes SET before = NULL, details = :details WHERE agent = :agent AND id = :id;


-- Passes over notes and transcripts -----------------------------------------------------------------------------

-- name: recall_window_end
-- The last of an agent's next passages in the order of their arrival.
SELECT max(id) FROM (SELECT id FROM recall_entries WHERE agent = :agent AND id > :after ORDER BY id LIMIT :rows);

-- name: recent_recall_entries
-- Of a stretch of an agent's passages, those recalled since an instant.
SELECT * FROM recall_entries WHERE agent = :agent AND id > :after AND id <= :until AND last_recalled_at >= :since
ORDER BY id;

-- name: grounded_recall_entries
-- Of a stretch of an agent's passages, those that evidence from elsewhere supports.
SELECT * FROM recall_entries WHERE agent = :agent AND id > :after AND id <= :until AND grounded_count > 0
ORDER BY id;

-- name: recall_entries_of_path
-- The passages of one file, as their keys begin.
SELECT * FROM recall_entries WHERE agent = :agent AND key >= :first AND key < :beyond ORDER BY key LIMIT :limit;

-- name: delete_recall_entry
-- A passage is known no more.
DELETE FROM recall_entries WHERE agent = :agent AND key = :key;

-- name: reinforce_light
-- Light sleep staged a passage.
UPDATE recall_entries SET light_hits = min(light_hits + 1, :hits_max), light_at = :at
WHERE agent = :agent AND key = :key;

-- name: reinforce_rem
-- REM sleep took a passage for a lasting truth.
UPDATE recall_entries SET rem_hits = min(rem_hits + 1, :hits_max), rem_at = :at
WHERE agent = :agent AND key = :key;

-- name: ingested_note
-- A daily note as a pass has read it last.
SELECT mtime_ns, size_bytes, next_line FROM ingested_notes WHERE agent = :agent AND path = :path;

-- name: put_ingested_note
-- A pass has read a daily note, up to a line.
INSERT INTO ingested_notes (agent, path, mtime_ns, size_bytes, next_line, at)
VALUES (:agent, :path, :mtime_ns, :size_bytes, :next_line, :at)
ON CONFLICT (agent, path) DO UPDATE SET mtime_ns = excluded.mtime_ns, size_bytes = excluded.size_bytes,
  next_line = excluded.next_line, at = excluded.at;

-- name: ingested_position
-- How far the passes over conversations have come, and from which instant on they look at what was said.
SELECT position, since, CASE WHEN pass = :pass THEN looked ELSE 0 END AS looked
FROM ingested_transcripts WHERE agent = :agent;

-- name: put_ingested_position
-- The passes over conversations have come so far; where they began stays.
INSERT INTO ingested_transcripts (agent, position, since, at, pass, looked)
VALUES (:agent, :position, :since, :at, :pass, :looked)
ON CONFLICT (agent) DO UPDATE SET position = max(position, excluded.position), at = excluded.at, pass = excluded.pass,
  looked = excluded.looked;

-- name: log_window_end
-- The last of the next messages of the log of all sessions.
SELECT max(id) FROM (SELECT id FROM messages WHERE id > :position ORDER BY id LIMIT :rows);

-- name: messages_to_notice
-- What persons and the agent said in a stretch of the log, of one agent's sessions: the beginning of each message.
-- An import is looked at as far as it is recent, and everything else from where the passes began.
SELECT said.id AS position, said.session_id, said.seq, said.role, substr(said.text, 1, :characters) AS text,
       said.created_at, said.whose AS provenance, sessions.key, coalesce(turns.source, '') AS source
FROM said JOIN sessions ON sessions.id = said.session_id LEFT JOIN turns ON turns.id = said.turn_id
WHERE said.id > :position AND said.id <= :until AND said.agent = :agent
AND said.role IN ('user', 'assistant') AND said.remember = 1 AND said.kind = 'message'
AND said.created_at >= CASE said.origin WHEN 'import' THEN :recent ELSE :since END
ORDER BY said.id LIMIT :limit;

-- name: dream_steps_of
-- What of a run is done for an agent.
SELECT step, done_at, report FROM dream_steps WHERE run_id = :run_id AND agent = :agent;

-- name: claim_dream_step
-- A step of a run is done, unless it was done before.
INSERT INTO dream_steps (run_id, agent, step, done_at, report) VALUES (:run_id, :agent, :step, :done_at, :report)
ON CONFLICT (run_id, agent, step) DO NOTHING;

-- name: put_dream_step
-- A step of a run is done.
INSERT INTO dream_steps (run_id, agent, step, done_at, report) VALUES (:run_id, :agent, :step, :done_at, :report)
ON CONFLICT (run_id, agent, step) DO UPDATE SET done_at = excluded.done_at, report = excluded.report;

-- name: dream_spend_of
-- What was spent on a model on a day.
SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(tokens), 0) AS tokens FROM dream_spend WHERE day = :day;

-- name: add_dream_spend
-- A call is made, or has cost another number of tokens than was thought.
INSERT INTO dream_spend (day, kind, calls, tokens) VALUES (:day, :kind, :calls, max(0, :tokens))
ON CONFLICT (day, kind) DO UPDATE SET calls = calls + :calls, tokens = max(0, tokens + :tokens);

-- name: prune_dream_spend
-- Days long past are not kept.
DELETE FROM dream_spend WHERE day < :day;


-- Schedules and runs --------------------------------------------------------------------------------------------

-- name: schedules
-- The schedules, managed ones first; bounded.
SELECT id, managed_by, name, cron, time_zone, enabled, created_at, fired_for FROM schedules
ORDER BY managed_by DESC, created_at, id LIMIT :limit;

-- name: managed_schedule
-- The schedule of a manager: the oldest, if there are several.
SELECT id, managed_by, name, cron, time_zone, enabled, created_at, fired_for FROM schedules
WHERE managed_by = :managed_by ORDER BY created_at, id LIMIT 1;

-- name: add_schedule
-- A manager's schedule, unless another process has made it meanwhile. What was due before it is not.
INSERT INTO schedules (id, managed_by, name, cron, time_zone, enabled, created_at, fired_for)
SELECT :id, :managed_by, :title, :cron, :time_zone, 1, :now, :now
WHERE NOT EXISTS (SELECT 1 FROM schedules WHERE managed_by = :managed_by);

-- name: update_schedule
-- A schedule as it is wanted. Where that changes when it is due, only what is due from now on counts.
UPDATE schedules SET
  fired_for = CASE WHEN cron = :cron AND time_zone = :time_zone AND enabled THEN fired_for
                   ELSE max(fired_for, :now) END,
  name = :title, cron = :cron, time_zone = :time_zone, enabled = 1
WHERE id = :id;

-- name: remove_schedule
-- A schedule that is not wanted any more.
DELETE FROM schedules WHERE id = :id;

-- name: take_firing
-- A due instant is taken, by whoever has seen the one before it last. Also sets it back with a clock.
UPDATE schedules SET fired_for = :fired_for WHERE id = :id AND fired_for = :seen AND enabled;

-- name: insert_dream_run
-- A run begins.
INSERT INTO dream_runs (id, cause, due_at, state, holder, lease_until, started_at)
VALUES (:id, :cause, :due_at, 'running', :holder, :lease_until, :now);

-- name: find_dream_run
-- A run by its id.
SELECT * FROM dream_runs WHERE id = :id;

-- name: live_dream_run
-- The run that somebody works on. A lease that reaches too far was given by a clock that was ahead.
SELECT * FROM dream_runs WHERE state = 'running' AND lease_until > :now AND lease_until <= :now + :lease_ms LIMIT 1;

-- name: stopped_dream_run
-- The oldest run that nobody works on, and that has not ended.
SELECT * FROM dream_runs
WHERE state = 'interrupted'
   OR (state = 'running' AND (lease_until <= :now OR lease_until > :now + :lease_ms))
ORDER BY started_at, id LIMIT 1;

-- name: resume_dream_run
-- Somebody goes on with a run, by compare-and-set.
UPDATE dream_runs SET state = 'running', holder = :holder, lease_until = :lease_until,
                      interruptions = interruptions + 1
WHERE id = :id AND state = :state AND lease_until = :seen;

-- name: renew_dream_run
-- Its holder still works on it.
UPDATE dream_runs SET lease_until = :lease_until WHERE id = :id AND holder = :holder AND state = 'running';

-- name: interrupt_dream_run
-- Its holder stops before its end; anybody may go on at once.
UPDATE dream_runs SET state = 'interrupted' WHERE id = :id AND holder = :holder AND state = 'running';

-- name: end_dream_run
-- A run is over.
UPDATE dream_runs SET state = :state, ended_at = :now, report = :report, error = :error
WHERE id = :id AND holder = :holder AND state = 'running';

-- name: abandon_dream_run
-- A run that nobody goes on with.
UPDATE dream_runs SET state = 'failed', ended_at = :now, error = :error
WHERE id = :id AND state = :state AND lease_until = :seen;

-- name: prune_dream_runs
-- The oldest runs give way, unless they have not ended.
DELETE FROM dream_runs
WHERE id IN (SELECT id FROM dream_runs ORDER BY started_at DESC, id DESC LIMIT -1 OFFSET :kept)
  AND state IN ('done', 'failed');

-- name: newest_dream_runs
-- The runs, those that began last first.
SELECT * FROM dream_runs ORDER BY started_at DESC, id DESC LIMIT :limit;


-- Audit and repair of recall entries ----------------------------------------------------------------------------

-- name: unchecked_recall_entries
-- A page of an agent's passages that were written since a repair looked at them.
SELECT * FROM recall_entries INDEXED BY recall_entries_unchecked
WHERE checked = 0 AND agent = :agent AND id > :after ORDER BY id LIMIT :limit;

-- name: recall_entries_by_ids
-- Passages by their rows.
SELECT * FROM recall_entries WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id;

-- name: check_recall_entries
-- These passages are right as they are.
UPDATE recall_entries SET checked = 1 WHERE id IN (SELECT value FROM json_each(:ids));

-- name: uncheck_recall_entries
-- Some of an agent's passages are to be looked at again.
UPDATE recall_entries SET checked = 0 WHERE id IN (
  SELECT id FROM recall_entries WHERE agent = :agent AND checked <> 0 LIMIT :limit
);

-- name: recall_rules_of
-- By which rules an agent's passages were looked at last.
SELECT rules FROM recall_totals WHERE agent = :agent;

-- name: set_recall_rules
-- By which rules an agent's passages are looked at.
INSERT INTO recall_totals (agent, rules) VALUES (:agent, :rules) ON CONFLICT (agent) DO UPDATE SET rules = excluded.rules;

-- name: unmarked_recall_entries
-- Which of some passages are not marked as promoted.
SELECT key FROM recall_entries
WHERE agent = :agent AND key IN (SELECT value FROM json_each(:keys)) AND promoted_at IS NULL ORDER BY id;


-- Forgetting ----------------------------------------------------------------------------------------------------

-- name: note_forgotten
-- Names of what was forgotten, from a JSON list; one that is there keeps its time.
INSERT INTO forgotten (agent, kind, name, at) SELECT :agent, :kind, value, :now FROM json_each(:names) WHERE true
ON CONFLICT DO NOTHING;

-- name: unfinished_forgetting
-- Conversations of an agent that were to be forgotten whole and are still there.
SELECT sessions.id FROM forgotten JOIN sessions ON sessions.id = forgotten.name AND sessions.agent = forgotten.agent
WHERE forgotten.agent = :agent AND forgotten.kind = 'session' ORDER BY sessions.id LIMIT :limit;

-- name: which_forgotten
-- Those of some names that were forgotten.
SELECT name FROM forgotten WHERE agent = :agent AND kind = :kind AND name IN (SELECT value FROM json_each(:names));

-- name: anything_forgotten
-- Whether an agent had anything of a kind forgotten.
SELECT EXISTS (SELECT 1 FROM forgotten WHERE agent = :agent AND kind = :kind);

-- name: forgotten_names
-- What an agent had forgotten of a kind, in the order of names, between two of them, both excluded.
SELECT name FROM forgotten WHERE agent = :agent AND kind = :kind AND name > :after AND name < :high
ORDER BY name LIMIT :limit;

-- name: entry_heads
-- Who wrote the entries of a transcript and when, after a number, without their words: messages that were not
-- forgotten, and marks that quote one.
SELECT seq, kind, role, speaker, created_at AS created_at_ms, turn_id,
       CASE WHEN kind = 'turn_ended'
            THEN coalesce((SELECT request ->> '$.messages[#-1].name' FROM turns WHERE turns.id = turn_id), '')
            WHEN role = 'user' THEN coalesce(extra ->> '$.name', '') ELSE '' END AS name
FROM messages
WHERE session_id = :session_id AND seq > :after AND extra <> '{"forgotten":true}'
  AND (kind = 'message' OR (kind = 'turn_ended' AND extra ->> '$.said' IS NOT NULL))
ORDER BY seq LIMIT :limit;

-- name: output_of_turns
-- What the model wrote in some turns of a session, or in the turns that carried them.
SELECT seq, turn_id FROM messages
WHERE turn_id IN (SELECT value FROM json_each(:turns)
                  UNION SELECT carrier_id FROM turns WHERE id IN (SELECT value FROM json_each(:turns)))
  AND session_id = :session_id AND role <> 'user' AND kind = 'message' AND extra <> '{"forgotten":true}';

-- name: unended_turn_of_session
-- A turn of a session that has not ended.
SELECT id FROM turns INDEXED BY turns_unended
WHERE state IN ('accepted', 'queued', 'running') AND session_id = :session_id LIMIT 1;

-- name: fingerprints_of
-- The fingerprints and turns of some entries of a session.
SELECT seq, kind, fingerprint, turn_id FROM messages
WHERE session_id = :session_id AND seq IN (SELECT value FROM json_each(:seqs)) ORDER BY seq;

-- name: overwrite_messages
-- Zeros in the place of some messages' words, of the same length: shortening a row moves its neighbours about, and
-- what was moved stays behind in the page.
UPDATE messages SET text = substr(hex(zeroblob(octet_length(text) / 2 + 1)), 1, octet_length(text)),
                    extra = '{' || substr(hex(zeroblob(octet_length(extra) / 2 + 1)), 1, octet_length(extra) - 2) || '}'
WHERE session_id = :session_id AND kind = 'message' AND seq IN (SELECT value FROM json_each(:seqs));

-- name: blank_messages
-- Messages lose what they said, who said it and when; their places, and by what they are known again, stay.
UPDATE messages SET text = '', extra = '{"forgotten":true}', speaker = '', said_on = '', remember = 0
WHERE session_id = :session_id AND kind = 'message' AND seq IN (SELECT value FROM json_each(:seqs));

-- name: blank_marks
-- Marks of turns that ended without an answer quote their messages no more.
UPDATE messages SET extra = json_remove(extra, '$.said')
WHERE session_id = :session_id AND kind = 'turn_ended' AND seq IN (SELECT value FROM json_each(:seqs));

-- name: blank_turns
-- Turns that have ended keep neither what was asked nor what was answered.
UPDATE turns SET request = '{}', reply = NULL, drop_line = NULL
WHERE id IN (SELECT value FROM json_each(:turns)) AND state NOT IN ('accepted', 'queued', 'running');

-- name: delete_plugin_events_of_turns
-- What plugins noted of some turns may quote them.
DELETE FROM session_events WHERE session_key = :key AND turn_id IN (SELECT value FROM json_each(:turns))
AND kind NOT LIKE 'turn.%' AND kind NOT LIKE 'session.%' AND kind NOT LIKE 'compaction.%';

-- name: delete_session_events_between
-- What happened under a key in a time, at most so many events.
DELETE FROM session_events WHERE id IN (
  SELECT id FROM session_events WHERE session_key = :key AND at BETWEEN :since AND :until LIMIT :limit
);

-- name: compactions_that_quote
-- The summaries of a session that may hold something said from a number on: each is made on the one before it.
SELECT id, state, first_seq, last_seq, flushed_to, summary <> '' AS says FROM compactions
WHERE session_id = :session_id AND last_seq >= :first_seq AND (summary <> '' OR flushed_to IS NOT NULL)
ORDER BY last_seq, rowid LIMIT :limit;

-- name: blank_compactions
-- Summaries of a session that may hold something said from a number on are of no use any more.
UPDATE compactions SET state = 'stale', summary = '', focus = '', audit = '{}', error = NULL
WHERE session_id = :session_id AND last_seq >= :first_seq AND (state <> 'stale' OR summary <> '' OR focus <> '');

-- name: unhinge_summary
-- A session whose summary may hold something said from a number on goes on with the one before, or with none.
UPDATE sessions SET (compaction_id, history_start) = (
  SELECT max(kept.id), coalesce(max(kept.last_seq), 0) + 1 FROM (
    SELECT id, last_seq FROM compactions WHERE session_id = :id AND state = 'adopted' AND last_seq < :first_seq
    ORDER BY last_seq DESC LIMIT 1) kept)
WHERE id = :id AND compaction_id IN (SELECT id FROM compactions WHERE session_id = :id AND last_seq >= :first_seq);

-- name: forget_in_session
-- A session is not what its last prompt was made of.
UPDATE sessions SET epoch = epoch + 1, epoch_reason = :reason, prompt_tokens = NULL, prompt_tokens_fresh = 0,
       updated_at = :now WHERE id = :id;

-- name: blank_continuity
-- The sessions that followed one are told nothing of it any more.
UPDATE messages SET extra = json_set(extra, '$.summary', '')
WHERE kind = 'continuity' AND seq = 1 AND extra ->> '$.summary' <> '' AND session_id IN (
  SELECT id FROM sessions WHERE key = :key AND started_at >= :since AND id <> :id AND parent_id IS NOT NULL
);

-- name: any_forgotten
-- Whether a stretch of a transcript holds a message that was forgotten.
SELECT EXISTS (SELECT 1 FROM messages
               WHERE session_id = :session_id AND seq BETWEEN :first AND :last AND extra = '{"forgotten":true}');

-- name: first_forgotten
-- The first message of a session that was forgotten.
SELECT min(seq) FROM messages WHERE session_id = :session_id AND extra = '{"forgotten":true}';

-- name: sessions_of_agent
-- An agent's sessions in the order of their ids, after one of them; none that is being imported.
SELECT id, key, agent, origin, started_at, updated_at, ended_at, message_count FROM sessions
WHERE id > :after AND agent = :agent AND key NOT LIKE 'importing:%' ORDER BY id LIMIT :limit;

-- name: sessions_of_keys
-- An agent's sessions in a range of keys, the lower end included, in the order of key and beginning, from a place on.
SELECT id, key, agent, origin, started_at, updated_at, ended_at, message_count FROM sessions
WHERE key >= :low AND key < :high AND (key, started_at, id) > (:key, :started_at, :id) AND agent = :agent
ORDER BY key, started_at, id LIMIT :limit;

-- name: release_origins
-- What programs wrote into notes out of a session is theirs still, and names the session no more.
UPDATE note_origins SET session_id = NULL WHERE session_id = :session_id AND agent = :agent;

-- name: origins_of_session
-- The digests of what programs wrote into notes out of a session, and when, after one of them.
SELECT digest, at FROM note_origins WHERE session_id = :session_id AND agent = :agent AND digest > :after
ORDER BY digest LIMIT :limit;

-- name: times_of_turns
-- From when to when some turns ran.
SELECT coalesce(started_at, accepted_at), coalesce(finished_at, started_at, accepted_at) FROM turns
WHERE id IN (SELECT value FROM json_each(:turns));

-- name: entry_places_after
-- A page of an agent's recall entries: where they stand, and their texts.
SELECT id, path, start_line, end_line, snippet FROM recall_entries
WHERE agent = :agent AND id > :after ORDER BY id LIMIT :limit;

-- name: delete_recall_entries
-- Some recall entries go.
DELETE FROM recall_entries WHERE id IN (SELECT value FROM json_each(:ids));

-- name: recall_event_bounds
-- The numbers of the first and the last recorded search.
SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM recall_events;

-- name: searches_within
-- Recorded searches of an agent in a range that were made in some sessions, or in some turns.
SELECT id FROM recall_events WHERE id > :after AND id <= :upto AND agent = :agent
AND (session_id IN (SELECT value FROM json_each(:sessions)) OR turn_id IN (SELECT value FROM json_each(:turns)));

-- name: forget_untold_entry
-- What a night had to tell and has not told goes; it is told anew, of what is left.
DELETE FROM dream_steps WHERE agent = :agent AND step = 'entry' AND report <> '{}';

-- name: forget_themes
-- What came back in a night, in words of it, goes.
UPDATE dream_steps SET report = json_remove(report, '$.themes')
WHERE agent = :agent AND step = 'rem' AND json_extract(report, '$.themes') IS NOT NULL;

-- name: forget_themes_of_runs
-- The same in the records of whole runs.
UPDATE dream_runs SET report = json_remove(report, '$.by_agent."' || :agent || '".rem.themes')
WHERE json_extract(report, '$.by_agent."' || :agent || '".rem.themes') IS NOT NULL;

-- name: delete_recall_events
-- Some recorded searches go, and what they surfaced with them.
DELETE FROM recall_events WHERE id IN (SELECT value FROM json_each(:ids));

-- name: hits_within
-- What an agent's searches in a range surfaced of some paths.
SELECT h.event_id, h.rank, h.path, h.start_line, h.end_line, h.snippet
FROM recall_events e JOIN recall_hits h ON h.event_id = e.id
WHERE e.id > :after AND e.id <= :upto AND e.agent = :agent AND h.path IN (SELECT value FROM json_each(:paths));

-- name: delete_recall_hits
-- Some hits go, given as a list of [event, rank].
DELETE FROM recall_hits WHERE (event_id, rank) IN (SELECT value ->> 0, value ->> 1 FROM json_each(:ids));

-- name: quoting_messages
-- Results of tools and answers that quote memory, in a range of an agent's messages, that name one of some paths.
SELECT m.session_id, m.seq, m.text FROM messages m JOIN sessions s ON s.id = m.session_id
WHERE m.id > :after AND m.id <= :upto AND m.kind = 'message' AND (m.role = 'tool' OR m.remember = 0)
  AND m.text <> :replaced AND s.agent = :agent
  AND EXISTS (SELECT 1 FROM json_each(:paths) p WHERE instr(m.text, p.value) > 0) ORDER BY m.id;

-- name: replace_quotes
-- Another text in the place of some messages' own.
UPDATE messages SET text = :text
WHERE session_id = :session_id AND kind = 'message' AND seq IN (SELECT value FROM json_each(:seqs));

-- name: memory_changes_after
-- A page of the recorded changes of an agent's MEMORY.md with what stood there before; none that is under way.
SELECT id, before, details FROM memory_changes
WHERE agent = :agent AND id > :after AND state <> 'planned' ORDER BY id LIMIT :limit;

-- name: delete_memory_change
-- A recorded change goes: it cannot be undone any more.
DELETE FROM memory_changes WHERE id = :id AND state <> 'planned';

-- Native threads ------------------------------------------------------------------------------------------------

-- name: find_binding
-- The thread that a session is bound to, with who is at work on it.
SELECT * FROM thread_bindings WHERE session_id = :session_id;

-- name: insert_vacancy
-- A session that has no thread yet, held by who is about to bind one.
INSERT INTO thread_bindings (session_id, state, fence, holder, leased_at, updated_at)
VALUES (:session_id, 'cleared', 1, :holder, :now, :now);

-- name: take_binding
-- A binding has another holder from now on; what the one before still does changes nothing.
UPDATE thread_bindings SET holder = :holder, leased_at = :now, fence = fence + 1 WHERE session_id = :session_id;

-- name: renew_binding
-- Its holder is still at work on it.
UPDATE thread_bindings SET leased_at = :now
WHERE session_id = :session_id AND fence = :fence AND holder = :holder;

-- name: release_binding
-- Its holder is done with it.
UPDATE thread_bindings SET holder = NULL, leased_at = NULL
WHERE session_id = :session_id AND fence = :fence AND holder = :holder;

-- name: drop_vacancy
-- No thread came to be where one was about to be bound.
DELETE FROM thread_bindings
WHERE session_id = :session_id AND state = 'cleared' AND cleared_for IS NULL AND holder IS NULL;

-- name: release_all_bindings
-- Whoever held them is gone: the home has another process now.
UPDATE thread_bindings SET holder = NULL, leased_at = NULL WHERE holder IS NOT NULL;

-- name: bind_thread
-- A thread in place of the one that its holder found, or where none was.
UPDATE thread_bindings SET thread_id = :thread_id, state = 'pending', record = :record, rotate = 0, cleared_for = NULL,
                           updated_at = :now
WHERE session_id = :session_id AND fence = :fence AND holder = :holder AND thread_id IS :before;

-- name: patch_binding
-- What its holder knows of the thread now. Whether a person wants another one is not its to say.
UPDATE thread_bindings SET state = :state, record = :record, updated_at = :now
WHERE session_id = :session_id AND fence = :fence AND holder = :holder AND thread_id = :thread_id;

-- name: cover_binding
-- How far the thread has seen the transcript, and how full it is where that was told.
UPDATE thread_bindings SET updated_at = :now, record =
  CASE WHEN :tokens IS NULL THEN json_set(record, '$.historyCoveredThrough', :through, '$.updatedAtMs', :now)
  ELSE json_set(record, '$.historyCoveredThrough', :through, '$.updatedAtMs', :now, '$.tokenUsage', json(:tokens)) END
WHERE session_id = :session_id AND fence = :fence AND holder = :holder AND thread_id = :thread_id;

-- name: note_thread_tokens
-- How full a thread is, as its runtime tells while a turn runs.
UPDATE thread_bindings SET record = json_set(record, '$.tokenUsage', json(:tokens))
WHERE session_id = :session_id AND fence = :fence AND holder = :holder AND thread_id = :thread_id;

-- name: clear_binding
-- The session has no thread any more, if it is this one; a thread that is watched stays.
UPDATE thread_bindings SET thread_id = NULL, state = 'cleared', record = '{}', rotate = 0, cleared_for = :reason,
                           updated_at = :now
WHERE session_id = :session_id AND thread_id = :thread_id AND record ->> 'connectionScope' IS NOT 'supervision';

-- name: clear_bindings_of_agent
-- None of an agent's sessions has a thread any more.
UPDATE thread_bindings SET thread_id = NULL, state = 'cleared', record = '{}', rotate = 0, cleared_for = :reason,
                           updated_at = :now
WHERE state <> 'cleared' AND session_id IN (SELECT id FROM sessions WHERE agent = :agent);

-- name: ask_for_rotation
-- The next turn begins another thread; a thread that is watched stays.
UPDATE thread_bindings SET rotate = 1, updated_at = :now
WHERE session_id = :session_id AND thread_id IS NOT NULL AND record ->> 'connectionScope' IS NOT 'supervision';

-- name: move_binding
-- The thread goes on in the session that follows; what a turn that still runs in it does changes nothing any more.
INSERT INTO thread_bindings (session_id, thread_id, state, record, rotate, fence, holder, leased_at, updated_at)
SELECT :new, thread_id, state,
       json_set(record, '$.sessionId', :new, '$.historyCoveredThrough', :through, '$.updatedAtMs', :now),
       rotate, fence + 1, NULL, NULL, :now
FROM thread_bindings WHERE session_id = :old;

-- name: leave_binding
-- A session has ended: it has no thread, and will not have one.
DELETE FROM thread_bindings WHERE session_id = :session_id;

-- name: count_bindings
-- How many sessions have a row among the bindings.
SELECT coalesce((SELECT total FROM tally WHERE name = 'thread_bindings'), 0);

-- name: prune_cleared_bindings
-- The rows of sessions without a thread give way, the oldest first.
DELETE FROM thread_bindings WHERE session_id IN (
  SELECT session_id FROM thread_bindings INDEXED BY thread_bindings_cleared
  WHERE state = 'cleared' AND holder IS NULL ORDER BY updated_at LIMIT :limit
);

-- name: prune_bindings
-- The bindings that were used longest ago give way.
DELETE FROM thread_bindings WHERE session_id IN (
  SELECT session_id FROM thread_bindings INDEXED BY thread_bindings_by_use
  WHERE holder IS NULL ORDER BY updated_at, session_id LIMIT :limit
);

-- name: bindings_page
-- Sessions with a thread or a decision about one, those used last first, from a place in that order on.
SELECT thread_bindings.*, sessions.key, sessions.agent,
       (SELECT max(id) FROM thread_events WHERE session_key = sessions.key) AS event_id
FROM thread_bindings INDEXED BY thread_bindings_by_use JOIN sessions ON sessions.id = thread_bindings.session_id
WHERE (thread_bindings.updated_at, thread_bindings.session_id) < (:at, :before)
ORDER BY thread_bindings.updated_at DESC, thread_bindings.session_id DESC LIMIT :limit;

-- name: add_thread_event
-- A decision about the thread of a session; nothing for a session that does not exist.
INSERT INTO thread_events (at, session_key, session_id, agent, turn_id, runtime, thread_id, action, project, reason,
                           warm, rotated, alarm, data)
SELECT :now, key, id, agent, :turn_id, :runtime, :thread_id, :action, :project, :reason, :warm, :rotated, :alarm, :data
FROM sessions WHERE id = :session_id RETURNING id, session_key;

-- name: newest_thread_events
-- The last decisions about the threads of a session key, newest first.
SELECT * FROM thread_events WHERE session_key = :key AND id < :before ORDER BY id DESC LIMIT :limit;

-- name: find_thread_event
-- A decision by its number.
SELECT * FROM thread_events WHERE id = :id;

-- name: newest_thread_alarms
-- Threads that were replaced again and again, those that were noticed last first.
SELECT id, at, session_key, alarm, reason FROM thread_events
WHERE alarm <> '' AND at >= :since ORDER BY id DESC LIMIT :limit;

-- name: count_thread_decisions
-- How often each decision was made for each reason.
SELECT substr(name, 9) AS decision, total FROM tally WHERE name >= 'threads.' AND name < 'threads/' ORDER BY name LIMIT 200;
