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
-- Retention: when a finished job may go, and how long one stays that ended badly.
ALTER TABLE {s}.worker_jobs_open ADD COLUMN remove_at TIMESTAMP WITH TIME ZONE, ADD COLUMN keep_failed_for INTERVAL;
-- For producers that speak SQL: a job as a row that nobody has routed. The first process that knows its task does.
-- A uuid of version 7 (RFC 9562) without an extension: 48 bits of milliseconds, the rest as random as version 4.
CREATE FUNCTION {s}.uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
    substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1),
    'hex')::uuid
$$;

-- Returns the id of the new job, or of the one that holds the key or tag. A row of job_keys and the row itself come and
-- go together: both are written by the caller's transaction.
CREATE FUNCTION {s}.schedule_job(
  type text, data jsonb DEFAULT 'null', tag text DEFAULT NULL, due timestamptz DEFAULT NULL,
  delay interval DEFAULT NULL, ttl interval DEFAULT NULL, priority int DEFAULT NULL, queue text DEFAULT NULL,
  idempotency_key text DEFAULT NULL, idempotency_ttl interval DEFAULT interval '30 days',
  concurrency_key text DEFAULT NULL, user_id text DEFAULT NULL, metadata jsonb DEFAULT NULL,
  tags text[] DEFAULT NULL, max_attempts int DEFAULT NULL, max_duration interval DEFAULT NULL,
  executor text DEFAULT NULL, notify boolean DEFAULT true
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  made uuid := {s}.uuid7();
  holder uuid;
  starts timestamptz := COALESCE(schedule_job.due, now() + schedule_job.delay);
  slot text := 'key:' || schedule_job.idempotency_key;
BEGIN
  IF schedule_job.type IS NULL OR schedule_job.due IS NOT NULL AND schedule_job.delay IS NOT NULL THEN
    RAISE EXCEPTION 'schedule_job needs a type, and due or delay, not both' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOR turn IN 1..100 LOOP
    IF slot IS NOT NULL THEN
      SELECT k.job_id INTO holder FROM {s}.job_keys k
      WHERE k.task = schedule_job.type AND k.key = slot AND k.expires_at > now();
      IF FOUND THEN
        -- Two looks in this order: a job moves only one way. One that is in neither is past its retention.
        PERFORM FROM {s}.worker_jobs_open o WHERE o.id = holder;
        IF FOUND THEN RETURN holder; END IF;
        PERFORM FROM {s}.worker_jobs_finished f WHERE f.id = holder;
        IF FOUND THEN RETURN holder; END IF;
        DELETE FROM {s}.job_keys k WHERE k.task = schedule_job.type AND k.key = slot AND k.job_id = holder;
      END IF;
      INSERT INTO {s}.job_keys AS k (task, key, job_id, expires_at)
      VALUES (schedule_job.type, slot, made, now() + schedule_job.idempotency_ttl)
      ON CONFLICT (task, key) DO UPDATE SET job_id = EXCLUDED.job_id, expires_at = EXCLUDED.expires_at
      WHERE k.expires_at <= now();
      CONTINUE WHEN NOT FOUND;
    END IF;
    INSERT INTO {s}.worker_jobs_open (
      id, type, status, epoch, data, tag, tag_held, due, expires_at, priority, queue, idempotency_key, concurrency_key,
      user_id, metadata, tags, extra)
    VALUES (made, schedule_job.type, 'PENDING', 0, schedule_job.data, schedule_job.tag, schedule_job.tag IS NOT NULL,
      starts, COALESCE(starts, now()) + schedule_job.ttl, COALESCE(schedule_job.priority, 0),
      COALESCE(schedule_job.queue, 'default'), schedule_job.idempotency_key, schedule_job.concurrency_key,
      schedule_job.user_id, schedule_job.metadata, schedule_job.tags,
      jsonb_build_object('asked', jsonb_strip_nulls(jsonb_build_object(
        'priority', schedule_job.priority, 'queue', schedule_job.queue, 'executor', schedule_job.executor,
        'max_attempts', schedule_job.max_attempts, 'ttl', extract(epoch FROM schedule_job.ttl),
        'max_duration', extract(epoch FROM schedule_job.max_duration)))))
    ON CONFLICT (type, tag) WHERE tag_held DO NOTHING;
    IF FOUND THEN
      IF schedule_job.notify THEN
        PERFORM pg_notify(left({l} || '_wakeup', 63), '["!route"]');
      END IF;
      RETURN made;
    END IF;
    DELETE FROM {s}.job_keys k WHERE k.task = schedule_job.type AND k.key = slot AND k.job_id = made;
    SELECT o.id INTO holder FROM {s}.worker_jobs_open o
    WHERE o.type = schedule_job.type AND o.tag = schedule_job.tag AND o.tag_held;
    IF FOUND THEN RETURN holder; END IF;
  END LOOP;
  RAISE EXCEPTION 'the key or tag changed hands too often; schedule again' USING ERRCODE = 'serialization_failure';
END $$;
