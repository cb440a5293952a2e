-- Learning: skills, their files, and how they have done.

-- name: skill_of_policy
-- The skill that was made of a policy, one in use first.
SELECT * FROM skills
WHERE agent = :agent AND EXISTS (SELECT 1 FROM json_each(skills.policies) WHERE value = :policy_id)
ORDER BY status = 'archived', updated_at DESC LIMIT 1;

-- name: skill_tasks_linked
-- The tasks whose steps follow a policy, the newest link first.
SELECT task_id, max(at) AS at FROM trace_policy_links
WHERE policy_id = :policy_id GROUP BY task_id ORDER BY at DESC, task_id LIMIT :limit;

-- name: skill_task_of_trace
-- The task of a step.
SELECT task_id FROM traces WHERE id = :id;

-- name: skill_good_traces
-- The steps of a task that went well, best first.
SELECT * FROM traces WHERE task_id = :task_id AND value > 0 AND archived_at IS NULL
ORDER BY value DESC, id LIMIT :limit;

-- name: skill_bad_traces
-- The steps of a task that did not go well, worst first.
SELECT * FROM traces WHERE task_id = :task_id AND value < 0 AND archived_at IS NULL
ORDER BY value, id LIMIT :limit;

-- name: skill_worlds
-- The world models that rest on a policy.
SELECT id FROM world_models
WHERE agent = :agent AND status = 'active' AND EXISTS (SELECT 1 FROM json_each(policies) WHERE value = :policy_id)
ORDER BY updated_at DESC LIMIT :limit;

-- name: skill_name_taken
-- Whether another skill of an agent has a name.
SELECT count(*) FROM skills WHERE agent = :agent AND name = :name AND id <> :id;

-- name: count_skills_of_agent
-- How many skills an agent has that have a file, or are to have one.
SELECT count(*) FROM skills
WHERE agent = :agent AND file_state <> 'deleted' AND NOT (file_state = 'none' AND status = 'archived');

-- name: insert_skill
-- A skill is made. Its file is written afterwards.
INSERT INTO skills (id, agent, name, title, status, disabled, description, guide, draft, tools, eta, support, gain,
                    policies, worlds, anchors, evidence, built_gain, built_support, built_at, file_digest, file_words,
                    file_planned, file_state, induced_by, vec, provenance, created_at, updated_at, edited_at)
VALUES (:id, :agent, :name, :title, :status, :disabled, :description, :guide, :draft, :tools, :eta, :support, :gain,
        :policies, :worlds, :anchors, :evidence, :built_gain, :built_support, :built_at, :file_digest, :file_words,
        :file_planned, :file_state, :induced_by, :vec, :provenance, :now, :now, :edited_at);

-- name: rebuild_skill
-- A skill is made anew, under its id and name. A person's edit, archiving or deletion that came in between wins.
UPDATE skills SET title = :title, status = :status, description = :description, guide = :guide, draft = :draft,
  tools = :tools, eta = :eta, trials = :trials, passes = :passes, support = :support, gain = :gain,
  policies = :policies, worlds = :worlds, anchors = :anchors, evidence = :evidence,
  built_gain = :gain, built_support = :support, built_at = :now, version = version + 1,
  file_planned_before = iif(file_planned IN ('', 'due'), file_planned_before, file_planned), file_planned = 'due',
  induced_by = :induced_by, vec = :vec, provenance = :provenance, updated_at = :now, archived_at = NULL
WHERE id = :id AND edited_at IS NULL AND NOT given_up AND file_state IN ('none', 'ours');

-- name: skill_refusal
-- The evidence for a policy of which nothing could be made last, and when; or that its skill was deleted.
SELECT value AS evidence, at FROM learning_marks WHERE name = :name;

-- name: skill_files_of_agent
-- The skills of an agent that have a file, or are to have one.
SELECT id, name, status, file_state, file_digest, file_planned, file_planned_before FROM skills
WHERE agent = :agent AND file_state <> 'deleted' AND NOT (file_state = 'none' AND status = 'archived')
ORDER BY id LIMIT :limit;

-- name: mark_skill_file_due
-- The row has changed, and the file is to be written. A person's file is left as it is unless a person asked.
UPDATE skills SET file_planned_before = iif(file_planned IN ('', 'due'), file_planned_before, file_planned),
  file_planned = 'due'
WHERE id = :id AND (:asked OR file_state IN ('none', 'ours'));

-- name: plan_skill_file
-- What is about to be written. What was before that may have been written all the same.
UPDATE skills SET file_planned_before = iif(file_planned IN ('', 'due', :planned), file_planned_before, file_planned),
  file_planned = :planned
WHERE id = :id;

-- name: settle_skill_file
-- The file has been written. Where the row has changed meanwhile, it stays to be written again.
UPDATE skills SET file_digest = :digest, file_words = :words, file_state = iif(edited_at IS NULL, 'ours', 'edited'),
  file_planned_before = iif(:digest IN (file_planned, file_planned_before), '', file_planned_before),
  file_planned = iif(file_planned = :digest, '', file_planned)
WHERE id = :id;

-- name: take_over_skill_text
-- A person changed the file: the row says what it says.
UPDATE skills SET title = :title, description = :description, guide = :guide, disabled = :disabled,
  status = CASE file_state WHEN 'deleted' THEN 'active' ELSE status END,
  archived_at = CASE file_state WHEN 'deleted' THEN NULL ELSE archived_at END, given_up = given_up AND file_state <> 'deleted',
  file_digest = :digest, file_words = :words, file_planned = '', file_planned_before = '', file_state = 'edited',
  before_deletion = '{}', provenance = 'owner', edited_at = :now, updated_at = :now, vec = NULL
WHERE id = :id;

-- name: take_over_skill_switch
-- A person switched a skill on or off in its file, or changed lines of its head that are not ours. What the row says
-- by now and the file does not yet is still to be written.
UPDATE skills SET disabled = :disabled, file_digest = :digest, file_words = :words, updated_at = :now,
  file_planned = iif(file_planned = '', '', 'due'), file_planned_before = '',
  file_state = iif(file_state = 'none', iif(edited_at IS NULL, 'ours', 'edited'), file_state)
WHERE id = :id;

-- name: restore_skill_file
-- A person put a deleted file back: the skill is as it was. What the row says by now is written into a file of ours.
UPDATE skills SET status = coalesce(before_deletion ->> 'status', 'active'),
  archived_at = before_deletion ->> 'archived_at', file_state = coalesce(before_deletion ->> 'file_state', 'edited'),
  before_deletion = '{}', disabled = :disabled, file_digest = :digest, file_words = :words,
  file_planned = iif(before_deletion ->> 'file_state' = 'ours' OR file_planned <> '', 'due', ''), updated_at = :now
WHERE id = :id;

-- name: hold_broken_skill_file
-- A person's file cannot be read as a skill: it is theirs all the same.
UPDATE skills SET file_state = 'edited', edited_at = :now, updated_at = :now
WHERE id = :id AND file_state NOT IN ('edited', 'deleted');

-- name: skill_file_deleted
-- A person deleted the file: the skill is given up for good, unless the file comes back.
UPDATE skills SET status = 'archived', file_state = 'deleted', file_planned = '', file_planned_before = '',
  before_deletion = json_object('status', status, 'archived_at', archived_at, 'file_state', file_state),
  archived_at = coalesce(archived_at, :now), updated_at = :now
WHERE id = :id;

-- name: rename_skill
-- A person renamed the folder.
UPDATE skills SET name = :name, updated_at = :now WHERE id = :id;

-- name: skills_without_vectors
-- Skills that cannot be found by meaning yet.
SELECT * FROM skills WHERE agent = :agent AND status <> 'archived' AND vec IS NULL ORDER BY id LIMIT :limit;

-- name: set_skill_vector
-- By what a skill is found; nothing happens when it has changed since.
UPDATE skills SET vec = :vec WHERE id = :id AND updated_at = :updated_at;

-- name: note_skill_exposure
-- A skill was shown in a turn; once.
INSERT OR IGNORE INTO skill_events (skill_id, at, kind, session_id, turn_id, outcome)
SELECT id, :now, 'exposure', :session_id, :turn_id, 'pending' FROM skills WHERE id = :skill_id AND agent = :agent;

-- name: note_skill_use
-- A skill was fetched or followed in a turn; once.
INSERT OR IGNORE INTO skill_events (skill_id, at, kind, session_id, turn_id, detail)
SELECT id, :now, 'use', :session_id, :turn_id, :detail FROM skills WHERE id = :skill_id AND agent = :agent;

-- name: count_skill_exposure
-- One turn more that a skill was shown in.
UPDATE skills SET exposures = exposures + 1 WHERE id = :skill_id;

-- name: count_skill_use
-- One turn more that used a skill.
UPDATE skills SET uses = uses + 1, last_used_at = max(coalesce(last_used_at, 0), :now) WHERE id = :skill_id;

-- name: note_skill_event
-- Something happened to a skill.
INSERT INTO skill_events (skill_id, at, kind, task_id, outcome, detail)
VALUES (:skill_id, :now, :kind, :task_id, :outcome, :detail);

-- name: skill_events_of_task
-- In which turns of a task skills were shown and used, and where in the transcript these turns begin.
SELECT events.skill_id, events.kind, events.turn_id, min(messages.seq) AS seq
FROM episodes
JOIN episode_spans AS spans ON spans.episode_id = episodes.id
JOIN messages ON messages.session_id = spans.session_id AND messages.seq BETWEEN spans.first_seq AND spans.last_seq
JOIN skill_events AS events ON events.turn_id = messages.turn_id
WHERE episodes.task_id = :task_id AND events.kind IN ('exposure', 'use')
GROUP BY events.skill_id, events.kind, events.turn_id
ORDER BY seq, events.skill_id LIMIT :limit;

-- name: skill_calls_of_task
-- The steps of a task that called tools, in order, with the turns they belong to.
SELECT traces.first_seq AS seq, traces.tool_calls, traces.session_id, messages.turn_id
FROM traces
LEFT JOIN messages ON messages.session_id = traces.session_id AND messages.seq = traces.first_seq
WHERE traces.task_id = :task_id AND traces.tool_calls <> '[]'
ORDER BY traces.at LIMIT :limit;

-- name: resolve_skill_exposures
-- What became of a skill's exposures in the turns of a task.
UPDATE skill_events SET outcome = :outcome, task_id = :task_id
WHERE skill_id = :skill_id AND kind = 'exposure' AND turn_id IN (SELECT value FROM json_each(:turns));

-- name: find_skill_trial
-- How a task spoke of a skill.
SELECT id, outcome FROM skill_events WHERE skill_id = :skill_id AND task_id = :task_id AND kind = 'trial';

-- name: change_skill_trial
-- A task that was scored again speaks of a skill anew.
UPDATE skill_events SET outcome = :outcome, detail = :detail, at = :now WHERE id = :id;

-- name: skill_drifted
-- Whether a task has moved a skill that it did not use.
SELECT count(*) FROM skill_events
WHERE skill_id = :skill_id AND task_id = :task_id AND kind = 'drift';

-- name: skills_near_task
-- The skills in use that were made of policies which the steps of a task follow.
WITH followed (policy_id) AS MATERIALIZED (
  SELECT DISTINCT links.policy_id FROM traces JOIN trace_policy_links AS links ON links.trace_id = traces.id
  WHERE traces.task_id = :task_id
)
SELECT * FROM skills
WHERE agent = :agent AND status <> 'archived'
  AND EXISTS (SELECT 1 FROM json_each(skills.policies) AS made WHERE made.value IN (SELECT policy_id FROM followed))
ORDER BY id LIMIT :limit;

-- name: set_skill_score
-- How a skill is doing.
UPDATE skills SET eta = :eta, trials = :trials, passes = :passes, updated_at = :now WHERE id = :id;

-- name: set_skill_status
-- A skill is taken up or given up.
UPDATE skills SET status = :status, archived_at = CASE :status WHEN 'archived' THEN :now END, updated_at = :now
WHERE id = :id;

-- name: archive_skill_for_good
-- A person gave a skill up: it is not made anew.
UPDATE skills SET status = 'archived', given_up = 1, archived_at = :now, updated_at = :now WHERE id = :id;

-- name: take_skill_up_again
-- A person takes a skill up again; a file that was deleted is written again. Words of a person stay theirs.
UPDATE skills SET status = 'active', given_up = 0, archived_at = NULL, updated_at = :now,
  file_digest = CASE file_state WHEN 'deleted' THEN '' ELSE file_digest END, before_deletion = '{}',
  file_state = CASE file_state WHEN 'deleted' THEN 'none' ELSE file_state END
WHERE id = :id;

-- name: switch_skill
-- A person switched a skill on or off.
UPDATE skills SET disabled = :disabled, updated_at = :now WHERE id = :id;

-- name: edit_skill
-- A person's words for a skill.
UPDATE skills SET title = :title, description = :description, guide = :guide, provenance = 'owner', edited_at = :now,
  file_state = CASE file_state WHEN 'ours' THEN 'edited' ELSE file_state END, updated_at = :now, vec = NULL
WHERE id = :id;

-- name: delete_skill
-- A skill is deleted with all that is known of it.
DELETE FROM skills WHERE id = :id;
