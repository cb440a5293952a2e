-- Learning: policies and world models, and the steps that wait to become one.

-- name: steps_of_task
-- The most valuable steps of a task, and the policies each follows that were not given up.
SELECT t.id, t.task_id, t.episode_id, t.at, t.value, t.tags, t.tool_calls, t.signatures, t.reflection, t.vec_summary,
       EXISTS (SELECT 1 FROM trace_policy_links AS l JOIN policies AS p ON p.id = l.policy_id
               WHERE l.trace_id = t.id AND p.status <> 'archived') AS linked
FROM traces AS t
WHERE t.task_id = :task_id AND t.archived_at IS NULL AND t.vec_summary IS NOT NULL AND t.value >= :value_min
ORDER BY t.value DESC, t.at, t.id LIMIT :limit;

-- name: policies_of_task
-- The policies that steps of a task follow, whatever those are worth by now.
SELECT DISTINCT l.policy_id FROM traces AS t JOIN trace_policy_links AS l ON l.trace_id = t.id
WHERE t.task_id = :task_id AND l.policy_id > :after ORDER BY l.policy_id LIMIT :limit;

-- name: policy_places
-- A page of the policies that steps may follow: what was said of an answer, and not done, is no such policy.
SELECT id, signature, vec FROM policies
WHERE agent = :agent AND id > :after AND status <> 'archived' AND vec IS NOT NULL AND skill_eligible = 1
  AND type IN ('procedural', 'success_pattern', 'repair_validated')
ORDER BY id LIMIT :limit;

-- name: policy_texts
-- A page of the policies of an agent as they are compared word by word.
SELECT id, title, trigger_text, procedure, verification, boundary FROM policies
WHERE agent = :agent AND id > :after ORDER BY id LIMIT :limit;

-- name: policy_of_evidence
-- The policy that was made of just this evidence.
SELECT * FROM policies WHERE agent = :agent AND signature = :signature AND evidence = :evidence LIMIT 1;

-- name: insert_policy
-- A new policy; the same one is not made twice.
INSERT INTO policies (id, agent, title, trigger_text, procedure, verification, boundary, status, confidence, signature,
                      evidence, source_episodes, source_traces, induced_by, vec, provenance, created_at, updated_at)
VALUES (:id, :agent, :title, :trigger, :procedure, :verification, :boundary, 'candidate', :confidence, :signature,
        :evidence, :source_episodes, :source_traces, :induced_by, :vec, :provenance, :now, :now)
ON CONFLICT (id) DO NOTHING;

-- name: merge_policy
-- A policy that was found once more: what it was found in, and what it did not say yet.
UPDATE policies SET verification = :verification, boundary = :boundary, vec = coalesce(vec, :vec),
  source_episodes = :source_episodes, source_traces = :source_traces, provenance = :provenance, updated_at = :updated_at
WHERE id = :id;

-- name: edit_policy
-- A person's words for a policy.
UPDATE policies SET title = :title, trigger_text = :trigger, procedure = :procedure, verification = :verification,
  boundary = :boundary, edited_at = :now, updated_at = :now
WHERE id = :id;

-- name: set_policy_status
-- A policy becomes active, or is given up.
UPDATE policies SET status = :status, archived_at = CASE :status WHEN 'archived' THEN :now END, updated_at = :now
WHERE id = :id AND status <> :status;

-- name: forget_policy_gain
-- The next gain of a policy is taken as it is.
UPDATE policies SET gain_known = 0, gain_of = '' WHERE id = :id;

-- name: policy_gain_of
-- The digest of the steps that a policy's gain was computed of.
SELECT gain_of FROM policies WHERE id = :id;

-- name: set_policy_gain
-- What following a policy is worth by now. Its text is as old as before.
UPDATE policies SET gain = :gain, gain_known = 1, gain_of = :gain_of, support = :support WHERE id = :id;

-- name: steps_following
-- The newest steps that follow a policy.
SELECT t.id, t.value FROM trace_policy_links AS l JOIN traces AS t ON t.id = l.trace_id
WHERE l.policy_id = :policy_id AND t.archived_at IS NULL
ORDER BY l.at DESC, l.trace_id DESC LIMIT :limit;

-- name: values_of_others
-- The values of the newest steps that do not follow a policy, of so many of all; those nobody has scored say nothing.
SELECT t.value FROM (SELECT id, at, value, r_human, archived_at FROM traces WHERE agent = :agent ORDER BY at DESC
                     LIMIT :looked_at) AS t
WHERE t.archived_at IS NULL AND (t.r_human IS NOT NULL OR t.value <> 0)
  AND NOT EXISTS (SELECT 1 FROM trace_policy_links AS l WHERE l.trace_id = t.id AND l.policy_id = :policy_id)
ORDER BY t.at DESC LIMIT :limit;

-- name: support_of_policy
-- How many different tasks show a policy, among the newest steps that follow it.
SELECT count(DISTINCT task_id) FROM (
  SELECT t.task_id FROM trace_policy_links AS l JOIN traces AS t ON t.id = l.trace_id
  WHERE l.policy_id = :policy_id AND t.archived_at IS NULL
  ORDER BY l.at DESC, l.trace_id DESC LIMIT :limit
);

-- name: policies_to_decide
-- Candidates that nothing has touched and whose gain, as it is known, decides on them.
SELECT id FROM policies
WHERE agent = :agent AND status = 'candidate' AND gain_known = 1
  AND ((gain >= :activate_gain AND support >= :activate_support) OR gain < :archive_gain OR support <= 0)
ORDER BY updated_at LIMIT :limit;

-- name: link_trace
-- A step follows a policy that is there and was not given up.
INSERT INTO trace_policy_links (trace_id, policy_id, episode_id, task_id, at)
SELECT t.id, p.id, t.episode_id, t.task_id, t.at FROM traces AS t, policies AS p
WHERE t.id = :trace_id AND p.id = :policy_id AND p.status <> 'archived' AND p.agent = t.agent
ON CONFLICT (trace_id, policy_id) DO NOTHING;

-- name: keep_candidate
-- A good step that is there still waits for others of its kind; one that waits already waits longer.
INSERT INTO l2_candidates (id, agent, signature, trace_id, episode_id, task_id, similarity, at, expires_at)
SELECT :id, :agent, :signature, t.id, :episode_id, :task_id, :similarity, :now, :expires_at
FROM traces AS t WHERE t.id = :trace_id
ON CONFLICT (id) DO UPDATE SET similarity = excluded.similarity, task_id = excluded.task_id,
  expires_at = excluded.expires_at;

-- name: drop_other_candidates
-- A step waits in one bucket only, the one it belongs to by now.
DELETE FROM l2_candidates WHERE trace_id = :trace_id AND id <> :id AND policy_id IS NULL;

-- name: stamp_candidate
-- A step no longer waits: it became part of a policy.
UPDATE l2_candidates SET policy_id = :policy_id
WHERE trace_id = :trace_id AND policy_id IS NULL AND EXISTS (SELECT 1 FROM policies WHERE id = :policy_id);

-- name: drop_expired_candidates
-- Steps that have waited long enough.
DELETE FROM l2_candidates WHERE id IN (SELECT id FROM l2_candidates WHERE expires_at <= :now
                                       ORDER BY expires_at LIMIT :limit);

-- name: count_waiting_candidates
-- How many steps of an agent wait.
SELECT count(*) FROM l2_candidates WHERE agent = :agent AND policy_id IS NULL;

-- name: drop_oldest_candidates
-- Those that have waited longest give way to newer ones.
DELETE FROM l2_candidates WHERE id IN (SELECT id FROM l2_candidates WHERE agent = :agent AND policy_id IS NULL
                                       ORDER BY expires_at, id LIMIT :limit);

-- name: ready_buckets
-- The buckets with something new of which a policy can be made, best first: one pass over the steps that wait. Each time
-- that what came of one was known already, it takes twice as many tasks.
SELECT c.signature, max(t.value) AS best, count(DISTINCT t.task_id) AS tasks
FROM l2_candidates AS c JOIN traces AS t ON t.id = c.trace_id
LEFT JOIN learning_marks AS m ON m.name = 'known_bucket:' || c.agent || ':' || c.signature
WHERE c.agent = :agent AND c.policy_id IS NULL AND c.expires_at > :now
  AND t.archived_at IS NULL AND t.vec_summary IS NOT NULL AND t.value >= :value_min
GROUP BY c.signature
HAVING sum(c.asked = '') > 0
  AND CASE WHEN m.value IS NULL THEN count(DISTINCT t.task_id) >= :tasks_min OR max(t.value) >= :single_value
           ELSE count(DISTINCT t.task_id) >= (max(:tasks_min, 2) << min(:doublings_max, json_extract(m.value, '$.times')))
      END
ORDER BY max(t.value) * count(DISTINCT t.task_id) DESC, c.signature LIMIT :limit;

-- name: bucket_members
-- The best steps that wait in a bucket: first the best of each task, so that one of many steps hides no other.
SELECT t.id, t.task_id, t.value, t.vec_summary
FROM l2_candidates AS c JOIN traces AS t ON t.id = c.trace_id
WHERE c.agent = :agent AND c.signature = :signature AND c.policy_id IS NULL AND c.expires_at > :now
  AND t.archived_at IS NULL AND t.vec_summary IS NOT NULL AND t.value >= :value_min
ORDER BY row_number() OVER (PARTITION BY t.task_id ORDER BY t.value DESC, t.at, t.id), t.value DESC, t.at, t.id
LIMIT :limit;

-- name: policy_step_became
-- The policy that a step waited to become part of, once it has.
SELECT policy_id FROM l2_candidates WHERE trace_id = :trace_id AND policy_id IS NOT NULL LIMIT 1;

-- name: mark_bucket_asked
-- A policy was asked for with what waits in a bucket; it is ready again when something new has come.
UPDATE l2_candidates SET asked = :evidence WHERE agent = :agent AND signature = :signature AND policy_id IS NULL;

-- name: built_skill_of_policy
-- The skill that was made of a policy, unless it was given up: what it was built of.
SELECT id, built_gain, built_support, built_at FROM skills
WHERE agent = :agent AND status <> 'archived' AND EXISTS (SELECT 1 FROM json_each(policies) WHERE value = :policy_id)
ORDER BY updated_at DESC LIMIT 1;

-- name: skill_job_waits
-- Whether the skill of a policy, whose jobs have keys between two, was asked for and not begun yet.
SELECT EXISTS (SELECT 1 FROM job_requests WHERE key >= :first AND key < :end AND state = 'waiting');

-- name: policies_for_worlds
-- The best policies in force, as knowledge of a domain is made of them.
SELECT * FROM policies
WHERE agent = :agent AND status = 'active' AND gain >= :gain_min AND support >= :support_min
  AND skill_eligible = 1 AND type IN ('procedural', 'success_pattern', 'repair_validated')
ORDER BY gain DESC, id LIMIT :limit;

-- name: domain_mark
-- What is remembered of a domain that world models are made of.
SELECT value FROM learning_marks WHERE name = :mark;

-- name: set_domain_mark
-- Remember something of a domain.
INSERT INTO learning_marks (name, value, at) VALUES (:mark, :value, :now)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at;

-- name: best_step_following
-- The step that shows a policy best.
SELECT t.id, t.episode_id, t.summary, t.user_text, t.agent_text, t.reflection, t.value, t.provenance
FROM trace_policy_links AS l JOIN traces AS t ON t.id = l.trace_id
WHERE l.policy_id = :policy_id AND t.archived_at IS NULL ORDER BY t.value DESC, t.at DESC, t.id LIMIT 1;

-- name: worlds_of_agent
-- The world models of an agent that changed last, those that were given up among them.
SELECT * FROM world_models WHERE agent = :agent ORDER BY updated_at DESC, id LIMIT :limit;

-- name: insert_world_model
-- A new world model; the same one is not made twice.
INSERT INTO world_models (id, agent, title, body, structure, domain, domain_tags, confidence, members, policies,
                          source_episodes, induced_by, vec, status, provenance, created_at, updated_at)
VALUES (:id, :agent, :title, :body, :structure, :domain, :domain_tags, :confidence, :members, :policies,
        :source_episodes, :induced_by, :vec, 'active', :provenance, :now, :now)
ON CONFLICT (id) DO NOTHING;

-- name: replace_world_model
-- A world model as it is after something was added to it.
UPDATE world_models SET title = :title, body = :body, structure = :structure, domain_tags = :domain_tags,
  confidence = :confidence, members = :members, policies = :policies, source_episodes = :source_episodes,
  induced_by = :induced_by, vec = :vec, provenance = :provenance, version = version + 1, updated_at = :now
WHERE id = :id;

-- name: edit_world_model
-- A person's words for a world model.
UPDATE world_models SET title = :title, body = :body, version = version + 1, edited_at = :now, updated_at = :now
WHERE id = :id;

-- name: set_world_status
-- A world model is given up, or taken back.
UPDATE world_models SET status = :status, archived_at = CASE :status WHEN 'archived' THEN :now END, updated_at = :now
WHERE id = :id AND status <> :status;

-- name: set_world_confidence
-- How certain a world model is.
UPDATE world_models SET confidence = :confidence, updated_at = :now WHERE id = :id;
