-- Jobs that were asked for, what they may spend, and what they spent.

-- name: ask_for_job
-- Ask for a job; nothing happens when the same one was asked for before.
INSERT INTO job_requests (key, kind, lane, agent, episode_id, task_id, payload, state, attempts_max, not_before,
                          requested_at, updated_at)
VALUES (:key, :kind, :lane, :agent, :episode_id, :task_id, :payload, 'waiting', :attempts_max, :not_before, :now, :now)
ON CONFLICT (key) DO NOTHING;
