"""A new job like one that was: what is copied of it, and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain.errors import JobStateError
from adapter.domain.job import Job
from adapter.domain.shadow import SHADOW_OF, is_shadow

#: Stands for "as it was" where None is a value.
SAME: Any = object()

#: What a caller asked for that moves nothing here, and goes along.
_COPIED = ("machine", "region", "test")


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
        extra={name: job.extra[name] for name in _COPIED if name in job.extra}
        | {"replay_of": str(job.id), "replayed_by": actor},
    )


def replay_spec(job: Job, actor: str, *, data: Any = SAME, overrides: Mapping[str, Any]) -> JobSpec:
    """Return the job that replays ``job``, with what ``overrides`` says in the place of what is copied.

    Raises:
        JobStateError: it is a shadow.
    """
    options = replay_options(job, actor)
    extra: dict[str, Any] = {**(options.get("extra") or {}), **(overrides.get("extra") or {})}
    options.update(cast("ScheduleOptions", dict(overrides)))
    options["extra"] = extra
    # Its task may have been known by whoever made the original, and by nobody here.
    return JobSpec(job.type, job.data if data is SAME else data, options, undeclared=True)
