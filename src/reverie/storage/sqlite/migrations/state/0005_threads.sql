-- Warm threads and context engines.

-- What ended the service of a context engine is looked for by status and the doctor.
CREATE INDEX session_events_of_quarantined_engines ON session_events (id) WHERE kind = 'engine.quarantined';
