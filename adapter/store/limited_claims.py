"""The claim of queues that have a limit: by counting under a lock.

docs/decisions/0002 says why nothing is counted beforehand, docs/decisions/0010 how keys and rates are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from adapter.domain.outcome import Lease
from adapter.store.claims import TAKE, Claimed, holder, take
from adapter.store.database import Connection, Schema, fetch
from adapter.store.direct import Direct

#: What one claim looks at, at most: keys with ready jobs, keys that have something to give, and jobs among
#: which it looks for those without a key. The next claim goes on behind them.
_KEYS_LOOKED_AT: LiteralString = "1000"
_KEYS_FOUND: LiteralString = "64"
_JOBS_LOOKED_AT: LiteralString = "1000"
#: One claim locks no more queues than this, so that others find some free.
_MOST_QUEUES: LiteralString = "8"

_READY: LiteralString = "status = 'QUEUED' AND executor = 'local'"
_RUNNING: LiteralString = "status = 'EXECUTING' AND executor = 'local'"

#: A parent whose children are done is first: nothing new starts where one wants its place back.
#: Scalar subqueries in the order of an index, not EXISTS: that becomes a join, which may read every job there is.
_LOCK_QUEUES: LiteralString = (
    """
SELECT q.name, COALESCE(q.limits -> 'rate', 'null') <> 'null'
  OR (SELECT true FROM {s}.worker_jobs_open WHERE """
    + _READY
    + """ AND queue = q.name AND concurrency_key IS NOT NULL
    ORDER BY concurrency_key LIMIT 1) IS NOT NULL AS walks
FROM {s}.job_queues q
WHERE q.name = ANY(%(queues)s::text[]) AND q.limited AND q.paused_at IS NULL
  AND (SELECT true FROM {s}.worker_jobs_open WHERE status = 'WAITING' AND waiting_for = 'children'
    AND awaiting IS NULL AND concurrency_key IS NULL AND queue = q.name LIMIT 1) IS NULL
  AND (SELECT true FROM {s}.worker_jobs_open WHERE """
    + _READY
    + """ AND queue = q.name ORDER BY (-priority), seq LIMIT 1) IS NOT NULL
ORDER BY array_position(%(queues)s::text[], q.name) LIMIT """
    + _MOST_QUEUES
    + " FOR NO KEY UPDATE OF q SKIP LOCKED"
)

#: Whether it is worth a transaction to lock them: mostly nothing is ready there.
_ANY_READY: LiteralString = (
    """
SELECT q.name FROM {s}.job_queues q
WHERE q.name = ANY(%(queues)s::text[]) AND q.limited AND q.paused_at IS NULL
  AND (SELECT true FROM {s}.worker_jobs_open WHERE """
    + _READY
    + """ AND queue = q.name ORDER BY (-priority), seq LIMIT 1) IS NOT NULL
LIMIT 1"""
)

#: Of tasks of which a worker can run only so many at once it takes no more, and nothing else in their place.
_SPARING: LiteralString = """picked AS MATERIALIZED (
  SELECT place, key FROM (
    SELECT *, row_number() OVER (PARTITION BY type = ANY(%(scarce)s::text[]) ORDER BY turn, seq) AS nth FROM found) AS f
  WHERE nth <= %(spare)s OR type <> ALL(%(scarce)s::text[])
)"""
_ALL: LiteralString = "picked AS (SELECT place, key FROM found)"

_FOUND: LiteralString = "ctid AS place, concurrency_key AS key, type, (-priority) AS turn, seq"

#: A second statement after the lock: it sees every claim that was committed under that lock, so the
#: count is exact and there is no counter that could leak. This one is for jobs without a key.
_SIMPLE: LiteralString = (
    """
WITH found AS MATERIALIZED (
  SELECT j.* FROM unnest(%(queues)s::text[]) AS asked(name)
  JOIN {s}.job_queues q ON q.name = asked.name
  CROSS JOIN LATERAL (
    SELECT count(*) AS running FROM {s}.worker_jobs_open
    WHERE """
    + _RUNNING
    + """ AND queue = q.name AND (concurrency_key IS NULL OR q.limits ->> 'key_limit' IS NOT NULL)) AS r
  CROSS JOIN LATERAL (
    SELECT """
    + _FOUND
    + """ FROM {s}.worker_jobs_open
    WHERE """
    + _READY
    + """ AND queue = q.name AND concurrency_key IS NULL
    ORDER BY (-priority), seq LIMIT greatest(least(%(room)s, (q.limits ->> 'concurrency_limit')::int - r.running), 0)
    FOR UPDATE SKIP LOCKED) AS j
  LIMIT %(room)s
), """
)
_CLAIM_LIMITED: LiteralString = _SIMPLE + _ALL + TAKE
_CLAIM_LIMITED_SPARING: LiteralString = _SIMPLE + _SPARING + TAKE

#: The queue as it is under the lock. A start counts until the end of its hundredth of the period, so never
#: too short. The clock is read after the lock: it follows every start that was committed under it.
_QUEUE: LiteralString = """
WITH RECURSIVE q AS MATERIALIZED (
  SELECT t, of_copy, COALESCE(of_key, of_copy) AS of_key, CASE WHEN of_key IS NOT NULL THEN of_copy END AS of_queue,
    rate, period, (t / hundredth + 1) * hundredth AS stamp,
    key_rate, key_period, (t / key_hundredth + 1) * key_hundredth AS key_stamp,
    starts, walk, COALESCE(walk ->> 'key', '') AS from_key, (walk ->> 'turn')::int AS turn, (walk ->> 'seq')::bigint AS seq
  FROM (
    SELECT *, greatest(period / 100, 1) AS hundredth, greatest(key_period / 100, 1) AS key_hundredth FROM (
      SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS t, starts, walk,
        (limits ->> 'concurrency_limit')::int AS of_copy, (limits ->> 'key_limit')::int AS of_key,
        (limits #>> '{rate,count}')::int AS rate, (limits #>> '{rate,period_us}')::bigint AS period,
        (limits #>> '{key_rate,count}')::int AS key_rate, (limits #>> '{key_rate,period_us}')::bigint AS key_period
      FROM {s}.job_queues WHERE name = %(queue)s) AS stored) AS divided
), """

#: What runs, what the rate still counts (a start from a future that a clock set back left: as one of now),
#: and so how much room there is.
_ROOM: LiteralString = (
    """running AS MATERIALIZED (
  SELECT COALESCE(jsonb_object_agg(key, n) FILTER (WHERE key IS NOT NULL), '{}') AS by_key,
    COALESCE(sum(n), 0) AS total, COALESCE(sum(n) FILTER (WHERE key IS NULL), 0) AS unkeyed
  FROM (SELECT concurrency_key AS key, count(*) AS n FROM {s}.worker_jobs_open
    WHERE """
    + _RUNNING
    + """ AND queue = %(queue)s GROUP BY 1) AS each
), counting AS MATERIALIZED (
  SELECT least(starts[i][1], stamp) AS at, starts[i][2] AS n FROM q, generate_subscripts(starts, 1) AS i
  WHERE rate IS NOT NULL AND starts[i][1] > t - period
), budget AS MATERIALIZED (
  SELECT greatest(least(%(room)s::int, of_queue - total, rate - COALESCE((SELECT sum(n) FROM counting), 0)), 0)::int AS room
  FROM q, running
), """
)

#: From key to key, one probe each, from where the last claim had to stop, once around. OFFSET 0: without
#: it the planner copies each probe to wherever its result is used.
_WALK: LiteralString = (
    """walk(key, lap, looked, found, free, running, is_ahead) AS (
  SELECT from_key, 0, 0, 0, 0, 0, false FROM q, budget WHERE budget.room > 0
  UNION ALL
  SELECT this.key, this.lap, w.looked + 1, w.found + (may.free > 0)::int, may.free, now.running, rated.is_ahead
  FROM walk w CROSS JOIN q CROSS JOIN running r CROSS JOIN budget b
  CROSS JOIN LATERAL (SELECT (SELECT concurrency_key FROM {s}.worker_jobs_open
    WHERE """
    + _READY
    + """ AND queue = %(queue)s AND concurrency_key IS NOT NULL AND concurrency_key > w.key
    ORDER BY concurrency_key LIMIT 1) AS key OFFSET 0) AS next
  CROSS JOIN LATERAL (SELECT CASE WHEN next.key IS NULL THEN w.lap + 1 ELSE w.lap END AS lap,
    CASE WHEN next.key IS NOT NULL THEN next.key WHEN w.lap = 0 THEN (SELECT concurrency_key FROM {s}.worker_jobs_open
    WHERE """
    + _READY
    + """ AND queue = %(queue)s AND concurrency_key IS NOT NULL
    ORDER BY concurrency_key LIMIT 1) END AS key OFFSET 0) AS this
  CROSS JOIN LATERAL (SELECT COALESCE((r.by_key ->> this.key)::int, 0) AS running OFFSET 0) AS now
  CROSS JOIN LATERAL (
    SELECT COALESCE(sum(k.starts[i][2]), 0) AS n, COALESCE(bool_or(k.starts[i][1] > q.key_stamp), false) AS is_ahead
    FROM {s}.concurrency_keys k, generate_subscripts(k.starts, 1) AS i
    WHERE k.queue = %(queue)s AND k.key = this.key AND k.starts[i][1] > q.t - q.key_period) AS rated
  CROSS JOIN LATERAL (SELECT greatest(least(b.room, q.of_key - now.running, q.key_rate - rated.n), 0)::int AS free OFFSET 0) AS may
  WHERE w.looked < """
    + _KEYS_LOOKED_AT
    + " AND w.found < "
    + _KEYS_FOUND
    + """ AND this.key IS NOT NULL AND NOT (this.lap = 1 AND this.key > q.from_key)
), """
)

#: The best of each key, and the best of those without one, which count as one key more. BETWEEN: for "=" the
#: planner may take the other index and pass over what is blocked. Of an array it expects ten rows, not a tenth of all.
_CANDIDATES: LiteralString = (
    """keyed AS (
  SELECT j.id, j.priority, j.seq, w.key, w.running + row_number() OVER (PARTITION BY w.key ORDER BY j.priority DESC, j.seq) AS load
  FROM walk w CROSS JOIN LATERAL (SELECT id, priority, seq FROM {s}.worker_jobs_open
    WHERE """
    + _READY
    + """ AND queue = %(queue)s AND concurrency_key IS NOT NULL AND concurrency_key BETWEEN w.key AND w.key
    ORDER BY concurrency_key, (-priority), seq LIMIT w.free) AS j
  WHERE w.free > 0
), bare AS MATERIALIZED (
  SELECT id, turn, seq FROM (
    SELECT id, concurrency_key, (-priority) AS turn, seq FROM {s}.worker_jobs_open
    WHERE """
    + _READY
    + """ AND queue = %(queue)s
      AND ((-priority), seq) > (COALESCE((SELECT turn FROM q), -2147483648), COALESCE((SELECT seq FROM q), 0))
    ORDER BY (-priority), seq LIMIT """
    + _JOBS_LOOKED_AT
    + """) AS looked
  WHERE concurrency_key IS NULL
  ORDER BY turn, seq LIMIT (SELECT greatest(least(b.room, q.of_copy - r.unkeyed), 0) FROM q, running r, budget b)
), chosen AS (
  SELECT id FROM (
    SELECT id, -priority AS turn, load, seq FROM keyed
    UNION ALL
    SELECT id, turn, (SELECT unkeyed FROM running) + row_number() OVER (ORDER BY turn, seq), seq FROM bare) AS all_of_them
  ORDER BY turn, load, seq LIMIT (SELECT room FROM budget)
), found AS MATERIALIZED (
  SELECT j.* FROM unnest(ARRAY(SELECT id FROM chosen)) AS c(id) CROSS JOIN LATERAL (
    SELECT """
    + _FOUND
    + """ FROM {s}.worker_jobs_open WHERE id = c.id AND """
    + _READY
    + """ FOR UPDATE SKIP LOCKED) AS j
), """
)

#: What the next claim must know: the starts that rates count, and where it goes on looking.
_NOTED: LiteralString = (
    """, went AS MATERIALIZED (
  SELECT NULLIF(jsonb_strip_nulls(jsonb_build_object('key', key, 'turn', edge[1], 'seq', edge[2])), '{}') AS walk FROM (
    SELECT (SELECT key FROM walk WHERE looked = """
    + _KEYS_LOOKED_AT
    + " OR found = "
    + _KEYS_FOUND
    + """ ORDER BY looked LIMIT 1) AS key,
      CASE WHEN (SELECT count(*) FROM bare) < greatest(least(b.room, q.of_copy - r.unkeyed), 0) THEN (
        SELECT ARRAY[(-priority)::bigint, seq] FROM {s}.worker_jobs_open
        WHERE """
    + _READY
    + """ AND queue = %(queue)s AND ((-priority), seq) > (COALESCE(q.turn, -2147483648), COALESCE(q.seq, 0))
        ORDER BY (-priority), seq OFFSET """
    + _JOBS_LOOKED_AT
    + """ - 1 LIMIT 1) END AS edge
    FROM q, running r, budget b) AS ends
), noted AS (
  UPDATE {s}.job_queues SET walk = went.walk, starts = CASE WHEN q.rate IS NOT NULL THEN (
    SELECT array_agg(ARRAY[at, n] ORDER BY at) FROM (
      SELECT at, sum(n)::bigint AS n FROM (
        SELECT at, n FROM counting UNION ALL SELECT q.stamp, count(*) FROM picked HAVING count(*) > 0) AS each
      GROUP BY at) AS summed) END
  FROM q, went, budget WHERE name = %(queue)s AND (
    q.rate IS NOT NULL AND (EXISTS (SELECT FROM picked) OR q.stamp < ANY (q.starts))
    OR budget.room > 0 AND went.walk IS DISTINCT FROM q.walk)
), noted_keys AS (
  INSERT INTO {s}.concurrency_keys (queue, key, starts, free_at)
  SELECT %(queue)s, spent.key, made.starts, to_timestamp((made.last + q.key_period) / 1000000.0)
  FROM q CROSS JOIN LATERAL (
    SELECT w.key, (SELECT count(*) FROM picked p WHERE p.key = w.key) AS n, w.is_ahead
    FROM walk w WHERE q.key_rate IS NOT NULL AND w.looked > 0) AS spent
  CROSS JOIN LATERAL (
    SELECT array_agg(ARRAY[at, n] ORDER BY at) AS starts, max(at) AS last FROM (
      SELECT at, sum(n)::bigint AS n FROM (
        SELECT least(k.starts[i][1], q.key_stamp) AS at, k.starts[i][2] AS n
        FROM {s}.concurrency_keys k, generate_subscripts(k.starts, 1) AS i
        WHERE k.queue = %(queue)s AND k.key = spent.key AND k.starts[i][1] > q.t - q.key_period
        UNION ALL SELECT q.key_stamp, spent.n WHERE spent.n > 0) AS each
      GROUP BY at) AS summed) AS made
  WHERE spent.n > 0 OR spent.is_ahead
  ON CONFLICT (queue, key) DO UPDATE SET starts = EXCLUDED.starts, free_at = EXCLUDED.free_at
)"""
)

_WALKING: LiteralString = _QUEUE + _ROOM + _WALK + _CANDIDATES
_CLAIM_WALKING: LiteralString = _WALKING + _ALL + _NOTED + TAKE
_CLAIM_WALKING_SPARING: LiteralString = _WALKING + _SPARING + _NOTED + TAKE


async def are_any_ready(conn: Direct, schema: Schema, queues: Sequence[str]) -> bool:
    """Return whether jobs of these queues, which have a limit, wait for a worker or for room."""
    return bool(await conn.rows(schema.sql(_ANY_READY), {"queues": queues}))


async def claim_limited(
    conn: Connection,
    schema: Schema,
    lease: Lease,
    queues: Sequence[str],
    room: int,
    *,
    plain: Sequence[str] = (),
    scarce: Sequence[str] = (),
    spare: int = 0,
) -> list[Claimed]:
    """Take up to ``room`` ready jobs of queues that have a limit; exact among all such claims, in any process.

    A different queue is first in each claim of a lease's worker. ``plain`` as for `claim`. Of the tasks that
    are ``scarce`` at most ``spare``; what is behind more of them in its queue is behind them.
    """
    turn = lease.claim_number % max(len(queues), 1)
    wanted = {"queues": [*queues[turn:], *queues[:turn]]}
    async with conn.transaction():
        locked = await fetch(conn, schema, _LOCK_QUEUES, wanted)
        claimed: list[Claimed] = []

        async def take_of(usual: LiteralString, sparing: LiteralString, **where: Any) -> None:
            parameters = holder(lease, plain) | where | {"room": room - len(claimed)}
            if scarce:
                left = spare - sum(each.type in scarce for each in claimed)
                parameters |= {"scarce": list(scarce), "spare": left}
            claimed.extend(await take(conn, schema, sparing if scarce else usual, parameters, lease))

        if simple := [row["name"] for row in locked if not row["walks"]]:
            await take_of(_CLAIM_LIMITED, _CLAIM_LIMITED_SPARING, queues=simple)
        for row in locked:
            if row["walks"] and len(claimed) < room:
                await take_of(_CLAIM_WALKING, _CLAIM_WALKING_SPARING, queue=row["name"])
        return claimed
