"""The verbs by which jobs that are there are changed, other than by ending them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from adapter.core.option_checks import check_moment
from adapter.domain.errors import (
    InvalidArgumentError,
    JobNotFoundError,
    JobStateError,
    TooManyTagsError,
)
from adapter.domain.job import LOCAL, Job, JobStatus
from adapter.domain.json import problems
from adapter.domain.metadata_operations import MetadataOperation, apply_operations
from adapter.domain.task import LONGEST_TAG, MOST_TAGS
from adapter.store import job_changes, jobs
from adapter.store import relatives as relations
from adapter.store.database import Database
from adapter.store.insights import Insights, JobEvent
from adapter.store.relatives import Relatives
from adapter.store.wakeup import Notifier


class ChangesJobs:
    """Mixed into the adapter. Each change is one transaction, and safe to say twice."""

    database: Database
    notifier: Notifier

    async def reschedule_job(
        self,
        job_id: UUID,
        *,
        due: datetime | None = None,
        delay: timedelta | None = None,
        actor: str = "application",
    ) -> Job:
        """Let a delayed job that nobody was given be due at another time; its ttl begins then.

        ``due`` or ``delay`` from now; a time that has passed makes it ready.

        Raises:
            InvalidArgumentError: not exactly one of the two, or no time zone.
            JobNotFoundError: there is no such job.
            JobStateError: it is not delayed, or no more, or its executor holds it until it is due.
        """
        if (due is None) == (delay is None):
            msg = "Say when it is to be due: either due= or delay=."
            raise InvalidArgumentError(msg)
        check_moment("due", due)
        async with self.database.connection() as conn:
            schema = self.database.schema
            moved = await job_changes.reschedule(conn, schema, job_id, due=due, delay=delay, actor=actor)
            if moved is not None:
                self.notifier.changed()
                return moved
            known = await jobs.get(conn, schema, job_id)
        if known is None:
            raise JobNotFoundError(job_id)
        raise JobStateError(_why_not_rescheduled(known))

    async def add_tags(self, job_id: UUID, tags: Iterable[str]) -> list[str]:
        """Add to the tags of a job, open or finished; returns those it did not have.

        Raises:
            InvalidArgumentError, TooManyTagsError: a tag cannot be, or there would be more than 10.
            JobNotFoundError: there is no such job.
        """
        wanted = list(dict.fromkeys(tags))
        for tag in wanted:
            if not 0 < len(tag) <= LONGEST_TAG or next(problems(tag, "tag"), None):
                msg = f"A tag is a text of 1 to {LONGEST_TAG} characters."
                raise InvalidArgumentError(msg)
        schema = self.database.schema
        async with self.database.transaction() as conn:
            locked = (await job_changes.lock(conn, schema, [job_id])).get(job_id)
            if locked is None:
                raise JobNotFoundError(job_id)
            fresh = [tag for tag in wanted if tag not in locked.job.tags]
            union = [*locked.job.tags, *fresh]
            if fresh and len(union) > MOST_TAGS:
                raise TooManyTagsError(len(union), MOST_TAGS)
            if fresh:
                await job_changes.set_tags(conn, schema, locked.job, union)
        self.notifier.changed()
        return fresh

    async def update_metadata(
        self,
        job_id: UUID,
        operations: Sequence[MetadataOperation] | Mapping[str, Any],
        *,
        parent_operations: Sequence[MetadataOperation] = (),
        root_operations: Sequence[MetadataOperation] = (),
        request_key: str | None = None,
    ) -> dict[str, Any]:
        """Change a job's metadata, or replace it by a mapping; returns what it then is.

        What its handler sets while it runs, key by key, is written over it. ``parent_operations`` and
        ``root_operations`` go to the parent and to the root of its family, where there are such; one that has ended
        an hour ago is left alone. ``request_key``: of calls of one name within 24 hours only the first does anything.

        Raises:
            InvalidArgumentError, MetadataTooLargeError: the result cannot be kept; nothing was written.
            JobNotFoundError: there is no such job.
            JobStateError: it has ended more than an hour ago.
        """
        own = (
            [MetadataOperation("update", value=operations)] if isinstance(operations, Mapping) else operations
        )
        schema = self.database.schema
        async with self.database.connection() as conn:
            job = await jobs.get(conn, schema, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        # By id: a root may be the parent, too.
        wanted: dict[UUID, list[MetadataOperation]] = {job_id: [*own]}
        for relative, theirs in ((job.parent_id, parent_operations), (job.root_id, root_operations)):
            if relative is not None and theirs:
                wanted[relative] = [*wanted.get(relative, []), *theirs]
        async with self.database.transaction() as conn:
            locked = await job_changes.lock(conn, schema, wanted)
            if job_id not in locked:
                raise JobNotFoundError(job_id)
            if not locked[job_id].is_fresh:
                msg = "Cannot update metadata for a completed run"
                raise JobStateError(msg)
            metadata = dict(locked[job_id].job.metadata or {})
            if request_key is not None and not await job_changes.first_time(conn, schema, job, request_key):
                return metadata
            for each in locked.values():
                if not each.is_fresh or not wanted[each.job.id]:
                    continue
                changed = apply_operations(each.job.metadata or {}, wanted[each.job.id])
                if found := next(problems(changed, "metadata"), None):
                    msg = f"{found}."
                    raise InvalidArgumentError(msg)
                await job_changes.set_metadata(conn, schema, each.job, changed)
                if each.job.id == job_id:
                    metadata = changed
        self.notifier.changed()
        return metadata

    async def reset_idempotency_key(
        self, task: str, key: str, *, request_key: str | None = None, actor: str = "application"
    ) -> UUID | None:
        """Free an idempotency key, so that the next call under it makes a new job; returns who held it.

        None: nobody did. ``request_key``: calls of one name within 24 hours are answered alike.
        """
        async with self.database.connection() as conn:
            return await job_changes.reset_key(
                conn, self.database.schema, task, key, call=request_key, actor=actor
            )

    async def relatives(self, job: Job, limit: int = 100) -> Relatives:
        """Return the parent, the root and the first ``limit`` children of a job."""
        async with self.database.connection() as conn:
            return await relations.relatives(conn, self.database.schema, job, limit)

    async def events_of(self, job_ids: Sequence[UUID]) -> dict[UUID, list[JobEvent]]:
        """Return what happened to jobs beside running, by job; one to which nothing did is left out."""
        async with self.database.connection() as conn:
            return await Insights(self.database.schema).events_of(conn, job_ids)

    async def family(self, job: Job, limit: int = 1000) -> list[Job]:
        """Return the first ``limit`` jobs of the family of a job, in the order of their ids, without its root."""
        async with self.database.connection() as conn:
            return await relations.below(conn, self.database.schema, job.root_id or job.id, limit)


def _why_not_rescheduled(job: Job) -> str:
    if job.status is JobStatus.DELAYED and job.started is not None:
        return f"Job {job.id} has started: when it is tried again is for its retry policy to say."
    if job.status is JobStatus.DELAYED and job.executor != LOCAL:
        return f"Job {job.id} was given to {job.executor}, which holds it until it is due."
    return "Cannot reschedule a run that is not delayed"
