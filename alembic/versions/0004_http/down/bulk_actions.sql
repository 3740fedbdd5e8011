DROP TABLE {s}.bulk_action_jobs;
DROP TABLE {s}.bulk_actions;
