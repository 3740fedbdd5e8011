"""What Trigger.dev has and we do not: deployments, and limits that are not a queue's. Said so, and not made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.web.errors import ApiError
from adapter.web.trigger_api.pages import cursor_page, numbered_page, offset_page, page_size

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext

_USUAL_PAGE = 25


class AbsentRoutes:
    """Lists that are empty, and names that nothing has."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/v1/deployments", self.list_deployments),
            Route("/api/v1/deployments/{deployment}", self.no_deployment),
            Route("/api/v1/concurrency-limits", self.list_limits),
            Route("/api/v1/concurrency-limits/{limit:path}", self.no_limit, methods=["GET", "POST"]),
        ]

    async def list_deployments(self, request: Request) -> Response:
        """Answer that there are none: workers run the code they were started with."""
        await self._context.root(request)
        page_size(request.query_params)
        return JSONResponse(cursor_page([], following=None, previous=None))

    async def no_deployment(self, request: Request) -> Response:
        """Answer that there is none, neither the ``current`` nor the ``latest`` nor one of an id."""
        await self._context.root(request)
        raise ApiError(404, "Deployment not found")

    async def list_limits(self, request: Request) -> Response:
        """Answer that there are none: limits here are those of queues, and of keys within one."""
        await self._context.root(request)
        page, size = numbered_page(request.query_params, usual=_USUAL_PAGE)
        return JSONResponse(offset_page([], page=page, size=size, total=0))

    async def no_limit(self, request: Request) -> Response:
        """Answer that there is no limit of that name."""
        await self._context.root(request)
        raise ApiError(404, "Concurrency limit not found")
