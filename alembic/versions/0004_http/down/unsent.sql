DROP INDEX {s}.worker_jobs_open_unsent;
