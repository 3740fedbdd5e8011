-- How many jobs have ended how, since counting began: counted up to a moment, a stretch of time after the other.

CREATE TABLE {s}.finished_counts (
  task TEXT NOT NULL,
  queue TEXT NOT NULL,
  executor TEXT NOT NULL,
  status TEXT NOT NULL,
  jobs BIGINT NOT NULL,
  PRIMARY KEY (task, queue, executor, status)
);

CREATE TABLE {s}.finished_counted (
  only_row BOOLEAN DEFAULT true NOT NULL,
  counted_to TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (only_row),
  CONSTRAINT finished_counted_only_row CHECK (only_row)
);
