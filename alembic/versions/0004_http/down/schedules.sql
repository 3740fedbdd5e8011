ALTER TABLE {s}.job_schedules
  DROP COLUMN sends_tick,
  DROP COLUMN fire_window;
