"""Runs: retrieve, list, result; cancel, replay, reschedule, tags (Trigger.dev's API contract, 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.durations import format_duration
from adapter.domain.errors import JobNotFoundError, JobStateError
from adapter.domain.identity import run_id_of
from adapter.domain.keys import environment_of
from adapter.web.auth import environment_id
from adapter.web.errors import ApiError
from adapter.web.trigger_api.access import readable, require_list, writable
from adapter.web.trigger_api.context import SMALL_BODY_BYTES, json_object
from adapter.web.trigger_api.options import ReplayBody, due_of, validated
from adapter.web.trigger_api.pages import cursor_page
from adapter.web.trigger_api.payloads import payload_value
from adapter.web.trigger_api.queries import run_query
from adapter.web.trigger_api.results import run_result
from adapter.web.trigger_api.run_bodies import Delay, NewTags
from adapter.web.trigger_api.run_views import run_view
from adapter.web.trigger_api.tasks import request_key
from adapter.web.trigger_api.wire import run_item

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext

#: What upstream calls an environment where its name is not the word that keys have.
_ENVIRONMENTS = {"stg": "staging"}


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
            Route("/api/v1/projects/{project}/runs", self.list_runs),
            Route("/api/v1/runs/{run}/result", self.result),
            Route("/api/v2/runs/{run}/cancel", self.cancel, methods=["POST"]),
            Route("/api/v1/runs/{run}/cancel", self.cancel, methods=["POST"]),
            Route("/api/v1/runs/{run}/replay", self.replay, methods=["POST"]),
            Route("/api/v1/runs/{run}/reschedule", self.reschedule, methods=["POST"]),
            Route("/api/v1/runs/{run}/tags", self.tag, methods=["POST"]),
        ]

    async def retrieve(self, request: Request) -> Response:
        """Answer the run."""
        job, principal = await readable(self._context, request)
        return JSONResponse(await run_view(self._context, request, principal, job))

    async def list_runs(self, request: Request) -> Response:
        """Answer one page, newest first.

        A project's list may name environments: this is one of them, and has nothing of the others.
        """
        context = self._context
        principal = await context.caller(request)
        query = run_query(request.query_params, context.adapter.clock.now(), context.own_queue)
        require_list(principal, query)
        environment = _environment(principal.key)
        named = [name for name in request.query_params.get("filter[env]", "").split(",") if name]
        if query.wanted is None or (named and environment["name"] not in named):
            return JSONResponse(cursor_page([], following=None, previous=None))
        owner = principal.user_id if principal.is_bound else None
        page = await context.adapter.list_jobs(replace(query.wanted, user_id=owner))
        data = [run_item(job, environment) for job in page.jobs]
        return JSONResponse(cursor_page(data, following=page.next, previous=page.previous))

    async def result(self, request: Request) -> Response:
        """Answer how the run has ended; 404 as long as it has not."""
        job, _ = await readable(self._context, request)
        if not job.status.is_terminal:
            raise ApiError(404, "Run either doesn't exist or is not finished")
        return JSONResponse(run_result(job))

    async def cancel(self, request: Request) -> Response:
        """Ask for cancellation; a run that has ended already is answered the same way."""
        job, principal = await writable(self._context, request)
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
        job, principal = await writable(context, request)
        given = json_object(await context.read(request), empty_ok=True)
        body = validated(ReplayBody, given)
        overrides = body.as_call(context.adapter.clock.now())
        kept = {**body.kept(), "version": body.version or None}
        kept["ttl"] = format_duration(overrides["ttl"]) if "ttl" in overrides else None
        overrides["extra"] = {name: value for name, value in kept.items() if value is not None}
        if "payload" in given:
            overrides["data"] = await payload_value(context.adapter, body.payload, body.payload_type)
        key = request_key(request, principal)
        handle = await context.adapter.replay_job(
            job.id, actor=principal.actor, request_key=key, own_names=principal.is_bound, **overrides
        )
        return JSONResponse({"id": run_id_of(handle.job.id)})

    async def reschedule(self, request: Request) -> Response:
        """Let a delayed run be due at another time; answer all of it."""
        context = self._context
        job, principal = await writable(context, request, missing="Run not found")
        body = validated(Delay, json_object(await context.read(request, SMALL_BODY_BYTES)))
        try:
            due = due_of(body.delay, context.adapter.clock.now())
        except ApiError:
            due = dict[str, Any]()
        if not due:
            raise ApiError(400, f"Invalid delay: {body.delay[:80]}")
        try:
            moved = await context.adapter.reschedule_job(job.id, actor=principal.actor, **due)
        except JobNotFoundError:
            raise ApiError(404, "Run not found") from None
        except JobStateError as error:
            raise ApiError(400, str(error)) from None
        return JSONResponse(await run_view(context, request, principal, moved))

    async def tag(self, request: Request) -> Response:
        """Add tags to those the run has."""
        context = self._context
        job, _ = await writable(context, request, missing="Run not found")
        body = validated(NewTags, json_object(await context.read(request, SMALL_BODY_BYTES)))
        try:
            added = await context.adapter.add_tags(job.id, body.named)
        except JobNotFoundError:
            raise ApiError(404, "Run not found") from None
        said = f"Successfully set {len(added)} new tags." if added else "No new tags to add"
        return JSONResponse({"message": said})


def _environment(key: str) -> dict[str, Any]:
    named = environment_of(key) or "prod"
    return {"id": environment_id(key), "name": _ENVIRONMENTS.get(named, named)}
