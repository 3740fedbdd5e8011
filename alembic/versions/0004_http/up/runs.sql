-- Lists are in the order of ids; what leaves few jobs of many has an index in that order. Each costs nothing
-- for jobs that do not have what it is of.
CREATE INDEX worker_jobs_finished_queue ON {s}.worker_jobs_finished (queue, id) WHERE queue <> 'default';
CREATE INDEX worker_jobs_finished_user ON {s}.worker_jobs_finished (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX worker_jobs_finished_unsuccessful ON {s}.worker_jobs_finished (id) WHERE NOT success;
CREATE INDEX worker_jobs_finished_schedule ON {s}.worker_jobs_finished (schedule_id, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX worker_jobs_finished_machine ON {s}.worker_jobs_finished ((extra ->> 'machine'), id) WHERE (extra ->> 'machine') IS NOT NULL;
CREATE INDEX worker_jobs_finished_region ON {s}.worker_jobs_finished ((extra ->> 'region'), id) WHERE (extra ->> 'region') IS NOT NULL;
CREATE INDEX worker_jobs_finished_version ON {s}.worker_jobs_finished ((extra ->> 'version'), id) WHERE (extra ->> 'version') IS NOT NULL;
CREATE INDEX worker_jobs_finished_test ON {s}.worker_jobs_finished (id) WHERE (extra ->> 'test') = 'true';
