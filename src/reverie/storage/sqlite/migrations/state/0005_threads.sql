-- Warm threads and context engines.

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
