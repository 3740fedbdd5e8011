"""Why a job does not run: one look at its row, its queue, the workers and what its executor allows.

It only reads, and keeps nothing: what it says was true when it looked. What a worker has in mind and writes
down nowhere (how much room it has, which queues it was told to serve) it cannot know.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from adapter.domain.identity import public_id
from adapter.domain.job import LOCAL, JobStatus, SubmitState, WaitingFor
from adapter.domain.limits import Limits, Rate
from adapter.domain.wait_token import WAITPOINT
from adapter.domain.waiting import WaitReason
from adapter.store.database import Connection, Schema, fetch
from adapter.store.wait_tokens import STILL_WAITS

#: How many jobs ahead are looked at, and how many open children are named, at most.
_MOST_AHEAD: LiteralString = "10000"
_MOST_CHILDREN: LiteralString = "10"

#: A living worker says what it has handlers for once a minute, written at most once a minute for all of them.
_JOB: LiteralString = (
    """
SELECT o.*, now() AS now, o.due > now() AS is_early, o.dispatch_lease_until > now() AS is_submitting,
  o.next_try_at > now() AS is_put_off,
  (SELECT count(*) FROM {s}.workers w WHERE w.seen_at > now() - w.lease) AS workers,
  (SELECT max(w.seen_at) FROM {s}.workers w) AS last_worker,
  a.seen_at AS advertised_at, COALESCE(a.seen_at > now() - interval '3 minutes', false) AS is_advertised,
  (SELECT count(*) FROM {s}.worker_jobs_open c WHERE c.id = ANY(o.awaiting)) AS open_awaited,
  ARRAY(SELECT c.id FROM {s}.worker_jobs_open c WHERE c.id = ANY(o.awaiting) ORDER BY c.id LIMIT """
    + _MOST_CHILDREN
    + """) AS some_awaited,
  ARRAY(SELECT jsonb_build_object('id', t.id, 'timeout_at', t.timeout_at) FROM {s}.wait_tokens t WHERE t.id = ANY(o.awaiting) AND """
    + STILL_WAITS
    + """ ORDER BY t.id LIMIT """
    + _MOST_CHILDREN
    + """) AS tokens,
  c.updated_at AS closed_since, c.actor AS closed_by, c.reason AS closed_why,
  (SELECT b.paused_until FROM {s}.remote_budgets b
    WHERE b.executor = o.executor AND b.share = 'dispatch' AND b.paused_until > now()) AS throttled_until
FROM {s}.worker_jobs_open o
LEFT JOIN {s}.advertised_tasks a ON a.task = o.type
LEFT JOIN LATERAL (SELECT updated_at, actor, reason FROM {s}.executor_flags
  WHERE kind = 'circuit' AND task IN (o.type, '*') AND executor = o.executor ORDER BY task DESC LIMIT 1) AS c ON true
WHERE o.id = %(id)s
"""
)

_IS_FINISHED: LiteralString = (
    "SELECT EXISTS (SELECT FROM {s}.worker_jobs_finished WHERE id = %(id)s) AS is_finished"
)

#: What the claim looks at, counted as it counts (`adapter.store.limited_claims`). Not every queue has a row.
_QUEUE: LiteralString = (
    """
SELECT COALESCE(q.limits, '{}') AS limits, of.limited, q.starts, k.starts AS key_starts, q.paused_at, p.actor, p.reason,
  now() AS now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us, r.total, r.unkeyed, r.of_key,
  ahead.counted, ahead.looked = """
    + _MOST_AHEAD
    + """ AS is_more, CASE WHEN of.limited THEN (
    SELECT w.id FROM {s}.worker_jobs_open w WHERE w.status = 'WAITING' AND w.waiting_for = 'children'
      AND w.awaiting IS NULL AND w.concurrency_key IS NULL AND w.queue = q.name LIMIT 1) END AS parent
FROM {s}.worker_jobs_open o LEFT JOIN {s}.job_queues q ON q.name = o.queue
CROSS JOIN LATERAL (SELECT COALESCE(q.limited, false) AS limited) AS of
LEFT JOIN {s}.concurrency_keys k ON k.queue = q.name AND k.key = o.concurrency_key
LEFT JOIN LATERAL (SELECT reason, actor FROM {s}.queue_changes WHERE queue = q.name AND kind = 'pause'
  ORDER BY id DESC LIMIT 1) AS p ON q.paused_at IS NOT NULL
CROSS JOIN LATERAL (SELECT count(*) AS total, count(*) FILTER (WHERE e.concurrency_key IS NULL) AS unkeyed,
    count(*) FILTER (WHERE e.concurrency_key = o.concurrency_key) AS of_key
  FROM {s}.worker_jobs_open e WHERE e.status = 'EXECUTING' AND e.executor = 'local' AND e.queue = o.queue) AS r
CROSS JOIN LATERAL (SELECT count(*) AS looked, count(*) FILTER (WHERE b.counts) AS counted FROM (
  (SELECT true AS counts FROM {s}.worker_jobs_open a WHERE of.limited AND o.concurrency_key IS NOT NULL
    AND a.status = 'QUEUED' AND a.executor = 'local' AND a.queue = o.queue
    AND a.concurrency_key IS NOT NULL AND a.concurrency_key = o.concurrency_key
    AND ((-a.priority), a.seq) < ((-o.priority), o.seq) LIMIT """
    + _MOST_AHEAD
    + """)
  UNION ALL
  (SELECT NOT of.limited OR a.concurrency_key IS NULL FROM {s}.worker_jobs_open a
    WHERE (NOT of.limited OR o.concurrency_key IS NULL)
    AND a.status = 'QUEUED' AND a.executor = 'local' AND a.queue = o.queue
    AND ((-a.priority), a.seq) < ((-o.priority), o.seq) LIMIT """
    + _MOST_AHEAD
    + """)) AS b) AS ahead
WHERE o.id = %(id)s
"""
)


async def why(conn: Connection, schema: Schema, job_id: UUID) -> list[WaitReason] | None:
    """Return what keeps a job from running, what binds it most first; nothing when it runs or has ended.

    None: there is no such job.
    """
    rows = await fetch(conn, schema, _JOB, {"id": job_id})
    if not rows:
        found = await fetch(conn, schema, _IS_FINISHED, {"id": job_id})
        return [] if found[0]["is_finished"] else None
    row = rows[0]
    status = JobStatus(row["status"])
    if status is JobStatus.EXECUTING:
        return []
    if row["executor"] is None:
        text = (
            f"Nobody has routed it yet: a worker or dispatcher whose application declares {row['type']} does."
        )
        return [WaitReason(code="not_routed", text=text, since=row["created_at"])]
    reasons = [*_due(row)] if status is JobStatus.DELAYED else []
    if row["executor"] != LOCAL:
        return [*reasons, *_at_remote(row, status)]
    if status is JobStatus.WAITING and row["waiting_for"] == WaitingFor.CHILDREN:
        reasons += _children(row)
        if row["awaiting"] is None:
            queue = await fetch(conn, schema, _QUEUE, {"id": job_id})
            reasons += [each for facts in queue for each in _counts(row, facts)]
    elif status is JobStatus.WAITING and row["waiting_for"] == WaitingFor.EXECUTOR:
        reasons += _handler(row)
    elif status is JobStatus.WAITING:
        reasons += _tokens(row)
    elif status is JobStatus.QUEUED:
        for facts in await fetch(conn, schema, _QUEUE, {"id": job_id}):
            reasons += [*_paused(row, facts), *_counts(row, facts), *_rates(row, facts), *_parent(row, facts)]
            reasons += [*_workers(row), *_ahead(row, facts)]
        if not reasons:
            text = f"It is ready: the next worker that serves the queue {row['queue']} and has room takes it."
            reasons.append(WaitReason(code="ready", text=text, since=row["updated_at"]))
    return reasons


def _due(row: DictRow) -> Iterator[WaitReason]:
    if row["is_early"]:
        yield WaitReason(code="due", text="It is not due yet.", until=row["due"])
    else:
        text = "It is due; upkeep makes it ready, in a process with a worker or a dispatcher."
        yield WaitReason(code="due", text=text, since=row["due"])


def _at_remote(row: DictRow, status: JobStatus) -> Iterator[WaitReason]:
    executor, state = row["executor"], SubmitState(row["submit_state"])
    detail = {"executor": executor, "submit_state": state.value, "tries": row["submit_tries"]}
    if row["waiting_for"] == WaitingFor.EXECUTOR and state is SubmitState.NEVER:
        text = f"No application that looked at it declares what {row['type']} is called at {executor}."
        yield WaitReason(code="no_handler", text=text, since=row["updated_at"], detail={"task": row["type"]})
    elif state is SubmitState.ACCEPTED:
        text = (
            f"It is at {executor} as {row['remote_run_id']}, {row['remote_status'] or 'not started'} there."
        )
        run = {"remote_run_id": row["remote_run_id"], "remote_status": row["remote_status"]}
        yield WaitReason(code="remote", text=text, detail=detail | run)
    elif state is SubmitState.UNKNOWN:
        text = (
            "A submit may have got through. It is repeated under the same keys, 20 h after the first only looked up;"
            " `adapter jobs resolve` ends the wait on your word."
        )
        yield WaitReason(
            code="submit", text=text, since=row["first_try_at"], until=row["next_try_at"], detail=detail
        )
    elif state is SubmitState.TRYING:
        silent = "The dispatcher that submits it has fallen silent; the next one takes over."
        text = "A dispatcher is submitting it." if row["is_submitting"] else silent
        yield WaitReason(code="submit", text=text, until=row["dispatch_lease_until"], detail=detail)
    elif status is JobStatus.PENDING:
        yield from _unsubmitted(row, detail)


def _unsubmitted(row: DictRow, detail: dict[str, Any]) -> Iterator[WaitReason]:
    executor = row["executor"]
    if row["closed_since"] is not None:
        text = f"The circuit of {executor} is open, by {row['closed_by']}: {row['closed_why']}"
        yield WaitReason(code="circuit", text=text, since=row["closed_since"], detail=detail)
    if row["throttled_until"] is not None:
        text = f"{executor} throttles us: nobody submits."
        yield WaitReason(code="throttled", text=text, until=row["throttled_until"], detail=detail)
    if row["submit_tries"] and row["is_put_off"]:
        text = f"{executor} could not be reached, or said not now; it is tried again."
        yield WaitReason(code="submit", text=text, until=row["next_try_at"], detail=detail)
    else:
        text = f"It waits for a dispatcher whose application knows what {executor} calls {row['type']}."
        yield WaitReason(code="submit", text=text, since=row["updated_at"], detail=detail)


def _children(row: DictRow) -> Iterator[WaitReason]:
    if row["awaiting"] is None:
        text = f"What it waited for is there; it waits for a free place in the queue {row['queue']}."
        yield WaitReason(code="children", text=text, detail={"open": 0})
        return
    awaited, left = len(row["awaiting"]), row["open_awaited"]
    text = f"It awaits {left} of {awaited} children." if left else "Its children have ended; it goes on soon."
    detail = {"awaited": awaited, "open": left, "some": [str(each) for each in row["some_awaited"]]}
    yield WaitReason(code="children", text=text, since=row["updated_at"], detail=detail)


def _tokens(row: DictRow) -> Iterator[WaitReason]:
    for token in row["tokens"]:
        shown = public_id(WAITPOINT, UUID(token["id"]))
        until = token["timeout_at"] and datetime.fromisoformat(token["timeout_at"])
        text = f"It waits for the token {shown}, which somebody has to complete."
        detail = {"token": shown}
        yield WaitReason(code="token", text=text, since=row["updated_at"], until=until, detail=detail)
    if row["open_awaited"]:
        yield from _children(row)
    elif not row["tokens"]:
        text = "Its token was completed, or its time is over; it goes on soon."
        yield WaitReason(code="token", text=text, since=row["updated_at"])


def _paused(row: DictRow, facts: DictRow) -> Iterator[WaitReason]:
    if facts["paused_at"] is not None:
        text = f"The queue {row['queue']} is paused, by {facts['actor']}: {facts['reason']}"
        detail = {"queue": row["queue"], "by": facts["actor"], "reason": facts["reason"]}
        yield WaitReason(code="paused", text=text, since=facts["paused_at"], detail=detail)


def _counts(row: DictRow, facts: DictRow) -> Iterator[WaitReason]:
    """Without a ``key_limit`` each key has its own copy of the queue's limit, and so have those without one."""
    limits, queue, key = Limits.from_json(facts["limits"]), row["queue"], row["concurrency_key"]
    of_queue, of_key = limits.concurrency_limit, limits.key_limit
    running = facts["unkeyed"] if of_key is None else facts["total"]
    if of_queue is not None and (key is None or of_key is not None) and running >= of_queue:
        text = f"The queue {queue} has reached its concurrency_limit: {running} of {of_queue} run."
        detail = {"queue": queue, "running": running, "limit": of_queue}
        yield WaitReason(code="concurrency_limit", text=text, detail=detail)
    most = of_key if of_key is not None else of_queue
    if key is not None and most is not None and facts["of_key"] >= most:
        text = f"Its key {key} has reached its limit in the queue {queue}: {facts['of_key']} of {most} run."
        detail = {"queue": queue, "key": key, "running": facts["of_key"], "limit": most}
        yield WaitReason(code="key_limit", text=text, detail=detail)


def _rates(row: DictRow, facts: DictRow) -> Iterator[WaitReason]:
    limits, queue, key = Limits.from_json(facts["limits"]), row["queue"], row["concurrency_key"]
    until = _free_at(limits.rate, facts["starts"], facts)
    if until is not None:
        text = f"The queue {queue} has spent its rate of {limits.rate}."
        detail = {"queue": queue, "rate": str(limits.rate)}
        yield WaitReason(code="rate", text=text, until=until, detail=detail)
    until = _free_at(limits.key_rate, facts["key_starts"], facts) if key is not None else None
    if until is not None:
        text = f"Its key {key} has spent its rate of {limits.key_rate} in the queue {queue}."
        detail = {"queue": queue, "key": key, "rate": str(limits.key_rate)}
        yield WaitReason(code="key_rate", text=text, until=until, detail=detail)


def _free_at(rate: Rate | None, starts: list[list[int]] | None, facts: DictRow) -> datetime | None:
    """Return when a rate that is spent lets the next job start; None when it does now."""
    wait = None if rate is None else rate.wait([(at, n) for at, n in starts or []], now=facts["now_us"])
    return facts["now"] + wait if wait else None


def _parent(row: DictRow, facts: DictRow) -> Iterator[WaitReason]:
    if facts["parent"] is not None:
        text = f"Nothing starts in the queue {row['queue']} before the parent {facts['parent']} has a place again."
        yield WaitReason(code="parent_first", text=text, detail={"parent": str(facts["parent"])})


def _workers(row: DictRow) -> Iterator[WaitReason]:
    if not row["workers"]:
        yield WaitReason(code="no_worker", text="No worker is alive.", since=row["last_worker"])
    elif not row["is_advertised"]:
        yield from _handler(row)


def _handler(row: DictRow) -> Iterator[WaitReason]:
    task, at = row["type"], row["advertised_at"]
    if row["is_advertised"]:
        text = f"A worker says that it has a handler for {task}: it becomes ready within a minute or two."
    else:
        text = f"No living worker says that it has a handler for {task}."
    yield WaitReason(code="no_handler", text=text, since=at, detail={"task": task})


def _ahead(row: DictRow, facts: DictRow) -> Iterator[WaitReason]:
    if not facts["counted"]:
        return
    by_key = facts["limited"] and row["concurrency_key"] is not None
    where = f"of its key {row['concurrency_key']}" if by_key else f"in the queue {row['queue']}"
    jobs = f"{'at least ' if facts['is_more'] else ''}{facts['counted']}"
    text = f"Jobs {where} that are ahead of it, by priority and age: {jobs}."
    detail = {"queue": row["queue"], "jobs": facts["counted"], "more": facts["is_more"]}
    yield WaitReason(code="ahead", text=text, detail=detail)
