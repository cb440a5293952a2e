-- Learning: recall. What may be recalled of a thing is said in each query that finds it: of the same agent, neither
-- archived nor disabled, not of too little worth, and not what stands in the prompt anyway. A step is archived with its
-- task, too.

-- name: oldest_change_held
-- After which change the newest ones of a kind begin, when only so many are held.
SELECT revision FROM learned_changes WHERE agent = :agent AND kind = :kind
ORDER BY revision DESC LIMIT 1 OFFSET :held;

-- name: changed_traces
-- Steps whose vectors have changed, in the order of the changes; without vectors: not to be held any more.
SELECT c.revision, c.ref, t.session_id, t.last_seq, t.vec_summary, t.vec_action
FROM learned_changes AS c
LEFT JOIN traces AS t ON t.id = c.ref AND t.archived_at IS NULL AND (t.value > 0 OR :low)
  AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = t.task_id AND archived_at IS NOT NULL)
WHERE c.agent = :agent AND c.kind = 'trace' AND c.revision > :after
ORDER BY c.revision LIMIT :limit;

-- name: changed_policies
-- As `changed_traces`, of policies.
SELECT c.revision, c.ref, '', 0, p.vec, NULL
FROM learned_changes AS c
LEFT JOIN policies AS p ON p.id = c.ref AND p.status = 'active' AND p.archived_at IS NULL
WHERE c.agent = :agent AND c.kind = 'policy' AND c.revision > :after
ORDER BY c.revision LIMIT :limit;

-- name: changed_world_models
-- As `changed_traces`, of world models.
SELECT c.revision, c.ref, '', 0, w.vec, NULL
FROM learned_changes AS c
LEFT JOIN world_models AS w ON w.id = c.ref AND w.status = 'active' AND w.archived_at IS NULL
  AND w.confidence >= :confidence_min
WHERE c.agent = :agent AND c.kind = 'world' AND c.revision > :after
ORDER BY c.revision LIMIT :limit;

-- name: changed_skills
-- As `changed_traces`, of skills.
SELECT c.revision, c.ref, '', 0, s.vec, NULL
FROM learned_changes AS c
LEFT JOIN skills AS s ON s.id = c.ref AND s.status <> 'archived' AND s.archived_at IS NULL AND NOT s.disabled
  AND s.eta >= :eta_min
WHERE c.agent = :agent AND c.kind = 'skill' AND c.revision > :after
ORDER BY c.revision LIMIT :limit;

-- name: kinds_learned
-- Of which kinds an agent has learned anything that may be recalled: most have nothing, at first.
SELECT
  EXISTS (SELECT 1 FROM traces WHERE agent = :agent AND value > 0)
    OR (:low AND EXISTS (SELECT 1 FROM traces WHERE agent = :agent)) AS trace,
  EXISTS (SELECT 1 FROM policies WHERE agent = :agent AND status = 'active') AS policy,
  EXISTS (SELECT 1 FROM world_models WHERE agent = :agent AND status = 'active') AS world,
  EXISTS (SELECT 1 FROM skills WHERE agent = :agent AND status IN ('candidate', 'active')) AS skill;

-- name: history_in_view
-- The first message of a session that its prompts show.
SELECT history_start FROM sessions WHERE id = :session_id;

-- name: recalled_traces
-- Steps by id.
SELECT t.* FROM traces AS t
WHERE t.id IN (SELECT value FROM json_each(:ids)) AND t.agent = :agent AND t.archived_at IS NULL
  AND (t.value > 0 OR :low) AND NOT (t.session_id = :session_id AND t.last_seq >= :visible_from)
  AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = t.task_id AND archived_at IS NOT NULL);

-- name: recalled_policies
-- Policies by id.
SELECT p.* FROM policies AS p
WHERE p.id IN (SELECT value FROM json_each(:ids)) AND p.agent = :agent AND p.status = 'active'
  AND p.archived_at IS NULL;

-- name: recalled_world_models
-- World models by id.
SELECT w.* FROM world_models AS w
WHERE w.id IN (SELECT value FROM json_each(:ids)) AND w.agent = :agent AND w.status = 'active'
  AND w.archived_at IS NULL AND w.confidence >= :confidence_min;

-- name: recalled_skills
-- Skills by id.
SELECT s.* FROM skills AS s
WHERE s.id IN (SELECT value FROM json_each(:ids)) AND s.agent = :agent AND s.status <> 'archived'
  AND s.archived_at IS NULL AND NOT s.disabled AND s.eta >= :eta_min;

-- name: recalled_episodes
-- How episodes began, by id.
SELECT e.id, e.title FROM episodes AS e
WHERE e.id IN (SELECT value FROM json_each(:ids)) AND e.agent = :agent;

-- name: traces_with_words
-- Steps that hold all these words, the best first.
SELECT t.id FROM learned_words AS w JOIN traces AS t ON t.id = w.ref
WHERE w.learned_words MATCH :words AND w.kind = 'trace' AND w.agent = :agent AND t.archived_at IS NULL
  AND (t.value > 0 OR :low) AND NOT (t.session_id = :session_id AND t.last_seq >= :visible_from)
  AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = t.task_id AND archived_at IS NOT NULL)
ORDER BY w.rank LIMIT :limit;

-- name: policies_with_words
-- Policies that hold all these words, the best first.
SELECT p.id FROM learned_words AS w JOIN policies AS p ON p.id = w.ref
WHERE w.learned_words MATCH :words AND w.kind = 'policy' AND w.agent = :agent AND p.status = 'active'
  AND p.archived_at IS NULL
ORDER BY w.rank LIMIT :limit;

-- name: world_models_with_words
-- World models that hold all these words, the best first.
SELECT m.id FROM learned_words AS w JOIN world_models AS m ON m.id = w.ref
WHERE w.learned_words MATCH :words AND w.kind = 'world' AND w.agent = :agent AND m.status = 'active'
  AND m.archived_at IS NULL AND m.confidence >= :confidence_min
ORDER BY w.rank LIMIT :limit;

-- name: skills_with_words
-- Skills that hold all these words, the best first.
SELECT s.id FROM learned_words AS w JOIN skills AS s ON s.id = w.ref
WHERE w.learned_words MATCH :words AND w.kind = 'skill' AND w.agent = :agent AND s.status <> 'archived'
  AND s.archived_at IS NULL AND NOT s.disabled AND s.eta >= :eta_min
ORDER BY w.rank LIMIT :limit;

-- name: traces_with_terms
-- Of an agent's newest steps, those that hold most of these short terms.
SELECT id, held FROM (
  SELECT t.id, t.at, (SELECT count(*) FROM json_each(:terms) AS one WHERE instr(t.summary, one.value)
    OR instr(t.user_text, one.value) OR instr(t.agent_text, one.value) OR instr(t.reflection, one.value)) AS held
  FROM (SELECT * FROM traces WHERE agent = :agent ORDER BY at DESC LIMIT :looked_at) AS t
  WHERE t.archived_at IS NULL AND (t.value > 0 OR :low)
    AND NOT (t.session_id = :session_id AND t.last_seq >= :visible_from)
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = t.task_id AND archived_at IS NOT NULL)
) WHERE held >= :held_min ORDER BY held DESC, at DESC LIMIT :limit;

-- name: policies_with_terms
-- Of an agent's newest policies, those that hold most of these short terms.
SELECT id, held FROM (
  SELECT p.id, p.updated_at, (SELECT count(*) FROM json_each(:terms) AS one WHERE instr(p.title, one.value)
    OR instr(p.trigger_text, one.value) OR instr(p.procedure, one.value)) AS held
  FROM (SELECT * FROM policies WHERE agent = :agent AND status = 'active' ORDER BY updated_at DESC LIMIT :looked_at) AS p
  WHERE p.archived_at IS NULL
) WHERE held >= :held_min ORDER BY held DESC, updated_at DESC LIMIT :limit;

-- name: world_models_with_terms
-- Of an agent's newest world models, those that hold most of these short terms.
SELECT id, held FROM (
  SELECT m.id, m.updated_at, (SELECT count(*) FROM json_each(:terms) AS one WHERE instr(m.title, one.value)
    OR instr(m.body, one.value)) AS held
  FROM (SELECT * FROM world_models WHERE agent = :agent AND status = 'active' ORDER BY updated_at DESC
    LIMIT :looked_at) AS m
  WHERE m.archived_at IS NULL AND m.confidence >= :confidence_min
) WHERE held >= :held_min ORDER BY held DESC, updated_at DESC LIMIT :limit;

-- name: skills_with_terms
-- Of an agent's skills, those that hold most of these short terms.
SELECT id, held FROM (
  SELECT s.id, s.updated_at, (SELECT count(*) FROM json_each(:terms) AS one WHERE instr(s.title, one.value)
    OR instr(s.description, one.value) OR instr(s.guide, one.value)) AS held
  FROM (SELECT * FROM skills WHERE agent = :agent ORDER BY updated_at DESC LIMIT :looked_at) AS s
  WHERE s.status <> 'archived' AND s.archived_at IS NULL AND NOT s.disabled AND s.eta >= :eta_min
) WHERE held >= :held_min ORDER BY held DESC, updated_at DESC LIMIT :limit;

-- name: traces_with_signatures
-- Of an agent's newest steps that met an error, those whose error is one of these.
SELECT t.id FROM (
  SELECT * FROM traces WHERE agent = :agent AND signatures <> '[]' ORDER BY at DESC LIMIT :looked_at) AS t
WHERE t.archived_at IS NULL AND (t.value > 0 OR :low)
  AND NOT (t.session_id = :session_id AND t.last_seq >= :visible_from)
  AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = t.task_id AND archived_at IS NOT NULL)
  AND EXISTS (SELECT 1 FROM json_each(t.signatures) AS held JOIN json_each(:signatures) AS asked
    ON instr(lower(held.value), lower(asked.value)) OR instr(lower(asked.value), lower(held.value)))
ORDER BY t.at DESC LIMIT :limit;

-- name: guidance_of_policies
-- What policies say is to be preferred and avoided.
SELECT id, guidance, provenance FROM policies
WHERE id IN (SELECT value FROM json_each(:ids)) AND agent = :agent AND status <> 'archived' AND archived_at IS NULL
  AND guidance <> '{"preference": [], "anti_pattern": []}'
LIMIT :limit;

-- name: policies_followed_by
-- The policies that steps follow.
SELECT DISTINCT policy_id FROM trace_policy_links
WHERE trace_id IN (SELECT value FROM json_each(:ids)) LIMIT :limit;

-- name: skills_named
-- The ids of skills by their names.
SELECT id FROM skills WHERE agent = :agent AND name IN (SELECT value FROM json_each(:names));
