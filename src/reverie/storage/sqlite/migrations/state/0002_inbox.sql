-- The inbox: a turn may wait, be carried by another, expire or be dropped; each step of it is an event that can be
-- replayed. Sessions gain a lineage, a token snapshot and compactions; transcripts become a tree.

CREATE TABLE turns_of_today (
  id TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES sessions (id),
  position INTEGER NOT NULL,              -- arrival order within the session
  state TEXT NOT NULL CHECK (state IN ('accepted', 'queued', 'running', 'answered', 'failed', 'dropped', 'expired',
                                       'cancelled')),
  request TEXT NOT NULL,                  -- JSON of the turn's request, enough to run it again after a restart
  accepted_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  model TEXT,
  finish_reason TEXT,
  usage TEXT,                             -- JSON
  error TEXT,                             -- JSON: why there is no answer, as a caller is told
  source TEXT NOT NULL DEFAULT '',        -- who sent it, as far as the client says
  message_key TEXT,                       -- the client's key for this message: the same one again is the same turn
  request_digest BLOB,                    -- of what the message says, so that a key used twice is noticed
  mode TEXT NOT NULL DEFAULT 'followup' CHECK (mode IN ('followup', 'steer', 'collect', 'interrupt')),
  deadline_at INTEGER,                    -- a turn that has not begun by then expires; NULL: it waits for ever
  carrier_id TEXT REFERENCES turns (id),  -- the turn that answers this one: it was steered into it or collected with it
  drop_line TEXT,                         -- of a dropped message: one line of it, for the turn that comes next
  client_model TEXT NOT NULL DEFAULT '',  -- the caller's word for the model, repeated in the answer
  reply TEXT,                             -- JSON of text and tool calls as the caller gets them; NULL until answered
  UNIQUE (session_id, position)
) STRICT;
INSERT INTO turns_of_today (id, session_id, position, state, request, accepted_at, started_at, finished_at, model,
                            finish_reason, usage, error)
SELECT id, session_id, position, state, request, accepted_at, started_at, finished_at, model, finish_reason, usage,
       CASE WHEN error IS NULL THEN NULL ELSE json_object('message', error) END
FROM turns ORDER BY rowid;
DROP TABLE turns;
ALTER TABLE turns_of_today RENAME TO turns;
CREATE INDEX turns_unended ON turns (session_id, position) WHERE state IN ('accepted', 'queued', 'running');
CREATE UNIQUE INDEX turns_by_message_key ON turns (source, message_key) WHERE message_key IS NOT NULL;
CREATE INDEX turns_by_carrier ON turns (carrier_id) WHERE carrier_id IS NOT NULL;
CREATE INDEX turns_dropped_untold ON turns (session_id, position) WHERE state = 'dropped' AND drop_line IS NOT NULL;

-- A session may follow another. `prompt_tokens` is what the model's server counted for the prompt of the last call.
ALTER TABLE sessions ADD COLUMN parent_id TEXT;                             -- may be archived by now, so no reference
ALTER TABLE sessions ADD COLUMN end_reason TEXT;                            -- why it ended: manual, daily, idle
ALTER TABLE sessions ADD COLUMN queue_settings TEXT NOT NULL DEFAULT '{}';  -- JSON: mode, debounce_ms, cap, drop
ALTER TABLE sessions ADD COLUMN prompt_tokens INTEGER;
ALTER TABLE sessions ADD COLUMN prompt_tokens_seq INTEGER;                  -- the last message that prompt held
ALTER TABLE sessions ADD COLUMN prompt_tokens_fresh INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN transcript_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN compaction_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN compaction_id TEXT;                         -- the summary that stands for what came before
UPDATE sessions SET transcript_bytes =
  (SELECT coalesce(sum(octet_length(text)), 0) FROM messages WHERE session_id = sessions.id);
CREATE INDEX sessions_by_key ON sessions (key, started_at);

-- An entry's parent is the entry before it unless it says otherwise; the first entry of a session that follows another
-- has an entry of that one as its parent. Other kinds than messages are marks: they are
-- never sent to a model as they stand, not remembered, and carry their content in `extra`.
ALTER TABLE messages ADD COLUMN kind TEXT NOT NULL DEFAULT 'message'
  CHECK (kind IN ('message', 'compaction', 'continuity', 'turn_ended'));
ALTER TABLE messages ADD COLUMN parent_seq INTEGER;                         -- of entry 1: in the session before this one
CREATE INDEX messages_marks ON messages (session_id, seq) WHERE kind <> 'message';
CREATE INDEX messages_by_turn ON messages (turn_id) WHERE turn_id IS NOT NULL;

-- A summary of a stretch of a transcript, from the moment it is asked for. At most one per session is on its way.
CREATE TABLE compactions (
  id TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES sessions (id),
  state TEXT NOT NULL CHECK (state IN ('preparing', 'flushed', 'ready', 'adopted', 'failed', 'stale')),
  cause TEXT NOT NULL CHECK (cause IN ('threshold', 'preflight', 'bytes', 'overflow', 'manual')),
  base_id TEXT REFERENCES compactions (id), -- the summary it was made on: it is adopted only while that still stands
  first_seq INTEGER NOT NULL,             -- the stretch it stands for, both ends included
  last_seq INTEGER NOT NULL,
  focus TEXT NOT NULL DEFAULT '',         -- what a person asked to keep in mind
  summary TEXT NOT NULL DEFAULT '',
  audit TEXT NOT NULL DEFAULT '{}',       -- JSON: what was checked, and what was missing
  flushed_to TEXT,                        -- the memory file that holds the extract; set when that is durable
  tokens_before INTEGER,
  tokens_after INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  error TEXT,
  created_at INTEGER NOT NULL,
  adopted_at INTEGER
) STRICT;
CREATE INDEX compactions_by_session ON compactions (session_id, created_at);
CREATE UNIQUE INDEX compactions_under_way ON compactions (session_id) WHERE state IN ('preparing', 'flushed', 'ready');

-- What happened in sessions, in one order for all of them; written by the triggers below, so that no step of a turn
-- goes unseen. Bounded: the oldest give way.
CREATE TABLE session_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session_key TEXT NOT NULL,
  turn_id TEXT,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,                     -- turn.<state>, compaction.<state>, session.<what>, plugin.failed, a plugin's
  data TEXT NOT NULL DEFAULT '{}'         -- JSON
) STRICT;
CREATE INDEX session_events_by_key ON session_events (session_key, id);
CREATE TRIGGER session_events_are_bounded AFTER INSERT ON session_events WHEN NEW.id % 1000 = 0 BEGIN
  DELETE FROM session_events WHERE id <= NEW.id - 100000;
END;
CREATE INDEX session_events_of_failed_plugins ON session_events (id) WHERE kind = 'plugin.failed';

-- How many rows stand where, so that a status never counts a table.
CREATE TABLE tally (name TEXT PRIMARY KEY, total INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO tally SELECT 'turns.' || state, count(*) FROM turns GROUP BY state;
INSERT INTO tally SELECT 'sessions', count(*) FROM sessions;
INSERT INTO tally SELECT 'messages', count(*) FROM messages;

CREATE TRIGGER turn_enters AFTER INSERT ON turns BEGIN
  INSERT INTO tally VALUES ('turns.' || NEW.state, 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
  INSERT INTO session_events (session_key, turn_id, at, kind, data)
  SELECT key, NEW.id, NEW.accepted_at, 'turn.' || NEW.state,
         json_object('source', NEW.source, 'mode', NEW.mode, 'position', NEW.position)
  FROM sessions WHERE id = NEW.session_id;
END;
CREATE TRIGGER turn_moves AFTER UPDATE OF state ON turns WHEN OLD.state <> NEW.state BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'turns.' || OLD.state;
  INSERT INTO tally VALUES ('turns.' || NEW.state, 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
  INSERT INTO session_events (session_key, turn_id, at, kind, data)
  SELECT key, NEW.id, coalesce(NEW.finished_at, NEW.started_at, NEW.accepted_at), 'turn.' || NEW.state,
         json_patch('{}', json_object('carrier', NEW.carrier_id, 'error', json(NEW.error),
                                      'finish_reason', NEW.finish_reason))
  FROM sessions WHERE id = NEW.session_id;
END;
CREATE TRIGGER turn_leaves AFTER DELETE ON turns BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'turns.' || OLD.state;
END;
CREATE TRIGGER session_enters AFTER INSERT ON sessions BEGIN
  INSERT INTO tally VALUES ('sessions', 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER session_leaves AFTER DELETE ON sessions BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'sessions';
END;
CREATE TRIGGER message_enters AFTER INSERT ON messages BEGIN
  INSERT INTO tally VALUES ('messages', 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
  UPDATE sessions SET transcript_bytes = transcript_bytes + octet_length(NEW.text) WHERE id = NEW.session_id;
END;
CREATE TRIGGER message_leaves AFTER DELETE ON messages BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'messages';
  UPDATE sessions SET transcript_bytes = transcript_bytes - octet_length(OLD.text) WHERE id = OLD.session_id;
END;
CREATE TRIGGER compaction_enters AFTER INSERT ON compactions BEGIN
  INSERT INTO tally VALUES ('compactions.' || NEW.state, 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
  INSERT INTO session_events (session_key, at, kind, data)
  SELECT key, NEW.created_at, 'compaction.' || NEW.state,
         json_object('id', NEW.id, 'cause', NEW.cause, 'first', NEW.first_seq, 'last', NEW.last_seq)
  FROM sessions WHERE id = NEW.session_id;
END;
CREATE TRIGGER compaction_leaves AFTER DELETE ON compactions BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'compactions.' || OLD.state;
END;
CREATE TRIGGER compaction_moves AFTER UPDATE OF state ON compactions WHEN OLD.state <> NEW.state BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'compactions.' || OLD.state;
  INSERT INTO tally VALUES ('compactions.' || NEW.state, 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
  INSERT INTO session_events (session_key, at, kind, data)
  SELECT key, coalesce(NEW.adopted_at, NEW.created_at), 'compaction.' || NEW.state,
         json_patch('{}', json_object('id', NEW.id, 'cause', NEW.cause, 'first', NEW.first_seq, 'last', NEW.last_seq,
                                      'memory', NEW.flushed_to, 'error', NEW.error))
  FROM sessions WHERE id = NEW.session_id;
END;
CREATE TRIGGER session_ends AFTER UPDATE OF ended_at ON sessions WHEN OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
BEGIN
  INSERT INTO session_events (session_key, at, kind, data)
  VALUES (NEW.key, NEW.ended_at, 'session.ended', json_object('session', NEW.id, 'reason', NEW.end_reason));
END;
