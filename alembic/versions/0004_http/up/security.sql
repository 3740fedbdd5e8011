-- Public tokens that may be used once, and by which call each one was.

CREATE TABLE {s}.spent_tokens (
  token BYTEA NOT NULL,
  call TEXT NOT NULL,
  spent_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  PRIMARY KEY (token)
);

CREATE INDEX spent_tokens_expires ON {s}.spent_tokens (expires_at);
