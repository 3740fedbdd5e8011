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
-- Limits of queues: what the registry declares, what a person set over it, and what therefore holds.
-- concurrency_limit, limit_override and effective_limit stay in step for workers of the release before.
ALTER TABLE {s}.job_queues
  DROP COLUMN rate_count, DROP COLUMN rate_period, DROP COLUMN rate_tokens, DROP COLUMN rate_at,
  ADD COLUMN declared JSONB DEFAULT '{}' NOT NULL,
  ADD COLUMN overrides JSONB DEFAULT '{}' NOT NULL,
  ADD COLUMN starts BIGINT[],
  ADD COLUMN walk JSONB;
UPDATE {s}.job_queues SET
  declared = CASE WHEN concurrency_limit IS NULL THEN '{}' ELSE jsonb_build_object('concurrency_limit', concurrency_limit) END,
  overrides = CASE WHEN limit_override IS NULL THEN '{}' ELSE jsonb_build_object('concurrency_limit', limit_override) END;
ALTER TABLE {s}.job_queues
  ADD COLUMN limits JSONB GENERATED ALWAYS AS (declared || overrides) STORED,
  ADD COLUMN limited BOOLEAN GENERATED ALWAYS AS (jsonb_strip_nulls(declared || overrides) <> '{}') STORED;
ALTER TABLE {s}.concurrency_keys
  DROP COLUMN held,
  ADD COLUMN starts BIGINT[] NOT NULL,
  ADD COLUMN free_at TIMESTAMP WITH TIME ZONE NOT NULL;
CREATE INDEX concurrency_keys_free ON {s}.concurrency_keys (free_at);
CREATE INDEX worker_jobs_open_keyed ON {s}.worker_jobs_open (queue, concurrency_key, (-priority), seq)
WHERE status = 'QUEUED' AND executor = 'local' AND concurrency_key IS NOT NULL;
CREATE TABLE {s}.queue_changes (
  id BIGINT GENERATED ALWAYS AS IDENTITY,
  at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  queue TEXT NOT NULL,
  kind TEXT NOT NULL,
  before JSONB,
  after JSONB,
  reason TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX queue_changes_queue ON {s}.queue_changes (queue, id);
CREATE OR REPLACE FUNCTION {s}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER queue_changes_append_only BEFORE UPDATE OR DELETE ON {s}.queue_changes
  FOR EACH ROW EXECUTE FUNCTION {s}.refuse_change();
CREATE TRIGGER queue_changes_no_truncate BEFORE TRUNCATE ON {s}.queue_changes
  FOR EACH STATEMENT EXECUTE FUNCTION {s}.refuse_change();


-- Families: the root of a job's family, what a parent waits for, and cancels on their way down.
ALTER TABLE {s}.worker_jobs_open ADD COLUMN root_id UUID, ADD COLUMN awaiting UUID[];
ALTER TABLE {s}.worker_jobs_finished ADD COLUMN root_id UUID;
CREATE INDEX worker_jobs_open_root ON {s}.worker_jobs_open (root_id) WHERE root_id IS NOT NULL;
CREATE INDEX worker_jobs_finished_root ON {s}.worker_jobs_finished (root_id) WHERE root_id IS NOT NULL;
CREATE TABLE {s}.family_cancels (
  job_id UUID NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (job_id)
);
