"""A run's metadata: read, replaced, changed by operations (Trigger.dev's API contract, 7.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.errors import JobNotFoundError
from adapter.domain.identity import run_id_of
from adapter.domain.metadata_operations import MetadataOperation
from adapter.web.errors import ApiError
from adapter.web.trigger_api.access import readable, writable
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import Wire, validated
from adapter.web.trigger_api.tasks import request_key

if TYPE_CHECKING:
    from uuid import UUID

    from starlette.requests import Request

    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext

_MOST_BODY_BYTES = 2 * 1024 * 1024
_MOST_OPERATIONS = 20_000


class _Operation(Wire):
    def meant(self) -> MetadataOperation:
        """Return what it does."""
        return MetadataOperation(**self.model_dump())


class _WithKey(_Operation):
    key: str = Field(max_length=1024)


class _Value(_WithKey):
    type: Literal["set", "append", "remove"]
    value: Any


class _Increment(_WithKey):
    type: Literal["increment"]
    value: int | float


class _Delete(_WithKey):
    type: Literal["delete"]


class _Update(_Operation):
    type: Literal["update"]
    value: dict[str, Any]


def _not_too_many(operations: list[Any]) -> list[Any]:
    if len(operations) > _MOST_OPERATIONS:
        raise ValueError(f"more than {_MOST_OPERATIONS} operations")
    return operations


_Operations = Annotated[
    list[Annotated[_Value | _Increment | _Delete | _Update, Field(discriminator="type")]],
    AfterValidator(_not_too_many),
]


class MetadataBody(Wire):
    """Everything, or what is to be changed: here, at the parent, at the root."""

    metadata: dict[str, Any] | None = None
    operations: _Operations | None = None
    parent_operations: _Operations = Field(default=[])
    root_operations: _Operations = Field(default=[])


class MetadataRoutes:
    """Reading and changing metadata."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        path = "/api/v1/runs/{run}/metadata"
        return [Route(path, self.read, methods=["GET"]), Route(path, self.change, methods=["PUT"])]

    async def read(self, request: Request) -> Response:
        """Answer the metadata as an object; upstream answers a text, which its SDK cannot read."""
        job, _ = await readable(self._context, request)
        return JSONResponse({"metadata": job.metadata or {}, "metadataType": "application/json"})

    async def change(self, request: Request) -> Response:
        """Change it and answer what it then is. Operations come before what would replace everything."""
        context = self._context
        job, principal = await writable(context, request, missing="Task Run not found")
        body = validated(MetadataBody, json_object(await context.read(request, _MOST_BODY_BYTES)))
        for relative, operations in (
            (job.parent_id, body.parent_operations),
            (job.root_id, body.root_operations),
        ):
            if relative is not None and operations:
                await self._may_write(principal, relative)
        own: Any = [each.meant() for each in body.operations or ()]
        if body.operations is None and body.metadata is not None:
            own = body.metadata
        try:
            metadata = await context.adapter.update_metadata(
                job.id,
                own,
                parent_operations=[each.meant() for each in body.parent_operations],
                root_operations=[each.meant() for each in body.root_operations],
                request_key=request_key(request, principal),
            )
        except JobNotFoundError:
            raise ApiError(404, "Task Run not found") from None
        return JSONResponse({"metadata": metadata})

    async def _may_write(self, principal: Principal, job_id: UUID) -> None:
        """Refuse who may change a run, and not the one above it."""
        job = await self._context.job(job_id)
        if job is not None:
            principal.require("write", ("runs", run_id_of(job_id)), ("users", job.user_id))
