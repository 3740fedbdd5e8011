"""Writing jobs: one statement for one and for many, with its guards inside.

It inserts nothing when the flags are no longer those the route was decided with, and no job whose key or
tag is held, unless the call says that the newest wins.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import LiteralString, cast
from uuid import UUID

from adapter.domain.job import Job, NewJob, Terms
from adapter.store.job_columns import DEFAULTS, Shape, from_, selected, shaped, source
from adapter.store.rows import Written, found, job_from_row
from adapter.store.steps import Savepoint, Statement, Steps

#: How many rows one INSERT carries at most.
MOST_ROWS = 1000


_KEY_PARTS = {
    "idempotency_key": "'key:' || idempotency_key, id, now() + idempotency_ttl",
    "request_key": "'request:' || request_key, id, now() + interval '24 hours'",
    "throttle_key": "'throttle:' || throttle_key, id, now() + throttle",
}

#: Nothing of it has started, and no executor but ours was ever given it.
UNSTARTED: LiteralString = """o.started IS NULL AND o.status IN ('DELAYED', 'PENDING', 'QUEUED', 'WAITING')
  AND NOT o.cancel_requested AND o.recall_id IS NULL
  AND (o.executor IS NULL OR o.executor = 'local' OR (o.submit_state = 'never' AND o.dispatch_lease IS NULL))"""

#: What the newest call puts in the place of what was asked before.
_REPLACED = (
    "data", "executor", "route_reason", "queue", "user_id", "concurrency_key", "priority", "max_duration",
    "max_attempts", "retry", "metadata", "tags", "persistent", "keep_for", "keep_failed_for", "remove_at",
    "extra",
    "status", "waiting_for", "next_try_at",
)  # fmt: skip


def _keys(keyed: list[str]) -> str:
    parts = "\n  UNION ALL ".join(
        f"SELECT type, {_KEY_PARTS[name]} FROM given WHERE {name} IS NOT NULL" for name in keyed
    )
    wanted = " + ".join(f"(g.{name} IS NOT NULL)::int" for name in keyed)
    return f"""keys AS (
  INSERT INTO {{s}}.job_keys AS k (task, key, job_id, expires_at)
  {parts}
  ORDER BY 1, 2
  ON CONFLICT (task, key) DO UPDATE SET job_id = EXCLUDED.job_id, expires_at = EXCLUDED.expires_at
  WHERE k.expires_at <= now()
  RETURNING k.job_id
), free AS (
  SELECT g.* FROM given g LEFT JOIN (SELECT job_id, count(*) AS taken FROM keys GROUP BY job_id) t
    ON t.job_id = g.id
  WHERE COALESCE(t.taken, 0) = {wanted}
)"""


def _replacing(value: Callable[[str], str], due: str, expires_at: str) -> str:
    """Return the SET list that puts a new job's terms, in a new epoch, in the place of an old one's."""
    latest = (
        f"LEAST({due}, o.created_at + make_interval(secs => ({value('extra')} ->> 'debounce_max')::float8))"
    )
    columns = ", ".join(f"{name} = {value(name)}" for name in _REPLACED)
    return f"""{columns}, epoch = o.epoch + 1, submit_tries = 0, first_try_at = NULL, remote_environment = NULL,
  due = CASE WHEN {due} IS NOT NULL THEN {latest} END,
  expires_at = {expires_at} - COALESCE({due} - {latest}, interval '0'),
  seq = nextval('{{s}}.worker_jobs_seq'), updated_at = now()"""


_NOTED = """INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'replaced', jsonb_build_object('due', due, 'by', %(by)s::text) FROM written"""


@functools.lru_cache(maxsize=512)
def insert_statement(shape: Shape) -> LiteralString:
    """Return the statement that inserts jobs of this shape."""
    keyed = [name for name in _KEY_PARTS if name in shape]
    columns = source(shape, with_keys=bool(keyed))
    stored = [
        name for name in columns if name not in {"idempotency_ttl", "request_key", "throttle_key", "throttle"}
    ]
    rows = f"SELECT {selected(columns)} {from_(shape)}"
    before = ""
    if keyed:
        before = f"given AS MATERIALIZED ({rows}), {_keys(keyed)}"
        rows = f"SELECT {', '.join(stored)} FROM free"
    statement = f"INSERT INTO {{s}}.worker_jobs_open AS o ({', '.join(stored)})\n{rows}"
    if "tag" in shape:
        # Tags in one order for all, so that two calls cannot wait for each other.
        statement = f"""INSERT INTO {{s}}.worker_jobs_open AS o ({", ".join(stored)})
SELECT * FROM ({rows}) AS made ORDER BY type COLLATE "C", tag COLLATE "C", id
ON CONFLICT (type, tag) WHERE tag_held DO """
        statement += (
            f"UPDATE SET {_replacing(_excluded, 'EXCLUDED.due', 'EXCLUDED.expires_at')}\nWHERE {UNSTARTED}"
            " AND (EXCLUDED.extra ->> 'on_conflict' = 'replace' OR (EXCLUDED.extra ->> 'on_conflict' = 'replace_own'"
            " AND o.user_id IS NOT DISTINCT FROM EXCLUDED.user_id))"
            if shape.replaces
            else "NOTHING"
        )
    if shape.counted and shape.varying:
        return _literal(
            f"WITH written AS ({statement} RETURNING 1) SELECT count(*) AS written, now() AS at FROM written"
        )
    if shape.counted:
        statement += " RETURNING 1 AS written, created_at AS at"
        return _literal(f"WITH {before} {statement}" if before else statement)
    if shape.replaces:
        before += ", " if before else ""
        noted = _NOTED + " WHERE id <> ALL(%(ids)s)"
        return _literal(
            f"WITH {before}written AS ({statement} RETURNING *), noted AS ({noted}) SELECT * FROM written"
        )
    statement += "\nRETURNING id, status, created_at, due, expires_at"
    return _literal(f"WITH {before} {statement}" if before else statement)


@functools.lru_cache(maxsize=64)
def _take(shape: Shape, *, routing: bool) -> LiteralString:
    columns = source(shape, with_keys=False)

    def given(name: str) -> str:
        if name in columns:
            return f"g.{name}"
        return "NULL::jsonb" if name == "extra" else DEFAULTS.get(name, "NULL")

    due = "g.due" if "due" in columns else "NULL::timestamptz"
    expires_at = "g.expires_at" if "expires_at" in columns else "NULL::timestamptz"
    guard = "o.epoch = 0 AND o.executor IS NULL" if routing else UNSTARTED
    noted = "" if routing else f", noted AS ({_NOTED})"
    return _literal(f"""WITH given AS MATERIALIZED (SELECT {selected(columns)} {from_(shape)}), written AS (
  UPDATE {{s}}.worker_jobs_open o SET {_replacing(given, due, expires_at)}
  FROM given g WHERE o.id = %(holder)s AND {guard} RETURNING o.*
){noted} SELECT * FROM written""")


def _excluded(name: str) -> str:
    return f"EXCLUDED.{name}"


def _literal(text: str) -> LiteralString:
    # Made of the names above and nothing else; values travel as parameters.
    return cast("LiteralString", text)


@dataclass(frozen=True, slots=True)
class Inserted:
    """What an insert came to: the jobs that are in, and those that found their place taken.

    ``missing`` were not inserted: the flags have changed since they were routed, or their key or tag is
    held. A job that took the place of an older one is that one's row.
    """

    jobs: dict[UUID, Job | Written]
    missing: list[NewJob]


def insert(jobs: Sequence[NewJob], flags_version: int) -> Steps[Inserted]:
    """Insert jobs that were routed with ``flags_version``.

    Needs an open transaction when one of several jobs has a key, or one job has two names: what was taken
    for a job that is not inserted must be given back.
    """
    keyed = any(job.terms.keys for job in jobs)
    undo = keyed and needs_transaction(jobs)
    done: dict[UUID, Job | Written] = {}
    for start in range(0, len(jobs), MOST_ROWS):
        part = jobs[start : start + MOST_ROWS]
        if undo:
            yield Savepoint.SET
        written = yield from _insert_part(part, flags_version)
        if undo:
            if len(written) < len(part):
                # All or nothing per part: the caller looks up what is held and inserts the rest.
                yield Savepoint.UNDO
                written = {}
            yield Savepoint.KEEP
        done.update(written)
    return Inserted(done, [job for job in jobs if job.id not in done])


def insert_plain(jobs: Sequence[NewJob], flags_version: int) -> Steps[list[Written]]:
    """Insert at most `MOST_ROWS` jobs that `are_plain`: all of them, in their order, or none."""
    shape, parameters = shaped(jobs, counted=True)
    parameters["flags_version"] = flags_version
    rows = yield Statement(insert_statement(shape), parameters)
    if not rows or not rows[0]["written"]:
        return []
    at = rows[0]["at"]
    return [Written(job, at) for job in jobs]


def are_plain(terms: Collection[Terms], count: int) -> bool:
    """Whether nothing but the clock is left to the database: then all ``count`` jobs are in, or none."""
    return all(_is_plain(each, count) for each in terms)


def needs_transaction(jobs: Sequence[NewJob]) -> bool:
    """Whether inserting these takes more than one statement that stands for itself."""
    if len(jobs) == 1:
        terms = jobs[0].terms
        return len(terms.keys) + (terms.tag is not None) > 1
    return len(jobs) > MOST_ROWS or any(job.terms.is_named for job in jobs)


def _insert_part(jobs: Sequence[NewJob], flags_version: int) -> Steps[dict[UUID, Job | Written]]:
    if are_plain({job.terms for job in jobs}, len(jobs)):
        return {written.id: written for written in (yield from insert_plain(jobs, flags_version))}
    shape, parameters = shaped(jobs, counted=False)
    parameters["flags_version"] = flags_version
    if shape.replaces:
        parameters |= {"ids": [job.id for job in jobs], "by": "tag"}
    rows = yield Statement(insert_statement(shape), parameters)
    by_id = {job.id: job for job in jobs}
    done: dict[UUID, Job | Written] = {
        row["id"]: Written(by_id[row["id"]], row["created_at"], row) for row in rows if row["id"] in by_id
    }
    replaced = {(row["type"], row["tag"]): row for row in rows if row["id"] not in by_id}
    for job in jobs if replaced else ():
        row = replaced.get((job.terms.type, job.terms.tag or ""))
        if row is not None:
            done[job.id] = found(job_from_row(row))
            yield from _hand_keys_over(job, row["id"])
    return done


_HAND_OVER: LiteralString = """
UPDATE {s}.job_keys SET job_id = %(holder)s WHERE task = %(task)s AND key = ANY(%(keys)s) AND job_id = %(id)s
"""


def _hand_keys_over(job: NewJob, holder: UUID) -> Steps[None]:
    keys = job.terms.keys
    if keys:
        task = job.terms.type
        yield Statement(_HAND_OVER, {"holder": holder, "task": task, "keys": keys, "id": job.id})


def _is_plain(terms: Terms, of: int) -> bool:
    timed = terms.due is not None or terms.delay is not None or terms.ttl is not None
    return not timed and terms.on_conflict != "replace" and (of == 1 or not terms.is_named)


def replace(holder: UUID, job: NewJob, flags_version: int) -> Steps[Job | None]:
    """Put the job in the place of ``holder``, which keeps its id, key and tag; None when that has started."""
    shape, parameters = shaped([job], counted=False)
    parameters |= {"flags_version": flags_version, "holder": holder, "by": "key"}
    rows = yield Statement(_take(shape, routing=False), parameters)
    return found(job_from_row(rows[0])) if rows else None


_RELEASE_TAG: LiteralString = (
    """
WITH freed AS (
  UPDATE {s}.worker_jobs_open o SET tag_held = false, updated_at = now()
  WHERE o.id = %(holder)s AND o.tag_held AND NOT COALESCE("""
    + UNSTARTED
    + """, false) RETURNING o.id, o.epoch
)
INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
SELECT id, epoch, 'tag_released', jsonb_build_object('by', 'tag') FROM freed
"""
)


def release_tag(holder: UUID) -> Steps[None]:
    """End the hold of a job that was handed out: as good as started, and a newer job is to be made."""
    yield Statement(_RELEASE_TAG, {"holder": holder})


def route(job_id: UUID, job: NewJob, flags_version: int) -> Steps[Job | None]:
    """Give a row that nobody has routed its route, in epoch 1; None when it has one, or the flags have changed."""
    shape, parameters = shaped([job], counted=False)
    rows = yield Statement(
        _take(shape, routing=True), parameters | {"flags_version": flags_version, "holder": job_id}
    )
    return job_from_row(rows[0]) if rows else None
