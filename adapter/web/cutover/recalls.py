"""Rollbacks and migrations, and the recalls they begin."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.domain.errors import RecallNotFoundError
from adapter.web.asking import Body, answer
from adapter.web.cutover.context import PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from adapter.core.cutover.rollback_report import RollbackReport
    from adapter.web.cutover.context import CutoverContext

#: A request works so long on a recall at most; a process that runs the sync loops goes on.
_LONGEST_S = 20.0


class WorkBody(Body):
    """``timeout``: for how many seconds the request works on it; the rest is done behind it."""

    timeout: float = Field(default=5.0, ge=0, le=_LONGEST_S)

    @property
    def time(self) -> timedelta:
        """The timeout."""
        return timedelta(seconds=self.timeout)


class RollbackBody(WorkBody):
    """What `Adapter.rollback` takes."""

    reason: str
    mode: Literal["new-only", "recall-unstarted", "recall-all"] = "new-only"
    to: str = "local"
    dry_run: bool = False


class MigrationBody(WorkBody):
    """What `Adapter.migrate_pending` takes."""

    reason: str
    to: str
    batch: int = Field(default=500, ge=1, le=10_000)
    per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    dry_run: bool = False


class ListQuery(Body):
    """How many."""

    limit: int = Field(default=50, ge=1, le=1000)


class RecallRoutes:
    """What takes jobs back. Answers with the report; 202 while it is not done."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        one = f"{PREFIX}/recalls/{{recall}}"
        return [
            Route(f"{PREFIX}/rollbacks/{{task:path}}", self.rollback, methods=["POST"]),
            Route(f"{PREFIX}/migrations/{{task:path}}", self.migrate, methods=["POST"]),
            Route(f"{PREFIX}/recalls", self.list_recalls),
            Route(one, self.show),
            Route(f"{one}/resume", self.resume, methods=["POST"]),
            Route(f"{one}/stop", self.stop, methods=["POST"]),
        ]

    async def rollback(self, request: Request) -> Response:
        """Send new jobs back, and take back what was given away."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, RollbackBody)
        with self._context.asking():
            report = await self._context.adapter.rollback(
                request.path_params["task"],
                mode=body.mode,
                to=body.to,
                reason=body.reason,
                actor=principal.actor,
                dry_run=body.dry_run,
                timeout=body.time,
            )
        return _told(report)

    async def migrate(self, request: Request) -> Response:
        """Move what nobody was given."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, MigrationBody)
        with self._context.asking():
            report = await self._context.adapter.migrate_pending(
                request.path_params["task"],
                to=body.to,
                reason=body.reason,
                actor=principal.actor,
                batch=body.batch,
                per_second=body.per_second,
                dry_run=body.dry_run,
                timeout=body.time,
            )
        return _told(report)

    async def list_recalls(self, request: Request) -> Response:
        """Answer the latest recalls."""
        await self._context.reader(request)
        query = self._context.query(request, ListQuery)
        return answer({"recalls": await self._context.adapter.recalls(query.limit)})

    async def show(self, request: Request) -> Response:
        """Answer how a recall stands."""
        await self._context.reader(request)
        return answer(await self._context.adapter.recall_report(_id(request)))

    async def resume(self, request: Request) -> Response:
        """Go on with a recall."""
        return await self._work(request, self._context.adapter.resume_recall)

    async def stop(self, request: Request) -> Response:
        """End a recall."""
        return await self._work(request, self._context.adapter.stop_recall)

    async def _work(self, request: Request, verb: Callable[..., Awaitable[RollbackReport]]) -> Response:
        await self._context.changer(request)
        body = await self._context.body(request, WorkBody)
        return _told(await verb(_id(request), timeout=body.time))


def _told(report: RollbackReport) -> Response:
    return answer(report, status=200 if report.is_done else 202)


def _id(request: Request) -> UUID:
    given = request.path_params["recall"]
    try:
        return UUID(given)
    except ValueError:
        raise RecallNotFoundError(given[:80]) from None
