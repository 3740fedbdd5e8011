-- What is to be done with many jobs: selected first, acted on then, by one process at a time.
CREATE TABLE {s}.bulk_actions (
  id uuid PRIMARY KEY,
  action text NOT NULL CONSTRAINT bulk_actions_action CHECK (action IN ('cancel', 'replay')),
  name text,
  wanted jsonb,
  place text,
  selected boolean NOT NULL DEFAULT false,
  overrides jsonb,
  state text NOT NULL DEFAULT 'pending' CONSTRAINT bulk_actions_state CHECK (state IN ('pending', 'completed', 'aborted')),
  actor text NOT NULL,
  request_key text UNIQUE,
  total bigint NOT NULL DEFAULT 0,
  succeeded bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,
  holder uuid,
  held_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
CREATE INDEX bulk_actions_pending ON {s}.bulk_actions (created_at) WHERE state = 'pending';

CREATE TABLE {s}.bulk_action_jobs (
  bulk_action_id uuid NOT NULL,
  job_id uuid NOT NULL,
  outcome text CONSTRAINT bulk_action_jobs_outcome CHECK (outcome IN ('done', 'failed')),
  new_job_id uuid,
  problem text,
  PRIMARY KEY (bulk_action_id, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX bulk_action_jobs_open ON {s}.bulk_action_jobs (bulk_action_id, job_id) WHERE outcome IS NULL;
