-- Cutover. Added only: the release before goes on working.
-- {s} is the schema as an identifier, {l} as a string.

-- Failback: what executors were seen to do, one character per outcome and per try; and their canaries.
CREATE TABLE {s}.executor_health (
  executor TEXT NOT NULL,
  task TEXT NOT NULL,
  outcomes TEXT DEFAULT '' NOT NULL,
  tries TEXT DEFAULT '' NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (executor, task)
)
 WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE {s}.canaries (
  executor TEXT NOT NULL,
  task TEXT NOT NULL,
  every INTERVAL NOT NULL,
  next_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  counted_from TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  last_job_id UUID,
  PRIMARY KEY (executor)
)
 WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
