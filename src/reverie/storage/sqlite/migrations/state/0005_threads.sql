-- Native threads: which one a session goes on with, and every decision about that. Instants are milliseconds since
-- 1970 UTC.

-- One row a session that has or had a thread, or whose thread somebody is about to start. Bounded: cleared ones give
-- way first, then those used longest ago.
CREATE TABLE thread_bindings (
  session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
  thread_id TEXT,                         -- NULL: none is bound
  state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'cleared')),
  record TEXT NOT NULL DEFAULT '{}',      -- JSON: what the thread was started with and what it knows
  rotate INTEGER NOT NULL DEFAULT 0,      -- 1: a person wants another thread
  cleared_for TEXT,                       -- why none is bound any more
  fence INTEGER NOT NULL DEFAULT 0,       -- counts the holders: one that was overtaken changes nothing
  holder TEXT,                            -- the process at work on it
  leased_at INTEGER,                      -- when it last said so
  updated_at INTEGER NOT NULL,
  CHECK ((thread_id IS NULL) = (state = 'cleared')),
  CHECK ((holder IS NULL) = (leased_at IS NULL))
) STRICT;
CREATE INDEX thread_bindings_by_use ON thread_bindings (updated_at, session_id);
CREATE INDEX thread_bindings_cleared ON thread_bindings (updated_at) WHERE state = 'cleared';
CREATE INDEX thread_bindings_held ON thread_bindings (holder) WHERE holder IS NOT NULL;

CREATE TRIGGER thread_binding_enters AFTER INSERT ON thread_bindings BEGIN
  INSERT INTO tally VALUES ('thread_bindings', 1) ON CONFLICT (name) DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER thread_binding_leaves AFTER DELETE ON thread_bindings BEGIN
  UPDATE tally SET total = total - 1 WHERE name = 'thread_bindings';
END;

-- One row a decision. Bounded: the oldest give way.
CREATE TABLE thread_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  session_key TEXT NOT NULL,
  session_id TEXT NOT NULL,               -- may be archived by now, so no reference
  agent TEXT NOT NULL,
  turn_id TEXT,
  runtime TEXT NOT NULL,
  thread_id TEXT,                         -- the thread that the turn ran in; NULL: none came to be
  action TEXT NOT NULL CHECK (action IN ('resume', 'start', 'transient', 'fork')),
  project TEXT NOT NULL CHECK (project IN ('none', 'full', 'delta')),
  reason TEXT NOT NULL,                   -- the one that decided, of a closed list
  warm INTEGER NOT NULL,                  -- 1: the thread knew the conversation
  rotated INTEGER NOT NULL,               -- 1: another thread gave way
  alarm TEXT NOT NULL DEFAULT '',         -- what flaps, where this decision was one too many
  data TEXT NOT NULL DEFAULT '{}'         -- JSON: every difference, tokens and limits, sizes
) STRICT;
CREATE INDEX thread_events_by_key ON thread_events (session_key, id);
CREATE INDEX thread_events_alarmed ON thread_events (id) WHERE alarm <> '';
CREATE TRIGGER thread_events_are_bounded AFTER INSERT ON thread_events WHEN NEW.id % 1000 = 0 BEGIN
  DELETE FROM thread_events WHERE id <= NEW.id - 50000;
END;
CREATE TRIGGER thread_event_enters AFTER INSERT ON thread_events BEGIN
  INSERT INTO tally VALUES ('threads.' || NEW.action || '.' || NEW.reason, 1)
  ON CONFLICT (name) DO UPDATE SET total = total + 1;
END;
-- Those who follow a session hear of a thread that begins: it is what makes them wait.
CREATE TRIGGER thread_begins AFTER INSERT ON thread_events WHEN NEW.warm = 0 BEGIN
  INSERT INTO session_events (session_key, turn_id, at, kind, data)
  VALUES (NEW.session_key, NEW.turn_id, NEW.at, 'thread.' || NEW.action, json_object('reason', NEW.reason));
END;
CREATE TRIGGER thread_churns AFTER INSERT ON thread_events WHEN NEW.alarm <> '' BEGIN
  INSERT INTO session_events (session_key, turn_id, at, kind, data)
  VALUES (NEW.session_key, NEW.turn_id, NEW.at, 'thread.churn', json_object('of', NEW.alarm));
END;

-- What ended the service of a context engine is looked for by status and the doctor.
CREATE INDEX session_events_of_quarantined_engines ON session_events (id) WHERE kind = 'engine.quarantined';

-- Workspace files that a model has condensed for the prompt, by the fingerprint of the file's text and the room that it
-- had. Bounded: of each file the newest stay.
CREATE TABLE condensed_fragments (
  name TEXT NOT NULL,                      -- the file's
  source TEXT NOT NULL,                    -- fingerprint of its text
  tokens_max INTEGER NOT NULL,
  text TEXT NOT NULL,
  by_model TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (name, source, tokens_max)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER condensed_fragments_are_bounded AFTER INSERT ON condensed_fragments BEGIN
  DELETE FROM condensed_fragments WHERE name = NEW.name AND (source, tokens_max) NOT IN (
    SELECT source, tokens_max FROM condensed_fragments WHERE name = NEW.name ORDER BY at DESC, source LIMIT 64
  );
END;
