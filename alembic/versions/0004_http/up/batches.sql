ALTER TABLE {s}.batches
  ADD COLUMN key_expires_at TIMESTAMP WITH TIME ZONE,
  ADD COLUMN request_key TEXT,
  ADD COLUMN run_ids UUID[],
  ADD COLUMN errors JSONB,
  ADD COLUMN finished_at TIMESTAMP WITH TIME ZONE,
  ADD COLUMN updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL;

CREATE UNIQUE INDEX batches_request ON {s}.batches (request_key) WHERE request_key IS NOT NULL;

CREATE INDEX batches_created ON {s}.batches (created_at);

CREATE TABLE {s}.batch_items (
  batch_id UUID NOT NULL,
  place INTEGER NOT NULL,
  item TEXT NOT NULL,
  PRIMARY KEY (batch_id, place)
);

CREATE INDEX worker_jobs_open_batch ON {s}.worker_jobs_open (batch_id) WHERE batch_id IS NOT NULL;

CREATE INDEX worker_jobs_finished_batch ON {s}.worker_jobs_finished (batch_id) WHERE batch_id IS NOT NULL;
