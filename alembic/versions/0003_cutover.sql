-- Cutover. Added only: the release before goes on working.
-- {s} is the schema as an identifier, {l} as a string.

-- Failback: what executors were seen to do, one character per outcome and per try; and their canaries.
CREATE TABLE {s}.executor_health (
  executor TEXT NOT NULL,
  task TEXT NOT NULL,
  outcomes TEXT DEFAULT '' NOT NULL,
  tries TEXT DEFAULT '' NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (executor, task)
)
 WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE {s}.canaries (
  executor TEXT NOT NULL,
  task TEXT NOT NULL,
  every INTERVAL NOT NULL,
  next_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  counted_from TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  last_job_id UUID,
  PRIMARY KEY (executor)
)
 WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Recalls: operations that take jobs back, and what became of each job.
CREATE TABLE {s}.recalls (
  id UUID PRIMARY KEY,
  task TEXT NOT NULL,
  source TEXT NOT NULL,
  target TEXT NOT NULL,
  mode TEXT NOT NULL,
  types TEXT[] NOT NULL,
  idempotent TEXT[] NOT NULL,
  state TEXT DEFAULT 'planned' NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  batch INTEGER DEFAULT 100 NOT NULL,
  per_second DOUBLE PRECISION,
  calls BIGINT DEFAULT 0 NOT NULL,
  seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
  holder UUID,
  held_until TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  finished_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT recalls_mode CHECK (mode IN ('migrate-pending', 'recall-all', 'recall-unstarted')),
  CONSTRAINT recalls_state CHECK (state IN ('done', 'planned', 'running', 'stopped', 'stopping'))
);
CREATE INDEX recalls_created ON {s}.recalls (created_at);
CREATE UNIQUE INDEX recalls_open ON {s}.recalls (task) WHERE state IN ('planned', 'running', 'stopping');
CREATE TABLE {s}.recall_jobs (
  recall_id UUID NOT NULL,
  job_id UUID NOT NULL,
  epoch INTEGER NOT NULL,
  executor TEXT NOT NULL,
  run_id TEXT,
  asked_at TIMESTAMP WITH TIME ZONE,
  next_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  outcome TEXT,
  settled_at TIMESTAMP WITH TIME ZONE,
  PRIMARY KEY (recall_id, job_id)
);
CREATE INDEX recall_jobs_open ON {s}.recall_jobs (recall_id, next_at) WHERE outcome IS NULL;

-- Shadows: copies of jobs that have ended, with what they came to; and how far each shadow has looked.
ALTER TABLE {s}.executor_flags DROP CONSTRAINT executor_flags_kind;
ALTER TABLE {s}.executor_flags ADD CONSTRAINT executor_flags_kind CHECK (kind IN ('kill', 'rollout', 'circuit', 'shadow'));
CREATE TABLE {s}.shadows (
  job_id UUID NOT NULL,
  executor TEXT NOT NULL,
  shadow_id UUID NOT NULL,
  task TEXT NOT NULL,
  mode TEXT NOT NULL,
  made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  verdict TEXT,
  judged_at TIMESTAMP WITH TIME ZONE,
  took INTERVAL,
  paths TEXT[],
  record_hash TEXT,
  shadow_hash TEXT,
  detail JSONB,
  PRIMARY KEY (job_id, executor),
  CONSTRAINT shadows_verdict CHECK (verdict IN ('equal', 'different', 'taken', 'refused', 'void'))
)
 WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX shadows_made ON {s}.shadows (task, made_at);
CREATE INDEX shadows_open ON {s}.shadows (task, executor) WHERE verdict IS NULL;

CREATE TABLE {s}.shadow_progress (
  task TEXT NOT NULL,
  executor TEXT NOT NULL,
  flag_version BIGINT NOT NULL,
  seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
  seen_id UUID NOT NULL,
  dropped BIGINT DEFAULT 0 NOT NULL,
  PRIMARY KEY (task, executor)
)
 WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Jobs that wait for an executor that can run them, by where they wait.
CREATE INDEX worker_jobs_open_stranded ON {s}.worker_jobs_open (executor, type)
WHERE status = 'WAITING' AND waiting_for = 'executor';

-- Cron: who changed a schedule, when and why.
CREATE TABLE {s}.schedule_changes (
  id BIGINT GENERATED ALWAYS AS IDENTITY,
  at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  schedule_id UUID NOT NULL,
  task TEXT NOT NULL,
  kind TEXT NOT NULL,
  before JSONB,
  after JSONB,
  reason TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX schedule_changes_schedule ON {s}.schedule_changes (schedule_id, id);
-- Ticks go after a month: by then no clock can have been set back so far.
CREATE INDEX schedule_ticks_created ON {s}.schedule_ticks (created_at);

-- Drills: the intent to put a flag back, and what was measured. Finalizations: executors that were left for good.
CREATE TABLE {s}.drills (
  id UUID PRIMARY KEY,
  task TEXT NOT NULL,
  target TEXT NOT NULL,
  state TEXT DEFAULT 'running' NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  hold INTERVAL NOT NULL,
  flag_before JSONB,
  flag_version BIGINT NOT NULL,
  started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  held_until TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  finished_at TIMESTAMP WITH TIME ZONE,
  result JSONB,
  CONSTRAINT drills_state CHECK (state IN ('failed', 'inconclusive', 'interrupted', 'overtaken', 'passed', 'running'))
);
CREATE UNIQUE INDEX drills_running ON {s}.drills (task) WHERE state = 'running';
CREATE INDEX drills_started ON {s}.drills (started_at);
CREATE TABLE {s}.finalizations (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  executor TEXT NOT NULL,
  task TEXT NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  reason TEXT NOT NULL,
  gates JSONB NOT NULL,
  accepted JSONB NOT NULL,
  reopened_at TIMESTAMP WITH TIME ZONE,
  reopened_by TEXT,
  reopened_from TEXT,
  reopen_reason TEXT
);
CREATE UNIQUE INDEX finalizations_standing ON {s}.finalizations (executor, task) WHERE reopened_at IS NULL;
