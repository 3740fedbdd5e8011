"""Schedules over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from starlette.routing import Route

from adapter.web.asking import answer
from adapter.web.cutover.context import PREFIX, ReasonBody, said
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from adapter.store.schedules import Schedule
    from adapter.web.cutover.context import CutoverContext


class ScheduleBody(ReasonBody):
    """A schedule to be made, or to be changed by its key."""

    task: str
    cron: str
    data: Any = None
    tz: str | None = None
    tag: str | None = None
    user_id: str | None = None
    executor: str | None = None
    persistent: bool = False
    description: str | None = None
    missed: Literal["last", "all", "skip"] = "last"
    key: str | None = None
    external_id: str | None = None
    window: str | None = None
    sends_tick: bool = False


class HandOverBody(ReasonBody):
    """Who keeps its clock from then on."""

    to: str


class ScheduleRoutes:
    """Schedules: list, make, pause, resume, remove."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        one = f"{PREFIX}/schedules/{{schedule}}"
        return [
            Route(f"{PREFIX}/schedules", self.list, methods=["GET"]),
            Route(f"{PREFIX}/schedules", self.make, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.cancel, methods=["DELETE"]),
            Route(f"{one}/pause", self.pause, methods=["POST"]),
            Route(f"{one}/resume", self.resume, methods=["POST"]),
            Route(f"{one}/hand-over", self.hand_over, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer every schedule, or those of one task."""
        await self._context.reader(request)
        task = request.query_params.get("task")
        return answer({"schedules": await self._context.adapter.list_schedules(task)})

    async def make(self, request: Request) -> Response:
        """Make a schedule, or change the one of the same key."""
        who = await self._context.changer(request)
        body = await self._context.body(request, ScheduleBody)
        options = body.model_dump(exclude={"task", "cron", "data", "reason"})
        with self._context.asking():
            made = await self._context.adapter.schedule_cron(
                body.task, body.cron, body.data, **options, **said(who, body)
            )
        return answer(made)

    async def show(self, request: Request) -> Response:
        """Answer one schedule and its next ticks."""
        await self._context.reader(request)
        schedule = await self._context.adapter.get_schedule(_id(request))
        ticks = await self._context.adapter.next_ticks(schedule.id) if schedule.active else []
        return answer({"schedule": schedule, "ticks": ticks})

    async def pause(self, request: Request) -> Response:
        """Let a schedule fire no more."""
        return await self._turn(request, self._context.adapter.pause_schedule)

    async def resume(self, request: Request) -> Response:
        """Let a schedule fire again."""
        return await self._turn(request, self._context.adapter.resume_schedule)

    async def hand_over(self, request: Request) -> Response:
        """Hand its clock to an executor, or take it back."""
        who = await self._context.changer(request)
        body = await self._context.body(request, HandOverBody)
        turned = await self._context.adapter.hand_over_schedule(_id(request), to=body.to, **said(who, body))
        return answer(turned)

    async def cancel(self, request: Request) -> Response:
        """Remove a schedule."""
        who = await self._context.changer(request)
        query = self._context.query(request, ReasonBody)
        return answer(await self._context.adapter.cancel_schedule(_id(request), **said(who, query)))

    async def _turn(self, request: Request, verb: Callable[..., Awaitable[Schedule]]) -> Response:
        who = await self._context.changer(request)
        body = await self._context.body(request, ReasonBody)
        return answer(await verb(_id(request), **said(who, body)))


def _id(request: Request) -> UUID:
    text = request.path_params["schedule"]
    try:
        return UUID(text)
    except ValueError:
        raise ApiError(404, f"There is no schedule {text!r}.", code="schedule_not_found") from None
