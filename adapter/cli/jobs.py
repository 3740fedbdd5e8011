"""Jobs: list, show, schedule, cancel, replay, resolve."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from adapter.cli.cutover.explaining import explain_job
from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, actor, job_id, json_value, pairs
from adapter.domain.documents import job_document
from adapter.domain.job import JobStatus

if TYPE_CHECKING:
    from uuid import UUID

    from adapter.app import Adapter
    from adapter.domain.job import Job
    from adapter.domain.waiting import WaitReason
    from adapter.store.insights import JobEvent, JobPage

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, schedule, cancel, replay, resolve.")


class _OnConflict(StrEnum):
    KEEP = "keep"
    REPLACE = "replace"
    REJECT = "reject"


class _Shown(NamedTuple):
    job: Job
    events: list[JobEvent]
    waits: list[WaitReason]
    children: JobPage
    awaits: list[UUID]
    now: datetime


_Id = Annotated[str, typer.Argument(metavar="ID", help="The job's uuid or run_… id.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[list[JobStatus] | None, typer.Option(case_sensitive=False, metavar="STATUS")] = None,
    task: Annotated[list[str] | None, typer.Option("--type", help="The task's id.")] = None,
    executor: Annotated[list[str] | None, typer.Option()] = None,
    queue: Annotated[list[str] | None, typer.Option()] = None,
    tag: Annotated[str | None, typer.Option(help="The tag that jobs are deduplicated by.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="One of the job's tags=.")] = None,
    user_id: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 25,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="The page after this one.")] = None,
    shadows: Annotated[bool, typer.Option("--shadows", help="Also the copies that shadows make.")] = False,
) -> None:
    """List jobs, newest first. An option given twice finds either."""
    from adapter.cli import job_views
    from adapter.domain.job import executor_name
    from adapter.store.insights import JobFilter

    invocation = Invocation.of(ctx)
    wanted = JobFilter(
        statuses=tuple(status or ()),
        types=tuple(task or ()),
        executors=tuple(executor_name(each) for each in executor or ()),
        queues=tuple(queue or ()),
        tags=tuple(label or ()),
        tag=tag,
        user_id=user_id,
        limit=limit,
        after=after,
        shadows=shadows,
    )

    async def read(adapter: Adapter) -> tuple[JobPage, datetime]:
        return await adapter.list_jobs(wanted), adapter.clock.now()

    page, now = invocation.run(read)
    document = {"jobs": [job_views.summary(each) for each in page.jobs], "next": page.next}
    if not page.jobs:
        invocation.answer(document, note="No jobs.")
        return
    more = f"More: --after {page.next}" if page.next is not None else ""
    invocation.answer(document, job_views.jobs_table(page.jobs, now), note=more)


app.command("explain")(explain_job)


@app.command()
def show(ctx: typer.Context, job: _Id) -> None:
    """Show a job: its row, why it went where it went, why it waits, its children, and what happened to it."""
    from adapter.cli import job_views
    from adapter.domain.errors import JobNotFoundError
    from adapter.store.insights import JobFilter

    wanted = job_id(job)

    async def read(adapter: Adapter) -> _Shown:
        found = await adapter.get_job(wanted)
        if found is None:
            raise JobNotFoundError(wanted)
        return _Shown(
            found,
            await adapter.job_events(wanted),
            await adapter.why_waiting(wanted),
            await adapter.list_jobs(JobFilter(parent_id=wanted, limit=100)),
            [each.id for each in await adapter.awaited_jobs(wanted)],
            adapter.clock.now(),
        )

    invocation = Invocation.of(ctx)
    shown = invocation.run(read)
    document = {
        "job": job_document(shown.job),
        "waits": shown.waits,
        "children": [job_views.summary(each) for each in shown.children.jobs],
        "more_children": shown.children.next is not None,
        "awaits": shown.awaits,
        "events": shown.events,
    }
    beside = [
        *job_views.waits(shown.waits, shown.now),
        *job_views.children(shown.children, shown.awaits, shown.now),
    ]
    invocation.answer(document, *job_views.job_sheet(shown.job, shown.events, shown.now, beside=beside))


@app.command()
def schedule(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON]", help="The payload: JSON, @file, or - for standard input.")
    ] = "null",
    tag: Annotated[str | None, typer.Option(help="At most one job of this task and tag waits.")] = None,
    executor: Annotated[str | None, typer.Option(help="Go there, whatever rollouts say.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Do not use the executor's fallback.")] = False,
    delay: Annotated[str | None, typer.Option(metavar="10m", help="Not before so long from now.")] = None,
    due: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="Not before.")] = None,
    ttl: Annotated[str | None, typer.Option(metavar="1h", help="Not after so long.")] = None,
    remove_at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="From when its row may go, once it has ended."),
    ] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="One job per key.")] = None,
    on_conflict: Annotated[
        _OnConflict,
        typer.Option(help="When the tag or key is held: keep, replace while nothing has started, reject."),
    ] = _OnConflict.KEEP,
    debounce_max: Annotated[
        str | None, typer.Option(metavar="5m", help="Replace, but wait no longer than this in all.")
    ] = None,
    throttle: Annotated[
        str | None, typer.Option(metavar="1h", help="One job per tag or key in that time.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Larger is sooner.")] = None,
    queue: Annotated[str | None, typer.Option()] = None,
    concurrency_key: Annotated[str | None, typer.Option()] = None,
    max_attempts: Annotated[int | None, typer.Option(min=1, max=250)] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label to find it by; up to 10.")] = None,
    user_id: Annotated[str | None, typer.Option()] = None,
    context: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="What rollouts may look at.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print its result.")] = False,
    timeout: Annotated[str, typer.Option(metavar="5m", help="How long to wait.")] = "5m",
) -> None:
    """Schedule a job of a task the application declares."""
    from adapter.cli import job_views
    from adapter.core.planning import ScheduleOptions
    from adapter.domain.durations import parse_duration

    invocation = Invocation.of(ctx)
    data = json_value(payload, "The payload")
    options = ScheduleOptions(
        tag=tag,
        executor=executor,
        strict=strict,
        delay=parse_duration(delay) if delay else None,
        due=due,
        ttl=parse_duration(ttl) if ttl else None,
        remove_at=remove_at,
        idempotency_key=idempotency_key,
        on_conflict=on_conflict.value,
        debounce_max=parse_duration(debounce_max) if debounce_max else None,
        throttle=parse_duration(throttle) if throttle else None,
        priority=priority,
        queue=queue,
        concurrency_key=concurrency_key,
        max_attempts=max_attempts,
        tags=label or [],
        user_id=user_id,
        context=pairs(context, "--context"),
    )
    longest = parse_duration(timeout)

    async def scheduled(adapter: Adapter) -> tuple[Job, datetime]:
        handle = await adapter.schedule_job(task, data, **options)
        if wait:
            await handle.result(longest)
        return handle.job, adapter.clock.now()

    job, now = invocation.run(scheduled, tasks=True)
    document = job_document(job) | {"deduplicated": job.deduplicated}
    invocation.answer({"job": document}, *job_views.scheduled(job, now, with_result=wait))


@app.command()
def cancel(
    ctx: typer.Context,
    job: _Id,
    reason: Annotated[str, typer.Option(help="Kept with the job.")] = "canceled from the command line",
) -> None:
    """Cancel a job: at once, or by asking whoever has it."""
    invocation, wanted = Invocation.of(ctx), job_id(job)
    found = invocation.run(lambda adapter: adapter.cancel_job(wanted, reason=reason, actor=actor()))
    if found.status is JobStatus.CANCELED:
        said = f"{found.id} is canceled"
    elif found.status.is_terminal:
        raise CommandError(
            f"Job {found.id} had ended before: {found.status}.", ExitCode.CONFLICT, code="job_state"
        )
    else:
        said = f"{found.id} is {found.status}; its cancel is asked for and will be confirmed"
    invocation.answer({"job": job_document(found)}, said)


@app.command()
def replay(
    ctx: typer.Context,
    job: _Id,
    executor: Annotated[str | None, typer.Option(help="Go there this time.")] = None,
) -> None:
    """Schedule a new job like this one; it names the old one."""
    from adapter.cli import job_views

    invocation, wanted = Invocation.of(ctx), job_id(job)
    changes: dict[str, Any] = {"executor": executor} if executor else {}

    async def replayed(adapter: Adapter) -> tuple[Job, datetime]:
        handle = await adapter.replay_job(wanted, actor=actor(), **changes)
        return handle.job, adapter.clock.now()

    made, now = invocation.run(replayed, tasks=True)
    invocation.answer({"job": job_document(made)}, *job_views.scheduled(made, now))


@app.command()
def resolve(
    ctx: typer.Context,
    job: _Id,
    reason: Annotated[str, typer.Option(help="Why you are sure; kept with the job.")],
    not_started: Annotated[
        bool, typer.Option("--assume-not-started", help="No run of it has started or will: submit it anew.")
    ] = False,
    lost: Annotated[
        bool, typer.Option("--assume-lost", help="Nobody will ever report: end it as SYSTEM_FAILURE.")
    ] = False,
) -> None:
    """End a wait that no machine can end, on your word. Audited."""
    if not_started == lost:
        raise CommandError("Say one of --assume-not-started and --assume-lost.")
    invocation, wanted = Invocation.of(ctx), job_id(job)
    found = invocation.run(
        lambda adapter: adapter.resolve_job(
            wanted, assume="not-started" if not_started else "lost", reason=reason, actor=actor()
        )
    )
    invocation.answer({"job": job_document(found)}, f"{found.id} is {found.status} now, epoch {found.epoch}")
