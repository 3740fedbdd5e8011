-- The schema as it first was. Never edited after a release: a change is a new migration.
-- {s} is the schema as an identifier, {l} as a string.

CREATE SEQUENCE {s}.worker_jobs_seq;

CREATE TABLE {s}.advertised_tasks (
  task TEXT NOT NULL,
  schema_hash TEXT,
  worker_id UUID NOT NULL,
  seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (task)
);

CREATE TABLE {s}.api_keys (
  id UUID NOT NULL,
  prefix TEXT NOT NULL,
  hash BYTEA NOT NULL,
  scopes TEXT[] NOT NULL,
  name TEXT,
  user_id TEXT,
  revoked_at TIMESTAMP WITH TIME ZONE,
  last_used_at TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (hash)
);

CREATE TABLE {s}.batches (
  id UUID NOT NULL,
  run_count INTEGER NOT NULL,
  status TEXT NOT NULL,
  idempotency_key TEXT,
  parent_id UUID,
  detail JSONB,
  sealed_at TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (idempotency_key)
);

CREATE TABLE {s}.concurrency_keys (
  queue TEXT NOT NULL,
  key TEXT NOT NULL,
  held INTEGER DEFAULT 0 NOT NULL,
  PRIMARY KEY (queue, key),
  CONSTRAINT concurrency_keys_held CHECK (held >= 0)
)
 WITH (fillfactor = 50);

CREATE TABLE {s}.executor_flags (
  kind TEXT NOT NULL,
  task TEXT NOT NULL,
  executor TEXT NOT NULL,
  percent NUMERIC(6, 3),
  salt TEXT,
  hash_by TEXT,
  detail JSONB,
  version BIGINT NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (kind, task, executor),
  CONSTRAINT executor_flags_kind CHECK (kind IN ('kill', 'rollout', 'circuit')),
  CONSTRAINT executor_flags_percent CHECK (percent BETWEEN 0 AND 100)
);
CREATE UNIQUE INDEX executor_flags_one_kill ON {s}.executor_flags (task) WHERE kind = 'kill';

CREATE TABLE {s}.finished_partitions (
  day DATE NOT NULL,
  PRIMARY KEY (day)
);

CREATE TABLE {s}.flag_changes (
  id BIGINT GENERATED ALWAYS AS IDENTITY,
  at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  task TEXT NOT NULL,
  executor TEXT NOT NULL,
  before JSONB,
  after JSONB,
  reason TEXT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX flag_changes_at ON {s}.flag_changes (at);

CREATE TABLE {s}.flags_state (
  one BOOLEAN DEFAULT true NOT NULL,
  version BIGINT DEFAULT 1 NOT NULL,
  PRIMARY KEY (one),
  CONSTRAINT flags_state_one CHECK (one)
);

CREATE TABLE {s}.job_events (
  id BIGINT GENERATED ALWAYS AS IDENTITY,
  job_id UUID NOT NULL,
  epoch INTEGER NOT NULL,
  at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  kind TEXT NOT NULL,
  actor TEXT,
  detail JSONB,
  PRIMARY KEY (id)
);
CREATE INDEX job_events_at ON {s}.job_events (at);
CREATE INDEX job_events_job ON {s}.job_events (job_id, id);

CREATE TABLE {s}.job_keys (
  task TEXT NOT NULL,
  key TEXT NOT NULL,
  job_id UUID NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  PRIMARY KEY (task, key)
);
CREATE INDEX job_keys_expiry ON {s}.job_keys (expires_at);

CREATE TABLE {s}.job_queues (
  name TEXT NOT NULL,
  concurrency_limit INTEGER,
  limit_override INTEGER,
  paused_at TIMESTAMP WITH TIME ZONE,
  rate_count INTEGER,
  rate_period INTERVAL,
  rate_tokens DOUBLE PRECISION,
  rate_at TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  effective_limit INTEGER GENERATED ALWAYS AS (COALESCE(limit_override, concurrency_limit)) STORED,
  PRIMARY KEY (name)
)
 WITH (fillfactor = 50);

CREATE TABLE {s}.job_schedules (
  id UUID NOT NULL,
  task TEXT NOT NULL,
  cron TEXT NOT NULL,
  timezone TEXT DEFAULT 'UTC' NOT NULL,
  tag TEXT,
  user_id TEXT,
  data JSONB,
  executor TEXT,
  description TEXT,
  missed TEXT DEFAULT 'last' NOT NULL,
  active BOOLEAN DEFAULT true NOT NULL,
  persistent BOOLEAN DEFAULT false NOT NULL,
  next_at TIMESTAMP WITH TIME ZONE,
  last_at TIMESTAMP WITH TIME ZONE,
  owner TEXT DEFAULT 'local' NOT NULL,
  remote_schedule_id TEXT,
  handover_state TEXT,
  handover_to TEXT,
  handover_cut TIMESTAMP WITH TIME ZONE,
  deduplication_key TEXT,
  external_id TEXT,
  extra JSONB,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT job_schedules_missed CHECK (missed IN ('all', 'last', 'skip')),
  UNIQUE (deduplication_key)
);
CREATE INDEX job_schedules_next ON {s}.job_schedules (next_at) WHERE active AND owner = 'local';

CREATE TABLE {s}.leases (
  name TEXT NOT NULL,
  holder UUID NOT NULL,
  until TIMESTAMP WITH TIME ZONE NOT NULL,
  term BIGINT DEFAULT 1 NOT NULL,
  detail JSONB,
  PRIMARY KEY (name)
);

CREATE TABLE {s}.packets (
  path TEXT NOT NULL,
  content_type TEXT NOT NULL,
  body BYTEA NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (path)
);
CREATE INDEX packets_created ON {s}.packets (created_at);

CREATE TABLE {s}.remote_budgets (
  executor TEXT NOT NULL,
  share TEXT NOT NULL,
  tokens DOUBLE PRECISION NOT NULL,
  capacity DOUBLE PRECISION NOT NULL,
  per_second DOUBLE PRECISION NOT NULL,
  refilled_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  paused_until TIMESTAMP WITH TIME ZONE,
  PRIMARY KEY (executor, share)
)
 WITH (fillfactor = 50);

CREATE TABLE {s}.remote_runs (
  executor TEXT NOT NULL,
  run_id TEXT NOT NULL,
  job_id UUID NOT NULL,
  epoch INTEGER NOT NULL,
  environment TEXT,
  role TEXT DEFAULT 'bound' NOT NULL,
  wanted TEXT,
  final_status TEXT,
  started_at TIMESTAMP WITH TIME ZONE,
  ended_at TIMESTAMP WITH TIME ZONE,
  missing_since TIMESTAMP WITH TIME ZONE,
  checked_at TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (executor, run_id),
  CONSTRAINT remote_runs_role CHECK (role IN ('bound', 'duplicate', 'tombstone')),
  CONSTRAINT remote_runs_wanted CHECK (wanted IN ('canceled'))
);
CREATE INDEX remote_runs_ended ON {s}.remote_runs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX remote_runs_job ON {s}.remote_runs (job_id, epoch);
CREATE INDEX remote_runs_open ON {s}.remote_runs (executor, created_at, run_id) WHERE ended_at IS NULL;

CREATE TABLE {s}.schedule_ticks (
  schedule_id UUID NOT NULL,
  fire_time TIMESTAMP WITH TIME ZONE NOT NULL,
  job_id UUID,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (schedule_id, fire_time)
);

CREATE TABLE {s}.webhook_inbox (
  id BIGINT GENERATED ALWAYS AS IDENTITY,
  source TEXT NOT NULL,
  delivery_id TEXT NOT NULL,
  body JSONB NOT NULL,
  state TEXT DEFAULT 'pending' NOT NULL,
  attempts INTEGER DEFAULT 0 NOT NULL,
  result TEXT,
  error TEXT,
  job_id UUID,
  secret_id TEXT,
  next_try_at TIMESTAMP WITH TIME ZONE,
  applied_at TIMESTAMP WITH TIME ZONE,
  received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT webhook_inbox_delivery UNIQUE (source, delivery_id),
  CONSTRAINT webhook_inbox_state CHECK (state IN ('pending', 'applied', 'dead'))
);
CREATE INDEX webhook_inbox_dead ON {s}.webhook_inbox (received_at) WHERE state = 'dead';
CREATE INDEX webhook_inbox_pending ON {s}.webhook_inbox (next_try_at) WHERE state = 'pending';
CREATE INDEX webhook_inbox_received ON {s}.webhook_inbox (received_at);

CREATE TABLE {s}.worker_jobs_finished (
  id UUID NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  tag TEXT,
  user_id TEXT,
  data JSONB,
  executor TEXT,
  route_reason TEXT,
  epoch INTEGER DEFAULT 1 NOT NULL,
  submit_state TEXT DEFAULT 'never' NOT NULL,
  queue TEXT NOT NULL,
  concurrency_key TEXT,
  priority INTEGER DEFAULT 0 NOT NULL,
  due TIMESTAMP WITH TIME ZONE,
  expires_at TIMESTAMP WITH TIME ZONE,
  max_duration INTERVAL,
  attempt INTEGER DEFAULT 0 NOT NULL,
  max_attempts INTEGER DEFAULT 3 NOT NULL,
  retry JSONB,
  started TIMESTAMP WITH TIME ZONE,
  error JSONB,
  metadata JSONB,
  tags TEXT[],
  remote_run_id TEXT,
  remote_attempt TEXT,
  remote_status TEXT,
  remote_environment TEXT,
  schedule_id UUID,
  cancel_requested BOOLEAN DEFAULT false NOT NULL,
  idempotency_key TEXT,
  submit_group UUID,
  first_try_at TIMESTAMP WITH TIME ZONE,
  worker_id UUID,
  claim_number BIGINT,
  last_synced_at TIMESTAMP WITH TIME ZONE,
  parent_id UUID,
  batch_id UUID,
  persistent BOOLEAN DEFAULT false NOT NULL,
  extra JSONB,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  finished TIMESTAMP WITH TIME ZONE NOT NULL,
  success BOOLEAN NOT NULL,
  result JSONB,
  orphaned BOOLEAN DEFAULT false NOT NULL,
  remove_at TIMESTAMP WITH TIME ZONE,
  drop_on DATE NOT NULL,
  PRIMARY KEY (id, drop_on),
  CONSTRAINT worker_jobs_finished_status CHECK (status IN ('CANCELED', 'COMPLETED', 'CRASHED', 'EXPIRED', 'FAILED', 'SYSTEM_FAILURE', 'TIMED_OUT')),
  CONSTRAINT worker_jobs_finished_success CHECK (success = (status = 'COMPLETED'))
)
 PARTITION BY RANGE (drop_on);
CREATE INDEX worker_jobs_finished_created ON {s}.worker_jobs_finished (created_at);
CREATE INDEX worker_jobs_finished_parent ON {s}.worker_jobs_finished (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX worker_jobs_finished_tags ON {s}.worker_jobs_finished USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX worker_jobs_finished_type ON {s}.worker_jobs_finished (type, finished);

CREATE TABLE {s}.worker_jobs_open (
  id UUID NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  tag TEXT,
  user_id TEXT,
  data JSONB,
  executor TEXT,
  route_reason TEXT,
  epoch INTEGER DEFAULT 1 NOT NULL,
  submit_state TEXT DEFAULT 'never' NOT NULL,
  queue TEXT NOT NULL,
  concurrency_key TEXT,
  priority INTEGER DEFAULT 0 NOT NULL,
  due TIMESTAMP WITH TIME ZONE,
  expires_at TIMESTAMP WITH TIME ZONE,
  max_duration INTERVAL,
  attempt INTEGER DEFAULT 0 NOT NULL,
  max_attempts INTEGER DEFAULT 3 NOT NULL,
  retry JSONB,
  started TIMESTAMP WITH TIME ZONE,
  error JSONB,
  metadata JSONB,
  tags TEXT[],
  remote_run_id TEXT,
  remote_attempt TEXT,
  remote_status TEXT,
  remote_environment TEXT,
  schedule_id UUID,
  cancel_requested BOOLEAN DEFAULT false NOT NULL,
  idempotency_key TEXT,
  submit_group UUID,
  first_try_at TIMESTAMP WITH TIME ZONE,
  worker_id UUID,
  claim_number BIGINT,
  last_synced_at TIMESTAMP WITH TIME ZONE,
  parent_id UUID,
  batch_id UUID,
  persistent BOOLEAN DEFAULT false NOT NULL,
  extra JSONB,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  waiting_for TEXT,
  seq BIGINT DEFAULT nextval('{s}.worker_jobs_seq') NOT NULL,
  keep_for INTERVAL,
  tag_held BOOLEAN DEFAULT false NOT NULL,
  recall_id UUID,
  recall_to TEXT,
  submit_tries INTEGER DEFAULT 0 NOT NULL,
  next_try_at TIMESTAMP WITH TIME ZONE,
  dispatch_lease UUID,
  dispatch_lease_until TIMESTAMP WITH TIME ZONE,
  remote_event_at TIMESTAMP WITH TIME ZONE,
  remote_rank INTEGER DEFAULT 0 NOT NULL,
  confirm_at TIMESTAMP WITH TIME ZONE,
  open_children INTEGER DEFAULT 0 NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT worker_jobs_open_status CHECK (status IN ('DELAYED', 'EXECUTING', 'PENDING', 'QUEUED', 'WAITING')),
  CONSTRAINT worker_jobs_open_submit_state CHECK (submit_state IN ('accepted', 'never', 'trying', 'unknown')),
  CONSTRAINT worker_jobs_open_waiting_for CHECK ((status = 'WAITING') = (waiting_for IS NOT NULL) AND (waiting_for IS NULL OR waiting_for IN ('children', 'executor', 'key', 'token')))
)
 WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX worker_jobs_open_claim ON {s}.worker_jobs_open (queue, (-priority), seq) WHERE status = 'QUEUED' AND executor = 'local';
CREATE INDEX worker_jobs_open_confirm ON {s}.worker_jobs_open (confirm_at) WHERE confirm_at IS NOT NULL;
CREATE INDEX worker_jobs_open_dispatch ON {s}.worker_jobs_open (executor, next_try_at) WHERE submit_state <> 'accepted' AND executor <> 'local' AND status = 'PENDING';
CREATE INDEX worker_jobs_open_due ON {s}.worker_jobs_open (due) WHERE status = 'DELAYED';
CREATE INDEX worker_jobs_open_expiry ON {s}.worker_jobs_open (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX worker_jobs_open_parent ON {s}.worker_jobs_open (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX worker_jobs_open_queue_running ON {s}.worker_jobs_open (queue) WHERE status = 'EXECUTING' AND executor = 'local';
CREATE INDEX worker_jobs_open_running ON {s}.worker_jobs_open (worker_id) WHERE status = 'EXECUTING' AND executor = 'local';
CREATE UNIQUE INDEX worker_jobs_open_tag ON {s}.worker_jobs_open (type, tag) WHERE tag_held;
CREATE INDEX worker_jobs_open_tags ON {s}.worker_jobs_open USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX worker_jobs_open_unrouted ON {s}.worker_jobs_open (seq) WHERE executor IS NULL;
CREATE INDEX worker_jobs_open_waiting ON {s}.worker_jobs_open (waiting_for, type) WHERE status = 'WAITING';

CREATE TABLE {s}.workers (
  id UUID NOT NULL,
  name TEXT NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  backend_pid INTEGER,
  lease INTERVAL NOT NULL,
  started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  stopping_at TIMESTAMP WITH TIME ZONE,
  PRIMARY KEY (id)
)
 WITH (fillfactor = 50);

-- Partitions of finished jobs: one per drop day, the last for what is kept for good (9999-12-31, since an
-- infinite date is one that most clients cannot read). Made beside the table and attached, which takes the
-- lightest lock there is for it.
CREATE FUNCTION {s}.make_finished_partition(drop_day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  part text := 'worker_jobs_finished_' || replace(drop_day::text, '-', '');
  last text := CASE WHEN drop_day = '9999-12-31' THEN 'MAXVALUE' ELSE quote_literal(drop_day + 1) END;
BEGIN
  IF to_regclass(format('%I.%I', {l}, part)) IS NULL THEN
    EXECUTE format('CREATE TABLE %I.%I (LIKE %1$I.worker_jobs_finished INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', {l}, part);
    EXECUTE format('ALTER TABLE %1$I.worker_jobs_finished ATTACH PARTITION %1$I.%2$I FOR VALUES FROM (%3$L) TO (%4$s)',
      {l}, part, drop_day, last);
  END IF;
  INSERT INTO {s}.finished_partitions (day) VALUES (drop_day) ON CONFLICT DO NOTHING;
END $$;

SELECT {s}.make_finished_partition(((now() AT TIME ZONE 'UTC')::date + n)) FROM generate_series(1, 10) AS n;
SELECT {s}.make_finished_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n))::date)
FROM generate_series(1, 13) AS n;
SELECT {s}.make_finished_partition('9999-12-31');

INSERT INTO {s}.flags_state DEFAULT VALUES;

-- The audit of flags is append-only for everybody.
CREATE FUNCTION {s}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'flag_changes is append-only';
END $$;
CREATE TRIGGER flag_changes_append_only BEFORE UPDATE OR DELETE ON {s}.flag_changes
  FOR EACH ROW EXECUTE FUNCTION {s}.refuse_change();

-- Every job under one name, with the column names of common guides beside ours.
CREATE VIEW {s}.worker_jobs AS
SELECT id, type, status, waiting_for, tag, user_id, data, executor, route_reason, epoch, submit_state, queue,
  concurrency_key, priority, due, expires_at, max_duration, attempt, max_attempts, retry, started,
  NULL::timestamptz AS finished, NULL::boolean AS success, NULL::jsonb AS result, error, metadata, tags,
  remote_run_id, remote_attempt, remote_status, remote_environment, schedule_id, cancel_requested, idempotency_key,
  last_synced_at, parent_id, batch_id, persistent, NULL::timestamptz AS remove_at, created_at, updated_at,
  remote_run_id AS trigger_run_id, remote_attempt AS trigger_attempt_id,
  CASE WHEN executor <> 'local' THEN COALESCE(remote_status, status) END AS trigger_status,
  schedule_id AS trigger_schedule_id
FROM {s}.worker_jobs_open
UNION ALL
SELECT id, type, status, NULL, tag, user_id, data, executor, route_reason, epoch, submit_state, queue,
  concurrency_key, priority, due, expires_at, max_duration, attempt, max_attempts, retry, started,
  finished, success, CASE WHEN success THEN result ELSE error END, error, metadata, tags,
  remote_run_id, remote_attempt, remote_status, remote_environment, schedule_id, cancel_requested, idempotency_key,
  last_synced_at, parent_id, batch_id, persistent, remove_at, created_at, updated_at,
  remote_run_id, remote_attempt, CASE WHEN executor <> 'local' THEN COALESCE(remote_status, status) END, schedule_id
FROM {s}.worker_jobs_finished;

CREATE VIEW {s}.job_runs AS
SELECT id, type AS task_id,
  CASE WHEN status = 'COMPLETED' THEN 'completed' WHEN finished IS NOT NULL THEN 'failed'
    WHEN status = 'EXECUTING' THEN 'active' ELSE 'pending' END AS status,
  data AS payload, CASE WHEN success THEN result END AS result, error ->> 'message' AS error,
  started AS started_at, finished AS completed_at, created_at
FROM {s}.worker_jobs;
