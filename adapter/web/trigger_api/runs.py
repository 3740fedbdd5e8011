"""Runs: retrieve, list, cancel, replay (Trigger.dev's API contract, 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.errors import JobNotFoundError, JobStateError
from adapter.domain.identity import job_id_of, run_id_of
from adapter.web.auth import environment_id, forbidden
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import ReplayBody, validated
from adapter.web.trigger_api.payloads import payload_value
from adapter.web.trigger_api.queries import RunQuery, run_query
from adapter.web.trigger_api.wire import BATCH, public_id, run_details, run_item

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.job import Job
    from adapter.web.auth import Principal
    from adapter.web.authorization import Resource
    from adapter.web.trigger_api.context import ApiContext

_SMALL_BODY_BYTES = 64 * 1024
#: What upstream calls the environment of a key, by the key's second part.
_ENVIRONMENTS = {"dev": "dev", "stg": "staging", "prod": "prod", "preview": "preview"}


class RunRoutes:
    """Everything about runs that are there already."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/v3/runs/{run}", self.retrieve),
            Route("/api/v1/runs", self.list_runs),
            Route("/api/v2/runs/{run}/cancel", self.cancel, methods=["POST"]),
            Route("/api/v1/runs/{run}/cancel", self.cancel, methods=["POST"]),
            Route("/api/v1/runs/{run}/replay", self.replay, methods=["POST"]),
        ]

    async def retrieve(self, request: Request) -> Response:
        """Answer the run, or 404 without ``x-should-retry``: there is no lag to wait for."""
        principal = await self._context.caller(request)
        run_id: str = request.path_params["run"]
        job = await self._context.job(job_id_of(run_id))
        principal.require("read", ("runs", run_id), *resources_of(job))
        if job is None:
            raise ApiError(404, "Not found")
        return JSONResponse(run_details(job))

    async def list_runs(self, request: Request) -> Response:
        """Answer one page, newest first; absent cursors are left out, since a present one is followed."""
        principal = await self._context.caller(request)
        query = run_query(request.query_params, self._context.adapter.clock.now())
        _require_list(principal, query)
        if query.wanted is None:
            return JSONResponse({"data": [], "pagination": {}})
        page = await self._context.adapter.list_jobs(query.wanted)
        environment = _environment(principal.key)
        cursors = {"next": page.next, "previous": page.previous}
        return JSONResponse(
            {
                "data": [run_item(job, environment) for job in page.jobs],
                "pagination": {name: cursor for name, cursor in cursors.items() if cursor},
            }
        )

    async def cancel(self, request: Request) -> Response:
        """Ask for cancellation; a run that has ended already is answered the same way."""
        job, principal = await self._writable(request)
        if not job.status.is_terminal:
            try:
                await self._context.adapter.cancel_job(
                    job.id, reason="canceled through the API", actor=principal.actor
                )
            except JobNotFoundError:
                raise ApiError(404, "Resource not found") from None
            except JobStateError:
                # It ended between our look and the call.
                pass
        return JSONResponse({"id": run_id_of(job.id)})

    async def replay(self, request: Request) -> Response:
        """Start a new run like this one, with the overrides of the body; answer its id."""
        context = self._context
        job, principal = await self._writable(request)
        given = json_object(await context.read(request), empty_ok=True)
        body = validated(ReplayBody, given)
        overrides = body.as_call(context.adapter.clock.now())
        if "payload" in given:
            overrides["data"] = await payload_value(context.adapter, body.payload, body.payload_type)
        handle = await context.adapter.replay_job(job.id, actor=principal.actor, **overrides)
        return JSONResponse({"id": run_id_of(handle.job.id)})

    async def _writable(self, request: Request) -> tuple[Job, Principal]:
        principal = await self._context.caller(request)
        run_id: str = request.path_params["run"]
        job = await self._context.job(job_id_of(run_id))
        principal.require("write", ("runs", run_id), *_owner(job))
        if job is None:
            raise ApiError(404, "Resource not found")
        return job, principal


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


def _owner(job: Job | None) -> list[Resource]:
    return [] if job is None else [("users", job.user_id)]


def _require_list(principal: Principal, query: RunQuery) -> None:
    """A token that reads some tags or tasks may list those, and only those.

    Several tags mean any of them, so each one has to be allowed.
    """
    if principal.can("read", ("runs", None)):
        return
    for kind, names in (("tags", query.tags), ("tasks", query.tasks)):
        if names and all(principal.can("read", (kind, name)) for name in names):
            return
    raise forbidden()


def _environment(key: str) -> dict[str, Any]:
    parts = key.split("_")
    named = len(parts) > 2 and parts[0] == "tr" and parts[1] in _ENVIRONMENTS
    return {"id": environment_id(key), "name": _ENVIRONMENTS[parts[1]] if named else "prod"}
