"""Looking: how a cutover stands, where jobs go and why, what was changed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.domain.identity import job_id_of
from adapter.web.asking import Body, answer
from adapter.web.cutover.context import PREFIX
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.cutover.context import CutoverContext


class HistoryQuery(Body):
    """``before``: only what is older, a time with its zone."""

    subject: str | None = None
    before: datetime | None = None
    limit: int = Field(default=50, ge=1, le=1000)


class ExplainBody(Body):
    """What a scheduling call would say."""

    task: str
    data: Any = None
    tag: str | None = None
    user_id: str | None = None
    executor: str | None = None
    strict: bool = False
    context: dict[str, Any] = Field(default_factory=dict[str, Any])


class LookingRoutes:
    """Reads; they change nothing."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route(f"{PREFIX}/status", self.status),
            Route(f"{PREFIX}/flags", self.list_flags),
            Route(f"{PREFIX}/health", self.health),
            Route(f"{PREFIX}/history", self.history),
            Route(f"{PREFIX}/explain", self.explain, methods=["POST"]),
            Route(f"{PREFIX}/jobs/{{job}}/explain", self.explain_job),
        ]

    async def status(self, request: Request) -> Response:
        """Answer per task where its jobs go, since when, by whose doing; and what is open where."""
        await self._context.reader(request)
        return answer(await self._context.adapter.cutover_status())

    async def list_flags(self, request: Request) -> Response:
        """Answer every switch turned at runtime, with who turned it, when, and why."""
        await self._context.reader(request)
        return answer({"flags": await self._context.adapter.steering.entries()})

    async def health(self, request: Request) -> Response:
        """Answer how executors do: failures of their own, canaries, open circuits."""
        await self._context.reader(request)
        return answer(await self._context.adapter.executor_health())

    async def history(self, request: Request) -> Response:
        """Answer what people changed, the newest first."""
        await self._context.reader(request)
        query = self._context.query(request, HistoryQuery)
        found = await self._context.adapter.cutover_history(
            query.subject, before=query.before, limit=query.limit
        )
        changes = [{"said": each.said, "change": each} for each in found]
        return answer({"changes": changes})

    async def explain(self, request: Request) -> Response:
        """Answer where a job would go, rule by rule; nothing is scheduled."""
        await self._context.reader(request)
        body = await self._context.body(request, ExplainBody)
        options = body.model_dump(exclude={"task"}, exclude_defaults=True)
        with self._context.asking():
            found = await self._context.adapter.explain(body.task, **options)
        return answer(found)

    async def explain_job(self, request: Request) -> Response:
        """Answer why a job went where it went."""
        await self._context.reader(request)
        found = await self._context.adapter.explain_job(_job_id(request.path_params["job"]))
        job = {name: getattr(found.job, name) for name in ("id", "type", "executor", "epoch", "route_reason")}
        return answer({"job": job, "changes": found.changes, "moves": found.moves})


def _job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        found = job_id_of(text)
    if found is None:
        raise ApiError(404, f"There is no job {text!r}.", code="job_not_found")
    return found
