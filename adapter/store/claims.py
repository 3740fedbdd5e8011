"""How local workers take jobs: batched, from the head of each queue, fenced from the first moment.

A claim gives each job a holder (worker and claim number). Every later write names that holder, so somebody
who lost a job changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import tuple_row

from adapter.domain.job import Job
from adapter.domain.outcome import Lease
from adapter.store.database import FLUSHED, Connection, Schema
from adapter.store.direct import Direct
from adapter.store.rows import job_from_json

#: Takes the rows at ``place`` of ``picked``, which are locked. What a worker needs of any job comes as
#: columns; the whole row only where somebody will look at it, since turning fifty columns into text and
#: back costs more than all the rest of a claim.
TAKE: LiteralString = (
    """
UPDATE {s}.worker_jobs_open o SET
  status = 'EXECUTING', waiting_for = NULL, attempt = attempt + 1, started = COALESCE(started, now()),
  deadline = now() + max_duration,
  worker_id = %(worker_id)s, claim_number = %(claim_number)s, tag_held = false, updated_at = now()
WHERE o.ctid = ANY(ARRAY(SELECT place FROM picked)) AND """
    + FLUSHED
    + """
RETURNING o.id::text, o.type, o.data::text, o.epoch, o.attempt, o.max_attempts, -o.priority, o.seq, o.queue,
  CASE WHEN o.type = ANY(%(plain)s::text[]) AND NOT o.cancel_requested
    AND num_nonnulls(o.retry, o.max_duration, o.parent_id, o.extra) = 0
    THEN NULL ELSE row_to_json(o)::text END,
  extract(epoch FROM o.max_duration)::float8"""
)

#: Lateral per queue, so that each reads its own index range from its cursor on and stops early. Whether a
#: queue is still open to all is asked here: a worker's own list of queues is seconds old.
_QUEUES: LiteralString = """
WITH picked AS MATERIALIZED (
  SELECT j.place FROM unnest(%(queues)s::text[], %(after_priority)s::int[], %(after_seq)s::bigint[])
    AS q(name, after_priority, after_seq)"""

_HEAD: LiteralString = """
  CROSS JOIN LATERAL (
    SELECT ctid AS place FROM {s}.worker_jobs_open
    WHERE status = 'QUEUED' AND executor = 'local' AND queue = q.name
      AND ((-priority), seq) > (q.after_priority, q.after_seq)
      AND COALESCE((SELECT k.paused_at IS NULL AND NOT k.limited
        FROM {s}.job_queues k WHERE k.name = q.name), true)"""

_TAKE_HEAD: LiteralString = (
    """
    ORDER BY (-priority), seq LIMIT %(room)s FOR UPDATE SKIP LOCKED) AS j
  LIMIT %(room)s
)"""
    + TAKE
)

_CLAIM: LiteralString = _QUEUES + _HEAD + _TAKE_HEAD

#: Looks at so many jobs of each queue at most: all the others there may be of the wrong tasks.
_CLAIM_OF: LiteralString = (
    _QUEUES
    + """
  CROSS JOIN LATERAL (
    SELECT max(turn) AS turn, max(seq) AS seq FROM (
      SELECT (-priority) AS turn, seq FROM {s}.worker_jobs_open
      WHERE status = 'QUEUED' AND executor = 'local' AND queue = q.name
        AND ((-priority), seq) > (q.after_priority, q.after_seq)
      ORDER BY (-priority), seq OFFSET 999 LIMIT 1) AS last) AS edge"""
    + _HEAD
    + """
      AND ((-priority), seq) <= (COALESCE(edge.turn, 2147483647), COALESCE(edge.seq, 9223372036854775807))
      AND (type = ANY(%(tasks)s::text[])) = %(of_these)s"""
    + _TAKE_HEAD
)

#: How seldom news make a claim look from the head of its queues again, in seconds.
_URGENT_S = 0.1

#: A place in a queue's order before all others.
START = (-(2**31), 0)


class Claimed:
    """A job in a worker's hands: the essentials as they came, the rest when somebody asks."""

    __slots__ = (
        "_job",
        "attempt",
        "epoch",
        "key",
        "lease",
        "max_attempts",
        "max_duration",
        "place",
        "queue",
        "row",
        "taken_at",
        "text",
        "type",
    )

    def __init__(self, columns: Sequence[Any], lease: Lease) -> None:
        #: The job's id as text, its payload as JSON text (None: SQL null), the row as JSON text or None.
        self.key: str
        self.text: str | None
        self.row: str | None
        (
            self.key,
            self.type,
            self.text,
            self.epoch,
            self.attempt,
            self.max_attempts,
            priority,
            seq,
            self.queue,
            self.row,
            #: The longest a try may run, in seconds.
            self.max_duration,
        ) = columns
        #: Where it stood in its queue's order.
        self.place: tuple[int, int] = (priority, seq)
        self.lease = lease
        #: When its worker took it, by the worker's monotonic clock.
        self.taken_at = 0.0
        self._job: Job | None = None

    @property
    def id(self) -> UUID:
        """The job's id."""
        return UUID(self.key)

    @property
    def data(self) -> Any:
        """The payload."""
        return None if self.text is None else json.loads(self.text)

    @property
    def job(self) -> Job:
        """The job as it was claimed; only of one that was claimed whole."""
        if self._job is None:
            if self.row is None:
                msg = f"job {self.key} was claimed as a plain one"
                raise RuntimeError(msg)
            longest = None if self.max_duration is None else timedelta(seconds=self.max_duration)
            self._job = job_from_json(self.row, max_duration=longest)
        return self._job

    @property
    def retry(self) -> None:
        """Its own retry policy; a plain job has none."""

    @property
    def extra(self) -> dict[str, Any]:
        """What has no column of its own; nothing of a plain job."""
        return {}


class Cursors:
    """Where each queue's claims have got to, so that the next one does not walk over what they left behind.

    Without it a snapshot that somebody holds open makes every claim read every row that was ever claimed.
    Whoever hears of a new job, claims less than there was room for, or waited for long starts from the head.
    """

    def __init__(self) -> None:
        self._after: dict[str, tuple[int, int]] = {}
        self._reset_at = 0.0

    @property
    def are_at_head(self) -> bool:
        """Whether the next claim begins at the head of every queue."""
        return not self._after

    def after(self, queue: str) -> tuple[int, int]:
        """Return the place after which to look."""
        return self._after.get(queue, START)

    def moved(self, claimed: Sequence[Claimed]) -> None:
        """Remember the last place of what was claimed."""
        for job in claimed:
            if job.place > self._after.get(job.queue, START):
                self._after[job.queue] = job.place

    def heard(self, now: float) -> None:
        """Something became ready, which may be more urgent. Not for each: that would cost what cursors save."""
        if now - self._reset_at >= _URGENT_S:
            self._reset_at = now
            self.reset()

    def reset(self) -> None:
        """Look from the head of every queue again."""
        self._after.clear()


async def claim(
    conn: Direct,
    schema: Schema,
    lease: Lease,
    queues: Sequence[str],
    room: int,
    *,
    plain: Sequence[str] = (),
    cursors: Cursors | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> list[Claimed]:
    """Take up to ``room`` ready jobs of queues without a limit, in one statement and in their order.

    ``plain``: tasks of which nobody looks at more than the payload. ``cursors`` is moved on. ``only`` these
    tasks, which moves no cursor, or all ``without`` these: among a thousand jobs of each queue.
    """
    after = [cursors.after(queue) if cursors is not None else START for queue in queues]
    parameters = holder(lease, plain) | {
        "queues": list(queues),
        "room": room,
        "after_priority": [place[0] for place in after],
        "after_seq": [place[1] for place in after],
    }
    template = _CLAIM
    if only or without:
        template = _CLAIM_OF
        parameters |= {"tasks": list(only or without), "of_these": bool(only)}
    claimed = _in_order([Claimed(row, lease) for row in await conn.rows(schema.sql(template), parameters)])
    if cursors is not None and not only:
        if len(claimed) < room:
            cursors.reset()
        else:
            cursors.moved(claimed)
    return claimed


async def take(
    conn: Connection, schema: Schema, template: LiteralString, parameters: dict[str, Any], lease: Lease
) -> list[Claimed]:
    """Run a claiming statement that ends in `TAKE`."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(schema.sql(template), parameters)
        rows = await cursor.fetchall()
    return _in_order([Claimed(row, lease) for row in rows])


def _in_order(claimed: list[Claimed]) -> list[Claimed]:
    # An UPDATE returns its rows as they lie on disk.
    claimed.sort(key=_place)
    return claimed


def _place(job: Claimed) -> tuple[int, int]:
    return job.place


def holder(lease: Lease, plain: Sequence[str] = ()) -> dict[str, Any]:
    """Return the parameters of `TAKE`."""
    return {"worker_id": lease.worker_id, "claim_number": lease.claim_number, "plain": list(plain)}
