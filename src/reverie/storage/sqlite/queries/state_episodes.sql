-- Learning: where messages belong. Their order is that of the log; `said` says whose words they are. Words that quote
-- memory only and words that were forgotten are never read here: such a message counts and says nothing.

-- name: learning_position
-- How far the log of all messages was read; NULL before the first start.
SELECT position FROM learning_cursors WHERE session_id = :session_id;

-- name: set_learning_position
-- Remember how far was read.
INSERT INTO learning_cursors (session_id, position, at) VALUES (:session_id, :position, :now)
ON CONFLICT (session_id) DO UPDATE SET position = excluded.position, at = excluded.at;

-- name: drop_learning_position
-- Forget how far was read, so that reading begins anew at the end.
DELETE FROM learning_cursors WHERE session_id = :session_id;

-- name: log_stretch_end
-- The end of a bounded stretch of the log, whatever stands in it.
SELECT max(id) FROM (SELECT id FROM messages WHERE id > :position ORDER BY id LIMIT :limit);

-- name: followed_page
-- New messages of conversations that are led here, in the order of the log; none that came out of a file.
SELECT id, session_id, seq, turn_id, role, whose, created_at,
       CASE WHEN remember = 1 THEN text ELSE '' END AS text, extra
FROM said WHERE id > :position AND id <= :through AND kind = 'message' AND origin = 'live'
  AND seq > (SELECT restored_seq FROM sessions WHERE sessions.id = said.session_id) ORDER BY id LIMIT :limit;

-- name: brought_by_turn
-- What one request brought to a session: its newest question, the reply before that with which the history ends that it
-- came with, and how many questions stand in that.
WITH mine AS (SELECT seq, role FROM messages
              WHERE turn_id = :turn_id AND +session_id = :session_id AND kind = 'message'),
     newest AS (SELECT max(seq) AS seq FROM mine WHERE role = 'user'),
     history AS (SELECT max(mine.seq) AS seq FROM mine JOIN newest ON mine.seq < newest.seq WHERE mine.role = 'assistant')
SELECT coalesce(newest.seq, 0) AS newest_seq, coalesce(history.seq, 0) AS history_seq,
       (SELECT count(*) FROM mine WHERE role = 'user' AND seq < history.seq) AS questions
FROM newest, history;

-- name: spanned_messages
-- Messages of a session that belong to an episode, from a number on and before another, with that episode.
SELECT said.id, said.session_id, said.seq, said.turn_id, said.role, said.whose, said.created_at,
       CASE WHEN said.remember = 1 THEN said.text ELSE '' END AS text, said.extra, span.episode_id
FROM episode_spans span
JOIN said ON said.session_id = span.session_id AND said.seq BETWEEN max(span.first_seq, :from_seq) AND span.last_seq
WHERE span.session_id = :session_id
  AND span.first_seq >= coalesce((SELECT max(first_seq) FROM episode_spans
                                  WHERE session_id = :session_id AND first_seq <= :from_seq), :from_seq)
  AND said.kind = 'message' AND said.seq >= :from_seq AND said.seq < :before_seq
ORDER BY said.seq LIMIT :limit;

-- name: messages_of_episode
-- The messages of one episode, in order.
SELECT said.id, said.session_id, said.seq, said.turn_id, said.role, said.whose, said.created_at,
       CASE WHEN said.remember = 1 THEN said.text ELSE '' END AS text, said.extra
FROM episode_spans span
JOIN said ON said.session_id = span.session_id AND said.seq BETWEEN span.first_seq AND span.last_seq
WHERE span.episode_id = :episode_id AND said.kind = 'message' ORDER BY said.seq LIMIT :limit;

-- name: message_at
-- One message of a session.
SELECT id, session_id, seq, turn_id, role, whose, created_at,
       CASE WHEN remember = 1 THEN text ELSE '' END AS text, extra
FROM said WHERE session_id = :session_id AND seq = :seq AND kind = 'message';

-- name: last_round
-- The last message before a number that is no tool's result, and the results after it.
SELECT role, extra FROM messages
WHERE session_id = :session_id AND seq < :before_seq AND kind = 'message' AND seq >=
  (SELECT max(seq) FROM messages WHERE session_id = :session_id AND seq < :before_seq AND kind = 'message'
   AND role <> 'tool')
ORDER BY seq LIMIT :limit;

-- name: episode_opening
-- The words an episode began with.
SELECT substr(said.text, 1, :chars) FROM episode_spans span
JOIN said ON said.session_id = span.session_id AND said.seq BETWEEN span.first_seq AND span.last_seq
WHERE span.episode_id = :episode_id AND said.role = 'user' AND said.kind = 'message' AND said.remember = 1
ORDER BY said.seq LIMIT 1;

-- name: episode_newest
-- What was said last in an episode by somebody, before a number.
SELECT substr(said.text, 1, :chars) FROM episode_spans span
JOIN said ON said.session_id = span.session_id AND said.seq BETWEEN span.first_seq AND span.last_seq
WHERE span.episode_id = :episode_id AND said.role = :role AND said.seq < :before_seq AND said.kind = 'message'
  AND said.remember = 1 AND said.text <> ''
ORDER BY said.seq DESC LIMIT 1;

-- name: session_of_episodes
-- A session, as far as its episodes need it.
SELECT id, key, agent, ended_at FROM sessions WHERE id = :id;

-- name: latest_episode
-- The episode that holds the newest message of a session that any holds, before a number.
SELECT episodes.* FROM episode_spans span JOIN episodes ON episodes.id = span.episode_id
WHERE span.session_id = :session_id AND span.first_seq < :before_seq ORDER BY span.first_seq DESC LIMIT 1;

-- name: insert_task
-- A task begins.
INSERT INTO tasks (id, agent, session_id, session_key, state, started_at, provenance)
VALUES (:id, :agent, :session_id, :session_key, 'open', :now, :provenance);

-- name: reopen_task
-- A task goes on; its score stands until it is scored anew. One that was not worth a score never gets one.
UPDATE tasks SET state = 'open', ended_at = NULL, ended_for = NULL
WHERE id = :id AND state <> 'open' AND (state <> 'skipped' OR json_extract(reward, '$.reason') IS 'archived_by_person');

-- name: is_of_no_worth
-- Whether a task was not worth a score, which is for good, unlike a person's putting it aside.
SELECT state = 'skipped' AND json_extract(reward, '$.reason') IS NOT 'archived_by_person' FROM tasks WHERE id = :id;

-- name: end_task
-- A task has ended, once more.
UPDATE tasks SET state = 'ended', ended_at = :at, ended_for = :reason, endings = endings + 1
WHERE id = :id AND state = 'open';

-- name: set_task_provenance
-- Whose words a task is made of.
UPDATE tasks SET provenance = :provenance WHERE id = :id AND provenance <> :provenance;

-- name: who_asked_for_task
-- Whose the messages are that asked for anything of a task.
SELECT DISTINCT said.whose FROM episodes
JOIN episode_spans span ON span.episode_id = episodes.id
JOIN said ON said.session_id = span.session_id AND said.seq BETWEEN span.first_seq AND span.last_seq
WHERE episodes.task_id = :task_id AND said.role = 'user' AND said.kind = 'message';

-- name: drop_empty_tasks
-- Tasks of a session without any episode go.
DELETE FROM tasks WHERE session_id = :session_id AND state = 'open'
  AND NOT EXISTS (SELECT 1 FROM episodes WHERE episodes.task_id = tasks.id);

-- name: tasks_to_end
-- Tasks of a session nothing of which is open, or undecided.
SELECT tasks.*, (SELECT closed_for FROM episodes WHERE task_id = tasks.id ORDER BY closed_at DESC, last_at DESC LIMIT 1)
       AS last_closed_for
FROM tasks WHERE session_id = :session_id AND state = 'open' AND NOT EXISTS (
  SELECT 1 FROM episodes WHERE episodes.task_id = tasks.id AND (episodes.state = 'open' OR episodes.provisional = 1))
ORDER BY started_at LIMIT :limit;

-- name: insert_episode
-- An episode begins.
INSERT INTO episodes (id, task_id, continues_id, agent, session_id, session_key, state, opened_at, last_at, opened_for,
                      carry_over, intent, title)
VALUES (:id, :task_id, :continues_id, :agent, :session_id, :session_key, 'open', :at, :at, :opened_for, :carry_over,
        :intent, :title);

-- name: count_entry
-- An entry was put into an episode.
UPDATE episodes SET entries = entries + 1, exchanges = exchanges + :exchanges, steps = steps + :steps,
  tokens = tokens + :tokens, last_at = max(last_at, :at) WHERE id = :id;

-- name: recount_episode
-- What an episode holds, counted again.
UPDATE episodes SET entries = :entries, exchanges = :exchanges, steps = :steps, tokens = :tokens, last_at = :last_at
WHERE id = :id;

-- name: close_episode
-- An episode is closed. Until it is settled, nothing is made of its end.
UPDATE episodes SET state = 'closed', closed_at = :at, closed_for = :reason, provisional = 1
WHERE id = :id AND state = 'open';

-- name: reopen_episode
-- An episode goes on.
UPDATE episodes SET state = 'open', closed_at = NULL, closed_for = NULL, provisional = 0,
  reopened = max(reopened, :reopened)
WHERE id = :id;

-- name: settle_episode
-- It is decided that an episode ends where it ends.
UPDATE episodes SET provisional = 0 WHERE id = :id;

-- name: set_episode_intent
-- What an episode began with.
UPDATE episodes SET intent = :intent WHERE id = :id;

-- name: drop_episode
-- An episode without messages goes.
DELETE FROM episodes WHERE id = :id AND NOT EXISTS (SELECT 1 FROM episode_spans WHERE episode_id = :id);

-- name: drop_limit_notes
-- What was told of the limit that ended an episode goes: the messages beyond it are put again.
DELETE FROM learning_trail WHERE episode_id = :episode_id AND stage = 'limit';

-- name: last_span
-- The newest stretch of a session, before a number.
SELECT * FROM episode_spans WHERE session_id = :session_id AND first_seq < :before_seq ORDER BY first_seq DESC LIMIT 1;

-- name: span_before
-- The newest stretch of a session before a number; none when a message in between was not read. (Messages of one turn may
-- be let pass.)
SELECT * FROM (SELECT * FROM episode_spans WHERE session_id = :session_id AND first_seq < :before_seq
               ORDER BY first_seq DESC LIMIT 1) AS span
WHERE NOT EXISTS (SELECT 1 FROM messages WHERE session_id = :session_id AND kind = 'message' AND seq > span.last_seq
                  AND seq < :before_seq AND turn_id IS NOT :but_turn);

-- name: insert_span
-- A stretch begins.
INSERT INTO episode_spans (session_id, first_seq, last_seq, episode_id) VALUES (:session_id, :seq, :seq, :episode_id);

-- name: extend_span
-- A stretch goes on, or is cut.
UPDATE episode_spans SET last_seq = :last_seq WHERE session_id = :session_id AND first_seq = :first_seq;

-- name: episodes_from
-- The episodes that have stretches from a number on.
SELECT DISTINCT episode_id FROM episode_spans WHERE session_id = :session_id AND first_seq >= :seq;

-- name: drop_spans_from
-- Stretches from a number on go.
DELETE FROM episode_spans WHERE session_id = :session_id AND first_seq >= :seq;

-- name: stretches_from
-- The stretches of a session from a number on, with their episode and its task, and whether that episode has any before.
SELECT max(span.first_seq, :seq) AS first_seq, span.last_seq, span.episode_id, episodes.task_id, tasks.archived_at,
       NOT EXISTS (SELECT 1 FROM episode_spans own WHERE own.episode_id = span.episode_id AND own.first_seq < :seq)
       AS begins
FROM episode_spans span
JOIN episodes ON episodes.id = span.episode_id
JOIN tasks ON tasks.id = episodes.task_id
WHERE span.session_id = :session_id AND span.last_seq >= :seq
  AND span.first_seq >= coalesce((SELECT max(first_seq) FROM episode_spans
                                  WHERE session_id = :session_id AND first_seq <= :seq), :seq)
ORDER BY span.first_seq LIMIT :limit;

-- name: feedback_on_tasks
-- What was said with a button of some tasks, newest first, and the number of the answer that was judged, where it was one.
SELECT id, task_id, episode_id, (
  SELECT max(seq) FROM messages
  WHERE turn_id = (SELECT coalesce(carrier_id, id) FROM turns WHERE turns.id = feedback.turn_id)
    AND +session_id = feedback.session_id AND kind = 'message') AS judged_seq
FROM feedback WHERE task_id IN (SELECT value FROM json_each(:tasks)) AND channel = 'explicit' AND trace_id IS NULL
ORDER BY at DESC LIMIT :limit;

-- name: put_task_aside
-- A task that holds messages of one that a person put aside is put aside, too.
UPDATE tasks SET archived_at = :archived_at WHERE id = :id AND archived_at IS NULL;

-- name: next_span
-- The number at which the stretch after a number begins.
SELECT min(first_seq) FROM episode_spans WHERE session_id = :session_id AND first_seq > :seq;

-- name: last_seq_of_episode
-- The newest message of an episode.
SELECT max(last_seq) FROM episode_spans WHERE episode_id = :episode_id;

-- name: count_spanned_from
-- How many numbers the stretches of a session hold from one on.
SELECT coalesce(sum(last_seq - max(first_seq, :seq) + 1), 0) FROM episode_spans
WHERE session_id = :session_id AND last_seq >= :seq;

-- name: insert_routing
-- Where a message was put, and why.
INSERT INTO routings (at, agent, session_id, seq, source, relation, confidence, classified_by, signal, reason, action,
                      forced, state, corrects, before_id, episode_id, gap_ms, duration_ms, inputs, intent, feedback, heard)
VALUES (:at, :agent, :session_id, :seq, :source, :relation, :confidence, :classified_by, :signal, :reason, :action,
        :forced, :state, :corrects, :before_id, :episode_id, :gap_ms, :duration_ms, :inputs, :intent, :feedback, :heard);

-- name: place_routing
-- Where a message is after all.
UPDATE routings SET source = :source, reason = :reason, action = :action, forced = :forced, before_id = :before_id,
  episode_id = :episode_id, gap_ms = :gap_ms, inputs = :inputs WHERE id = :id;

-- name: decide_routing
-- What a message is about, as it was decided.
UPDATE routings SET relation = :relation, confidence = :confidence, classified_by = :classified_by, signal = :signal,
  state = :state, duration_ms = :duration_ms, intent = :intent, feedback = :feedback WHERE id = :id;

-- name: set_routing_state
-- Whether a decision stands.
UPDATE routings SET state = :state, attempts = attempts + :attempts WHERE id = :id;

-- name: routing_of
-- The decision that stands for a message.
SELECT * FROM routings WHERE session_id = :session_id AND seq = :seq AND state <> 'superseded' ORDER BY id DESC LIMIT 1;

-- name: first_provisional
-- The first message of a session of which it is not decided where it belongs.
SELECT min(seq) FROM routings WHERE session_id = :session_id AND state = 'provisional';

-- name: unheard_routings
-- Messages that were not looked at as feedback yet, and are decided.
SELECT * FROM routings WHERE session_id = :session_id AND heard = 0 AND state <> 'superseded' AND seq < :before_seq
ORDER BY seq LIMIT :limit;

-- name: set_heard
-- Messages were looked at as feedback.
UPDATE routings SET heard = 1 WHERE session_id = :session_id AND seq = :seq AND heard = 0;

-- name: abandoned_routings
-- Undecided messages nobody is to decide any more.
SELECT * FROM routings r WHERE r.state = 'provisional' AND r.at < :before AND NOT EXISTS (
  SELECT 1 FROM job_requests j WHERE j.state IN ('waiting', 'dispatched', 'running')
    AND j.key = 'classify:' || r.session_id || ':' || r.seq)
  AND NOT EXISTS (
  SELECT 1 FROM job_requests j WHERE j.state IN ('waiting', 'dispatched', 'running')
    AND j.key >= 'redecide:' || r.session_id || ':' || r.seq || ':'
    AND j.key < 'redecide:' || r.session_id || ':' || r.seq || ';')
ORDER BY r.at LIMIT :limit;

-- name: unsettled_episodes
-- Closed episodes of a session about whose end something is to be decided or done, in order.
SELECT episodes.*, (SELECT max(last_seq) FROM episode_spans WHERE episode_id = episodes.id) AS through_seq
FROM episodes WHERE session_id = :session_id AND state = 'closed' AND provisional = 1 ORDER BY through_seq LIMIT :limit;

-- name: unsettled_sessions
-- Sessions in which something of that kind is left.
SELECT DISTINCT session_id FROM episodes WHERE state = 'closed' AND provisional = 1 AND session_id > :after
ORDER BY session_id LIMIT :limit;

-- name: quiet_episodes
-- Open episodes in which nothing was said since an instant, and no turn of whose session is on its way.
SELECT * FROM episodes WHERE state = 'open' AND last_at < :before AND NOT EXISTS (
  SELECT 1 FROM turns WHERE turns.session_id = episodes.session_id AND turns.state IN ('accepted', 'queued', 'running'))
AND NOT EXISTS (
  SELECT 1 FROM messages WHERE messages.session_id = episodes.session_id AND messages.id > :position
    AND messages.seq > (SELECT max(last_seq) FROM episode_spans WHERE episode_id = episodes.id)
    AND messages.kind = 'message')
ORDER BY last_at LIMIT :limit;

-- name: episodes_of_ended_sessions
-- Open episodes whose session has ended, or is gone.
SELECT episodes.* FROM episodes LEFT JOIN sessions ON sessions.id = episodes.session_id
WHERE episodes.state = 'open' AND (sessions.id IS NULL OR sessions.ended_at IS NOT NULL) LIMIT :limit;
