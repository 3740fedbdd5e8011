-- `remove_at`, last, so that calls by place go on working.
CREATE FUNCTION {s}.schedule_job(
  type text, data jsonb DEFAULT 'null', tag text DEFAULT NULL, due timestamptz DEFAULT NULL,
  delay interval DEFAULT NULL, ttl interval DEFAULT NULL, priority int DEFAULT NULL, queue text DEFAULT NULL,
  idempotency_key text DEFAULT NULL, idempotency_ttl interval DEFAULT interval '30 days',
  concurrency_key text DEFAULT NULL, user_id text DEFAULT NULL, metadata jsonb DEFAULT NULL,
  tags text[] DEFAULT NULL, max_attempts int DEFAULT NULL, max_duration interval DEFAULT NULL,
  executor text DEFAULT NULL, notify boolean DEFAULT true, remove_at timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  made uuid := {s}.uuid7();
  holder uuid;
  starts timestamptz := COALESCE(schedule_job.due, now() + schedule_job.delay);
  slot text := 'key:' || schedule_job.idempotency_key;
BEGIN
  IF schedule_job.type IS NULL OR schedule_job.due IS NOT NULL AND schedule_job.delay IS NOT NULL THEN
    RAISE EXCEPTION 'schedule_job needs a type, and due or delay, not both' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- An index refuses longer ones, and would not before the job is to end.
  IF octet_length(schedule_job.user_id) > 1000 OR octet_length(schedule_job.concurrency_key) > 1000
      OR octet_length(schedule_job.queue) > 1000 THEN
    RAISE EXCEPTION 'user_id, concurrency_key and queue have at most 1000 bytes' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOR turn IN 1..100 LOOP
    IF slot IS NOT NULL THEN
      SELECT k.job_id INTO holder FROM {s}.job_keys k
      WHERE k.task = schedule_job.type AND k.key = slot AND k.expires_at > now();
      IF FOUND THEN
        -- Two looks in this order: a job moves only one way. One that is in neither is past its retention.
        PERFORM FROM {s}.worker_jobs_open o WHERE o.id = holder;
        IF FOUND THEN RETURN holder; END IF;
        PERFORM FROM {s}.worker_jobs_finished f WHERE f.id = holder;
        IF FOUND THEN RETURN holder; END IF;
        DELETE FROM {s}.job_keys k WHERE k.task = schedule_job.type AND k.key = slot AND k.job_id = holder;
      END IF;
      INSERT INTO {s}.job_keys AS k (task, key, job_id, expires_at)
      VALUES (schedule_job.type, slot, made, now() + schedule_job.idempotency_ttl)
      ON CONFLICT (task, key) DO UPDATE SET job_id = EXCLUDED.job_id, expires_at = EXCLUDED.expires_at
      WHERE k.expires_at <= now();
      CONTINUE WHEN NOT FOUND;
    END IF;
    INSERT INTO {s}.worker_jobs_open (
      id, type, status, epoch, data, tag, tag_held, due, expires_at, priority, queue, idempotency_key, concurrency_key,
      user_id, metadata, tags, remove_at, extra)
    VALUES (made, schedule_job.type, 'PENDING', 0, schedule_job.data, schedule_job.tag, schedule_job.tag IS NOT NULL,
      starts, COALESCE(starts, now()) + schedule_job.ttl, COALESCE(schedule_job.priority, 0),
      COALESCE(schedule_job.queue, 'default'), schedule_job.idempotency_key, schedule_job.concurrency_key,
      schedule_job.user_id, schedule_job.metadata, schedule_job.tags, schedule_job.remove_at,
      jsonb_build_object('asked', jsonb_strip_nulls(jsonb_build_object(
        'priority', schedule_job.priority, 'queue', schedule_job.queue, 'executor', schedule_job.executor,
        'max_attempts', schedule_job.max_attempts, 'ttl', extract(epoch FROM schedule_job.ttl),
        'max_duration', extract(epoch FROM schedule_job.max_duration)))))
    ON CONFLICT (type, tag) WHERE tag_held DO NOTHING;
    IF FOUND THEN
      IF schedule_job.notify THEN
        PERFORM pg_notify(left({l} || '_wakeup', 63), '["!route"]');
      END IF;
      RETURN made;
    END IF;
    DELETE FROM {s}.job_keys k WHERE k.task = schedule_job.type AND k.key = slot AND k.job_id = made;
    SELECT o.id INTO holder FROM {s}.worker_jobs_open o
    WHERE o.type = schedule_job.type AND o.tag = schedule_job.tag AND o.tag_held;
    IF FOUND THEN RETURN holder; END IF;
  END LOOP;
  RAISE EXCEPTION 'the key or tag changed hands too often; schedule again' USING ERRCODE = 'serialization_failure';
END $$;

-- Who may call it stays as it was: the new one is a function of its own.
DO $$
DECLARE
  before regprocedure := '{s}.schedule_job(text, jsonb, text, timestamptz, interval, interval, int, text, text, interval, text, text, jsonb, text[], int, interval, text, boolean)';
  made regprocedure := '{s}.schedule_job(text, jsonb, text, timestamptz, interval, interval, int, text, text, interval, text, text, jsonb, text[], int, interval, text, boolean, timestamptz)';
  rights aclitem[] := (SELECT proacl FROM pg_proc WHERE oid = before);
  role text;
BEGIN
  IF rights IS NOT NULL THEN
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made);
    FOR role IN SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
      FROM aclexplode(rights) WHERE privilege_type = 'EXECUTE' LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', made, role);
    END LOOP;
  END IF;
END $$;
DROP FUNCTION {s}.schedule_job(text, jsonb, text, timestamptz, interval, interval, int, text, text, interval, text, text, jsonb, text[], int, interval, text, boolean);
