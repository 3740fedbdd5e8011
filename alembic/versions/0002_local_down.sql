-- Undoes 0002_local.sql, in the opposite order.
SET LOCAL lock_timeout = '5s';

ALTER TABLE {s}.worker_jobs_open DROP COLUMN deadline;
DROP INDEX {s}.worker_jobs_finished_dead;
DROP TABLE {s}.redrives;
ALTER TABLE {s}.workers DROP COLUMN lock_key;

DROP INDEX {s}.worker_jobs_open_executing;
CREATE INDEX worker_jobs_open_queue_running ON {s}.worker_jobs_open (queue)
WHERE status = 'EXECUTING' AND executor = 'local';
CREATE INDEX worker_jobs_open_running ON {s}.worker_jobs_open (worker_id)
WHERE status = 'EXECUTING' AND executor = 'local';
