"""How things stand: ``/api/admin/status`` for people and their scripts, ``/metrics`` for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from adapter.web.asking import Asking, answer
from adapter.web.people import metrics

if TYPE_CHECKING:
    from starlette.requests import Request


class StandingRoutes:
    """Both show the same figures, which are some seconds old: asking often costs nothing."""

    def __init__(self, context: Asking) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [Route("/api/admin/status", self.status), Route("/metrics", self.metrics)]

    async def status(self, request: Request) -> Response:
        """Answer ``pending``, ``running``, ``completed``, ``failed`` per task, queue and executor.

        ``enabled``: whether anything runs jobs, a living worker or a remote executor. What has ended is
        counted since the first time that anybody asked.
        """
        principal = await self._context.caller(request)
        principal.require("read", ("status", None))
        adapter = self._context.adapter
        counts, figures = await adapter.job_counts(), await adapter.figures()
        return answer(
            {
                "enabled": bool(figures.workers or adapter.executors.names),
                "workers": figures.workers,
                "tasks": counts.tasks,
                "queues": counts.queues,
                "executors": counts.executors,
            }
        )

    async def metrics(self, request: Request) -> Response:
        """Answer the figures in Prometheus' text format."""
        principal = await self._context.caller(request)
        principal.require("read", ("metrics", None))
        adapter = self._context.adapter
        text = metrics.exposition(await adapter.figures(), adapter.observers.counts)
        return Response(text, media_type=metrics.CONTENT_TYPE)
