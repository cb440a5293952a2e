-- Learning: traces, the windows in which they are reflected on, and the rewards of tasks.

-- name: last_trace_of_session
-- The last step that was taken from a conversation.
SELECT * FROM traces WHERE session_id = :session_id ORDER BY at DESC LIMIT 1;

-- name: has_traces
-- 1 when a step of an episode was taken already.
SELECT EXISTS (SELECT 1 FROM traces WHERE episode_id = :episode_id);

-- name: asks_before
-- The messages of a user right before another message, none of them part of a step yet, all of them read.
SELECT seq, text, created_at, whose FROM said
WHERE session_id = :session_id AND role = 'user' AND seq < :seq
  AND seq > max(:after_seq, coalesce((SELECT max(seq) FROM messages
                                      WHERE session_id = :session_id AND seq < :seq AND role <> 'user'), 0))
  AND seq <= (SELECT last_seq FROM episode_spans WHERE session_id = :session_id AND first_seq <= said.seq
              ORDER BY first_seq DESC LIMIT 1)
ORDER BY seq LIMIT :limit;

-- name: is_answered_next
-- Whether the episode that continues another one begins with what replies to it.
SELECT EXISTS (
  SELECT 1 FROM episodes JOIN episode_spans ON episode_spans.episode_id = episodes.id
  JOIN messages ON messages.session_id = episode_spans.session_id AND messages.seq = episode_spans.first_seq
  WHERE episodes.continues_id = :episode_id AND messages.role <> 'user');

-- name: insert_trace
-- Keep a step; nothing happens when the same one was kept before.
INSERT INTO traces (id, task_id, episode_id, agent, session_id, first_seq, last_seq, turn_seq, step, at, window,
                    user_text, agent_text, thinking, summary, tool_calls, reflection, priority, tags, signatures,
                    failed, digest, provenance)
VALUES (:id, :task_id, :episode_id, :agent, :session_id, :first_seq, :last_seq, :turn_seq, :step, :at, :window,
        :user_text, :agent_text, :thinking, :summary, :tool_calls, :reflection, :priority, :tags, :signatures,
        :failed, :digest, :provenance)
ON CONFLICT DO NOTHING;

-- name: last_window
-- The newest window of an episode.
SELECT * FROM reflection_windows WHERE episode_id = :episode_id ORDER BY number DESC LIMIT 1;

-- name: find_window
-- A window by its episode and number.
SELECT * FROM reflection_windows WHERE episode_id = :episode_id AND number = :number;

-- name: keep_window
-- How many steps a window holds, and whether it takes more.
INSERT INTO reflection_windows (episode_id, number, steps, state, closed_at)
VALUES (:episode_id, :number, :steps, :state, :closed_at)
ON CONFLICT (episode_id, number) DO UPDATE
SET steps = excluded.steps, state = excluded.state, closed_at = excluded.closed_at;

-- name: list_window_traces
-- The steps of a window, in their order.
SELECT * FROM traces WHERE episode_id = :episode_id AND window = :number ORDER BY at;

-- name: find_exchange_ask
-- What the exchange of a step began with.
SELECT user_text FROM traces
WHERE session_id = :session_id AND at <= :at AND turn_seq = :turn_seq AND step = 0 ORDER BY at DESC LIMIT 1;

-- name: set_trace_vectors
-- The vectors of a step.
UPDATE traces SET vec_summary = :vec_summary, vec_action = :vec_action WHERE id = :id;

-- name: set_trace_reflection
-- What came of reflecting on a step; the words of a person stay.
UPDATE traces SET reflection = CASE WHEN edited_at IS NULL THEN :reflection ELSE reflection END,
                  summary = CASE WHEN edited_at IS NULL THEN :summary ELSE summary END,
                  usable = :usable, alpha = :alpha
WHERE id = :id;

-- name: end_window
-- A window was reflected on, once.
UPDATE reflection_windows SET state = 'reflected', reflected_at = :now, reflected_by = :by, note = :note
WHERE episode_id = :episode_id AND number = :number AND state = 'closed';

-- name: list_task_episodes
-- The episodes of a task, in their order.
SELECT * FROM episodes WHERE task_id = :task_id ORDER BY opened_at, id LIMIT :limit;

-- name: count_provisional_episodes
-- How many episodes of a task may still turn out to go on.
SELECT count(*) FROM episodes WHERE task_id = :task_id AND provisional = 1;

-- name: count_windows_in_work
-- How many windows of a task will yet be reflected on.
SELECT count(*) FROM episodes
JOIN reflection_windows AS each ON each.episode_id = episodes.id AND each.state = 'closed'
JOIN job_requests ON job_requests.key = 'window:' || each.episode_id || ':' || each.number
                 AND job_requests.state IN ('waiting', 'dispatched', 'running')
WHERE episodes.task_id = :task_id;

-- name: count_put_backs
-- How often a job waited or gave way.
SELECT put_backs FROM job_requests WHERE key = :key;

-- name: list_task_steps
-- The newest steps of a task in the order in which one led to the other, with the beginnings of their texts.
SELECT * FROM (
  SELECT id, digest, session_id, turn_seq, step, at,
         substr(user_text, 1, :chars) AS user_text, length(user_text) AS user_chars,
         substr(agent_text, 1, :chars) AS agent_text, length(agent_text) AS agent_chars,
         coalesce(length(tool_calls ->> '$[0].text_before'), 0) AS before_chars,
         coalesce(tool_calls ->> '$[0].name', '') AS tool, coalesce(tool_calls ->> '$[0].error_code', '') AS error_code
  FROM traces WHERE task_id = :task_id ORDER BY at DESC, session_id DESC, step DESC LIMIT :limit
) ORDER BY at, session_id, step;

-- name: find_trace_texts
-- The whole texts of a step.
SELECT user_text, agent_text FROM traces WHERE id = :id;

-- name: list_task_feedback
-- The newest feedback of its owner on a task as such, the oldest of it first: what is said of one step counts for that.
SELECT * FROM (
  SELECT * FROM feedback WHERE task_id = :task_id AND trace_id IS NULL AND provenance = 'owner'
  ORDER BY at DESC, id LIMIT :limit
) ORDER BY at, id;

-- name: list_task_alphas
-- The newest steps of a task in the order in which one led to the other, with what each contributed.
SELECT * FROM (
  SELECT id, session_id, step, at, alpha, usable, reflection <> '' AS reflected
  FROM traces WHERE task_id = :task_id ORDER BY at DESC, session_id DESC, step DESC LIMIT :limit
) ORDER BY at, session_id, step;

-- name: list_task_values
-- What the newest steps of a task are worth.
SELECT id, value FROM traces WHERE task_id = :task_id ORDER BY at DESC, id LIMIT :limit;

-- name: list_trace_feedback
-- What the owner said of single steps of a task with a button, the newest first.
SELECT * FROM feedback
WHERE task_id = :task_id AND trace_id IS NOT NULL AND channel = 'explicit' AND provenance = 'owner'
ORDER BY at DESC, id LIMIT :limit;

-- name: set_trace_value
-- What a step was worth.
UPDATE traces SET value = :value, priority = :priority, r_human = :r_human, alpha = :alpha WHERE id = :id;

-- name: set_value_of_one_trace
-- What a step was worth, as people said.
UPDATE traces SET value = :value, priority = max(priority, abs(:value)) WHERE id = :id;

-- name: score_task
-- The reward of a task that has ended so many times.
UPDATE tasks SET state = 'scored', r_human = :r_human, reward = :reward, trace_set = :trace_set
WHERE id = :id AND state IN ('ended', 'scored') AND endings = :endings;

-- name: skip_task
-- A task that is not worth a reward, for good.
UPDATE tasks SET state = 'skipped', reward = :reward WHERE id = :id AND state = 'ended';
