-- Undoes 0002_local.sql, in the opposite order.
SET LOCAL lock_timeout = '5s';

ALTER TABLE {s}.worker_jobs_open DROP COLUMN remove_at, DROP COLUMN keep_failed_for;
DROP TABLE {s}.family_cancels;
DROP INDEX {s}.worker_jobs_finished_root, {s}.worker_jobs_open_root;
UPDATE {s}.worker_jobs_open SET status = 'QUEUED', waiting_for = NULL, worker_id = NULL, claim_number = NULL
WHERE status = 'WAITING' AND waiting_for = 'children';
ALTER TABLE {s}.worker_jobs_finished DROP COLUMN root_id;
ALTER TABLE {s}.worker_jobs_open DROP COLUMN awaiting, DROP COLUMN root_id;
-- A row that nobody has routed means nothing to the release before.
DROP FUNCTION {s}.schedule_job, {s}.uuid7;

DROP TRIGGER flag_changes_no_truncate ON {s}.flag_changes;
ALTER TABLE {s}.leases RESET (fillfactor);
ALTER TABLE {s}.workers RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.job_queues RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.concurrency_keys RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.leases RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.remote_budgets RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.job_keys RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.job_events RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE {s}.worker_jobs_open DROP COLUMN deadline;

DROP INDEX {s}.worker_jobs_finished_dead;
DROP TABLE {s}.redrives;

ALTER TABLE {s}.workers DROP COLUMN lock_key;
DROP TABLE {s}.queue_changes;
DROP INDEX {s}.worker_jobs_open_keyed, {s}.concurrency_keys_free;
DELETE FROM {s}.concurrency_keys;
ALTER TABLE {s}.concurrency_keys
  DROP COLUMN starts, DROP COLUMN free_at,
  ADD COLUMN held INTEGER DEFAULT 0 NOT NULL,
  ADD CONSTRAINT concurrency_keys_held CHECK (held >= 0);
ALTER TABLE {s}.job_queues
  DROP COLUMN limits, DROP COLUMN limited, DROP COLUMN declared, DROP COLUMN overrides, DROP COLUMN starts, DROP COLUMN walk,
  ADD COLUMN rate_count INTEGER, ADD COLUMN rate_period INTERVAL,
  ADD COLUMN rate_tokens DOUBLE PRECISION, ADD COLUMN rate_at TIMESTAMP WITH TIME ZONE;

DROP INDEX {s}.worker_jobs_open_executing;
CREATE INDEX worker_jobs_open_queue_running ON {s}.worker_jobs_open (queue)
WHERE status = 'EXECUTING' AND executor = 'local';
CREATE INDEX worker_jobs_open_running ON {s}.worker_jobs_open (worker_id)
WHERE status = 'EXECUTING' AND executor = 'local';
