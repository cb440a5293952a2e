-- What all stages of learning share.

-- name: note_learning
-- Why something was learned or was not.
INSERT INTO learning_trail (at, agent, task_id, episode_id, stage, ref, outcome, reason, detail)
VALUES (:at, :agent, :task_id, :episode_id, :stage, :ref, :outcome, :reason, :detail);

-- name: learning_mark
-- A value that outlives the process.
SELECT value FROM learning_marks WHERE name = :name;

-- name: set_learning_mark
-- Keep a value.
INSERT INTO learning_marks (name, value, at) VALUES (:name, :value, :now)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at;

-- name: note_forgetting
-- Something of an agent was forgotten: runs of jobs that began before may have read it.
INSERT INTO learning_marks (name, value, at) VALUES ('forgettings:' || :agent, '1', :now)
ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT), at = excluded.at;

-- name: forgotten_meanwhile
-- Whether something of an agent was forgotten since a job's run began; one that is not on record any more is too old.
SELECT coalesce((SELECT CAST(value AS INTEGER) FROM learning_marks WHERE name = 'forgettings:' || :agent), 0)
     > coalesce((SELECT forgettings FROM job_requests WHERE key = :key), 0);

-- name: note_unlearned
-- Names of what is not to be learned again, from a JSON list; what was forgotten stays so.
INSERT INTO unlearned (agent, name, why, at) SELECT :agent, value, :why, :now FROM json_each(:names) WHERE true
ON CONFLICT (agent, name) DO UPDATE SET why = excluded.why, at = excluded.at WHERE unlearned.why = 'deleted';

-- name: anything_unlearned
-- Whether there is anything that an agent is not to learn again.
SELECT EXISTS (SELECT 1 FROM unlearned WHERE agent = :agent);

-- name: which_unlearned
-- Those of some names that are not to be learned again, and why.
SELECT name, why FROM unlearned WHERE agent = :agent AND name IN (SELECT value FROM json_each(:names));

-- name: find_task
-- A task by its id.
SELECT * FROM tasks WHERE id = :id;

-- name: find_episode
-- An episode by its id.
SELECT * FROM episodes WHERE id = :id;

-- name: find_trace
-- A trace by its id.
SELECT * FROM traces WHERE id = :id;

-- name: find_policy
-- A policy by its id.
SELECT * FROM policies WHERE id = :id;

-- name: find_world_model
-- A world model by its id.
SELECT * FROM world_models WHERE id = :id;

-- name: find_skill
-- A skill by its id.
SELECT * FROM skills WHERE id = :id;

-- name: find_skill_named
-- A skill by its name.
SELECT * FROM skills WHERE agent = :agent AND name = :name;
