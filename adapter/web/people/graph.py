"""``POST /graphql``: ``job``, ``jobs``, ``cancelJob``, ``retryJob``, under the same rules as ``/api/jobs``.

Needs the extra ``graphql``; nothing else imports this module.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import strawberry
from graphql import GraphQLError
from pydantic import Field
from pydantic_core import to_jsonable_python
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.scalars import JSON

from adapter.domain.errors import AdapterError, InvalidArgumentError, JobNotFoundError
from adapter.domain.identity import run_id_of
from adapter.domain.job import Job, JobStatus
from adapter.store.insights import JobFilter
from adapter.web.asking import Asking, Body
from adapter.web.errors import ApiError
from adapter.web.people.jobs import find_job, retryable, whose_jobs

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.app import Adapter
    from adapter.web.auth import Principal

_log = logging.getLogger("adapter.web")
_DEEPEST, _MOST_ALIASES, _MOST_TOKENS = 6, 15, 1000


class GraphBody(Body):
    """A GraphQL request."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = Field(default=None, alias="operationName")
    extensions: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """What every resolver is given."""

    adapter: Adapter
    principal: Principal


Info = strawberry.Info[Caller, None]


@strawberry.type(name="Job", description="One piece of work that somebody asked for.")
class JobNode:
    """A job as the graph shows it."""

    id: strawberry.ID
    run_id: str
    task: str
    status: str
    executor: str | None
    queue: str
    tag: str | None
    tags: list[str]
    user_id: str | None
    attempt: int
    cancel_requested: bool
    created_at: datetime
    started: datetime | None
    finished: datetime | None
    success: bool | None
    data: JSON | None
    result: JSON | None
    error: JSON | None


@strawberry.type(description="A page of jobs, newest first.")
class JobList:
    """A page; ``next`` is what ``after`` takes."""

    nodes: list[JobNode]
    next: str | None


@strawberry.type
class Query:
    """Reads."""

    @strawberry.field(description="The job of that id; null when there is none, or it is another user's.")
    async def job(self, info: Info, id: strawberry.ID) -> JobNode | None:  # noqa: A002 - the guides' name
        """Return one job."""
        try:
            return _shown(await find_job(info.context.adapter, info.context.principal, id, "read"))
        except JobNotFoundError:
            return None

    @strawberry.field(description="Jobs, newest first; several values of one argument are any of them.")
    async def jobs(
        self,
        info: Info,
        *,
        first: int = 25,
        after: str | None = None,
        status: list[str] | None = None,
        task: list[str] | None = None,
        executor: list[str] | None = None,
        tags: list[str] | None = None,
        user_id: str | None = None,
    ) -> JobList:
        """Return a page."""
        owner = whose_jobs(info.context.principal, user_id)
        page = await info.context.adapter.list_jobs(
            JobFilter(
                statuses=_statuses(status or []),
                types=tuple(task or ()),
                executors=tuple(executor or ()),
                tags=tuple(tags or ()),
                user_id=owner,
                limit=first,
                after=after,
            )
        )
        return JobList(nodes=[_shown(job) for job in page.jobs], next=page.next)


@strawberry.type
class Mutation:
    """Changes."""

    @strawberry.mutation(description="Cancel a job; the answer is the job as it then is.")
    async def cancel_job(
        self, info: Info, job_id: strawberry.ID, reason: str = "canceled through the API"
    ) -> JobNode:
        """Cancel one job."""
        adapter, principal = info.context.adapter, info.context.principal
        job = await find_job(adapter, principal, job_id, "write")
        return _shown(await adapter.cancel_job(job.id, reason=reason, actor=principal.actor))

    @strawberry.mutation(description="Schedule a new job like one that has ended; the answer is the new one.")
    async def retry_job(self, info: Info, job_id: strawberry.ID) -> JobNode:
        """Try one job again."""
        adapter, principal = info.context.adapter, info.context.principal
        job = retryable(await find_job(adapter, principal, job_id, "write"))
        return _shown((await adapter.replay_job(job.id, actor=principal.actor)).job)


class Schema(strawberry.Schema):
    """Errors are told to the caller, and logged here where nobody foresaw them."""

    def process_errors(
        self,
        errors: list[GraphQLError],
        execution_context: object = None,  # noqa: ARG002 - the library's own signature
    ) -> None:
        """Log what is our fault, without the query: it may hold payloads."""
        for error in errors:
            if error.original_error is not None and not isinstance(
                error.original_error, AdapterError | ApiError
            ):
                _log.error("a resolver failed", exc_info=error.original_error)


SCHEMA = Schema(
    query=Query,
    mutation=Mutation,
    extensions=[
        lambda: QueryDepthLimiter(_DEEPEST),
        lambda: MaxAliasesLimiter(_MOST_ALIASES),
        lambda: MaxTokensLimiter(_MOST_TOKENS),
    ],
)


class GraphRoutes:
    """Only POST, and only JSON: a link or a form of another site's page can send neither."""

    def __init__(self, context: Asking) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/graphql", self.serve, methods=["POST"])]

    async def serve(self, request: Request) -> Response:
        """Carry out a GraphQL operation."""
        principal = await self._context.caller(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "Send application/json.")
        body = await self._context.body(request, GraphBody)
        done = await SCHEMA.execute(
            body.query,
            variable_values=body.variables,
            operation_name=body.operation_name,
            context_value=Caller(self._context.adapter, principal),
        )
        answer: dict[str, Any] = {"data": done.data}
        if done.errors:
            answer["errors"] = [_told(error) for error in done.errors]
        return JSONResponse(to_jsonable_python(answer))


def _told(error: GraphQLError) -> dict[str, Any]:
    told: dict[str, Any] = {"message": error.message}
    if error.path:
        told["path"] = error.path
    match error.original_error:
        case None:
            pass
        case AdapterError() as ours:
            told["extensions"] = {"code": ours.code}
        case ApiError() as refusal:
            told |= {
                "message": refusal.body["error"],
                "extensions": {"code": refusal.body.get("code", "not_found")},
            }
        case _:
            told |= {"message": "Internal Server Error", "extensions": {"code": "internal"}}
    return told


def _statuses(given: list[str]) -> tuple[JobStatus, ...]:
    try:
        return tuple(JobStatus(each) for each in given)
    except ValueError as error:
        raise InvalidArgumentError(f"{error}. Statuses are: {', '.join(JobStatus)}.") from None


def _shown(job: Job) -> JobNode:
    return JobNode(
        id=strawberry.ID(str(job.id)),
        run_id=run_id_of(job.id),
        task=job.type,
        status=job.status.value,
        executor=job.executor,
        queue=job.queue,
        tag=job.tag,
        tags=list(job.tags),
        user_id=job.user_id,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        created_at=job.created_at,
        started=job.started,
        finished=job.finished,
        success=job.success,
        data=job.data,
        result=job.result,
        error=cast("JSON | None", job.error),
    )
