-- Takes 0003_cutover.sql away again, the last first.

UPDATE {s}.worker_jobs_open SET recall_id = NULL, recall_to = NULL WHERE recall_id IS NOT NULL;
DROP TABLE {s}.recall_jobs;
DROP TABLE {s}.recalls;

DROP TABLE {s}.canaries;
DROP TABLE {s}.executor_health;
