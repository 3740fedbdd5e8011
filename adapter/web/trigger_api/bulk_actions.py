"""Canceling and replaying many runs (Trigger.dev's API contract, 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import Field, field_validator, model_validator
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.bulk import BulkState
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.identity import job_id_of, own_id, public_id
from adapter.domain.wire import moment
from adapter.store.insights import JobFilter
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import Wire, validated
from adapter.web.trigger_api.pages import cursor_page, page_sides, page_size
from adapter.web.trigger_api.queries import Asked, run_filter
from adapter.web.trigger_api.tasks import request_key
from adapter.web.trigger_api.wire import BULK

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.bulk import BulkAction
    from adapter.web.trigger_api.context import ApiContext

_MOST_BODY_BYTES = 1024 * 1024
#: No bulk action has this id, so no run is of it.
_NOTHING = JobFilter(bulk_action_id=UUID(int=0))


class _Queue(Wire):
    type: Literal["task", "custom"]
    name: str

    @property
    def named(self) -> str:
        return f"task/{self.name}" if self.type == "task" else self.name


class BulkFilter(Wire):
    """Which runs, as the list has it."""

    status: str | list[str] | None = None
    task_identifier: str | list[str] | None = None
    version: str | list[str] | None = None
    begin: str | int | float | None = Field(default=None, alias="from")
    end: str | int | float | None = Field(default=None, alias="to")
    period: str | None = None
    bulk_action: str | None = None
    tag: str | list[str] | None = None
    schedule: str | None = None
    is_test: bool | None = None
    batch: str | None = None
    queue: _Queue | list[_Queue] | None = None
    machine: str | list[str] | None = None
    region: str | list[str] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> BulkFilter:
        said = [_said(value) for value in self.model_dump().values()]
        if not any(said):
            raise ValueError("At least one filter must be provided")
        if any(isinstance(each, str) and not is_text(each) for values in said for each in values):
            raise ValueError("a value holds a character that cannot be stored")
        return self

    def asked(self) -> Asked:
        """Return what it asks for."""
        queues = [self.queue] if isinstance(self.queue, _Queue) else self.queue or []
        return Asked(
            statuses=_texts(self.status),
            tasks=_texts(self.task_identifier),
            versions=_texts(self.version),
            tags=_texts(self.tag),
            queues=tuple(queue.named for queue in queues),
            machines=_texts(self.machine),
            regions=_texts(self.region),
            bulk_action=self.bulk_action or None,
            schedule=self.schedule or None,
            batch=self.batch or None,
            is_test=self.is_test,
            begin=_moment(self.begin),
            end=_moment(self.end),
            period=self.period or None,
        )


class BulkBody(Wire):
    """What is to be done, and to which runs: by a filter, or named."""

    action: Literal["cancel", "replay"]
    filter: BulkFilter | None = None
    run_ids: list[str] | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, max_length=255)
    target_region: str | None = None

    @field_validator("name", "target_region")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        if value is not None and not is_text(value):
            raise ValueError("holds a character that cannot be stored")
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> BulkBody:
        if (self.filter is None) == (self.run_ids is None):
            raise ValueError("Exactly one of filter or runIds must be provided")
        if self.action == "cancel" and self.target_region is not None:
            raise ValueError("targetRegion is for a replay")
        return self


class BulkActionRoutes:
    """Bulk actions. Keys only: no token is about so many runs."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        path = "/api/v1/bulk-actions"
        return [
            Route(path, self.create, methods=["POST"]),
            Route(path, self.list_actions, methods=["GET"]),
            Route(path + "/{bulk}", self.retrieve),
            Route(path + "/{bulk}/abort", self.abort, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take it on; it is carried out in the background. The same call again answers the same id."""
        context = self._context
        principal = await context.root(request)
        body = validated(BulkBody, json_object(await context.read(request, _MOST_BODY_BYTES)))
        now = context.adapter.clock.now()
        if body.filter is not None:
            # A filter that nothing can match is an action on nothing.
            wanted: Any = run_filter(body.filter.asked(), now, context.own_queue) or _NOTHING
        else:
            wanted = _named(body.run_ids or [])
        overrides = {"extra": {"region": body.target_region}} if body.target_region else None
        try:
            made = await context.adapter.start_bulk_action(
                body.action,
                wanted,
                name=body.name,
                overrides=overrides,
                actor=principal.actor,
                request_key=request_key(request, principal),
            )
        except InvalidArgumentError as error:
            raise ApiError(400, f"Validation error: {error}") from None
        return JSONResponse({"id": public_id(BULK, made.id)}, 202)

    async def list_actions(self, request: Request) -> Response:
        """Answer one page, the newest first."""
        await self._context.root(request)
        params = request.query_params
        after, before = page_sides(params)
        page = await self._context.adapter.bulk_actions(page_size(params), after=after, before=before)
        data = [shown(each) for each in page.actions]
        return JSONResponse(cursor_page(data, following=page.next, previous=page.previous))

    async def retrieve(self, request: Request) -> Response:
        """Answer how it stands."""
        await self._context.root(request)
        return JSONResponse(shown(await self._context.adapter.bulk_action(_id(request))))

    async def abort(self, request: Request) -> Response:
        """Stop it; one that was stopped before is answered the same way."""
        await self._context.root(request)
        stopped = await self._context.adapter.abort_bulk_action(_id(request))
        if stopped.state is BulkState.COMPLETED:
            raise ApiError(400, "Bulk action is already completed")
        return JSONResponse({"id": public_id(BULK, stopped.id)})


def shown(action: BulkAction) -> dict[str, Any]:
    """Return a bulk action as the SDK reads it."""
    optional = {
        "name": action.name,
        "completedAt": moment(action.finished_at) if action.finished_at else None,
    }
    return {
        "id": public_id(BULK, action.id),
        "type": action.action.upper(),
        "status": action.state.upper(),
        "counts": {"total": action.total, "success": action.succeeded, "failure": action.failed},
        "createdAt": moment(action.created_at),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _id(request: Request) -> UUID:
    found = own_id(BULK, request.path_params["bulk"])
    if found is None:
        raise ApiError(404, "Not found")
    return found


def _named(run_ids: list[str]) -> list[UUID]:
    found: dict[UUID, None] = {}
    for place, run_id in enumerate(run_ids):
        job_id = job_id_of(run_id)
        if job_id is None:
            raise ApiError(400, f'Validation error: not the id of a run here at "runIds.{place}"')
        found[job_id] = None
    return list(found)


def _texts(value: str | list[str] | None) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value or []
    return tuple(dict.fromkeys(each for each in listed if each.strip()))


def _said(value: Any) -> list[Any]:
    """Return the values that say something."""
    if isinstance(value, dict):
        return [each for inner in value.values() for each in _said(inner)]  # pyright: ignore[reportUnknownVariableType] - any JSON
    if isinstance(value, list):
        return [each for inner in value for each in _said(inner)]  # pyright: ignore[reportUnknownVariableType] - any JSON
    return [] if value is None or (isinstance(value, str) and not value.strip()) else [value]


def _moment(value: str | float | None) -> str | None:
    """Return a time as a query has it: milliseconds, or a date."""
    return None if value is None or value == "" else value if isinstance(value, str) else str(int(value))
