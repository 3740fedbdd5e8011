"""Jobs over HTTP in our own words: list, show, schedule, cancel, retry, and what happened to one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.core.planning import ScheduleOptions
from adapter.domain.documents import job_document
from adapter.domain.durations import parse_duration
from adapter.domain.errors import JobNotFoundError, JobStateError
from adapter.domain.identity import job_id_of, run_id_of
from adapter.domain.job import Job, JobStatus
from adapter.store.insights import JobFilter
from adapter.web.asking import Asking, Body, answer
from adapter.web.auth import forbidden
from adapter.web.trigger_api.access import resources_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.app import Adapter
    from adapter.web.auth import Principal
    from adapter.web.authorization import Resource

PREFIX = "/api/jobs"
MOST_BODY_BYTES = 3 * 1024 * 1024
#: What a list leaves out: it can be large, and one job's own document has it.
_LARGE = frozenset({"data", "result", "metadata", "extra"})


def _listed(value: Any) -> Any:
    return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


def _span(value: Any) -> Any:
    """Read ``10m`` as Trigger.dev writes it; pydantic reads seconds and ISO 8601 by itself."""
    if isinstance(value, str) and value[-1:].isalpha() and value[:1].isdigit():
        return parse_duration(value)
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Span = Annotated[timedelta, BeforeValidator(_span)]


class JobsQuery(Body):
    """Which jobs: several values of one field, with commas between them, are any of them.

    ``tags`` are labels, ``tag`` is what deduplicates. ``after`` and ``before`` are cursors of a page.
    """

    status: Annotated[tuple[JobStatus, ...], BeforeValidator(_listed)] = ()
    task: Words = ()
    executor: Words = ()
    queue: Words = ()
    tags: Words = ()
    tag: str | None = None
    user_id: str | None = None
    schedule_id: UUID | None = None
    batch_id: UUID | None = None
    parent_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    limit: int = Field(default=25, ge=1, le=100)
    after: str | None = None
    before: str | None = None


class JobBody(Body):
    """A job to be scheduled; see `Adapter.schedule_job`. Spans are ``10m``, seconds, or ISO 8601."""

    task: str
    data: Any = None
    executor: str | None = None
    strict: bool | None = None
    tag: str | None = None
    user_id: str | None = None
    due: datetime | None = None
    delay: Span | None = None
    ttl: Span | None = None
    max_duration: Span | None = None
    max_attempts: int | None = None
    priority: int | None = None
    queue: str | None = None
    concurrency_key: str | None = None
    idempotency_key: str | None = None
    idempotency_ttl: Span | None = None
    on_conflict: Literal["keep", "replace", "reject"] | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] | None = None
    persistent: bool | None = None
    keep_for: Span | None = None
    remove_at: datetime | None = None
    context: dict[str, Any] | None = None

    def options(self) -> ScheduleOptions:
        """Return what was said of the job beside task and payload."""
        given = self.model_dump(exclude={"task", "data"}, exclude_none=True)
        return ScheduleOptions(**given)


class CancelBody(Body):
    """Why it is canceled; it is written down."""

    reason: str = "canceled through the API"


class JobRoutes:
    """What belongs to another user is 404, as what is not there."""

    def __init__(self, context: Asking) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        one = f"{PREFIX}/{{job}}"
        return [
            Route(PREFIX, self.list, methods=["GET"]),
            Route(PREFIX, self.schedule, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(f"{one}/events", self.events, methods=["GET"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/retry", self.retry, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer a page of jobs, newest first, and the cursors of its neighbors; payloads and results are left out."""
        principal = await self._context.caller(request)
        query = self._context.query(request, JobsQuery)
        owner = whose_jobs(principal, query.user_id)
        given = query.model_dump(exclude={"status", "task", "executor", "queue", "user_id"})
        page = await self._context.adapter.list_jobs(
            JobFilter(
                statuses=query.status,
                types=query.task,
                executors=query.executor,
                queues=query.queue,
                user_id=owner,
                **given,
            )
        )
        return answer(
            {"jobs": [summary(job) for job in page.jobs], "next": page.next, "previous": page.previous}
        )

    async def schedule(self, request: Request) -> Response:
        """Schedule a job: 201 with the job, or 200 with the one that holds its key or tag."""
        principal = await self._context.caller(request)
        body = await self._context.body(request, JobBody, most=MOST_BODY_BYTES)
        options = body.options()
        if principal.is_bound:
            options.setdefault("user_id", principal.user_id)
            options["own_names"] = True
        owner = options.get("user_id")
        principal.require("trigger", ("tasks", body.task), *_users(None if owner is None else str(owner)))
        with self._context.asking():
            handle = await self._context.adapter.schedule_job(body.task, body.data, **options)
        found = handle.deduplicated
        document = {**job_document(handle.job), "deduplicated": found}
        return answer(document, {"location": f"{PREFIX}/{handle.id}"}, status=200 if found else 201)

    async def show(self, request: Request) -> Response:
        """Answer a job, and why it waits if it does."""
        job, _ = await self._job(request, "read")
        waits = [] if job.status.is_terminal else await self._context.adapter.why_waiting(job.id)
        return answer({**job_document(job), "waits": waits})

    async def events(self, request: Request) -> Response:
        """Answer what happened to a job beside running, oldest first."""
        job, _ = await self._job(request, "read")
        return answer({"events": await self._context.adapter.job_events(job.id)})

    async def cancel(self, request: Request) -> Response:
        """Cancel a job and answer it as it then is: CANCELED, or asked to be, or ended by itself."""
        job, principal = await self._job(request, "write")
        body = await self._context.body(request, CancelBody, empty_ok=True)
        canceled = await self._context.adapter.cancel_job(job.id, reason=body.reason, actor=principal.actor)
        return answer(job_document(canceled))

    async def retry(self, request: Request) -> Response:
        """Schedule a new job like one that has ended; 201 with the new one, which names the old."""
        job, principal = await self._job(request, "write")
        handle = await self._context.adapter.replay_job(retryable(job).id, actor=principal.actor)
        return answer(job_document(handle.job), {"location": f"{PREFIX}/{handle.id}"}, status=201)

    async def _job(self, request: Request, action: str) -> tuple[Job, Principal]:
        principal = await self._context.caller(request)
        job = await find_job(self._context.adapter, principal, request.path_params["job"], action)
        return job, principal


async def find_job(adapter: Adapter, principal: Principal, text: str, action: str) -> Job:
    """Return the job of that uuid or ``run_…`` id, if the caller may ``read`` or ``write`` it.

    Raises:
        JobNotFoundError: there is none, or it is another user's.
        ApiError: 403, for callers without the scope.
    """
    job_id = _job_id(text)
    job = None if job_id is None else await adapter.get_job(job_id)
    run: Resource = ("runs", text if job_id is None else run_id_of(job_id))
    others = resources_of(job) if action == "read" else _users(None if job is None else job.user_id)
    allowed = principal.can(action, run, *others)
    if not allowed and not principal.is_bound:
        raise forbidden()
    if job is None or not allowed:
        raise JobNotFoundError(text)
    return job


def whose_jobs(principal: Principal, user_id: str | None) -> str | None:
    """Return whose jobs a list is limited to: a user's own, unless the caller may see more.

    Raises:
        ApiError: 403 or 404; the caller may not see these.
    """
    owner = principal.user_id if principal.is_bound and user_id is None else user_id
    principal.require("read", ("runs", None), *_users(owner))
    return owner


def retryable(job: Job) -> Job:
    """Return the job if it has ended.

    Raises:
        JobStateError: it has not.
    """
    if not job.status.is_terminal:
        raise JobStateError(f"Job {job.id} is {job.status}: only a job that has ended can be tried again.")
    return job


def summary(job: Job) -> dict[str, Any]:
    """Return a job's document without what can be large."""
    fields = {name: value for name, value in job_document(job).items() if name not in _LARGE}
    if job.error is not None:
        fields["error"] = {name: value for name, value in job.error.items() if name != "stack"}
    return fields


def _users(user_id: str | None) -> list[Resource]:
    return [] if user_id is None else [("users", user_id)]


def _job_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return job_id_of(text)
