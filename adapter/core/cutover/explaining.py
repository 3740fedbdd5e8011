"""Why a job went where it went: the reason on its row, the change behind that reason, what moved it later."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from adapter.domain.errors import JobNotFoundError
from adapter.domain.job import Job
from adapter.domain.routing import EVERY_TASK
from adapter.store import jobs
from adapter.store.database import Database
from adapter.store.history import Change, in_force
from adapter.store.insights import Insights, JobEvent

_ROLLOUT = re.compile(r"rollout [0-9.e+-]+% to ([^:]+)")


@dataclass(frozen=True, slots=True)
class JobExplanation:
    """A job's first route with the changes that were in force and had a part in it; and what moved it later."""

    job: Job
    changes: list[Change]
    moves: list[JobEvent]


async def explain_job(database: Database, insights: Insights, job_id: UUID) -> JobExplanation:
    """Explain a job, open or finished.

    Raises:
        JobNotFoundError: there is no such job.
    """
    async with database.connection() as conn:
        job = await jobs.get(conn, database.schema, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        there = await in_force(conn, database.schema, job.type, job.created_at)
        events = await insights.events(conn, job_id)
    return JobExplanation(job, list(_behind(job, there)), [each for each in events if _is_move(each)])


def _behind(job: Job, there: list[Change]) -> Iterable[Change]:
    reason = job.route_reason or ""
    rollout = _ROLLOUT.match(reason)
    of_its_own = any(each.kind == "rollout" and each.subject == job.type for each in there)
    for each in there:
        killed = each.kind == "kill" and reason.startswith("kill switch: runtime")
        scope = job.type if ", this task" in reason else EVERY_TASK
        rolled = each.kind == "rollout" and rollout is not None and each.executor == rollout[1]
        if (
            (killed and each.subject == scope)
            or (rolled and each.subject == (job.type if of_its_own else EVERY_TASK))
            or (each.kind == "circuit" and "circuit open" in reason)
        ):
            yield each


def _is_move(event: JobEvent) -> bool:
    return "to" in (event.detail or {}) or event.kind in {"rerouted", "redispatched"}
