-- Learning: what conversations were about, what each step of them was worth, and what was made of that. And the jobs
-- that do it, with what they may spend. Instants are milliseconds since 1970 UTC; vectors are float32, little endian,
-- of length 1. Ids are made of what they name (`tr_`, `po_`, …), so that the same thing has one row.

-- A task: one thing somebody wanted, over one or several episodes. It is scored once, when it has ended.
CREATE TABLE tasks (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  session_id TEXT NOT NULL,               -- may be archived by now, so no reference
  session_key TEXT NOT NULL,
  origin TEXT NOT NULL DEFAULT 'live' CHECK (origin IN ('live', 'import')),
  state TEXT NOT NULL CHECK (state IN ('open', 'ended', 'scored', 'skipped')),
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  ended_for TEXT,                         -- topic, idle, session_end
  endings INTEGER NOT NULL DEFAULT 0,     -- one that was gone on with ends again
  r_human REAL,                           -- -1 to 1; NULL: not scored
  reward TEXT NOT NULL DEFAULT '{}',      -- JSON: axes, label, reason, source, scored_at, traces; or skipped and why
  trace_set TEXT,                         -- digest of the traces that were scored
  archived_at INTEGER,                    -- a person put it aside: it is never scored, and none of its steps recalled
  provenance TEXT NOT NULL DEFAULT 'owner'
) STRICT;
CREATE TRIGGER tasks_put_aside_are_skipped AFTER UPDATE OF state ON tasks
WHEN NEW.state = 'ended' AND NEW.archived_at IS NOT NULL BEGIN
  UPDATE tasks SET state = 'skipped', reward = '{"skipped": true, "reason": "archived_by_person"}' WHERE id = NEW.id;
END;
CREATE INDEX tasks_by_agent ON tasks (agent, started_at);
CREATE INDEX tasks_by_session ON tasks (session_id, started_at);
CREATE INDEX tasks_open ON tasks (state, started_at) WHERE state = 'open';
CREATE INDEX tasks_open_by_session ON tasks (session_id) WHERE state = 'open';

-- An episode: a bounded stretch of one conversation on one task. At most one of a session is open.
CREATE TABLE episodes (
  id TEXT PRIMARY KEY,
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  continues_id TEXT REFERENCES episodes (id) ON DELETE SET NULL, -- the one a limit closed, of the same task
  agent TEXT NOT NULL,
  session_id TEXT NOT NULL,
  session_key TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'closed')),
  opened_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,               -- of its newest entry
  closed_at INTEGER,
  opened_for TEXT NOT NULL,               -- first, topic, turn_limit, step_limit, token_limit, classify_timeout, …
  closed_for TEXT,
  provisional INTEGER NOT NULL DEFAULT 0, -- 1: whether it ends here is not decided yet, and nothing is learned from it
  reopened INTEGER NOT NULL DEFAULT 0,
  entries INTEGER NOT NULL DEFAULT 0,     -- user, assistant and tool entries: its turns, as the limit counts them
  exchanges INTEGER NOT NULL DEFAULT 0,   -- user entries
  steps INTEGER NOT NULL DEFAULT 0,       -- tool calls and final replies
  tokens INTEGER NOT NULL DEFAULT 0,      -- estimated
  carry_over TEXT NOT NULL DEFAULT '',    -- what the one before it was about
  intent TEXT NOT NULL DEFAULT '{}',      -- JSON: kind, confidence, reason, by
  title TEXT NOT NULL DEFAULT ''          -- how it began, one line
) STRICT;
CREATE UNIQUE INDEX episodes_open ON episodes (session_id) WHERE state = 'open';
CREATE INDEX episodes_open_by_age ON episodes (last_at) WHERE state = 'open';
CREATE INDEX episodes_unsettled ON episodes (session_id) WHERE state = 'closed' AND provisional = 1;
CREATE INDEX episodes_by_session ON episodes (session_id, opened_at);
CREATE INDEX episodes_by_agent ON episodes (agent, opened_at);
CREATE INDEX episodes_by_task ON episodes (task_id, opened_at);
CREATE INDEX episodes_by_continued ON episodes (continues_id) WHERE continues_id IS NOT NULL;

-- Which messages of a transcript an episode holds: stretches, both ends included, of messages that were read. One that was
-- gone on with has several.
CREATE TABLE episode_spans (
  session_id TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
  PRIMARY KEY (session_id, first_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX episode_spans_by_episode ON episode_spans (episode_id, first_seq);

-- Where each new message was put and why; a later, better decision is a row of its own. Bounded: the oldest give way.
CREATE TABLE routings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  agent TEXT NOT NULL,
  session_id TEXT NOT NULL,
  seq INTEGER NOT NULL,                   -- the message
  source TEXT NOT NULL CHECK (source IN ('none', 'open_episode', 'recovered_open_topic', 'closed_episode')),
  relation TEXT NOT NULL CHECK (relation IN ('revision', 'follow_up', 'new_task', 'unknown')),
  confidence REAL NOT NULL,
  classified_by TEXT NOT NULL CHECK (classified_by IN ('rule', 'llm', 'timeout', 'default')),
  signal TEXT NOT NULL DEFAULT '',        -- the rule, or why there is no answer
  reason TEXT NOT NULL DEFAULT '',
  action TEXT NOT NULL,                   -- what was done, not what was wished
  forced TEXT NOT NULL DEFAULT '',        -- the limit that forced a boundary whatever the relation says
  state TEXT NOT NULL CHECK (state IN ('provisional', 'decided', 'superseded')),
  corrects INTEGER,                       -- the decision it takes the place of
  before_id TEXT,                         -- the episode before
  episode_id TEXT,                        -- the episode it was put into
  gap_ms INTEGER,
  duration_ms INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,    -- of deciding it again
  inputs TEXT NOT NULL DEFAULT '{}',      -- JSON: figures of the episode before; never words of a conversation
  intent TEXT NOT NULL DEFAULT '{}',      -- JSON
  feedback TEXT NOT NULL DEFAULT '{}',    -- JSON: what a model found it to say of the reply before it
  heard INTEGER NOT NULL DEFAULT 0,       -- 1: it was looked at as feedback, once it was decided where it belongs
  UNIQUE (session_id, seq, corrects)
) STRICT;
CREATE INDEX routings_by_session ON routings (session_id, seq);
CREATE INDEX routings_by_episode ON routings (episode_id);
CREATE INDEX routings_provisional ON routings (at) WHERE state = 'provisional';
CREATE INDEX routings_unheard ON routings (session_id, seq) WHERE heard = 0;
CREATE TRIGGER routings_are_bounded AFTER INSERT ON routings WHEN NEW.id % 1000 = 0 BEGIN
  DELETE FROM routings WHERE id <= NEW.id - 50000;
END;

-- The messages of a session up to this number came out of a file: they are the past, which is not learned from.
ALTER TABLE sessions ADD COLUMN restored_seq INTEGER NOT NULL DEFAULT 0;

-- How far learning has read: the log of all messages (session_id ''), and each session's transcript.
CREATE TABLE learning_cursors (
  session_id TEXT PRIMARY KEY,
  position INTEGER NOT NULL,              -- '': messages.id; else the last seq that is part of a trace or of none
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What outlives a process and has no table of its own.
CREATE TABLE learning_marks (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL,                    -- JSON
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was learned, or would have been, and is not to be taken in again: by a digest of its id.
CREATE TABLE unlearned (
  agent TEXT NOT NULL,
  name TEXT NOT NULL,
  why TEXT NOT NULL CHECK (why IN ('forgotten', 'deleted')), -- with what it came of; or by a person, itself
  at INTEGER NOT NULL,
  PRIMARY KEY (agent, name)
) STRICT, WITHOUT ROWID;

-- A trace: one step of an episode, a tool call or a final reply. The unit of learning.
CREATE TABLE traces (
  id TEXT PRIMARY KEY,
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
  agent TEXT NOT NULL,
  session_id TEXT NOT NULL,
  first_seq INTEGER NOT NULL,             -- the messages it was made of, both ends included
  last_seq INTEGER NOT NULL,
  turn_seq INTEGER NOT NULL,              -- of the user message its exchange began with
  step INTEGER NOT NULL,                  -- its place among the steps of that exchange, from 0
  at INTEGER NOT NULL,                    -- unique in its session, in the order of the steps
  window INTEGER NOT NULL,                -- of the episode's reflection windows, from 1
  user_text TEXT NOT NULL DEFAULT '',
  agent_text TEXT NOT NULL DEFAULT '',
  thinking TEXT NOT NULL DEFAULT '',
  summary TEXT NOT NULL DEFAULT '',
  tool_calls TEXT NOT NULL DEFAULT '[]',  -- JSON: name, input, output, error_code, call_id, text_before
  reflection TEXT NOT NULL DEFAULT '',
  usable INTEGER,                         -- NULL: nobody has looked at it yet
  alpha REAL NOT NULL DEFAULT 0,
  value REAL NOT NULL DEFAULT 0,
  r_human REAL,
  priority REAL NOT NULL DEFAULT 0.5,
  tags TEXT NOT NULL DEFAULT '[]',        -- JSON
  signatures TEXT NOT NULL DEFAULT '[]',  -- JSON: of errors
  failed INTEGER NOT NULL DEFAULT 0,      -- 1: its tool reported an error
  vec_summary BLOB,
  vec_action BLOB,
  digest TEXT NOT NULL,                   -- of its content
  provenance TEXT NOT NULL,
  edited_at INTEGER,
  archived_at INTEGER,
  UNIQUE (session_id, first_seq, step)
) STRICT;
CREATE INDEX traces_by_task ON traces (task_id, at);
CREATE INDEX traces_by_episode ON traces (episode_id, window, at);
CREATE INDEX traces_by_session ON traces (session_id, at);
CREATE INDEX traces_by_agent ON traces (agent, at);
CREATE INDEX traces_of_worth ON traces (agent) WHERE value > 0;
CREATE INDEX traces_without_vectors ON traces (at) WHERE vec_summary IS NULL;
CREATE INDEX traces_with_signatures ON traces (agent, at) WHERE signatures <> '[]';

-- Up to twelve steps of an episode, reflected on with one call of a model.
CREATE TABLE reflection_windows (
  episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,                -- from 1
  steps INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'reflected')),
  closed_at INTEGER,
  reflected_at INTEGER,
  reflected_by TEXT NOT NULL DEFAULT '',  -- the prompt's id, or `heuristic`
  note TEXT NOT NULL DEFAULT '',          -- why a model did not
  PRIMARY KEY (episode_id, number)
) STRICT, WITHOUT ROWID;

-- A policy (L2): when, how, how to check, where it ends. Or an experience that came of feedback.
CREATE TABLE policies (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  title TEXT NOT NULL,
  trigger_text TEXT NOT NULL DEFAULT '',
  procedure TEXT NOT NULL DEFAULT '',
  verification TEXT NOT NULL DEFAULT '',
  boundary TEXT NOT NULL DEFAULT '',
  support INTEGER NOT NULL DEFAULT 0,
  gain REAL NOT NULL DEFAULT 0,
  gain_known INTEGER NOT NULL DEFAULT 0,  -- 0: never computed, so that the first one is taken as it is
  gain_of TEXT NOT NULL DEFAULT '',       -- digest of the steps it was computed of, so that none counts twice
  status TEXT NOT NULL CHECK (status IN ('candidate', 'active', 'archived')),
  type TEXT NOT NULL DEFAULT 'procedural' CHECK (type IN ('success_pattern', 'repair_validated', 'failure_avoidance',
    'repair_instruction', 'preference', 'verifier_feedback', 'procedural')),
  polarity TEXT NOT NULL DEFAULT 'positive' CHECK (polarity IN ('positive', 'negative', 'neutral', 'mixed')),
  salience REAL NOT NULL DEFAULT 0,
  confidence REAL NOT NULL DEFAULT 0.5,
  signature TEXT NOT NULL DEFAULT '',     -- of the bucket it was induced from
  evidence TEXT NOT NULL DEFAULT '',      -- digest of the traces it was induced from
  source_episodes TEXT NOT NULL DEFAULT '[]', -- JSON
  source_feedback TEXT NOT NULL DEFAULT '[]', -- JSON
  source_traces TEXT NOT NULL DEFAULT '[]',   -- JSON
  induced_by TEXT NOT NULL DEFAULT '',    -- the prompt's id
  guidance TEXT NOT NULL DEFAULT '{"preference": [], "anti_pattern": []}', -- JSON
  verifier TEXT NOT NULL DEFAULT '{}',    -- JSON
  skill_eligible INTEGER NOT NULL DEFAULT 1,
  vec BLOB,
  history TEXT NOT NULL DEFAULT '',       -- the name it was imported under: forgotten with it
  provenance TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  edited_at INTEGER,
  archived_at INTEGER
) STRICT;
CREATE INDEX policies_by_agent ON policies (agent, status, updated_at);
CREATE INDEX policies_by_age ON policies (agent, created_at);
CREATE INDEX policies_without_vectors ON policies (created_at, id) WHERE vec IS NULL;

-- Which traces follow a policy: its with-set.
CREATE TABLE trace_policy_links (
  trace_id TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
  policy_id TEXT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
  episode_id TEXT NOT NULL,
  task_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (trace_id, policy_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX trace_policy_links_by_policy ON trace_policy_links (policy_id, at, trace_id);

-- Good traces that follow no policy yet, in buckets by signature.
CREATE TABLE l2_candidates (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  signature TEXT NOT NULL,                -- primary tag | secondary tag | tool | error code
  trace_id TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
  episode_id TEXT NOT NULL,
  task_id TEXT NOT NULL,
  similarity REAL NOT NULL DEFAULT 0,     -- to the policy that came nearest
  policy_id TEXT REFERENCES policies (id) ON DELETE CASCADE, -- the policy it became part of
  asked TEXT NOT NULL DEFAULT '',         -- digest of the evidence a policy was asked for with, when it was there
  at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX l2_candidates_by_signature ON l2_candidates (agent, signature) WHERE policy_id IS NULL;
CREATE INDEX l2_candidates_by_expiry ON l2_candidates (expires_at);
CREATE INDEX l2_candidates_by_trace ON l2_candidates (trace_id);

-- A world model (L3): what holds in a domain.
CREATE TABLE world_models (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  title TEXT NOT NULL,
  body TEXT NOT NULL DEFAULT '',
  structure TEXT NOT NULL DEFAULT '{}',   -- JSON: environment, inference, constraints; each label, description, evidence
  domain TEXT NOT NULL DEFAULT '_|_',     -- primary domain | tool
  domain_tags TEXT NOT NULL DEFAULT '[]', -- JSON
  confidence REAL NOT NULL DEFAULT 0.5,
  members TEXT NOT NULL DEFAULT '',       -- digest of the cluster it was made of last
  policies TEXT NOT NULL DEFAULT '[]',    -- JSON: ids
  source_episodes TEXT NOT NULL DEFAULT '[]', -- JSON
  induced_by TEXT NOT NULL DEFAULT '',
  vec BLOB,
  status TEXT NOT NULL CHECK (status IN ('active', 'archived')),
  version INTEGER NOT NULL DEFAULT 1,
  history TEXT NOT NULL DEFAULT '',       -- the name it was imported under: forgotten with it
  provenance TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  edited_at INTEGER,
  archived_at INTEGER
) STRICT;
CREATE INDEX world_models_by_agent ON world_models (agent, status, updated_at);
CREATE INDEX world_models_by_age ON world_models (agent, created_at);
CREATE INDEX world_models_without_vectors ON world_models (created_at, id) WHERE vec IS NULL;

-- A skill: what `skills/<name>/SKILL.md` says, and how it has done.
CREATE TABLE skills (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  name TEXT NOT NULL,                     -- lower case, digits, hyphens: the folder
  title TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL CHECK (status IN ('candidate', 'active', 'archived')),
  disabled INTEGER NOT NULL DEFAULT 0,    -- 1: a person switched it off
  given_up INTEGER NOT NULL DEFAULT 0,    -- 1: a person archived it, and it is not made anew
  description TEXT NOT NULL DEFAULT '',   -- when to use it, in one or two sentences
  guide TEXT NOT NULL DEFAULT '',         -- Markdown, without the head of the file
  draft TEXT NOT NULL DEFAULT '{}',       -- JSON: as it was crystallised
  tools TEXT NOT NULL DEFAULT '[]',       -- JSON
  eta REAL NOT NULL DEFAULT 0.1,
  support INTEGER NOT NULL DEFAULT 0,
  gain REAL NOT NULL DEFAULT 0,
  exposures INTEGER NOT NULL DEFAULT 0,   -- turns it was shown in
  uses INTEGER NOT NULL DEFAULT 0,        -- of these, turns that fetched or followed it
  trials INTEGER NOT NULL DEFAULT 0,      -- tasks it was used in that clearly went well or badly
  passes INTEGER NOT NULL DEFAULT 0,
  version INTEGER NOT NULL DEFAULT 1,
  policies TEXT NOT NULL DEFAULT '[]',    -- JSON: ids
  worlds TEXT NOT NULL DEFAULT '[]',      -- JSON: ids
  anchors TEXT NOT NULL DEFAULT '[]',     -- JSON: ids of the traces that a model was shown
  evidence TEXT NOT NULL DEFAULT '',      -- digest of what it was made of
  built_gain REAL NOT NULL DEFAULT 0,     -- of its policy when it was built
  built_support INTEGER NOT NULL DEFAULT 0,
  built_at INTEGER,
  file_digest TEXT NOT NULL DEFAULT '',   -- of the file as we know it; another one is a person's
  file_words TEXT NOT NULL DEFAULT '',    -- digest of the description and the text in it, without its other lines
  file_planned TEXT NOT NULL DEFAULT '',  -- '': as it should be; `due`: to be written; a digest: being written
  file_planned_before TEXT NOT NULL DEFAULT '',  -- the digest planned before: it may be what was written last
  file_state TEXT NOT NULL DEFAULT 'none' CHECK (file_state IN ('none', 'ours', 'edited', 'deleted')),
  before_deletion TEXT NOT NULL DEFAULT '{}',  -- JSON: status, archived_at and file_state of when its file was there
  induced_by TEXT NOT NULL DEFAULT '',
  vec BLOB,
  history TEXT NOT NULL DEFAULT '',       -- the name it was imported under: forgotten with it
  provenance TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  edited_at INTEGER,                      -- from then on its text is a person's
  archived_at INTEGER,
  last_used_at INTEGER,
  UNIQUE (agent, name)
) STRICT;
CREATE INDEX skills_by_agent ON skills (agent, status, updated_at);
CREATE INDEX skills_by_age ON skills (agent, created_at);

-- What happened to a skill. An exposure that waits for its task's score is pending.
CREATE TABLE skill_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  skill_id TEXT NOT NULL REFERENCES skills (id) ON DELETE CASCADE,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('exposure', 'use', 'trial', 'thumb', 'status', 'build', 'edit', 'drift')),
  session_id TEXT,
  turn_id TEXT,
  task_id TEXT,
  outcome TEXT NOT NULL DEFAULT '' CHECK (outcome IN ('', 'pending', 'pass', 'fail', 'unknown')),
  detail TEXT NOT NULL DEFAULT '{}'       -- JSON
) STRICT;
CREATE INDEX skill_events_by_skill ON skill_events (skill_id, id);
CREATE INDEX skill_events_by_turn ON skill_events (turn_id) WHERE turn_id IS NOT NULL;
CREATE UNIQUE INDEX skill_events_once_a_turn ON skill_events (skill_id, turn_id, kind)
  WHERE turn_id IS NOT NULL AND kind IN ('exposure', 'use');
CREATE UNIQUE INDEX skill_trials_once_a_task ON skill_events (skill_id, task_id) WHERE kind = 'trial';
CREATE TRIGGER skill_events_are_bounded AFTER INSERT ON skill_events WHEN NEW.id % 1000 = 0 BEGIN
  DELETE FROM skill_events WHERE id <= NEW.id - 100000;
END;

-- What people said of answers: with a button, or in their next message.
CREATE TABLE feedback (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  at INTEGER NOT NULL,
  session_id TEXT,
  turn_id TEXT,
  task_id TEXT,
  episode_id TEXT,
  trace_id TEXT,
  skill_id TEXT,
  channel TEXT NOT NULL CHECK (channel IN ('explicit', 'implicit')),
  polarity TEXT NOT NULL CHECK (polarity IN ('positive', 'negative', 'neutral', 'mixed')),
  magnitude REAL NOT NULL,                -- 0 to 1
  confidence REAL NOT NULL DEFAULT 1,
  shape TEXT NOT NULL DEFAULT 'unknown',  -- preference, correction, constraint, negative, positive, confusion, …
  text TEXT NOT NULL DEFAULT '',
  prefer TEXT NOT NULL DEFAULT '',
  avoid TEXT NOT NULL DEFAULT '',
  seq INTEGER,                            -- the message that said it
  classified_by TEXT NOT NULL DEFAULT 'rule',
  raw TEXT NOT NULL DEFAULT '{}',         -- JSON
  history TEXT NOT NULL DEFAULT '',       -- the name it was imported under: forgotten with it
  provenance TEXT NOT NULL DEFAULT 'owner'
) STRICT;
CREATE INDEX feedback_by_task ON feedback (task_id, at) WHERE task_id IS NOT NULL;
CREATE INDEX feedback_by_agent ON feedback (agent, at);
CREATE INDEX feedback_by_session ON feedback (session_id, at) WHERE session_id IS NOT NULL;

-- What to prefer and what to avoid with a tool, after a burst of failures or a correction.
CREATE TABLE decision_repairs (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  at INTEGER NOT NULL,
  session_id TEXT,
  task_id TEXT,
  context_hash TEXT NOT NULL,             -- 16 hex digits of sha1(tool, newline, context)
  tool TEXT NOT NULL DEFAULT '',
  context TEXT NOT NULL DEFAULT '',
  preference TEXT NOT NULL DEFAULT '',
  anti_pattern TEXT NOT NULL DEFAULT '',
  severity TEXT NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'warn')),
  confidence REAL NOT NULL DEFAULT 0.5,
  high TEXT NOT NULL DEFAULT '[]',        -- JSON: ids of traces that went well
  low TEXT NOT NULL DEFAULT '[]',         -- JSON: and of those that did not
  policies TEXT NOT NULL DEFAULT '[]',    -- JSON: the policies it was attached to
  induced_by TEXT NOT NULL DEFAULT '',
  validated INTEGER NOT NULL DEFAULT 0,
  history TEXT NOT NULL DEFAULT '',       -- the name it was imported under: forgotten with it
  provenance TEXT NOT NULL DEFAULT 'owner'
) STRICT;
CREATE INDEX decision_repairs_by_hash ON decision_repairs (agent, context_hash, at);

-- Why something was learned or was not, step by step. Bounded: the oldest give way.
CREATE TABLE learning_trail (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  agent TEXT NOT NULL,
  task_id TEXT,
  episode_id TEXT,
  stage TEXT NOT NULL,                    -- the kind of the job, `limit`, or `follow`
  ref TEXT NOT NULL DEFAULT '',           -- what it was about: an id
  outcome TEXT NOT NULL,                  -- learned, changed, skipped, deferred, failed
  reason TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '{}'       -- JSON
) STRICT;
CREATE INDEX learning_trail_by_task ON learning_trail (task_id, id) WHERE task_id IS NOT NULL;
CREATE INDEX learning_trail_by_episode ON learning_trail (episode_id, id) WHERE episode_id IS NOT NULL;
CREATE INDEX learning_trail_by_ref ON learning_trail (ref, id) WHERE ref <> '';
CREATE TRIGGER learning_trail_is_bounded AFTER INSERT ON learning_trail WHEN NEW.id % 1000 = 0 BEGIN
  DELETE FROM learning_trail WHERE id <= NEW.id - 100000;
END;

-- The words of traces, policies, world models and skills.
CREATE VIRTUAL TABLE learned_words USING fts5 (
  title, text, kind UNINDEXED, agent UNINDEXED, ref UNINDEXED, tokenize = 'trigram'
);
INSERT INTO learned_words (learned_words, rank) VALUES ('secure-delete', 1);
-- Where the words of a thing stand in it.
CREATE TABLE learned_places (
  ref TEXT PRIMARY KEY,
  place INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER trace_enters AFTER INSERT ON traces BEGIN
  INSERT INTO learned_words (title, text, kind, agent, ref)
  VALUES (NEW.summary, NEW.user_text || char(10) || NEW.agent_text || char(10) || NEW.reflection || char(10) || NEW.tags,
          'trace', NEW.agent, NEW.id);
  INSERT INTO learned_places VALUES (NEW.id, last_insert_rowid());
END;
CREATE TRIGGER trace_changes AFTER UPDATE OF summary, user_text, agent_text, reflection, tags ON traces BEGIN
  UPDATE learned_words SET title = NEW.summary,
    text = NEW.user_text || char(10) || NEW.agent_text || char(10) || NEW.reflection || char(10) || NEW.tags
  WHERE rowid = (SELECT place FROM learned_places WHERE ref = NEW.id);
END;
CREATE TRIGGER trace_leaves AFTER DELETE ON traces BEGIN
  DELETE FROM learned_words WHERE rowid = (SELECT place FROM learned_places WHERE ref = OLD.id);
  DELETE FROM learned_places WHERE ref = OLD.id;
END;
CREATE TRIGGER policy_enters AFTER INSERT ON policies BEGIN
  INSERT INTO learned_words (title, text, kind, agent, ref)
  VALUES (NEW.title, NEW.trigger_text || char(10) || NEW.procedure || char(10) || NEW.verification || char(10) ||
          NEW.boundary || char(10) || NEW.guidance, 'policy', NEW.agent, NEW.id);
  INSERT INTO learned_places VALUES (NEW.id, last_insert_rowid());
END;
CREATE TRIGGER policy_changes AFTER UPDATE OF title, trigger_text, procedure, verification, boundary, guidance
ON policies BEGIN
  UPDATE learned_words SET title = NEW.title,
    text = NEW.trigger_text || char(10) || NEW.procedure || char(10) || NEW.verification || char(10) || NEW.boundary ||
           char(10) || NEW.guidance
  WHERE rowid = (SELECT place FROM learned_places WHERE ref = NEW.id);
END;
CREATE TRIGGER policy_leaves AFTER DELETE ON policies BEGIN
  DELETE FROM learned_words WHERE rowid = (SELECT place FROM learned_places WHERE ref = OLD.id);
  DELETE FROM learned_places WHERE ref = OLD.id;
END;
CREATE TRIGGER world_model_enters AFTER INSERT ON world_models BEGIN
  INSERT INTO learned_words (title, text, kind, agent, ref)
  VALUES (NEW.title, NEW.body || char(10) || NEW.domain_tags, 'world', NEW.agent, NEW.id);
  INSERT INTO learned_places VALUES (NEW.id, last_insert_rowid());
END;
CREATE TRIGGER world_model_changes AFTER UPDATE OF title, body, domain_tags ON world_models BEGIN
  UPDATE learned_words SET title = NEW.title, text = NEW.body || char(10) || NEW.domain_tags
  WHERE rowid = (SELECT place FROM learned_places WHERE ref = NEW.id);
END;
CREATE TRIGGER world_model_leaves AFTER DELETE ON world_models BEGIN
  DELETE FROM learned_words WHERE rowid = (SELECT place FROM learned_places WHERE ref = OLD.id);
  DELETE FROM learned_places WHERE ref = OLD.id;
END;
CREATE TRIGGER skill_enters AFTER INSERT ON skills BEGIN
  INSERT INTO learned_words (title, text, kind, agent, ref)
  VALUES (NEW.name || ' ' || NEW.title, NEW.description || char(10) || NEW.guide, 'skill', NEW.agent, NEW.id);
  INSERT INTO learned_places VALUES (NEW.id, last_insert_rowid());
END;
CREATE TRIGGER skill_changes AFTER UPDATE OF name, title, description, guide ON skills BEGIN
  UPDATE learned_words SET title = NEW.name || ' ' || NEW.title, text = NEW.description || char(10) || NEW.guide
  WHERE rowid = (SELECT place FROM learned_places WHERE ref = NEW.id);
END;
CREATE TRIGGER skill_leaves AFTER DELETE ON skills BEGIN
  DELETE FROM learned_words WHERE rowid = (SELECT place FROM learned_places WHERE ref = OLD.id);
  DELETE FROM learned_places WHERE ref = OLD.id;
END;

-- The newest change of each thing that recall holds in memory: of its vectors, or of whether it may be recalled at all.
-- Whoever holds vectors reads on from the last change it knows. One row a thing; of things that are gone the oldest rows
-- give way. (Deleted first and then inserted: a trigger's own conflict clause gives way to its statement's.)
CREATE TABLE learned_changes (
  revision INTEGER PRIMARY KEY AUTOINCREMENT,
  ref TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('trace', 'policy', 'world', 'skill')),
  agent TEXT NOT NULL,
  gone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX learned_changes_by_agent ON learned_changes (agent, kind, revision);
CREATE INDEX learned_changes_gone ON learned_changes (revision) WHERE gone = 1;
CREATE TRIGGER learned_changes_are_bounded AFTER INSERT ON learned_changes
WHEN NEW.gone = 1 AND NEW.revision % 100 = 0 BEGIN
  DELETE FROM learned_changes WHERE gone = 1 AND revision <= NEW.revision - 100000;
END;
CREATE TRIGGER trace_is_held AFTER INSERT ON traces
WHEN NEW.vec_summary IS NOT NULL OR NEW.vec_action IS NOT NULL BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'trace', NEW.agent, 0);
END;
CREATE TRIGGER trace_is_held_anew AFTER UPDATE OF vec_summary, vec_action, archived_at, value ON traces
WHEN NEW.vec_summary IS NOT OLD.vec_summary OR NEW.vec_action IS NOT OLD.vec_action
  OR NEW.archived_at IS NOT OLD.archived_at OR (NEW.value > 0) <> (OLD.value > 0) BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'trace', NEW.agent, 0);
END;
CREATE TRIGGER task_is_put_aside AFTER UPDATE OF archived_at ON tasks
WHEN (NEW.archived_at IS NULL) <> (OLD.archived_at IS NULL) BEGIN
  DELETE FROM learned_changes WHERE ref IN (SELECT id FROM traces WHERE task_id = NEW.id);
  INSERT INTO learned_changes (ref, kind, agent, gone)
  SELECT id, 'trace', agent, 0 FROM traces
  WHERE task_id = NEW.id AND (vec_summary IS NOT NULL OR vec_action IS NOT NULL) ORDER BY at;
END;
CREATE TRIGGER trace_is_gone AFTER DELETE ON traces BEGIN
  DELETE FROM learned_changes WHERE ref = OLD.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (OLD.id, 'trace', OLD.agent, 1);
END;
CREATE TRIGGER policy_is_held AFTER INSERT ON policies BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'policy', NEW.agent, 0);
END;
CREATE TRIGGER policy_is_held_anew AFTER UPDATE OF vec, status, archived_at ON policies BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'policy', NEW.agent, 0);
END;
CREATE TRIGGER policy_is_gone AFTER DELETE ON policies BEGIN
  DELETE FROM learned_changes WHERE ref = OLD.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (OLD.id, 'policy', OLD.agent, 1);
END;
CREATE TRIGGER world_model_is_held AFTER INSERT ON world_models BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'world', NEW.agent, 0);
END;
CREATE TRIGGER world_model_is_held_anew AFTER UPDATE OF vec, status, confidence, archived_at ON world_models BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'world', NEW.agent, 0);
END;
CREATE TRIGGER world_model_is_gone AFTER DELETE ON world_models BEGIN
  DELETE FROM learned_changes WHERE ref = OLD.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (OLD.id, 'world', OLD.agent, 1);
END;
CREATE TRIGGER skill_is_held AFTER INSERT ON skills BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'skill', NEW.agent, 0);
END;
CREATE TRIGGER skill_is_held_anew AFTER UPDATE OF vec, status, disabled, eta, archived_at ON skills BEGIN
  DELETE FROM learned_changes WHERE ref = NEW.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (NEW.id, 'skill', NEW.agent, 0);
END;
CREATE TRIGGER skill_is_gone AFTER DELETE ON skills BEGIN
  DELETE FROM learned_changes WHERE ref = OLD.id;
  INSERT INTO learned_changes (ref, kind, agent, gone) VALUES (OLD.id, 'skill', OLD.agent, 1);
END;

-- Jobs as they were asked for, in the transaction of what they follow from. The job engine runs them; this says what
-- became of them. Bounded: those that have ended give way.
CREATE TABLE job_requests (
  key TEXT PRIMARY KEY,                   -- of its content: the same work is one row
  kind TEXT NOT NULL,
  lane TEXT NOT NULL CHECK (lane IN ('interactive', 'background', 'idle')),
  agent TEXT NOT NULL DEFAULT '',
  episode_id TEXT,
  task_id TEXT,
  payload TEXT NOT NULL DEFAULT '{}',     -- JSON
  state TEXT NOT NULL CHECK (state IN ('waiting', 'dispatched', 'running', 'done', 'dead', 'cancelled')),
  run INTEGER NOT NULL DEFAULT 0,         -- counts the times it was handed to the engine: part of the workflow's id
  attempts INTEGER NOT NULL DEFAULT 0,    -- runs that failed
  attempts_max INTEGER NOT NULL,          -- 0: as configured
  put_backs INTEGER NOT NULL DEFAULT 0,   -- runs that gave way or had to wait; none of them is an attempt
  not_before INTEGER NOT NULL,
  due_at INTEGER NOT NULL DEFAULT 0,      -- since when it could have been done: putting it back does not change that
  waits_for TEXT NOT NULL DEFAULT '',     -- why it waits: a budget, the provider, a person's turn
  holder TEXT NOT NULL DEFAULT '',        -- the process that has it in hand, and until when it is believed to live
  lease_until INTEGER NOT NULL DEFAULT 0,
  interrupted INTEGER NOT NULL DEFAULT 0, -- runs whose process died
  aged INTEGER NOT NULL DEFAULT 0,        -- 1: this run began beside turns, because it had waited for too long
  forgettings INTEGER NOT NULL DEFAULT 0, -- how often its agent had had something forgotten when this run began
  requested_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  started_at INTEGER,
  ended_at INTEGER,
  error TEXT,                             -- of the last run that failed, for people
  result TEXT NOT NULL DEFAULT '{}'       -- JSON
) STRICT;
CREATE INDEX job_requests_due ON job_requests (lane, not_before, requested_at) WHERE state = 'waiting';
CREATE INDEX job_requests_aged ON job_requests (lane, due_at) WHERE state = 'waiting';
CREATE INDEX job_requests_in_flight ON job_requests (updated_at) WHERE state IN ('dispatched', 'running');
CREATE INDEX job_requests_dead ON job_requests (ended_at) WHERE state = 'dead';
CREATE INDEX job_requests_ended ON job_requests (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX job_requests_by_request ON job_requests (requested_at);
CREATE INDEX job_requests_by_task ON job_requests (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX job_requests_by_episode ON job_requests (episode_id) WHERE episode_id IS NOT NULL;
CREATE TRIGGER job_enters AFTER INSERT ON job_requests BEGIN
  INSERT INTO tally VALUES ('jobs.' || NEW.lane || '.' || NEW.state, 1)
  ON CONFLICT (name) DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER job_moves AFTER UPDATE OF state ON job_requests WHEN OLD.state <> NEW.state BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'jobs.' || OLD.lane || '.' || OLD.state;
  INSERT INTO tally VALUES ('jobs.' || NEW.lane || '.' || NEW.state, 1)
  ON CONFLICT (name) DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER job_leaves AFTER DELETE ON job_requests BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'jobs.' || OLD.lane || '.' || OLD.state;
END;

-- Calls of a model on behalf of jobs: set aside before they are made, kept with their answer, so that nothing is paid
-- twice. Bounded: old answers are dropped, then the rows.
CREATE TABLE model_calls (
  key TEXT PRIMARY KEY,                   -- of the prompt, its input and the number of the try
  kind TEXT NOT NULL,                     -- of the job
  op TEXT NOT NULL,                       -- what was asked, with its version
  job_key TEXT NOT NULL DEFAULT '',
  agent TEXT NOT NULL DEFAULT '',
  episode_id TEXT,
  task_id TEXT,
  at INTEGER NOT NULL,
  ended_at INTEGER,
  state TEXT NOT NULL CHECK (state IN ('reserved', 'answered', 'failed', 'cancelled')),
  model TEXT NOT NULL DEFAULT '',
  calls INTEGER NOT NULL DEFAULT 0,       -- how often it was made: again after a crash or a failure
  tokens_reserved INTEGER NOT NULL DEFAULT 0, -- set aside for calls whose end is not known
  tokens_in INTEGER NOT NULL DEFAULT 0,
  tokens_out INTEGER NOT NULL DEFAULT 0,
  money REAL NOT NULL DEFAULT 0,
  answer TEXT,
  error TEXT
) STRICT;
CREATE INDEX model_calls_by_time ON model_calls (at);
CREATE INDEX model_calls_by_job ON model_calls (job_key, at) WHERE job_key <> '';
CREATE INDEX model_calls_by_episode ON model_calls (episode_id, at) WHERE episode_id IS NOT NULL;
CREATE INDEX model_calls_by_task ON model_calls (task_id, at) WHERE task_id IS NOT NULL;

-- What was spent, by hour, day, kind and episode: the ledger that budgets are read from.
CREATE TABLE learning_spend (
  span TEXT NOT NULL CHECK (span IN ('hour', 'day', 'episode')),
  name TEXT NOT NULL,                     -- YYYY-MM-DDTHH, YYYY-MM-DD, or an episode's id
  kind TEXT NOT NULL,                     -- of the job; '' for all
  calls INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0,
  money REAL NOT NULL DEFAULT 0,
  at INTEGER NOT NULL,
  PRIMARY KEY (span, name, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX learning_spend_by_age ON learning_spend (at);

-- The places for background calls of a model, over all processes of a home: who has one, and until when.
CREATE TABLE model_permits (
  slot INTEGER PRIMARY KEY,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL
) STRICT;

-- Servers that asked for a pause or refuse us, known to all processes.
CREATE TABLE provider_pauses (
  provider TEXT PRIMARY KEY,              -- base URL and model; never a key
  until INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('rate_limit', 'circuit')),
  reason TEXT NOT NULL,
  since INTEGER NOT NULL,
  probes INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Which pass over conversations read last, and how many messages it has: one that is killed goes on within its share.
ALTER TABLE ingested_transcripts ADD COLUMN pass TEXT NOT NULL DEFAULT '';
ALTER TABLE ingested_transcripts ADD COLUMN looked INTEGER NOT NULL DEFAULT 0;
