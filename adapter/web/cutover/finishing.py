"""Finishing: what an executor still holds, and the way back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import Field
from starlette.routing import Route

from adapter.core.cutover.draining import QUIET
from adapter.web.cutover.context import PREFIX, Body, answer

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


class FinishingRoutes:
    """The last part of a cutover."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [Route(f"{PREFIX}/drain", self.drain), Route(f"{PREFIX}/ways-back", self.ways_back)]

    async def drain(self, request: Request) -> Response:
        """Answer what executors still hold."""
        self._context.reader(request)
        query = self._context.query(request, DrainQuery)
        with self._context.asking():
            found = await self._context.adapter.drain_status(
                query.executor, task=query.task, quiet=timedelta(seconds=query.quiet)
            )
        return answer(found)

    async def ways_back(self, request: Request) -> Response:
        """Answer whether an executor could take the jobs back."""
        self._context.reader(request)
        query = self._context.query(request, WayBackQuery)
        with self._context.asking():
            found = await self._context.adapter.can_go_back(query.task, to=query.to)
        return answer({"ways": found})
