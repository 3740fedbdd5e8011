"""Freeing an idempotency key (Trigger.dev's API contract, 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.task import LONGEST_KEY
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import SMALL_BODY_BYTES, json_object
from adapter.web.trigger_api.options import Wire, validated
from adapter.web.trigger_api.tasks import request_key, task_id

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext


class ResetBody(Wire):
    """Whose key it is."""

    task_identifier: str = Field(min_length=1)


class IdempotencyKeyRoutes:
    """The one thing that can be done to a key by itself."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes. A key may hold slashes."""
        return [Route("/api/v1/idempotencyKeys/{key:path}/reset", self.reset, methods=["POST"])]

    async def reset(self, request: Request) -> Response:
        """Free the key, so that the next trigger under it makes a new run."""
        context = self._context
        principal = await context.caller(request)
        body = validated(ResetBody, json_object(await context.read(request, SMALL_BODY_BYTES)))
        principal.require("write", ("runs", None))
        key: str = request.path_params["key"]
        if not 0 < len(key) <= LONGEST_KEY or not is_text(key):
            raise ApiError(400, "Params Error", details=["key"])
        task = task_id(body.task_identifier)
        held = await context.adapter.reset_idempotency_key(
            task, key, request_key=request_key(request, principal), actor=principal.actor
        )
        if held is None:
            raise ApiError(404, f"No runs found with idempotency key: {key} and task: {task}")
        return JSONResponse({"id": key})
