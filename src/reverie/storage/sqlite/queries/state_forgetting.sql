-- What learning made of conversations that are forgotten.

-- name: traces_of_session
-- The traces of a session.
SELECT id FROM traces WHERE session_id = :session_id AND agent = :agent AND id > :after ORDER BY id LIMIT :limit;

-- name: traces_of_messages
-- The traces of a session that were made of any of these messages.
SELECT DISTINCT traces.id FROM json_each(:seqs) AS wanted
JOIN traces ON traces.session_id = :session_id AND traces.agent = :agent
  AND wanted.value BETWEEN traces.first_seq AND traces.last_seq;

-- name: episodes_of_session
-- The episodes of a session.
SELECT id, task_id FROM episodes WHERE session_id = :session_id AND agent = :agent AND id > :after
ORDER BY id LIMIT :limit;

-- name: episodes_of_messages
-- The episodes of a session that hold any of these messages.
SELECT DISTINCT episodes.id, episodes.task_id FROM json_each(:seqs) AS wanted
JOIN episode_spans ON episode_spans.session_id = :session_id
  AND wanted.value BETWEEN episode_spans.first_seq AND episode_spans.last_seq
JOIN episodes ON episodes.id = episode_spans.episode_id AND episodes.agent = :agent;

-- name: episodes_of_tasks
-- The episodes of tasks.
SELECT id FROM episodes WHERE task_id IN (SELECT value FROM json_each(:tasks));

-- name: policies_of_evidence
-- The policies that rest on any of these traces or episodes, carry feedback of them, or advice of these repairs.
SELECT id FROM policies WHERE agent = :agent AND (
  EXISTS (SELECT 1 FROM json_each(source_traces) AS own JOIN json_each(:traces) AS gone ON gone.value = own.value)
  OR EXISTS (SELECT 1 FROM json_each(source_episodes) AS own JOIN json_each(:episodes) AS gone ON gone.value = own.value)
  OR EXISTS (SELECT 1 FROM json_each(source_feedback) AS own JOIN json_each(:feedback) AS gone ON gone.value = own.value)
  OR id IN (SELECT told.value FROM json_each(:repairs) AS gone JOIN decision_repairs ON decision_repairs.id = gone.value,
            json_each(decision_repairs.policies) AS told)
);

-- name: world_models_of_policies
-- The world models that rest on any of these policies or episodes.
SELECT id FROM world_models WHERE agent = :agent AND (
  EXISTS (SELECT 1 FROM json_each(policies) AS own JOIN json_each(:policies) AS gone ON gone.value = own.value)
  OR EXISTS (SELECT 1 FROM json_each(source_episodes) AS own JOIN json_each(:episodes) AS gone ON gone.value = own.value)
);

-- name: skills_of_evidence
-- The skills that rest on any of these policies, world models or traces, and whether a person gave them other words.
SELECT id, name, file_state = 'edited' OR EXISTS (
  SELECT 1 FROM skill_events WHERE skill_id = skills.id AND kind = 'edit' AND detail ->> '$.fields' IS NOT NULL
) AS rewritten FROM skills WHERE agent = :agent AND (
  EXISTS (SELECT 1 FROM json_each(policies) AS own JOIN json_each(:policies) AS gone ON gone.value = own.value)
  OR EXISTS (SELECT 1 FROM json_each(worlds) AS own JOIN json_each(:worlds) AS gone ON gone.value = own.value)
  OR EXISTS (SELECT 1 FROM json_each(anchors) AS own JOIN json_each(:traces) AS gone ON gone.value = own.value)
);

-- name: learned_of_history
-- What was imported under the name of a history, but for its skills.
SELECT 'policy' AS kind, id FROM policies WHERE agent = :agent AND history = :history
UNION ALL SELECT 'world', id FROM world_models WHERE agent = :agent AND history = :history
UNION ALL SELECT 'feedback', id FROM feedback WHERE agent = :agent AND history = :history
UNION ALL SELECT 'repair', id FROM decision_repairs WHERE agent = :agent AND history = :history;

-- name: skills_of_history
-- The skills that were imported under the name of a history, and whether a person gave them other words.
SELECT id, name, file_state = 'edited' OR EXISTS (
  SELECT 1 FROM skill_events WHERE skill_id = skills.id AND kind = 'edit' AND detail ->> '$.fields' IS NOT NULL
) AS rewritten FROM skills WHERE agent = :agent AND history = :history;

-- name: feedback_of_sessions
-- The feedback that was given in these sessions.
SELECT id FROM feedback WHERE agent = :agent AND session_id IN (SELECT value FROM json_each(:sessions))
ORDER BY id LIMIT :limit;

-- name: feedback_of_messages
-- The feedback that these messages of a session gave, or that was given on their turns.
SELECT id FROM feedback WHERE agent = :agent AND session_id = :session_id
  AND (seq IN (SELECT value FROM json_each(:seqs)) OR turn_id IN (SELECT value FROM json_each(:turns)));

-- name: feedback_of_traces
-- The feedback that is about any of these traces.
SELECT id FROM feedback WHERE agent = :agent AND trace_id IN (SELECT value FROM json_each(:traces));

-- name: repairs_of_evidence
-- The repairs that rest on any of these traces, or belong to these sessions or tasks.
SELECT id FROM decision_repairs WHERE agent = :agent AND (
  session_id IN (SELECT value FROM json_each(:sessions)) OR task_id IN (SELECT value FROM json_each(:tasks))
  OR EXISTS (SELECT 1 FROM json_each(high) AS own JOIN json_each(:traces) AS gone ON gone.value = own.value)
  OR EXISTS (SELECT 1 FROM json_each(low) AS own JOIN json_each(:traces) AS gone ON gone.value = own.value)
);

-- name: forget_traces
-- Delete traces; links and candidates go with them.
DELETE FROM traces WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_tasks
-- Delete the tasks of sessions; their episodes, stretches and windows go with them.
DELETE FROM tasks WHERE agent = :agent AND session_id IN (SELECT value FROM json_each(:sessions));

-- name: blank_episodes
-- Take the words out of the episodes of tasks of which only a part is forgotten: they were told of each other.
UPDATE episodes SET title = '', carry_over = '', intent = '{}'
WHERE task_id IN (SELECT value FROM json_each(:tasks))
  AND NOT (title = '' AND carry_over = '' AND intent = '{}');

-- name: blank_reflections
-- Take out what a model wrote on the steps that stay of such tasks, having seen those that go.
UPDATE traces SET reflection = '', summary = ''
WHERE task_id IN (SELECT value FROM json_each(:tasks)) AND edited_at IS NULL AND NOT (reflection = '' AND summary = '');

-- name: blank_rewards
-- Take a judge's words out of tasks; the score stays.
UPDATE tasks SET reward = json_remove(reward, '$.reason', '$.summary')
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_routings
-- Delete where messages of sessions were put, and why.
DELETE FROM routings WHERE session_id IN (SELECT value FROM json_each(:sessions));

-- name: blank_routings
-- Take the words out of where these messages of a session were put.
UPDATE routings SET reason = '', signal = '', intent = '{}'
WHERE session_id = :session_id AND seq IN (SELECT value FROM json_each(:seqs));

-- name: forget_policies
-- Delete policies.
DELETE FROM policies WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_world_models
-- Delete world models.
DELETE FROM world_models WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_skills
-- Delete skills.
DELETE FROM skills WHERE id IN (SELECT value FROM json_each(:ids));

-- name: loosen_skills
-- A skill that a person has rewritten stays, and loses what it was made of.
UPDATE skills SET draft = '{}', policies = '[]', worlds = '[]', anchors = '[]', history = ''
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_feedback
-- Delete feedback.
DELETE FROM feedback WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_repairs
-- Delete repairs.
DELETE FROM decision_repairs WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_trail
-- Delete why something was learned of tasks, of things that are gone, or of the files of skills of these names.
DELETE FROM learning_trail WHERE agent = :agent AND (
  task_id IN (SELECT value FROM json_each(:tasks)) OR ref IN (SELECT value FROM json_each(:refs))
  OR detail ->> '$.name' IN (SELECT value FROM json_each(:names))
  OR detail ->> '$.path' IN (SELECT 'skills/' || value || '/SKILL.md' FROM json_each(:names)));

-- name: forget_marks
-- Delete what is remembered of the files of skills of these names, and of buckets, whose names may hold a tool's words.
DELETE FROM learning_marks
WHERE name IN (SELECT 'skill_file:' || :agent || ':' || value FROM json_each(:names))
   OR substr(name, 1, length(:agent) + 14) = 'known_bucket:' || :agent || ':';

-- name: forget_answers
-- Models' answers are kept so that none is paid twice: those given to an agent's jobs go.
DELETE FROM model_calls WHERE rowid IN (
  SELECT rowid FROM model_calls WHERE agent = :agent AND state <> 'reserved' LIMIT :limit);

-- name: forget_jobs
-- Jobs of tasks of which nothing is left.
DELETE FROM job_requests WHERE task_id IN (SELECT value FROM json_each(:tasks));

-- name: forget_jobs_about
-- Jobs about things that go. Those that ended may still tell of them; of those that wait nothing is left to be done.
DELETE FROM job_requests WHERE agent = :agent AND (
  payload ->> '$.policy_id' IN (SELECT value FROM json_each(:policies))
  OR payload ->> '$.feedback_id' IN (SELECT value FROM json_each(:feedback))
  OR (kind = 'repair' AND task_id IN (SELECT value FROM json_each(:tasks)))
  OR EXISTS (SELECT 1 FROM json_each(payload, '$.traces') AS own JOIN json_each(:traces) AS gone ON gone.value = own.value)
);

-- name: blank_jobs
-- Take out what became of jobs, and why they failed: names of skills, and words of a model's server.
UPDATE job_requests SET result = '{}', error = CASE state WHEN 'dead' THEN '(forgotten)' END
WHERE key IN (SELECT key FROM job_requests WHERE agent = :agent
                AND (result <> '{}' OR (error IS NOT NULL AND error <> '(forgotten)')) LIMIT :limit);

-- name: forget_cursors
-- How far learning has read sessions that are gone.
DELETE FROM learning_cursors WHERE session_id IN (SELECT value FROM json_each(:sessions));

-- name: tasks_of_sessions
-- The tasks of sessions.
SELECT id FROM tasks WHERE agent = :agent AND session_id IN (SELECT value FROM json_each(:sessions));
