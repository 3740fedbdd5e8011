"""A new job like one that was: what is copied of it, and what is not."""

from __future__ import annotations

from typing import Any

from adapter.core.planning import ScheduleOptions
from adapter.domain.errors import JobStateError
from adapter.domain.job import Job
from adapter.domain.shadow import SHADOW_OF, is_shadow

#: Stands for "as it was" where None is a value.
SAME: Any = object()


def replay_options(job: Job, actor: str) -> ScheduleOptions:
    """Return the options of a job that replays ``job`` and names it; keys, tag, due time and ttl are not copied.

    Raises:
        JobStateError: it is a shadow.
    """
    if is_shadow(job.extra):
        msg = f"Job {job.id} is a shadow of {job.extra[SHADOW_OF]}: replay that one."
        raise JobStateError(msg)
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
