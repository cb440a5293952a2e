-- Learning as it is looked at and changed by people: pages, items, explanations, figures, edits.
--
-- A page is found by looking at a bounded stretch of rows, the newest first, from a place on; filters apply to that
-- stretch. `place_of_…` is where a row stands, `end_of_…` where a stretch of so many rows ends.

-- name: place_of_episodes
-- Where an episode stands in the list.
SELECT opened_at AS at, id FROM episodes WHERE id = :id;

-- name: end_of_episodes
-- The last row of a stretch.
SELECT opened_at AS at, id FROM episodes WHERE agent = :agent AND (opened_at, id) < (:at, :id)
ORDER BY opened_at DESC, id DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_episodes
-- Episodes of a stretch that pass the filters, the newest first.
SELECT e.id, e.task_id, e.continues_id, e.agent, e.session_id, e.session_key, e.state, e.opened_at, e.last_at,
       e.closed_at, e.opened_for, e.closed_for, e.provisional, e.entries, e.exchanges, e.steps, e.tokens, e.title,
       t.state AS task_state, t.r_human, t.origin, t.provenance, t.archived_at
FROM (SELECT id FROM episodes WHERE agent = :agent AND (opened_at, id) < (:at, :id)
      ORDER BY opened_at DESC, id DESC LIMIT :looked_at) AS seen
JOIN episodes AS e ON e.id = seen.id JOIN tasks AS t ON t.id = e.task_id
WHERE (:status = '' OR :status = CASE WHEN :status IN ('ended', 'scored', 'skipped') THEN t.state
                                      WHEN :status = 'provisional' THEN iif(e.provisional, 'provisional', '')
                                      WHEN :status = 'archived' THEN iif(t.archived_at IS NULL, '', 'archived')
                                      ELSE e.state END)
  AND (:pattern IS NULL OR e.title LIKE :pattern ESCAPE '\' OR e.session_key LIKE :pattern ESCAPE '\')
ORDER BY e.opened_at DESC, e.id DESC LIMIT :limit;

-- name: place_of_traces
-- Where a trace stands in the list.
SELECT at, id FROM traces WHERE id = :id;

-- name: end_of_traces
-- The last row of a stretch.
SELECT at, id FROM traces WHERE agent = :agent AND (at, id) < (:at, :id)
ORDER BY at DESC, id DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_traces
-- Traces of a stretch that pass the filters, the newest first.
SELECT t.id, t.task_id, t.episode_id, t.agent, t.session_id, t.first_seq, t.last_seq, t.step, t.at, t.window,
       substr(t.user_text, 1, :chars) AS user_text, substr(t.agent_text, 1, :chars) AS agent_text, t.summary,
       substr(t.reflection, 1, :chars) AS reflection, t.usable, t.alpha, t.value, t.r_human, t.priority, t.tags,
       t.signatures, t.failed, t.vec_summary IS NOT NULL AS has_vector, t.provenance, t.edited_at, t.archived_at
FROM (SELECT id FROM traces WHERE agent = :agent AND (at, id) < (:at, :id)
      ORDER BY at DESC, id DESC LIMIT :looked_at) AS seen
JOIN traces AS t ON t.id = seen.id
WHERE (:status = '' OR CASE :status WHEN 'active' THEN t.archived_at IS NULL WHEN 'archived' THEN t.archived_at IS NOT NULL
                                    WHEN 'failed' THEN t.failed ELSE t.usable IS NULL END)
  AND (:match IS NULL OR t.id IN (SELECT ref FROM learned_words WHERE learned_words MATCH :match))
  AND (:pattern IS NULL OR t.summary LIKE :pattern ESCAPE '\')
ORDER BY t.at DESC, t.id DESC LIMIT :limit;

-- name: place_of_policies
-- Where a policy stands in the list.
SELECT created_at AS at, id FROM policies WHERE id = :id;

-- name: end_of_policies
-- The last row of a stretch.
SELECT created_at AS at, id FROM policies WHERE agent = :agent AND (created_at, id) < (:at, :id)
ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_policies
-- Policies of a stretch that pass the filters, the newest first.
SELECT p.id, p.agent, p.title, substr(p.trigger_text, 1, :chars) AS trigger_text, p.support, p.gain, p.gain_known,
       p.status, p.type, p.polarity, p.salience, p.confidence, p.signature, p.skill_eligible,
       p.vec IS NOT NULL AS has_vector, p.provenance, p.created_at, p.updated_at, p.edited_at, p.archived_at
FROM (SELECT id FROM policies WHERE agent = :agent AND (created_at, id) < (:at, :id)
      ORDER BY created_at DESC, id DESC LIMIT :looked_at) AS seen
JOIN policies AS p ON p.id = seen.id
WHERE (:status = '' OR p.status = :status)
  AND (:match IS NULL OR p.id IN (SELECT ref FROM learned_words WHERE learned_words MATCH :match))
  AND (:pattern IS NULL OR p.title LIKE :pattern ESCAPE '\')
ORDER BY p.created_at DESC, p.id DESC LIMIT :limit;

-- name: place_of_world_models
-- Where a world model stands in the list.
SELECT created_at AS at, id FROM world_models WHERE id = :id;

-- name: end_of_world_models
-- The last row of a stretch.
SELECT created_at AS at, id FROM world_models WHERE agent = :agent AND (created_at, id) < (:at, :id)
ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_world_models
-- World models of a stretch that pass the filters, the newest first.
SELECT w.id, w.agent, w.title, substr(w.body, 1, :chars) AS body, w.domain, w.domain_tags, w.confidence, w.policies,
       w.status, w.version, w.vec IS NOT NULL AS has_vector, w.provenance, w.created_at, w.updated_at, w.edited_at,
       w.archived_at
FROM (SELECT id FROM world_models WHERE agent = :agent AND (created_at, id) < (:at, :id)
      ORDER BY created_at DESC, id DESC LIMIT :looked_at) AS seen
JOIN world_models AS w ON w.id = seen.id
WHERE (:status = '' OR w.status = :status)
  AND (:match IS NULL OR w.id IN (SELECT ref FROM learned_words WHERE learned_words MATCH :match))
  AND (:pattern IS NULL OR w.title LIKE :pattern ESCAPE '\')
ORDER BY w.created_at DESC, w.id DESC LIMIT :limit;

-- name: place_of_skills
-- Where a skill stands in the list.
SELECT created_at AS at, id FROM skills WHERE id = :id;

-- name: end_of_skills
-- The last row of a stretch.
SELECT created_at AS at, id FROM skills WHERE agent = :agent AND (created_at, id) < (:at, :id)
ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_skills
-- Skills of a stretch that pass the filters, the newest first.
SELECT s.id, s.agent, s.name, s.title, s.status, s.disabled, s.description, s.eta, s.support, s.gain, s.exposures,
       s.uses, s.trials, s.passes, s.version, s.file_state, s.vec IS NOT NULL AS has_vector, s.provenance,
       s.created_at, s.updated_at, s.built_at, s.edited_at, s.archived_at, s.last_used_at
FROM (SELECT id FROM skills WHERE agent = :agent AND (created_at, id) < (:at, :id)
      ORDER BY created_at DESC, id DESC LIMIT :looked_at) AS seen
JOIN skills AS s ON s.id = seen.id
WHERE (:status = '' OR iif(:status = 'disabled', s.disabled, s.status = :status))
  AND (:match IS NULL OR s.id IN (SELECT ref FROM learned_words WHERE learned_words MATCH :match))
  AND (:pattern IS NULL OR s.name LIKE :pattern ESCAPE '\' OR s.title LIKE :pattern ESCAPE '\')
ORDER BY s.created_at DESC, s.id DESC LIMIT :limit;

-- name: place_of_feedback
-- Where a piece of feedback stands in the list.
SELECT at, id FROM feedback WHERE id = :id;

-- name: end_of_feedback
-- The last row of a stretch.
SELECT at, id FROM feedback WHERE agent = :agent AND (at, id) < (:at, :id)
ORDER BY at DESC, id DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_feedback
-- Feedback of a stretch that passes the filters, the newest first.
SELECT f.id, f.agent, f.at, f.session_id, f.turn_id, f.task_id, f.episode_id, f.trace_id, f.skill_id, f.channel,
       f.polarity, f.magnitude, f.confidence, f.shape, substr(f.text, 1, :chars) AS text, f.prefer, f.avoid, f.seq,
       f.classified_by, f.provenance
FROM (SELECT id FROM feedback WHERE agent = :agent AND (at, id) < (:at, :id)
      ORDER BY at DESC, id DESC LIMIT :looked_at) AS seen
JOIN feedback AS f ON f.id = seen.id
WHERE (:status = '' OR :status IN (f.polarity, f.channel))
  AND (:pattern IS NULL OR f.text LIKE :pattern ESCAPE '\')
ORDER BY f.at DESC, f.id DESC LIMIT :limit;

-- name: place_of_jobs
-- Where a job stands in the list.
SELECT requested_at AS at, key AS id FROM job_requests WHERE key = :id;

-- name: end_of_jobs
-- The last row of a stretch; jobs of all agents stand in one list.
SELECT requested_at AS at, key AS id FROM job_requests WHERE (requested_at, key) < (:at, :id)
ORDER BY requested_at DESC, key DESC LIMIT 1 OFFSET :looked_at - 1;

-- name: page_of_jobs
-- Jobs of a stretch that pass the filters, those asked for last first.
SELECT j.key AS id, j.kind, j.lane, j.agent, j.episode_id, j.task_id, j.state, j.run, j.attempts, j.attempts_max,
       j.put_backs, j.not_before, j.waits_for, j.requested_at, j.updated_at, j.started_at, j.ended_at, j.error
FROM (SELECT key FROM job_requests WHERE (requested_at, key) < (:at, :id)
      ORDER BY requested_at DESC, key DESC LIMIT :looked_at) AS seen
JOIN job_requests AS j ON j.key = seen.key
WHERE (:status = '' OR j.state = :status) AND (:agent = '' OR j.agent = :agent)
  AND (:pattern IS NULL OR j.key LIKE :pattern ESCAPE '\' OR j.kind LIKE :pattern ESCAPE '\')
ORDER BY j.requested_at DESC, j.key DESC LIMIT :limit;

-- name: item_of_episodes
-- An episode with its task.
SELECT e.*, t.state AS task_state, t.r_human, t.reward, t.origin, t.provenance, t.archived_at
FROM episodes AS e JOIN tasks AS t ON t.id = e.task_id WHERE e.id = :id;

-- name: item_of_traces
-- A trace, without its vectors.
SELECT id, task_id, episode_id, agent, session_id, first_seq, last_seq, turn_seq, step, at, window, user_text,
       agent_text, thinking, summary, tool_calls, reflection, usable, alpha, value, r_human, priority, tags, signatures,
       failed, vec_summary IS NOT NULL AS has_vector, provenance, edited_at, archived_at
FROM traces WHERE id = :id;

-- name: item_of_policies
-- A policy, without its vector.
SELECT id, agent, title, trigger_text, procedure, verification, boundary, support, gain, gain_known, status, type,
       polarity, salience, confidence, signature, source_episodes, source_feedback, source_traces, induced_by, guidance,
       verifier, skill_eligible, vec IS NOT NULL AS has_vector, provenance, created_at, updated_at, edited_at,
       archived_at
FROM policies WHERE id = :id;

-- name: item_of_world_models
-- A world model, without its vector.
SELECT id, agent, title, body, structure, domain, domain_tags, confidence, policies, source_episodes, induced_by,
       status, version, vec IS NOT NULL AS has_vector, provenance, created_at, updated_at, edited_at, archived_at
FROM world_models WHERE id = :id;

-- name: item_of_skills
-- A skill, without its vector.
SELECT id, agent, name, title, status, disabled, description, guide, draft, tools, eta, support, gain, exposures, uses,
       trials, passes, version, policies, worlds, anchors, built_gain, built_support, built_at, file_state, induced_by,
       vec IS NOT NULL AS has_vector, provenance, created_at, updated_at, edited_at, archived_at, last_used_at
FROM skills WHERE id = :id;

-- name: item_of_feedback
-- A piece of feedback.
SELECT * FROM feedback WHERE id = :id;

-- name: item_of_jobs
-- A job.
SELECT key AS id, kind, lane, agent, episode_id, task_id, payload, state, run, attempts, attempts_max, put_backs,
       not_before, waits_for, requested_at, updated_at, started_at, ended_at, error, result
FROM job_requests WHERE key = :id;

-- name: spans_of_episode
-- Which messages an episode holds.
SELECT session_id, first_seq, last_seq FROM episode_spans WHERE episode_id = :id ORDER BY first_seq LIMIT :limit;

-- name: episodes_of_task
-- The episodes of a task, in order.
SELECT id, continues_id, state, opened_for, closed_for, opened_at, closed_at, title FROM episodes
WHERE task_id = :id ORDER BY opened_at LIMIT :limit;

-- name: task_shown
-- A task as it is shown.
SELECT id, agent, session_id, session_key, origin, state, started_at, ended_at, ended_for, endings, r_human, reward,
       provenance, archived_at
FROM tasks WHERE id = :id;

-- name: routings_of_episode
-- What was decided of the messages of an episode, and why; a later decision after the one it corrects.
SELECT id, at, session_id, seq, source, relation, confidence, classified_by, signal, reason, action, forced, state,
       corrects, before_id, gap_ms, duration_ms, attempts, intent
FROM routings WHERE episode_id = :id ORDER BY id LIMIT :limit;

-- name: windows_of_episode
-- The reflection windows of an episode.
SELECT number, steps, state, closed_at, reflected_at, reflected_by, note FROM reflection_windows
WHERE episode_id = :id ORDER BY number LIMIT :limit;

-- name: steps_of_episode
-- The steps of an episode and what they were worth.
SELECT id, session_id, first_seq, last_seq, step, at, window, summary, usable, alpha, value, priority, failed,
       archived_at
FROM traces WHERE episode_id = :id ORDER BY window, at LIMIT :limit;

-- name: steps_named
-- Steps by their ids.
SELECT id, task_id, episode_id, session_id, first_seq, last_seq, at, summary, alpha, value, failed FROM traces
WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY at LIMIT :limit;

-- name: episodes_named
-- Episodes by their ids, with what their tasks came to.
SELECT e.id, e.task_id, e.session_id, e.opened_at, e.title, t.state AS task_state, t.r_human
FROM episodes AS e JOIN tasks AS t ON t.id = e.task_id
WHERE e.id IN (SELECT value FROM json_each(:ids)) ORDER BY e.opened_at LIMIT :limit;

-- name: spans_named
-- Which messages some episodes hold.
SELECT episode_id, session_id, first_seq, last_seq FROM episode_spans
WHERE episode_id IN (SELECT value FROM json_each(:ids)) ORDER BY first_seq LIMIT :limit;

-- name: feedback_named
-- Feedback by its ids.
SELECT id, at, channel, polarity, magnitude, shape, text FROM feedback
WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY at LIMIT :limit;

-- name: policies_named
-- Policies by their ids.
SELECT id, title, status, gain, support FROM policies
WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY created_at LIMIT :limit;

-- name: world_models_named
-- World models by their ids.
SELECT id, title, status, confidence FROM world_models
WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY created_at LIMIT :limit;

-- name: feedback_of_task
-- What was said of a task.
SELECT id, at, trace_id, episode_id, channel, polarity, magnitude, shape, text, classified_by FROM feedback
WHERE task_id = :id ORDER BY at LIMIT :limit;

-- name: jobs_of_task
-- The jobs of a task.
SELECT key AS id, kind, state, attempts, not_before, waits_for, requested_at, ended_at, error FROM job_requests
WHERE task_id = :id ORDER BY requested_at LIMIT :limit;

-- name: jobs_of_episode
-- The jobs of an episode.
SELECT key AS id, kind, state, attempts, not_before, waits_for, requested_at, ended_at, error FROM job_requests
WHERE episode_id = :id ORDER BY requested_at LIMIT :limit;

-- name: spend_of_task
-- What a task cost, by kind of job.
SELECT kind, count(*) AS calls, sum(tokens_in + tokens_out) AS tokens, sum(money) AS money
FROM (SELECT kind, tokens_in, tokens_out, money FROM model_calls WHERE task_id = :id LIMIT :limit)
GROUP BY kind ORDER BY kind;

-- name: calls_of_job
-- The calls of a model that a job made.
SELECT op, at, ended_at, state, model, tokens_in, tokens_out, money, error FROM model_calls
WHERE job_key = :id AND job_key <> '' ORDER BY at LIMIT :limit;

-- name: trail_of
-- What happened to a thing, the newest last.
SELECT at, stage, ref, outcome, reason, detail FROM
  (SELECT * FROM learning_trail WHERE ref = :id AND ref <> '' ORDER BY id DESC LIMIT :limit) ORDER BY id;

-- name: trail_of_task
-- What happened to a task and all that was made of it, the newest last.
SELECT at, stage, ref, outcome, reason, detail FROM
  (SELECT * FROM learning_trail WHERE task_id = :id ORDER BY id DESC LIMIT :limit) ORDER BY id;

-- name: trail_of_episode
-- What happened to an episode, the newest last; what names its task as well is of the task.
SELECT at, stage, ref, outcome, reason, detail FROM
  (SELECT * FROM learning_trail WHERE episode_id = :id AND task_id IS NULL ORDER BY id DESC LIMIT :limit) ORDER BY id;

-- name: policies_of_trace
-- The policies that a trace follows.
SELECT p.id, p.title, p.status, p.gain, l.at FROM trace_policy_links AS l JOIN policies AS p ON p.id = l.policy_id
WHERE l.trace_id = :id ORDER BY l.at LIMIT :limit;

-- name: candidates_of_trace
-- Where a trace waits for others, or what became of that.
SELECT signature, similarity, policy_id, at, expires_at FROM l2_candidates WHERE trace_id = :id ORDER BY at LIMIT :limit;

-- name: with_set
-- The newest traces that follow a policy, as its gain is made of them.
SELECT t.id, t.task_id, t.episode_id, t.session_id, t.first_seq, t.last_seq, t.at, t.summary, t.alpha, t.value, t.failed
FROM trace_policy_links AS l JOIN traces AS t ON t.id = l.trace_id
WHERE l.policy_id = :id AND t.archived_at IS NULL ORDER BY l.at DESC, l.trace_id DESC LIMIT :limit;

-- name: without_set
-- The newest scored traces that do not follow a policy, as its gain is made of them.
SELECT t.id, t.task_id, t.episode_id, t.session_id, t.first_seq, t.last_seq, t.at, t.summary, t.alpha, t.value, t.failed
FROM traces AS t
WHERE t.agent = :agent AND t.archived_at IS NULL AND (t.r_human IS NOT NULL OR t.value <> 0)
  AND NOT EXISTS (SELECT 1 FROM trace_policy_links AS l WHERE l.trace_id = t.id AND l.policy_id = :id)
ORDER BY t.at DESC LIMIT :limit;

-- name: skills_of_policy
-- The skills that were made of a policy, among an agent's newest.
SELECT id, name, status, disabled, eta, version FROM
  (SELECT * FROM skills WHERE agent = :agent ORDER BY created_at DESC LIMIT :looked_at) AS s
WHERE EXISTS (SELECT 1 FROM json_each(s.policies) WHERE value = :id) ORDER BY created_at, id LIMIT :limit;

-- name: worlds_of_policy
-- The world models that rest on a policy, among an agent's newest.
SELECT id, title, status, confidence FROM
  (SELECT * FROM world_models WHERE agent = :agent ORDER BY created_at DESC LIMIT :looked_at) AS w
WHERE EXISTS (SELECT 1 FROM json_each(w.policies) WHERE value = :id) ORDER BY created_at, id LIMIT :limit;

-- name: events_of_skill
-- What happened to a skill, the newest last.
SELECT at, kind, session_id, turn_id, task_id, outcome, detail FROM
  (SELECT * FROM skill_events WHERE skill_id = :id ORDER BY id DESC LIMIT :limit) ORDER BY id;

-- name: spent_in
-- What was spent in an hour or a day, by kind; kind '' is all of it.
SELECT kind, calls, tokens, money FROM learning_spend WHERE span = :span AND name = :name ORDER BY kind LIMIT :limit;

-- name: job_figures
-- How many jobs are in each lane and state, as `jobs.LANE.STATE`.
SELECT name, total FROM tally WHERE name >= 'jobs.' AND name < 'jobs/' AND total > 0 ORDER BY name;

-- name: next_of_lane
-- When the job of a lane that waits least may begin.
SELECT not_before FROM job_requests WHERE state = 'waiting' AND lane = :lane ORDER BY not_before, requested_at LIMIT 1;

-- name: why_jobs_wait
-- What jobs wait for, and until when, among those that are due first in all lanes.
SELECT waits_for, count(*) AS jobs, min(not_before) AS until FROM
  (SELECT waits_for, not_before FROM job_requests WHERE state = 'waiting' AND lane = :lane
   ORDER BY not_before, requested_at LIMIT :looked_at)
WHERE waits_for <> '' AND not_before > :now GROUP BY waits_for ORDER BY waits_for LIMIT :limit;

-- name: jobs_under_way
-- The jobs that run.
SELECT key AS id, kind, lane, state, started_at, updated_at FROM job_requests
WHERE state IN ('dispatched', 'running') ORDER BY updated_at LIMIT :limit;

-- name: permits_held
-- How many background calls of a model are made now.
SELECT count(*) FROM model_permits WHERE until > :now;

-- name: pauses_now
-- Servers that are not asked now.
SELECT provider, until, kind, reason, since FROM provider_pauses WHERE until > :now ORDER BY until LIMIT :limit;

-- name: jobs_by_minute
-- How many jobs were asked for in each minute since an instant.
SELECT requested_at / 60000 AS minute, count(*) AS total FROM job_requests WHERE requested_at >= :since
GROUP BY minute ORDER BY minute;

-- name: calls_by_minute
-- How many calls of a model were made in each minute since an instant.
SELECT at / 60000 AS minute, count(*) AS total FROM model_calls WHERE at >= :since GROUP BY minute ORDER BY minute;

-- name: unusable_answers
-- Of the calls since an instant, counted up to a bound: how many were answered, how many answers were of no use, and
-- the last of these.
WITH answers AS (
  SELECT op, error, at FROM model_calls WHERE at >= :since AND state = 'answered' ORDER BY at DESC LIMIT :looked_at
)
SELECT (SELECT count(*) FROM answers) AS answers, count(*) AS unusable, op, error, max(at) AS at FROM answers
WHERE error IS NOT NULL;

-- name: learned_figures
-- How much was learned, each counted as far as `most`.
SELECT (SELECT count(*) FROM (SELECT 1 FROM episodes LIMIT :most)) AS episodes,
       (SELECT count(*) FROM (SELECT 1 FROM traces LIMIT :most)) AS traces,
       (SELECT count(*) FROM (SELECT 1 FROM policies LIMIT :most)) AS policies,
       (SELECT count(*) FROM (SELECT 1 FROM world_models LIMIT :most)) AS world_models,
       (SELECT count(*) FROM (SELECT 1 FROM skills LIMIT :most)) AS skills,
       (SELECT count(*) FROM (SELECT 1 FROM feedback LIMIT :most)) AS feedback;

-- name: edit_trace
-- What a person wrote into a trace; its vector is made anew when its summary differs.
UPDATE traces SET vec_summary = iif(:summary IS NULL OR :summary = summary, vec_summary, NULL),
  summary = coalesce(:summary, summary), reflection = coalesce(:reflection, reflection), edited_at = :now WHERE id = :id;

-- name: archive_trace
-- Put a trace aside, or (NULL) take it back.
UPDATE traces SET archived_at = :archived_at WHERE id = :id;

-- name: guide_policy
-- What a person wrote into a policy besides its text.
UPDATE policies SET skill_eligible = coalesce(:skill_eligible, skill_eligible), guidance = coalesce(:guidance, guidance),
  edited_at = :now, updated_at = :now WHERE id = :id;

-- name: tag_world_model
-- The domain that a person sees a world model in.
UPDATE world_models SET domain_tags = :domain_tags, edited_at = :now, updated_at = :now WHERE id = :id;

-- name: archive_task
-- Put a task aside: it is never scored, its steps are not recalled. What was scored keeps its score.
UPDATE tasks SET archived_at = :now, state = iif(state = 'ended', 'skipped', state),
  reward = iif(state = 'ended', :reward, reward) WHERE id = :id;

-- name: unarchive_task
-- Take a task back; one that only a person had skipped has ended, and may be scored.
UPDATE tasks SET archived_at = NULL, state = iif(state = 'skipped' AND reward = :reward, 'ended', state),
  reward = iif(state = 'skipped' AND reward = :reward, '{}', reward) WHERE id = :id;

-- name: delete_policy
-- Delete a policy with its links.
DELETE FROM policies WHERE id = :id;

-- name: delete_world_model
-- Delete a world model.
DELETE FROM world_models WHERE id = :id;

-- name: traces_without_vector
-- Traces after a place that have words and no vector.
SELECT id, at, substr(summary, 1, :chars) AS text FROM traces
WHERE vec_summary IS NULL AND (at, id) > (:at, :id) AND trim(summary) <> '' ORDER BY at, id LIMIT :limit;

-- name: give_vector_to_traces
-- Keep the vector of a trace, unless its words are others by now.
UPDATE traces SET vec_summary = :vec WHERE id = :id AND vec_summary IS NULL AND substr(summary, 1, :chars) = :text;

-- name: policies_without_vector
-- Policies after a place that have no vector.
SELECT id, created_at AS at, substr(title || char(10) || trigger_text || char(10) || procedure, 1, :chars) AS text
FROM policies WHERE vec IS NULL AND (created_at, id) > (:at, :id) ORDER BY created_at, id LIMIT :limit;

-- name: give_vector_to_policies
-- Keep the vector of a policy, unless its words are others by now.
UPDATE policies SET vec = :vec WHERE id = :id AND vec IS NULL
  AND substr(title || char(10) || trigger_text || char(10) || procedure, 1, :chars) = :text;

-- name: world_models_without_vector
-- World models after a place that have no vector.
SELECT id, created_at AS at, substr(title || char(10) || body, 1, :chars) AS text
FROM world_models WHERE vec IS NULL AND (created_at, id) > (:at, :id) ORDER BY created_at, id LIMIT :limit;

-- name: give_vector_to_world_models
-- Keep the vector of a world model, unless its words are others by now.
UPDATE world_models SET vec = :vec WHERE id = :id AND vec IS NULL
  AND substr(title || char(10) || body, 1, :chars) = :text;
