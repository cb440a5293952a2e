-- Jobs that were asked for, what they may spend, and what they spent.

-- name: ask_for_job
-- Ask for a job; nothing happens when the same one was asked for before.
INSERT INTO job_requests (key, kind, lane, agent, episode_id, task_id, payload, state, attempts_max, not_before, due_at,
                          requested_at, updated_at)
VALUES (:key, :kind, :lane, :agent, :episode_id, :task_id, :payload, 'waiting', :attempts_max, :not_before, :not_before,
        :now, :now)
ON CONFLICT (key) DO NOTHING;

-- name: find_job
-- A job by its key.
SELECT * FROM job_requests WHERE key = :key;

-- name: list_jobs
-- Jobs in the order in which they were asked for, the newest first, from a place on; '' stands for any.
SELECT * FROM job_requests
WHERE (:state = '' OR state = :state) AND (:kind = '' OR kind = :kind) AND (:lane = '' OR lane = :lane)
  AND (:after_at IS NULL OR (requested_at, key) < (:after_at, :after_key))
ORDER BY requested_at DESC, key DESC LIMIT :limit;

-- name: job_tallies
-- How many jobs of each lane are in each state.
SELECT name, total FROM tally WHERE name GLOB 'jobs.*';

-- name: oldest_due_job
-- Since when the job of a lane that waits longest could have been done.
SELECT due_at FROM job_requests WHERE lane = :lane AND state = 'waiting' AND due_at <= :now ORDER BY due_at LIMIT 1;

-- name: next_waiting_job
-- The instant at which the next job of all may begin.
SELECT min(not_before) FROM job_requests WHERE state = 'waiting';

-- name: newest_dead_jobs
-- The jobs that were put aside last.
SELECT * FROM job_requests WHERE state = 'dead' ORDER BY ended_at DESC LIMIT :limit;

-- name: retry_job
-- Have a job that was put aside or cancelled done after all, as if it had never failed.
UPDATE job_requests
SET state = 'waiting', attempts = 0, interrupted = 0, not_before = :now, due_at = :now, waits_for = '', ended_at = NULL,
    error = NULL, updated_at = :now
WHERE key = :key AND state IN ('dead', 'cancelled');

-- name: cancel_job
-- Have a job not done, or not to its end.
UPDATE job_requests SET state = 'cancelled', waits_for = '', ended_at = :now, updated_at = :now
WHERE key = :key AND state IN ('waiting', 'dispatched', 'running');

-- name: release_jobs
-- Let jobs that wait for something of this beginning be looked at now.
UPDATE job_requests SET not_before = :now, updated_at = :now
WHERE key IN (
  SELECT key FROM job_requests
  WHERE state = 'waiting' AND not_before > :now AND substr(waits_for, 1, length(:beginning)) = :beginning
  ORDER BY not_before LIMIT :limit
);

-- name: defer_kind
-- Have the jobs of a kind that wait in a lane wait until an instant at least.
UPDATE job_requests SET not_before = :until, due_at = max(due_at, :until), waits_for = :reason, updated_at = :now
WHERE key IN (
  SELECT key FROM job_requests
  WHERE lane = :lane AND state = 'waiting' AND not_before < :until AND kind = :kind
  ORDER BY not_before LIMIT :limit
);

-- name: set_jobs_right
-- Move the instants of jobs that were written by a clock that was ahead.
UPDATE job_requests
SET not_before = max(:now, not_before - (updated_at - :now)), due_at = min(due_at, :now),
    lease_until = CASE WHEN lease_until > 0 THEN lease_until - (updated_at - :now) ELSE 0 END, updated_at = :now
WHERE key IN (
  SELECT key FROM job_requests WHERE state IN ('waiting', 'dispatched', 'running') AND updated_at > :ahead LIMIT :limit
);

-- name: count_in_flight
-- How many jobs of a lane are in somebody's hands.
SELECT count(*) FROM job_requests WHERE state IN ('dispatched', 'running') AND lane = :lane;

-- name: in_flight_with
-- The jobs that a process has in hand.
SELECT * FROM job_requests WHERE state IN ('dispatched', 'running') AND holder = :holder LIMIT :limit;

-- name: count_due
-- How many jobs of a lane may begin, counted up to a bound.
SELECT count(*) FROM (
  SELECT 1 FROM job_requests WHERE lane = :lane AND state = 'waiting' AND not_before <= :now LIMIT :limit
);

-- name: due_jobs
-- Jobs of a lane that may begin, those first that may so for the longest time.
SELECT * FROM job_requests WHERE lane = :lane AND state = 'waiting' AND not_before <= :now
ORDER BY not_before, requested_at LIMIT :limit;

-- name: aged_jobs
-- Jobs of a lane that may begin and have waited for too long.
SELECT * FROM job_requests WHERE lane = :lane AND state = 'waiting' AND due_at <= :due_before AND not_before <= :now
ORDER BY due_at LIMIT :limit;

-- name: dispatch_job
-- Take a job that waits into one's hands; of several processes one succeeds.
UPDATE job_requests
SET state = 'dispatched', run = run + 1, holder = :holder, lease_until = :lease_until, aged = :aged, waits_for = '',
    updated_at = :now
WHERE key = :key AND state = 'waiting' AND run = :run;

-- name: begin_run
-- Begin a run that was handed over; nothing happens when it has begun, or another one has taken its place.
UPDATE job_requests
SET state = 'running', holder = :holder, lease_until = :lease_until, started_at = :now, updated_at = :now,
    forgettings = coalesce((SELECT CAST(value AS INTEGER) FROM learning_marks WHERE name = 'forgettings:' || agent), 0)
WHERE key = :key AND state = 'dispatched' AND run = :run;

-- name: end_run
-- What became of a run; nothing happens when it is not this process's any more.
UPDATE job_requests
SET state = :state, attempts = :attempts, put_backs = :put_backs, not_before = :not_before, due_at = :due_at,
    waits_for = :waits_for, error = :error, result = :result, ended_at = :ended_at, holder = '', lease_until = 0,
    updated_at = :now
WHERE key = :key AND state = 'running' AND run = :run AND holder = :holder;

-- name: renew_lease
-- Keep a job in one's hands.
UPDATE job_requests SET lease_until = :lease_until
WHERE key = :key AND holder = :holder AND state IN ('dispatched', 'running');

-- name: hand_over_again
-- A process that was killed has its run before it once more.
UPDATE job_requests
SET state = 'dispatched', interrupted = interrupted + (state = 'running'), lease_until = :lease_until, updated_at = :now
WHERE holder = :holder AND state IN ('dispatched', 'running');

-- name: give_back
-- A job that was handed over, and whose run never began, waits again.
UPDATE job_requests SET state = 'waiting', holder = '', lease_until = 0, updated_at = :now
WHERE key = :key AND state = 'dispatched' AND run = :run;

-- name: lapsed_jobs
-- Jobs in the hands of a process that is not heard of any more.
SELECT * FROM job_requests WHERE state IN ('dispatched', 'running') AND lease_until < :now LIMIT :limit;

-- name: free_lapsed_job
-- Such a job waits again.
UPDATE job_requests
SET state = 'waiting', interrupted = interrupted + (state = 'running'), holder = '', lease_until = 0, not_before = :now,
    updated_at = :now
WHERE key = :key AND run = :run AND state IN ('dispatched', 'running') AND lease_until < :now;

-- name: bury_job
-- Put a job aside for good: it would end every process that tried.
UPDATE job_requests SET state = 'dead', error = :error, holder = '', lease_until = 0, ended_at = :now, updated_at = :now
WHERE key = :key AND run = :run AND state IN ('waiting', 'dispatched');

-- name: prune_jobs
-- Drop some of the jobs that ended long ago; those that were put aside, for people to look at, much later.
DELETE FROM job_requests
WHERE key IN (
  SELECT key FROM job_requests WHERE ended_at < :before AND (state <> 'dead' OR ended_at < :dead_before)
  ORDER BY ended_at LIMIT :limit
);

-- name: find_call
-- A call of a model by its key.
SELECT * FROM model_calls WHERE key = :key;

-- name: reserve_call
-- Set a call aside before it is made; one that failed or was broken off is made again.
INSERT INTO model_calls (key, kind, op, job_key, agent, episode_id, task_id, at, state, model, calls, tokens_reserved,
                         money)
VALUES (:key, :kind, :op, :job_key, :agent, :episode_id, :task_id, :now, 'reserved', :model, 1, :tokens, :money)
ON CONFLICT (key) DO UPDATE SET
  state = 'reserved', job_key = excluded.job_key, at = excluded.at, calls = calls + 1, ended_at = NULL, error = NULL,
  tokens_reserved = tokens_reserved + excluded.tokens_reserved, money = money + excluded.money;

-- name: settle_call
-- How a call ended, and what it really took in the place of what was set aside.
UPDATE model_calls
SET state = :state, ended_at = :now, answer = coalesce(:answer, answer), error = :error, calls = calls + :calls,
    tokens_reserved = tokens_reserved - :reserved, tokens_in = tokens_in + :tokens_in,
    tokens_out = tokens_out + :tokens_out, money = money + :money
WHERE key = :key;

-- name: note_wrong_answer
-- What was wrong with an answer, for people.
UPDATE model_calls SET error = :error WHERE key = :key;

-- name: spent
-- What was spent in a span by a kind of jobs.
SELECT calls, tokens, money FROM learning_spend WHERE span = :span AND name = :span_name AND kind = :kind;

-- name: spend
-- Enter into the ledger what was set aside, or the difference to what was spent in truth.
INSERT INTO learning_spend (span, name, kind, calls, tokens, money, at)
VALUES (:span, :span_name, :kind, :calls, :tokens, :money, :now)
ON CONFLICT (span, name, kind) DO UPDATE SET
  calls = calls + excluded.calls, tokens = tokens + excluded.tokens, money = money + excluded.money, at = excluded.at;

-- name: spent_by_kind
-- What was spent in a span, by kind of jobs; '' is all of them.
SELECT kind, calls, tokens, money FROM learning_spend WHERE span = :span AND name = :span_name ORDER BY kind LIMIT :limit;

-- name: prune_calls
-- Drop some of the calls that were made long ago.
DELETE FROM model_calls WHERE key IN (SELECT key FROM model_calls WHERE at < :before ORDER BY at LIMIT :limit);

-- name: prune_spend
-- Drop some of the ledger's rows that nothing was entered into for long.
DELETE FROM learning_spend
WHERE (span, name, kind) IN (
  SELECT span, name, kind FROM learning_spend WHERE at < :before ORDER BY at LIMIT :limit
);

-- name: taken_permits
-- The places for calls of a model that somebody has now.
SELECT slot FROM model_permits WHERE until >= :now;

-- name: take_permit
-- Take a place that is free.
INSERT INTO model_permits (slot, holder, until) VALUES (:slot, :holder, :until)
ON CONFLICT (slot) DO UPDATE SET holder = excluded.holder, until = excluded.until;

-- name: renew_permit
-- Keep a place; nothing happens when it is somebody else's.
UPDATE model_permits SET until = :until WHERE slot = :slot AND holder = :holder;

-- name: give_permit_back
-- A place is free.
DELETE FROM model_permits WHERE slot = :slot AND holder = :holder;

-- name: free_permits_of
-- The places of a process that was killed are free.
DELETE FROM model_permits WHERE holder GLOB :holder || '/*';

-- name: find_pause
-- What is known of a server that asked for a pause or refused us.
SELECT * FROM provider_pauses WHERE provider = :provider;

-- name: pause_provider
-- A server asked for a pause, or refused us; a pause that lasts longer already stays.
INSERT INTO provider_pauses (provider, until, kind, reason, since) VALUES (:provider, :until, :kind, :reason, :now)
ON CONFLICT (provider) DO UPDATE SET
  kind = CASE WHEN excluded.until >= until THEN excluded.kind ELSE kind END,
  reason = CASE WHEN excluded.until >= until THEN excluded.reason ELSE reason END,
  until = max(until, excluded.until), since = excluded.since;

-- name: begin_probe
-- Be the one who finds out whether a server that refused us takes us again.
UPDATE provider_pauses SET probes = probes + 1, until = :until
WHERE provider = :provider AND probes = :probes AND until <= :now AND kind = 'circuit';

-- name: drop_pause
-- Whatever a server said, it counts no more.
DELETE FROM provider_pauses WHERE provider = :provider;

-- name: end_pause
-- A server answered: what it said before it was asked is over.
DELETE FROM provider_pauses WHERE provider = :provider AND since <= :asked_at;

-- name: end_probe
-- A probe said nothing about the server: the next call may be one.
UPDATE provider_pauses SET until = :now WHERE provider = :provider AND kind = 'circuit' AND until > :now AND since <= :asked_at;

-- name: jobs_in_state
-- How many jobs of a lane are in a state, by the tally.
SELECT total FROM tally WHERE name = 'jobs.' || :lane || '.' || :state;
