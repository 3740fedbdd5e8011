"""A new job like one that was: what is copied of it, and what is not."""

from __future__ import annotations

from adapter.core.planning import ScheduleOptions
from adapter.domain.job import Job


def replay_options(job: Job, actor: str) -> ScheduleOptions:
    """Return the options of a job that replays ``job`` and names it; keys, tag, due time and ttl are not copied."""
    return ScheduleOptions(
        user_id=job.user_id,
        queue=job.queue,
        concurrency_key=job.concurrency_key,
        priority=job.priority,
        max_duration=job.max_duration,
        retry=job.retry,
        max_attempts=job.max_attempts,
        metadata=job.metadata,
        tags=job.tags,
        extra={"replay_of": str(job.id), "replayed_by": actor},
    )
