-- Takes 0003_cutover.sql away again, the last first.

DROP TABLE {s}.finalizations;
DROP TABLE {s}.drills;

DROP INDEX {s}.worker_jobs_open_stranded;

DROP TABLE {s}.shadow_progress;
DROP TABLE {s}.shadows;
DELETE FROM {s}.executor_flags WHERE kind = 'shadow';
ALTER TABLE {s}.executor_flags DROP CONSTRAINT executor_flags_kind;
ALTER TABLE {s}.executor_flags ADD CONSTRAINT executor_flags_kind CHECK (kind IN ('kill', 'rollout', 'circuit'));

UPDATE {s}.worker_jobs_open SET recall_id = NULL, recall_to = NULL WHERE recall_id IS NOT NULL;
DROP TABLE {s}.recall_jobs;
DROP TABLE {s}.recalls;

DROP TABLE {s}.canaries;
DROP TABLE {s}.executor_health;

DROP TABLE {s}.schedule_changes;
DROP INDEX {s}.schedule_ticks_created;
