"""Who may read and change which run, and the run itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.domain.identity import job_id_of, public_id, run_id_of
from adapter.web.auth import forbidden
from adapter.web.errors import ApiError
from adapter.web.trigger_api.wire import BATCH

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.job import Job
    from adapter.web.auth import Principal
    from adapter.web.authorization import Resource
    from adapter.web.trigger_api.context import ApiContext
    from adapter.web.trigger_api.queries import RunQuery


def resources_of(job: Job | None) -> list[Resource]:
    """Name all by which a token may be let read a run, beside the run itself."""
    if job is None:
        return []
    found: list[Resource] = [
        ("users", job.user_id),
        ("tasks", job.type),
        *(("tags", tag) for tag in job.tags),
    ]
    return [*found, ("batch", public_id(BATCH, job.batch_id))] if job.batch_id else found


def sees(principal: Principal, job: Job) -> bool:
    """Whether a run beside the one that was asked for is shown: what lets read a run says nothing of its relatives."""
    return principal.can("read", ("runs", run_id_of(job.id)), *resources_of(job))


async def readable(context: ApiContext, request: Request) -> tuple[Job, Principal]:
    """Return the run of the path and who reads it.

    Raises:
        ApiError: 401, 403; 404 without ``x-should-retry``, since there is no lag to wait for.
    """
    principal = await context.caller(request)
    run_id: str = request.path_params["run"]
    job = await context.job(job_id_of(run_id))
    principal.require("read", ("runs", run_id), *resources_of(job))
    if job is None:
        raise ApiError(404, "Not found")
    return job, principal


async def writable(
    context: ApiContext, request: Request, *, missing: str = "Resource not found"
) -> tuple[Job, Principal]:
    """Return the run of the path and who changes it.

    Raises:
        ApiError: 401, 403; 404 in the words ``missing``.
    """
    principal = await context.caller(request)
    run_id: str = request.path_params["run"]
    job = await context.job(job_id_of(run_id))
    principal.require("write", ("runs", run_id), *([] if job is None else [("users", job.user_id)]))
    if job is None:
        raise ApiError(404, missing)
    return job, principal


def require_list(principal: Principal, query: RunQuery) -> None:
    """A token that reads some tags, tasks or a batch may list those, and only those; a user, what is theirs.

    Several tags mean any of them, so each one has to be allowed.

    Raises:
        ApiError: 403.
    """
    if principal.can("read", ("runs", None), *principal.own):
        return
    for kind, names in (("tags", query.tags), ("tasks", query.tasks), ("batch", query.batches)):
        if names and all(principal.can("read", (kind, name), *principal.own) for name in names):
            return
    raise forbidden()
