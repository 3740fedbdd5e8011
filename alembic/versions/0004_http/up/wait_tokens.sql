-- What handlers wait for until somebody outside completes it.
CREATE TABLE {s}.wait_tokens (
  id UUID NOT NULL,
  status TEXT DEFAULT 'WAITING' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  timeout_at TIMESTAMP WITH TIME ZONE,
  ended_at TIMESTAMP WITH TIME ZONE,
  ended_by TEXT,
  idempotency_key TEXT,
  idempotency_expires_at TIMESTAMP WITH TIME ZONE,
  tags TEXT[] DEFAULT '{}' NOT NULL,
  callback_secret TEXT NOT NULL,
  output JSONB,
  PRIMARY KEY (id),
  CONSTRAINT wait_tokens_status CHECK (status IN ('COMPLETED', 'TIMED_OUT', 'WAITING'))
);

CREATE UNIQUE INDEX wait_tokens_idempotency ON {s}.wait_tokens (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE INDEX wait_tokens_timeout ON {s}.wait_tokens (timeout_at) WHERE status = 'WAITING' AND timeout_at IS NOT NULL;

CREATE INDEX wait_tokens_ended ON {s}.wait_tokens (ended_at) WHERE ended_at IS NOT NULL;
