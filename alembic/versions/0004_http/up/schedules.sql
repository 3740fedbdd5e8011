-- Nullable and with a default: the release before inserts schedules without them.
ALTER TABLE {s}.job_schedules
  ADD COLUMN fire_window text,
  ADD COLUMN sends_tick boolean NOT NULL DEFAULT false;
