DROP INDEX {s}.worker_jobs_finished_queue;
DROP INDEX {s}.worker_jobs_finished_user;
DROP INDEX {s}.worker_jobs_finished_unsuccessful;
DROP INDEX {s}.worker_jobs_finished_schedule;
DROP INDEX {s}.worker_jobs_finished_machine;
DROP INDEX {s}.worker_jobs_finished_region;
DROP INDEX {s}.worker_jobs_finished_version;
DROP INDEX {s}.worker_jobs_finished_test;
