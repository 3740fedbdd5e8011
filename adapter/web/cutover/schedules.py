"""Schedules over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from starlette.routing import Route

from adapter.web.asking import Body, answer
from adapter.web.cutover.context import PREFIX, SOURCE
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from adapter.web.cutover.context import CutoverContext


class ScheduleBody(Body):
    """A schedule to be made, or to be changed by its key."""

    task: str
    cron: str
    reason: str
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


class TurnBody(Body):
    """Why a schedule is turned."""

    reason: str


class HandOverBody(TurnBody):
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
        options = body.model_dump(exclude={"task", "cron", "data"})
        with self._context.asking():
            made = await self._context.adapter.schedule_cron(
                body.task, body.cron, body.data, **options, actor=who.actor, source=SOURCE
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
        who = await self._context.changer(request)
        body = await self._context.body(request, TurnBody)
        said = {"reason": body.reason, "actor": who.actor, "source": SOURCE}
        return answer(await self._context.adapter.pause_schedule(_id(request), **said))

    async def resume(self, request: Request) -> Response:
        """Let a schedule fire again."""
        who = await self._context.changer(request)
        body = await self._context.body(request, TurnBody)
        said = {"reason": body.reason, "actor": who.actor, "source": SOURCE}
        return answer(await self._context.adapter.resume_schedule(_id(request), **said))

    async def hand_over(self, request: Request) -> Response:
        """Hand its clock to an executor, or take it back."""
        who = await self._context.changer(request)
        body = await self._context.body(request, HandOverBody)
        said = {"reason": body.reason, "actor": who.actor, "source": SOURCE}
        return answer(await self._context.adapter.hand_over_schedule(_id(request), to=body.to, **said))

    async def cancel(self, request: Request) -> Response:
        """Remove a schedule."""
        who = await self._context.changer(request)
        query = self._context.query(request, TurnBody)
        said = {"reason": query.reason, "actor": who.actor, "source": SOURCE}
        return answer(await self._context.adapter.cancel_schedule(_id(request), **said))


def _id(request: Request) -> UUID:
    text = request.path_params["schedule"]
    try:
        return UUID(text)
    except ValueError:
        raise ApiError(404, f"There is no schedule {text!r}.", code="schedule_not_found") from None
