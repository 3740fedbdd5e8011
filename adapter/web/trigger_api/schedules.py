"""``/api/v1/schedules`` (Trigger.dev's API contract, 9). Root keys only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.errors import (
    InvalidCronError,
    InvalidPayloadError,
    ScheduleNotFoundError,
    ScheduleStateError,
    UnknownTaskError,
)
from adapter.domain.identity import own_id
from adapter.web.errors import ApiError
from adapter.web.trigger_api.authorship import said_by
from adapter.web.trigger_api.context import SMALL_BODY_BYTES, json_object
from adapter.web.trigger_api.pages import numbered_page, offset_page
from adapter.web.trigger_api.schedule_wire import (
    NewScheduleBody,
    ScheduleBody,
    cron_refused,
    read_body,
    shown,
)
from adapter.web.trigger_api.wire import SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Generator
    from uuid import UUID

    from starlette.requests import Request

    from adapter.store.schedules import Schedule
    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext

_USUAL_PAGE = 20


class ScheduleRoutes:
    """Schedules: make, list, show, change, remove, turn."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        base = "/api/v1/schedules"
        one = f"{base}/{{schedule}}"
        return [
            Route(base, self.create, methods=["POST"]),
            Route(base, self.list_schedules, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.remove, methods=["DELETE"]),
            Route(f"{one}/activate", self.activate, methods=["POST"]),
            Route(f"{one}/deactivate", self.deactivate, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make a schedule, or change the one of the same key, its task too. One that is paused stays so."""
        principal = await self._context.root(request)
        body: NewScheduleBody = read_body(NewScheduleBody, await self._body(request))
        zone = body.timezone or "UTC"
        with _refusals(body.task, zone):
            made = await self._context.adapter.schedule_cron(
                body.task,
                body.cron,
                tz=zone,
                key=body.key,
                external_id=body.external_id,
                window=body.window,
                sends_tick=True,
                **said_by(principal),
            )
        return self._answer(made, principal)

    async def list_schedules(self, request: Request) -> Response:
        """Answer one page of all schedules, those that the registry declares too, the newest first."""
        principal = await self._context.root(request)
        page, size = numbered_page(request.query_params, usual=_USUAL_PAGE)
        found = await self._context.adapter.page_schedules(limit=size, offset=(page - 1) * size)
        now = self._context.adapter.clock.now()
        data = [shown(each, now, principal.key) for each in found.schedules]
        return JSONResponse(offset_page(data, page=page, size=size, total=found.total))

    async def retrieve(self, request: Request) -> Response:
        """Answer one schedule."""
        principal = await self._context.root(request)
        return self._answer(await self._found(request), principal)

    async def update(self, request: Request) -> Response:
        """Replace all that can be said of a schedule but its key; no zone is UTC, no external id clears it."""
        principal = await self._context.root(request)
        body: ScheduleBody = read_body(ScheduleBody, await self._body(request))
        before = await self._found(request)
        if before.is_declared:
            raise ApiError(422, "Cannot update a declarative schedule")
        zone = body.timezone or "UTC"
        with _refusals(body.task, zone):
            changed = await self._context.adapter.change_schedule(
                before.id,
                task=body.task,
                cron=body.cron,
                tz=zone,
                external_id=body.external_id,
                window=body.window,
                **said_by(principal),
            )
        return self._answer(changed, principal)

    async def remove(self, request: Request) -> Response:
        """Remove a schedule. One that the registry declares would come back at a boot: that is refused."""
        principal = await self._context.root(request)
        before = await self._found(request)
        if before.is_declared:
            raise ApiError(422, "Cannot delete a declarative schedule")
        with _refusals(before.task, before.timezone):
            await self._context.adapter.cancel_schedule(before.id, **said_by(principal))
        return JSONResponse({"id": request.path_params["schedule"]})

    async def activate(self, request: Request) -> Response:
        """Let a schedule fire, from its next tick on."""
        principal = await self._context.root(request)
        before = await self._found(request)
        with _refusals(before.task, before.timezone):
            turned = await self._context.adapter.resume_schedule(before.id, **said_by(principal))
        return self._answer(turned, principal)

    async def deactivate(self, request: Request) -> Response:
        """Let a schedule rest. One that the registry declares rests too, until somebody activates it."""
        principal = await self._context.root(request)
        before = await self._found(request)
        with _refusals(before.task, before.timezone):
            turned = await self._context.adapter.pause_schedule(before.id, **said_by(principal))
        return self._answer(turned, principal)

    async def _body(self, request: Request) -> object:
        return json_object(await self._context.read(request, SMALL_BODY_BYTES))

    async def _found(self, request: Request) -> Schedule:
        schedule_id: UUID | None = own_id(SCHEDULE, request.path_params["schedule"])
        if schedule_id is None:
            raise ApiError(404, "Schedule not found")
        with _refusals("", ""):
            return await self._context.adapter.get_schedule(schedule_id)

    def _answer(self, schedule: Schedule, principal: Principal) -> Response:
        return JSONResponse(shown(schedule, self._context.adapter.clock.now(), principal.key))


@contextmanager
def _refusals(task: str, timezone: str) -> Generator[None]:
    """Answer what cannot be done in upstream's words."""
    try:
        yield
    except ScheduleNotFoundError:
        raise ApiError(404, "Schedule not found") from None
    except ScheduleStateError as error:
        # A conflict would be asked for again, five times.
        raise ApiError(422, str(error), code=error.code) from None
    except InvalidCronError as error:
        raise cron_refused(error, timezone) from None
    except UnknownTaskError:
        raise ApiError(422, f"Task with identifier {task} not found in project.") from None
    except InvalidPayloadError as error:
        why = "; ".join(error.problems)
        raise ApiError(
            422,
            f"Task with identifier {task} is not a scheduled task: its payload cannot be what a tick tells ({why}).",
        ) from None
