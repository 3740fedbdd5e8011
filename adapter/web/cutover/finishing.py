"""Finishing: what an executor still holds, and the way back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import Field
from starlette.routing import Route

from adapter.core.cutover.draining import QUIET
from adapter.domain.job import LOCAL
from adapter.domain.routing import EVERY_TASK
from adapter.web.asking import Body, answer
from adapter.web.cutover.context import PREFIX, ReasonBody, said
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from adapter.web.cutover.context import CutoverContext


class DrainQuery(Body):
    """What `Adapter.drain_status` takes; ``quiet`` in seconds."""

    executor: str | None = None
    task: str | None = None
    quiet: float = Field(default=QUIET.total_seconds(), gt=0, le=7 * 86400)


class WayBackQuery(Body):
    """What `Adapter.can_go_back` takes."""

    task: str | None = None
    to: str = "local"


class DrillsQuery(Body):
    """Of one task only, and how many."""

    task: str | None = None
    limit: int = Field(default=50, ge=1, le=1000)


class DrillBody(ReasonBody):
    """What `Adapter.start_drill` takes; ``hold`` in seconds."""

    task: str
    to: str = LOCAL
    hold: float = Field(gt=0, le=86400)


class LeavingQuery(Body):
    """Which executor is left, and by which task."""

    executor: str
    task: str = EVERY_TASK


class ReopenQuery(LeavingQuery, ReasonBody):
    """And why not any more."""


class FinalizeBody(LeavingQuery, ReasonBody):
    """And why; ``accept``: gates that may stay open, each with the reason."""

    accept: dict[str, str] = Field(default_factory=dict[str, str])


class FinishingRoutes:
    """The last part of a cutover."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route(f"{PREFIX}/drain", self.drain),
            Route(f"{PREFIX}/ways-back", self.ways_back),
            Route(f"{PREFIX}/drills", self.drills, methods=["GET"]),
            Route(f"{PREFIX}/drills", self.drill, methods=["POST"]),
            Route(f"{PREFIX}/finalizations/check", self.check),
            Route(f"{PREFIX}/finalizations", self.finalizations, methods=["GET"]),
            Route(f"{PREFIX}/finalizations", self.finalize, methods=["POST"]),
            Route(f"{PREFIX}/finalizations", self.reopen, methods=["DELETE"]),
        ]

    async def drain(self, request: Request) -> Response:
        """Answer what executors still hold."""
        await self._context.reader(request)
        query = self._context.query(request, DrainQuery)
        with self._context.asking():
            found = await self._context.adapter.drain_status(
                query.executor, task=query.task, quiet=timedelta(seconds=query.quiet)
            )
        return answer(found)

    async def ways_back(self, request: Request) -> Response:
        """Answer whether an executor could take the jobs back."""
        await self._context.reader(request)
        query = self._context.query(request, WayBackQuery)
        with self._context.asking():
            found = await self._context.adapter.can_go_back(query.task, to=query.to)
        return answer({"ways": found})

    async def check(self, request: Request) -> Response:
        """Answer what still ties one to an executor, and which gates have passed."""
        await self._context.reader(request)
        query = self._context.query(request, LeavingQuery)
        with self._context.asking():
            return answer(await self._context.adapter.finalize_check(query.executor, task=query.task))

    async def finalizations(self, request: Request) -> Response:
        """Answer the executors that were left for good."""
        await self._context.reader(request)
        return answer({"finalizations": await self._context.adapter.finalizations()})

    async def finalize(self, request: Request) -> Response:
        """Leave an executor for good."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, FinalizeBody)
        with self._context.asking():
            made = await self._context.adapter.finalize(
                body.executor,
                task=body.task,
                accept=body.accept,
                **said(principal, body),
            )
        return answer(made)

    async def reopen(self, request: Request) -> Response:
        """Let flags send jobs there again."""
        principal = await self._context.changer(request)
        query = self._context.query(request, ReopenQuery)
        with self._context.asking():
            made = await self._context.adapter.reopen(
                query.executor, task=query.task, **said(principal, query)
            )
        if made is None:
            raise ApiError(404, "This was not left for good.", code="finalization_not_found")
        return answer(made)

    async def drills(self, request: Request) -> Response:
        """Answer the drills, the newest first."""
        await self._context.reader(request)
        query = self._context.query(request, DrillsQuery)
        return answer({"drills": await self._context.adapter.drills(query.task, limit=query.limit)})

    async def drill(self, request: Request) -> Response:
        """Begin a drill, which this server goes on with: 202."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, DrillBody)
        with self._context.asking():
            made = await self._context.adapter.start_drill(
                body.task, to=body.to, hold=timedelta(seconds=body.hold), **said(principal, body)
            )
        return answer(made, status=202)
