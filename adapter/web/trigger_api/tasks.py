"""``POST /api/v1/tasks/{task}/trigger`` (Trigger.dev's API contract, 5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain.identity import job_id_of, run_id_of
from adapter.domain.task import LONGEST_KEY
from adapter.web.auth import TOKEN_LIFE, make_public_token
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import TriggerBody, validated
from adapter.web.trigger_api.payloads import payload_value

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.job import Job
    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext

_LONGEST_TASK = 512
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class TaskRoutes:
    """Triggering."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes. A task's id may hold slashes and spaces."""
        return [Route("/api/v1/tasks/{task:path}/trigger", self.trigger, methods=["POST"])]

    async def trigger(self, request: Request) -> Response:
        """Schedule a job and answer ``{"id", "isCached"}`` and a token that reads this run.

        ``isCached`` is true when the idempotency key or the debounce was known; a repeat of the same HTTP call
        (``x-trigger-request-idempotency-key``) gets the first run's id with ``isCached`` false. The job of a task
        that nobody knows waits until a worker has it.
        """
        context, adapter = self._context, self._context.adapter
        principal = await context.caller(request)
        raw = await context.read(request)
        task = task_id(request.path_params["task"])
        body = validated(TriggerBody, with_headers(json_object(raw), request))
        principal.require("trigger", ("tasks", task), *principal.own)
        call = body.options.as_call(adapter.clock.now())
        traced(call, request)
        data = await payload_value(adapter, body.payload, body.options.payload_type)
        options = ScheduleOptions(request_key=request_key(request, principal), **call)
        if principal.is_bound:
            options["user_id"], options["own_names"] = principal.user_id, True
        parent = await parent_of(context, principal, body.options.parent_run_id)
        spec = JobSpec(task, data, options, parent, undeclared=True)
        async with context.spending(request, principal, task):
            (handle,) = await adapter.schedule_specs([spec])
        run_id = run_id_of(handle.job.id)
        token = make_public_token(principal.key, [f"read:runs:{run_id}"], TOKEN_LIFE, now=adapter.clock.now())
        return JSONResponse(
            {"id": run_id, "isCached": handle.deduplicated and not handle.job.repeated},
            headers={"x-trigger-jwt": token},
        )


def task_id(given: str) -> str:
    """Return the id of a task, whoever knows it.

    Raises:
        ApiError: 400, for what can be no id.
    """
    if not 0 < len(given) <= _LONGEST_TASK or not is_text(given):
        raise ApiError(400, "Params Error", details=["taskId"])
    return given


async def parent_of(context: ApiContext, principal: Principal, run_id: str | None) -> Job | None:
    """Return the job a run is triggered in, None when it is none of ours, or another user's."""
    job = None if run_id is None else await context.job(job_id_of(run_id))
    return None if job is None or (principal.is_bound and job.user_id != principal.user_id) else job


def traced(call: dict[str, Any], request: Request) -> None:
    """Let a call go on with the caller's trace."""
    traceparent = request.headers.get("traceparent", "")
    if _TRACEPARENT.fullmatch(traceparent):
        call["extra"] = {**call.get("extra", {}), "traceparent": traceparent}


def with_headers(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """Add the options that may also come as headers; the body wins."""
    given = {
        "idempotencyKey": request.headers.get("idempotency-key"),
        "idempotencyKeyTTL": request.headers.get("idempotency-key-ttl"),
    }
    named: dict[str, Any] = {name: value for name, value in given.items() if value}
    options: Any = body.get("options")
    if options is None:
        return body | {"options": named}
    # Anything else than an object is refused by the model.
    return body | {"options": named | options} if isinstance(options, dict) else body


def request_key(request: Request, principal: Principal) -> str | None:
    """Return the key of this HTTP call. All uses of a single-use token count as one call."""
    if principal.once is not None:
        return f"once:{principal.once}"
    key = request.headers.get("x-trigger-request-idempotency-key") or None
    if key is not None and (len(key) > LONGEST_KEY or not is_text(key)):
        raise ApiError(400, "Headers Error", details="x-trigger-request-idempotency-key")
    return key
