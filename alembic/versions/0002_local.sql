-- The complete local executor. {s} is the schema as an identifier, {l} as a string.
-- Nothing here may wait for long behind somebody who holds a table.
SET LOCAL lock_timeout = '5s';

-- One index of what runs here instead of two: every claim writes one entry less.
DROP INDEX {s}.worker_jobs_open_queue_running, {s}.worker_jobs_open_running;
CREATE INDEX worker_jobs_open_executing ON {s}.worker_jobs_open (queue, worker_id)
WHERE status = 'EXECUTING' AND executor = 'local';

-- Rescue: the advisory lock by which judges see that a worker lives. Workers of the release before leave it null.
ALTER TABLE {s}.workers ADD COLUMN lock_key BIGINT;

-- Dead letters: found by their end, redriven once. The index has entries of jobs that ended badly, and no others.
CREATE TABLE {s}.redrives (
  job_id UUID NOT NULL,
  new_job_id UUID NOT NULL,
  times INTEGER DEFAULT 1 NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL,
  at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (job_id)
);
CREATE INDEX redrives_at ON {s}.redrives (at);
CREATE INDEX worker_jobs_finished_dead ON {s}.worker_jobs_finished (finished, id) WHERE NOT success AND status <> 'CANCELED';

-- When the try that runs is over its time; only jobs with a max_duration have one.
ALTER TABLE {s}.worker_jobs_open ADD COLUMN deadline TIMESTAMP WITH TIME ZONE;
CREATE INDEX worker_jobs_open_deadline ON {s}.worker_jobs_open (deadline)
WHERE status = 'EXECUTING' AND executor = 'local' AND deadline IS NOT NULL;

-- Small tables that are rewritten all the time: vacuum by count, without pauses, with room on the page. Larger ones
-- that only grow and shrink: sooner than after a fifth of them.
ALTER TABLE {s}.workers SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {s}.job_queues SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {s}.concurrency_keys SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {s}.leases SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {s}.remote_budgets SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {s}.job_keys SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {s}.job_events SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The audit of flags is append-only for those, too, who empty whole tables.
CREATE TRIGGER flag_changes_no_truncate BEFORE TRUNCATE ON {s}.flag_changes
  FOR EACH STATEMENT EXECUTE FUNCTION {s}.refuse_change();
