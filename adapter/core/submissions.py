"""What is sent to a remote for one epoch of a job."""

from __future__ import annotations

from adapter.domain.shadow import ACKNOWLEDGE, is_only_taken
from adapter.domain.task import DEFAULT_QUEUE, TaskPolicy
from adapter.executors.base import Executor, Submission
from adapter.store.outbox import Outgoing


def submission_of(row: Outgoing, policy: TaskPolicy, executor: Executor) -> Submission:
    """Return the epoch as its executor takes it; every key it carries is derived from (job, epoch)."""
    job = row.job
    delayed = job.due is not None and policy.remote_delay and executor.capabilities.remote_delay
    return Submission(
        job_id=job.id,
        epoch=job.epoch,
        task=job.type,
        remote_id=ACKNOWLEDGE if is_only_taken(job.extra) else policy.remote_ids.get(executor.name, job.type),
        data=job.data,
        tag=job.tag,
        tags=job.tags,
        metadata=job.metadata,
        queue=None if job.queue in {DEFAULT_QUEUE, policy.queue.name} else job.queue,
        concurrency_key=job.concurrency_key,
        priority=job.priority,
        max_attempts=max(1, job.max_attempts - job.attempt),
        max_duration=job.max_duration,
        ttl=row.ttl,
        delay_until=job.due if delayed else None,
        superjson=job.extra.get("superjson"),
        traceparent=job.extra.get("traceparent"),
    )
