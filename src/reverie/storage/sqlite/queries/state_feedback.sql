-- Learning: feedback, bursts of failures, repairs, experiences.

-- name: insert_feedback
-- What somebody said of an answer; nothing happens when it is on record.
INSERT INTO feedback (id, agent, at, session_id, turn_id, task_id, episode_id, trace_id, skill_id, channel, polarity,
                      magnitude, confidence, shape, text, prefer, avoid, seq, classified_by, raw, provenance)
VALUES (:id, :agent, :at, :session_id, :turn_id, :task_id, :episode_id, :trace_id, :skill_id, :channel, :polarity,
        :magnitude, :confidence, :shape, :text, :prefer, :avoid, :seq, :classified_by, :raw, :provenance)
ON CONFLICT (id) DO NOTHING;

-- name: find_feedback
-- Feedback by its id.
SELECT * FROM feedback WHERE id = :id;

-- name: judge_feedback_again
-- A model has another opinion of a message than the rules.
UPDATE feedback SET polarity = :polarity, magnitude = :magnitude, confidence = :confidence, classified_by = 'llm'
WHERE id = :id;

-- name: place_feedback
-- What feedback is about has been found since.
UPDATE feedback SET task_id = :task_id, episode_id = :episode_id WHERE id = :id;

-- name: delete_feedback
-- What was taken for feedback is none.
DELETE FROM feedback WHERE id = :id;

-- name: mark_feedback
-- Something was done about feedback; nothing happens when it was done before.
UPDATE feedback SET raw = json_set(raw, :path, :value) WHERE id = :id AND json_extract(raw, :path) IS NULL;

-- name: last_entry_of_turn
-- Where the last message of a turn stands: its own, or that of the turn that carried it.
SELECT session_id, seq FROM messages
WHERE turn_id = (SELECT coalesce(carrier_id, id) FROM turns WHERE id = :turn_id) AND kind = 'message'
ORDER BY seq DESC LIMIT 1;

-- name: last_answer_of_session
-- The newest thing the agent said in a session.
SELECT session_id, seq, turn_id FROM messages
WHERE session_id = :session_id AND role = 'assistant' AND kind = 'message' ORDER BY seq DESC LIMIT 1;

-- name: answer_before
-- What the agent said last before an entry of a transcript: the beginning of it.
SELECT seq, turn_id, substr(text, 1, :chars) AS text FROM messages
WHERE session_id = :session_id AND seq < :seq AND role = 'assistant' AND kind = 'message' ORDER BY seq DESC LIMIT 1;

-- name: text_of_entry
-- The beginning of a message.
SELECT substr(text, 1, :chars) FROM messages WHERE session_id = :session_id AND seq = :seq;

-- name: episode_at
-- The episode that holds an entry of a transcript.
SELECT episodes.id, episodes.task_id FROM episode_spans JOIN episodes ON episodes.id = episode_spans.episode_id
WHERE episode_spans.session_id = :session_id AND episode_spans.first_seq <= :seq AND episode_spans.last_seq >= :seq
ORDER BY episode_spans.first_seq DESC LIMIT 1;

-- name: newest_episode_of_task
-- Where a task was worked on last.
SELECT id FROM episodes WHERE task_id = :task_id ORDER BY opened_at DESC LIMIT 1;

-- name: bring_reward_forward
-- A task whose end was waited upon is scored now.
UPDATE job_requests SET not_before = :now, updated_at = :now
WHERE key = :key AND state = 'waiting' AND not_before > :now;

-- name: newest_tool_traces
-- The calls of a session that were made last, newest first.
SELECT id, tool_calls, failed FROM traces
WHERE session_id = :session_id AND tool_calls <> '[]' ORDER BY at DESC LIMIT :limit;

-- name: last_repair_asked
-- When a repair of one tool and purpose was asked for last.
SELECT max(requested_at) FROM job_requests WHERE key >= :first AND key < :end AND agent = :agent;

-- name: told_repair_waits
-- Whether a repair that an owner's word asked for is still to begin, for one tool and purpose.
SELECT EXISTS (SELECT 1 FROM job_requests WHERE key >= :first AND key < :end AND agent = :agent AND state = 'waiting'
               AND json_extract(payload, '$.feedback_id') IS NOT NULL);

-- name: newest_traces
-- The steps of a session that were made last, newest first.
SELECT * FROM traces WHERE session_id = :session_id AND archived_at IS NULL ORDER BY at DESC LIMIT :limit;

-- name: last_tool_trace_before
-- The last step with a call before an entry of a transcript, in the same exchange or an earlier one of the episode.
SELECT id, tool_calls FROM traces
WHERE session_id = :session_id AND first_seq <= :seq AND episode_id = :episode_id AND tool_calls <> '[]'
ORDER BY at DESC LIMIT 1;

-- name: insert_repair
-- What to prefer and what to avoid; nothing happens when it is on record.
INSERT INTO decision_repairs (id, agent, at, session_id, task_id, context_hash, tool, context, preference, anti_pattern,
                              severity, confidence, high, low, policies, induced_by, provenance)
VALUES (:id, :agent, :at, :session_id, :task_id, :context_hash, :tool, :context, :preference, :anti_pattern, :severity,
        :confidence, :high, :low, :policies, :induced_by, :provenance)
ON CONFLICT (id) DO NOTHING;

-- name: find_repair
-- A repair by its id.
SELECT * FROM decision_repairs WHERE id = :id;

-- name: policies_of_episodes
-- Of an agent's policies that changed last, those that came of one of some episodes.
SELECT * FROM (SELECT * FROM policies WHERE agent = :agent AND status <> 'archived' ORDER BY updated_at DESC
               LIMIT :looked_at)
WHERE EXISTS (SELECT 1 FROM json_each(source_episodes) AS source
              WHERE source.value IN (SELECT value FROM json_each(:episodes)))
LIMIT :limit;

-- name: set_guidance
-- A policy learns what to prefer and what to avoid; one that a person edited is left alone.
UPDATE policies SET guidance = :guidance, provenance = :provenance, updated_at = :now
WHERE id = :id AND edited_at IS NULL;

-- name: policies_with_vectors
-- An agent's policies that changed last, to be compared with another.
SELECT * FROM policies WHERE agent = :agent AND status <> 'archived' AND vec IS NOT NULL
ORDER BY updated_at DESC LIMIT :limit;

-- name: insert_experience
-- What came of feedback, as a policy; nothing happens when it is there.
INSERT INTO policies (id, agent, title, trigger_text, procedure, verification, boundary, support, gain, gain_known,
                      status, type, polarity, salience, confidence, evidence, source_episodes, source_feedback,
                      source_traces, induced_by, guidance, verifier, skill_eligible, vec, provenance, created_at,
                      updated_at)
VALUES (:id, :agent, :title, :trigger, :procedure, :verification, :boundary, :support, :gain, 1, :status, :type,
        :polarity, :salience, :confidence, :evidence, :source_episodes, :source_feedback, :source_traces, :induced_by,
        :guidance, :verifier, :skill_eligible, :vec, :provenance, :now, :now)
ON CONFLICT (id) DO NOTHING;

-- name: merge_experience
-- A policy takes in an experience that says the same: what it comes of, what to prefer, what to avoid.
UPDATE policies SET guidance = :guidance, polarity = :polarity, salience = :salience, confidence = :confidence,
                    status = :status, gain = :gain, support = :support, skill_eligible = :skill_eligible,
                    source_episodes = :source_episodes, source_feedback = :source_feedback,
                    source_traces = :source_traces, provenance = :provenance, updated_at = :now,
                    verifier = CASE WHEN :verifier = '{}' THEN verifier ELSE :verifier END
WHERE id = :id;

-- name: reword_experience
-- A policy says what the owner said last.
UPDATE policies SET title = :title, trigger_text = :trigger, procedure = :procedure, verification = :verification,
                    boundary = :boundary, type = :type, induced_by = :induced_by, vec = :vec
WHERE id = :id;

-- name: newest_feedback_of
-- When the newest of some feedback was given.
SELECT max(at) FROM feedback WHERE id IN (SELECT value FROM json_each(:ids));

-- name: first_and_last_steps
-- How a task began and how it ended: some of its steps with words of a person or the agent, in order.
SELECT * FROM (
  SELECT * FROM (SELECT * FROM traces WHERE task_id = :task_id AND provenance IN ('owner', 'agent')
                 AND archived_at IS NULL AND user_text <> '' ORDER BY at LIMIT :each)
  UNION
  SELECT * FROM (SELECT * FROM traces WHERE task_id = :task_id AND provenance IN ('owner', 'agent')
                 AND archived_at IS NULL AND agent_text <> '' ORDER BY at DESC LIMIT :each)
) ORDER BY at;

-- name: task_was_criticised
-- Whether anybody found fault with a task before.
SELECT EXISTS (SELECT 1 FROM feedback WHERE task_id = :task_id AND polarity = 'negative' AND at < :at
               AND provenance = 'owner');
