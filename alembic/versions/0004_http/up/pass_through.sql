-- What was passed on to the Trigger.dev behind us, per day.
CREATE TABLE {s}.forwarded_requests (
  day DATE NOT NULL,
  endpoint TEXT NOT NULL,
  task TEXT DEFAULT '' NOT NULL,
  requests BIGINT NOT NULL,
  refused BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  last_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (day, endpoint, task)
);
