"""What happened to a run, as events, as a tree of spans and one by one (Trigger.dev's API contract, 7.8).

A run is a span, and so is each line of its history; the runs that it triggered are below it. No trace of what a
handler does is kept here: that goes to whatever collects the application's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.identity import run_id_of
from adapter.domain.job import TERMINAL, JobStatus
from adapter.domain.wire import error_fields, moment, status_word
from adapter.web.errors import ApiError, bad_query
from adapter.web.trigger_api.access import readable, sees

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from starlette.requests import Request

    from adapter.domain.job import Job
    from adapter.store.insights import JobEvent
    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext

#: Runs of a family that a trace shows.
_MOST_RUNS = 1000
_MOST_SPANS = 10_000
#: Lines of a history that say that a try has failed, or its worker died.
_FAILURES = frozenset({"retry", "rescued", "buried", "overrun"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One run, or one thing that happened to it."""

    id: str
    parent: str | None
    job: Job
    message: str
    start: datetime
    duration: timedelta
    is_error: bool = False
    is_partial: bool = False
    is_canceled: bool = False
    attempt: int | None = None
    properties: Mapping[str, Any] | None = None

    @property
    def nanoseconds(self) -> int:
        """How long it took, as upstream counts."""
        return max(0, self.duration // timedelta(microseconds=1)) * 1000

    def fields(self) -> dict[str, Any]:
        """Return what every form of a span has."""
        shown: dict[str, Any] = {
            "message": self.message,
            "startTime": moment(self.start),
            "duration": self.nanoseconds,
            "isError": self.is_error,
            "isPartial": self.is_partial,
            "isCancelled": self.is_canceled,
            "level": "ERROR" if self.is_error else "TRACE",
        }
        return shown


class TraceRoutes:
    """Events, traces and spans of runs."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/v1/runs/{run}/events", self.events),
            Route("/api/v1/runs/{run}/trace", self.trace),
            Route("/api/v1/runs/{run}/spans/{span}", self.span),
        ]

    async def events(self, request: Request) -> Response:
        """Answer the run's own history, oldest first."""
        job, _ = await readable(self._context, request)
        spans = self._spans([job], await self._context.adapter.events_of([job.id]))
        return JSONResponse({"events": [_event(span) for span in spans]})

    async def trace(self, request: Request) -> Response:
        """Answer the tree below the run; with ``page[size]``, one page of its spans, without their tree."""
        job, principal = await readable(self._context, request)
        jobs = await self._below(job, principal)
        spans = self._spans(jobs, await self._context.adapter.events_of([each.id for each in jobs]))
        if "page[size]" in request.query_params:
            return JSONResponse(_page(spans, request.query_params, truncated=len(jobs) > _MOST_RUNS))
        return JSONResponse({"trace": {"traceId": _trace_id(job), "rootSpan": _tree(spans, span_id(job.id))}})

    async def span(self, request: Request) -> Response:
        """Answer one span of the run."""
        job, principal = await readable(self._context, request)
        wanted = str(request.path_params["span"])
        spans = self._spans([job], await self._context.adapter.events_of([job.id]))
        found = next((span for span in spans if span.id == wanted), None)
        if found is None:
            raise ApiError(404, "Span not found")
        shown = found.fields()
        shown["durationMs"] = shown.pop("duration") / 1_000_000
        shown |= {"spanId": found.id, "parentId": found.parent, "runId": run_id_of(job.id)}
        if found.properties:
            shown["properties"] = dict(found.properties)
        if found.id == span_id(job.id):
            around = await self._context.adapter.relatives(job, 50)
            triggered = [
                {
                    "runId": run_id_of(child.id),
                    "taskIdentifier": child.type,
                    "status": status_word(child.status),
                    "createdAt": moment(child.created_at),
                }
                for child in around.children
                if sees(principal, child)
            ]
            shown |= {"triggeredRuns": triggered} if triggered else {}
        return JSONResponse(shown)

    async def _below(self, job: Job, principal: Principal) -> list[Job]:
        """Return the job and all that are below it."""
        family = await self._context.adapter.family(job, _MOST_RUNS)
        found, jobs = {job.id}, [job]
        # Parents are made before their children, and have smaller ids or the same moment's.
        for each in sorted(family, key=lambda one: one.created_at):
            if each.parent_id in found and sees(principal, each):
                found.add(each.id)
                jobs.append(each)
        return jobs

    def _spans(self, jobs: Iterable[Job], events: Mapping[UUID, list[JobEvent]]) -> list[Span]:
        now = self._context.adapter.clock.now()
        spans: list[Span] = []
        for job in jobs:
            spans.append(_run_span(job, now))
            spans += _event_spans(job, events.get(job.id, []))
        return sorted(spans, key=lambda span: (span.start, span.parent is not None))


def span_id(job_id: UUID, place: int | None = None) -> str:
    """Return the id of a run's span, or of the line at ``place`` of its history."""
    text = str(job_id) if place is None else f"{job_id}/{place}"
    return sha256(text.encode()).hexdigest()[:16]


def _trace_id(job: Job) -> str:
    """Return the caller's trace, or one that all runs of a family have."""
    given = str(job.extra.get("traceparent", "")).split("-")
    return given[1] if len(given) == 4 else (job.root_id or job.id).hex


def _run_span(job: Job, now: datetime) -> Span:
    start = job.started or job.created_at
    failed = job.status in TERMINAL - {JobStatus.COMPLETED, JobStatus.CANCELED}
    properties: dict[str, Any] = {"status": status_word(job.status), "attempts": job.attempt}
    if failed and (error := error_fields(job.error)):
        properties["error"] = error
    return Span(
        id=span_id(job.id),
        parent=None if job.parent_id is None else span_id(job.parent_id),
        job=job,
        message=job.type,
        start=start,
        duration=(job.finished or now) - start,
        is_error=failed,
        is_partial=job.finished is None,
        is_canceled=job.status is JobStatus.CANCELED,
        properties=properties,
    )


def _event_spans(job: Job, events: Iterable[JobEvent]) -> list[Span]:
    spans: list[Span] = []
    failures = 0
    for place, event in enumerate(events):
        failed = event.kind in _FAILURES
        failures += failed
        spans.append(
            Span(
                id=span_id(job.id, place),
                parent=span_id(job.id),
                job=job,
                message=event.kind,
                start=event.at,
                duration=timedelta(0),
                is_error=failed,
                attempt=failures if failed else None,
                properties={"actor": event.actor, **(event.detail or {})}
                if event.actor
                else dict(event.detail or {}),
            )
        )
    return spans


def _event(span: Span) -> dict[str, Any]:
    shown = span.fields() | {
        "runId": run_id_of(span.job.id),
        "spanId": span.id,
        "traceId": _trace_id(span.job),
        "taskSlug": span.job.type,
        "queueName": span.job.queue,
    }
    optional = {"parentId": span.parent, "attemptNumber": span.attempt, "properties": span.properties or None}
    return shown | {name: value for name, value in optional.items() if value is not None}


def _tree(spans: list[Span], root: str) -> dict[str, Any]:
    nodes: dict[str, dict[str, Any]] = {}
    for span in spans:
        data = span.fields() | {
            "taskSlug": span.job.type,
            "queueName": span.job.queue,
            "properties": dict(span.properties or {}),
        }
        if machine := span.job.extra.get("machine"):
            data["machinePreset"] = machine
        nodes[span.id] = {"id": span.id, "runId": run_id_of(span.job.id), "data": data, "children": []}
        if span.parent is not None:
            nodes[span.id]["parentId"] = span.parent
    for span in spans:
        if span.id != root and span.parent in nodes:
            nodes[span.parent]["children"].append(nodes[span.id])
    return nodes[root]


def _page(spans: list[Span], params: Mapping[str, str], *, truncated: bool) -> dict[str, Any]:
    size = _number(params, "page[size]", 1)
    after = _number(params, "page[after]", 0) if params.get("page[after]") else 0
    shown = spans[after : after + size]
    pagination: dict[str, Any] = {"next": str(after + size)} if len(spans) > after + size else {}
    if truncated:
        pagination["truncated"] = True
    return {
        "data": [
            {
                "id": span.id,
                "runId": run_id_of(span.job.id),
                **span.fields(),
                **({} if span.parent is None else {"parentId": span.parent}),
                **({} if span.attempt is None else {"attemptNumber": span.attempt}),
            }
            for span in shown
        ],
        "attemptFailures": [
            {"spanId": span.id, "attemptNumber": span.attempt, "runId": run_id_of(span.job.id)}
            for span in shown
            if span.attempt is not None
        ],
        "pagination": pagination,
    }


def _number(params: Mapping[str, str], name: str, least: int) -> int:
    given = params.get(name, "")
    good = given.isascii() and given.isdecimal() and len(given) <= 9 and int(given) >= least
    if not good or (name == "page[size]" and int(given) > _MOST_SPANS):
        raise bad_query(f"{name} is not a number that it can be")
    return int(given)
