"""``POST /api/v1/tasks/{task}/trigger`` (Trigger.dev's API contract, 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.identity import run_id_of
from adapter.web.auth import TOKEN_LIFE, make_public_token
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import LONGEST_KEY, TriggerBody, validated
from adapter.web.trigger_api.payloads import payload_value

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext


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

        ``isCached`` is true when the idempotency key was known; a repeat of the same HTTP call
        (``x-trigger-request-idempotency-key``) gets the first run's id with ``isCached`` false.
        An unknown task is a 422. Upstream takes it and lets the run wait for a deployment.
        """
        context, adapter = self._context, self._context.adapter
        principal = await context.caller(request)
        raw = await context.read(request)
        body = validated(TriggerBody, _with_headers(json_object(raw), request))
        task: str = request.path_params["task"]
        principal.require("trigger", ("tasks", task))
        call = body.options.as_call(adapter.clock.now())
        data = await payload_value(adapter, body.payload, body.options.payload_type)
        handle = await adapter.schedule_job(task, data, request_key=_request_key(request, principal), **call)
        run_id = run_id_of(handle.job.id)
        token = make_public_token(principal.key, [f"read:runs:{run_id}"], TOKEN_LIFE, now=adapter.clock.now())
        return JSONResponse(
            {"id": run_id, "isCached": handle.deduplicated and "idempotency_key" in call},
            headers={"x-trigger-jwt": token},
        )


def _with_headers(body: dict[str, Any], request: Request) -> dict[str, Any]:
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


def _request_key(request: Request, principal: Principal) -> str | None:
    """Return the key of this HTTP call. All uses of a single-use token count as one call."""
    if principal.once is not None:
        return f"once:{principal.once}"
    key = request.headers.get("x-trigger-request-idempotency-key") or None
    if key is not None and (len(key) > LONGEST_KEY or not is_text(key)):
        raise ApiError(400, "Headers Error", details="x-trigger-request-idempotency-key")
    return key
