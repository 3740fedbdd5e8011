-- Who is told how jobs go, and what there is to tell.
CREATE TABLE {s}.webhook_subscriptions (
  id UUID NOT NULL,
  name TEXT,
  url TEXT NOT NULL,
  events TEXT[] NOT NULL,
  secrets TEXT[] NOT NULL,
  allow_private BOOLEAN DEFAULT false NOT NULL,
  active BOOLEAN DEFAULT true NOT NULL,
  disabled_because TEXT,
  failures INTEGER DEFAULT 0 NOT NULL,
  open_until TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (name)
);

CREATE TABLE {s}.webhook_deliveries (
  id UUID NOT NULL,
  subscription_id UUID NOT NULL,
  event TEXT NOT NULL,
  data JSONB NOT NULL,
  state TEXT DEFAULT 'pending' NOT NULL,
  attempts INTEGER DEFAULT 0 NOT NULL,
  next_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  status INTEGER,
  error TEXT,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  settled_at TIMESTAMP WITH TIME ZONE,
  PRIMARY KEY (id),
  CONSTRAINT webhook_deliveries_state CHECK (state IN ('dead', 'delivered', 'pending'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX webhook_deliveries_due ON {s}.webhook_deliveries (subscription_id, next_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_settled ON {s}.webhook_deliveries (state, settled_at) WHERE state <> 'pending';
