-- Which tasks have jobs that no try has left for, asked before each round of the dispatcher.
CREATE INDEX worker_jobs_open_unsent ON {s}.worker_jobs_open (executor, type)
  WHERE status IN ('PENDING', 'DELAYED') AND executor <> 'local' AND submit_state = 'never';
