DROP INDEX {s}.worker_jobs_finished_batch;

DROP INDEX {s}.worker_jobs_open_batch;

DROP TABLE {s}.batch_items;

DROP INDEX {s}.batches_created;

DROP INDEX {s}.batches_request;

ALTER TABLE {s}.batches
  DROP COLUMN key_expires_at,
  DROP COLUMN request_key,
  DROP COLUMN run_ids,
  DROP COLUMN errors,
  DROP COLUMN finished_at,
  DROP COLUMN updated_at;
