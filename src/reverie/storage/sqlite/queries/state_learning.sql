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
