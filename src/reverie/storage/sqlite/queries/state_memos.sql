-- What an import of a MemOS plugin's database writes. Every row keeps its id, and one that is there already stays; what
-- is learned keeps the name of the history, with which it is forgotten.

-- name: memos_task
-- The task that an imported episode was.
INSERT INTO tasks (id, agent, session_id, session_key, origin, state, started_at, ended_at, ended_for, endings, r_human,
                   reward, provenance)
VALUES (:task_id, :agent, :session_id, :session_key, 'import', :state, :started_at, :ended_at, 'session_end', 1,
        :r_human, :reward, :provenance)
ON CONFLICT (id) DO NOTHING;

-- name: memos_episode
-- An imported episode; its figures grow with its traces.
INSERT INTO episodes (id, task_id, agent, session_id, session_key, state, opened_at, last_at, closed_at, opened_for,
                      closed_for, intent, title)
VALUES (:id, :task_id, :agent, :session_id, :session_key, 'closed', :started_at, :ended_at, :ended_at, 'import',
        :closed_for, :intent, :title)
ON CONFLICT (id) DO NOTHING;

-- name: memos_trace
-- An imported trace.
INSERT INTO traces (id, task_id, episode_id, agent, session_id, first_seq, last_seq, turn_seq, step, at, window,
                    user_text, agent_text, thinking, summary, tool_calls, reflection, usable, alpha, value, r_human,
                    priority, tags, signatures, failed, vec_summary, vec_action, digest, provenance)
VALUES (:id, :task_id, :episode_id, :agent, :session_id, :first_seq, :last_seq, :turn_seq, :step, :at, 1,
        :user_text, :agent_text, :thinking, :summary, :tool_calls, :reflection, :usable, :alpha, :value, :r_human,
        :priority, :tags, :signatures, :failed, :vec_summary, :vec_action, :digest, :provenance);

-- name: memos_grow_episode
-- Count a trace and its messages into its episode.
UPDATE episodes SET entries = entries + :entries, exchanges = exchanges + :exchanges, steps = steps + 1,
  tokens = tokens + :tokens, last_at = max(last_at, :at) WHERE id = :id;

-- name: memos_grow_window
-- Count a trace into the one window of its episode, which nobody reflects on again.
INSERT INTO reflection_windows (episode_id, number, steps, state, closed_at, reflected_at, reflected_by)
VALUES (:id, 1, 1, 'reflected', :at, :at, 'import')
ON CONFLICT (episode_id, number) DO UPDATE SET steps = steps + 1, closed_at = :at, reflected_at = :at;

-- name: memos_span
-- A stretch of messages of an episode, or more of one.
INSERT INTO episode_spans (session_id, first_seq, last_seq, episode_id) VALUES (:session_id, :first, :last, :episode_id)
ON CONFLICT (session_id, first_seq) DO UPDATE SET last_seq = max(last_seq, excluded.last_seq);

-- name: memos_last_span
-- The last stretch of a session.
SELECT first_seq, last_seq, episode_id FROM episode_spans WHERE session_id = :session_id
ORDER BY first_seq DESC LIMIT 1;

-- name: memos_last_trace
-- The last trace of a session.
SELECT turn_seq, step, at FROM traces WHERE session_id = :session_id ORDER BY at DESC, first_seq DESC, step DESC LIMIT 1;

-- name: memos_exposed
-- Whether a tool was called in an exchange so far.
SELECT coalesce(max(tool_calls <> '[]'), 0) FROM traces WHERE session_id = :session_id AND first_seq >= :turn_seq;

-- name: memos_known_traces
-- Those of some traces that are there, with whose they are.
SELECT id, agent FROM traces WHERE id IN (SELECT value FROM json_each(:ids));

-- name: memos_known_episodes
-- Those of some episodes that are there, with where they stand.
SELECT id, task_id, agent, session_id, session_key FROM episodes WHERE id IN (SELECT value FROM json_each(:ids));

-- name: memos_owner
-- Whose a row of a table is: an id has one row, whoever imports it.
SELECT CASE :table
  WHEN 'episodes' THEN (SELECT agent FROM episodes WHERE id = :id)
  WHEN 'policies' THEN (SELECT agent FROM policies WHERE id = :id)
  WHEN 'world_model' THEN (SELECT agent FROM world_models WHERE id = :id)
  WHEN 'skills' THEN (SELECT agent FROM skills WHERE id = :id)
  WHEN 'feedback' THEN (SELECT agent FROM feedback WHERE id = :id)
  WHEN 'decision_repairs' THEN (SELECT agent FROM decision_repairs WHERE id = :id)
END;

-- name: memos_imports
-- The marks of how far sessions were imported, one an agent.
SELECT name FROM learning_marks WHERE name GLOB 'import:memos:*:sessions' LIMIT 1000;

-- name: memos_policy
-- An imported policy.
INSERT INTO policies (id, agent, title, trigger_text, procedure, verification, boundary, support, gain, gain_known,
                      status, type, polarity, salience, confidence, source_episodes, source_feedback, source_traces,
                      induced_by, guidance, verifier, skill_eligible, vec, provenance, created_at, updated_at, edited_at,
                      archived_at, history)
VALUES (:id, :agent, :title, :trigger, :procedure, :verification, :boundary, :support, :gain, 1,
        :status, :type, :polarity, :salience, :confidence, :source_episodes, :source_feedback, :source_traces,
        :induced_by, :guidance, :verifier, :skill_eligible, :vec, :provenance, :created_at, :updated_at, :edited_at,
        :archived_at, 'memos')
ON CONFLICT (id) DO NOTHING;

-- name: memos_link
-- That an imported trace follows a policy, where the agent has both.
INSERT INTO trace_policy_links (trace_id, policy_id, episode_id, task_id, at)
SELECT t.id, p.id, t.episode_id, t.task_id, :at FROM traces AS t
JOIN policies AS p ON p.id = :policy_id AND p.agent = :agent
WHERE t.id = :trace_id AND t.agent = :agent
ON CONFLICT (trace_id, policy_id) DO NOTHING;

-- name: memos_known_link
-- Whose trace is known to follow a policy.
SELECT t.agent FROM trace_policy_links AS l JOIN traces AS t ON t.id = l.trace_id
WHERE l.trace_id = :trace_id AND l.policy_id = :policy_id;

-- name: memos_candidate
-- An imported candidate, where the agent has its trace; the policy it became part of, where it has that.
INSERT INTO l2_candidates (id, agent, signature, trace_id, episode_id, task_id, similarity, policy_id, at, expires_at)
SELECT :id, :agent, :signature, t.id, t.episode_id, t.task_id, :similarity,
       (SELECT id FROM policies WHERE id = :policy_id AND agent = :agent), :at, :expires_at
FROM traces AS t WHERE t.id = :trace_id AND t.agent = :agent
ON CONFLICT (id) DO NOTHING;

-- name: memos_known_candidate
-- Whose candidate is there.
SELECT agent FROM l2_candidates WHERE id = :id;

-- name: memos_world_model
-- An imported world model.
INSERT INTO world_models (id, agent, title, body, structure, domain_tags, confidence, policies, source_episodes,
                          induced_by, vec, status, version, provenance, created_at, updated_at, edited_at, archived_at,
                          history)
VALUES (:id, :agent, :title, :body, :structure, :domain_tags, :confidence, :policies, :source_episodes,
        :induced_by, :vec, :status, :version, :provenance, :created_at, :updated_at, :edited_at, :archived_at, 'memos')
ON CONFLICT (id) DO NOTHING;

-- name: memos_skill
-- An imported skill; its file is written when files are next compared.
INSERT INTO skills (id, agent, name, title, status, description, guide, draft, tools, eta, support, gain, exposures,
                    uses, trials, passes, version, policies, worlds, anchors, built_gain, built_support, built_at,
                    file_planned, induced_by, vec, provenance, created_at, updated_at, edited_at, archived_at, last_used_at,
                    history)
VALUES (:id, :agent, :name, :title, :status, :description, :guide, :draft, :tools, :eta, :support, :gain, :uses,
        :uses, :trials, :passes, :version, :policies, :worlds, :anchors, :gain, :support, :updated_at,
        iif(:status = 'archived', '', 'due'), :induced_by, :vec, :provenance, :created_at, :updated_at, :edited_at, :archived_at, :last_used_at,
        'memos')
ON CONFLICT (id) DO NOTHING;

-- name: memos_name_taken
-- Whether another skill has a name.
SELECT 1 FROM skills WHERE agent = :agent AND name = :name AND id <> :id;

-- name: memos_feedback
-- Imported feedback, and around it what the agent has of what it names.
INSERT INTO feedback (id, agent, at, session_id, task_id, episode_id, trace_id, channel, polarity, magnitude, text, raw,
                      classified_by, provenance, history)
SELECT :id, :agent, :at, coalesce(t.session_id, e.session_id), coalesce(t.task_id, e.task_id),
       coalesce(t.episode_id, e.id), t.id, :channel, :polarity, :magnitude, :text, :raw, 'import', :provenance, 'memos'
FROM (SELECT 1) LEFT JOIN traces AS t ON t.id = :trace_id AND t.agent = :agent
LEFT JOIN episodes AS e ON e.id = :episode_id AND e.agent = :agent
WHERE true ON CONFLICT (id) DO NOTHING;

-- name: memos_decision_repair
-- An imported decision repair.
INSERT INTO decision_repairs (id, agent, at, context_hash, preference, anti_pattern, high, low, validated, induced_by,
                              provenance, history)
VALUES (:id, :agent, :at, :context_hash, :preference, :anti_pattern, :high, :low, :validated, 'import', :provenance, 'memos')
ON CONFLICT (id) DO NOTHING;
