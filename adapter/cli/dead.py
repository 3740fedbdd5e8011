"""Dead letters: jobs that ended badly; list, show, redrive."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, actor, job_id
from adapter.domain.documents import job_document
from adapter.domain.job import DEAD, JobStatus

if TYPE_CHECKING:
    from uuid import UUID

    from adapter.app import Adapter
    from adapter.core.dead_letters import RedriveReport
    from adapter.store.dead_letters import DeadLetterFilter, DeadLetterPage

app = typer.Typer(no_args_is_help=True, help="Jobs that ended badly: list, show, redrive.")

_FORMAT = "%Y-%m-%dT%H:%M:%S%z"
_Status = Annotated[list[JobStatus] | None, typer.Option(case_sensitive=False, metavar="STATUS")]
_Task = Annotated[list[str] | None, typer.Option("--type", help="The task's id.")]
_Queue = Annotated[list[str] | None, typer.Option()]
_Error = Annotated[list[str] | None, typer.Option(help="The error's name.")]
_Since = Annotated[datetime | None, typer.Option(formats=[_FORMAT], help="Ended then or later.")]
_Until = Annotated[datetime | None, typer.Option(formats=[_FORMAT], help="Ended then or before.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    status: _Status = None,
    task: _Task = None,
    queue: _Queue = None,
    error: _Error = None,
    since: _Since = None,
    until: _Until = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what was not redriven yet.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 25,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="The page after this one.")] = None,
) -> None:
    """List jobs that ended badly, the latest end first. An option given twice finds either."""
    from adapter.cli import job_views, output

    invocation = Invocation.of(ctx)
    redriven = False if waiting else None
    wanted = _filter(status, task, queue, error, since, until, redriven=redriven, limit=limit, after=after)

    async def read(adapter: Adapter) -> tuple[DeadLetterPage, datetime]:
        return await adapter.dead_letters(wanted), adapter.clock.now()

    page, now = invocation.run(read)
    letters = [job_views.summary(each.job) | {"redriven_as": each.redriven_as} for each in page.letters]
    document = {"dead_letters": letters, "next": page.next}
    if not letters:
        invocation.answer(document, note="No dead letters.")
        return
    columns = ("ID", "TASK", "STATUS", "ERROR", "TRY", "ENDED", "REDRIVEN AS")
    rows = [
        (
            str(each.job.id),
            each.job.type,
            job_views.status(each.job),
            (each.job.error or {}).get("name"),
            f"{each.job.attempt}/{each.job.max_attempts}",
            output.ago(each.job.finished, now),
            each.redriven_as,
        )
        for each in page.letters
    ]
    more = f"More: --after {page.next}" if page.next is not None else ""
    invocation.answer(document, output.table(columns, rows), note=more)


@app.command()
def show(
    ctx: typer.Context, job: Annotated[str, typer.Argument(metavar="ID", help="The job's uuid or run_… id.")]
) -> None:
    """Show a job that ended badly: its row, its error, and what happened to it."""
    from adapter.cli import job_views
    from adapter.domain.errors import JobNotFoundError

    invocation, wanted = Invocation.of(ctx), job_id(job)

    async def read(adapter: Adapter) -> Any:
        found = await adapter.get_job(wanted)
        if found is None:
            raise JobNotFoundError(wanted)
        if found.status not in DEAD:
            said = f"Job {found.id} is {found.status}, no dead letter; see `adapter jobs show`."
            raise CommandError(said, ExitCode.CONFLICT, code="job_state")
        return found, await adapter.job_events(wanted), adapter.clock.now()

    found, events, now = invocation.run(read)
    document = {"job": job_document(found), "events": events}
    invocation.answer(document, *job_views.job_sheet(found, events, now))


@app.command()
def redrive(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(help="Kept with the jobs.")],
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="These; else what the options say.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    status: _Status = None,
    task: _Task = None,
    queue: _Queue = None,
    error: _Error = None,
    since: _Since = None,
    until: _Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
    per_second: Annotated[
        float | None, typer.Option(help="Let so many become due per second, instead of all at once.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was redriven before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Schedule a new job for each, which names the old one. Each is redriven once unless you say --again."""
    from adapter.cli import output

    given = any((status, task, queue, error, since, until))
    if sum((bool(jobs), given, every)) != 1:
        raise CommandError(
            "Say which: ids, or --type, --status, --queue, --error, --since, --until, or --all."
        )
    invocation = Invocation.of(ctx)
    wanted: DeadLetterFilter | list[UUID] = (
        [job_id(each) for each in jobs] if jobs else _filter(status, task, queue, error, since, until)
    )

    async def redriven(adapter: Adapter) -> RedriveReport:
        return await adapter.redrive(
            wanted,
            reason=reason,
            actor=actor(),
            limit=limit,
            per_second=per_second,
            again=again,
            dry_run=dry_run,
        )

    report = invocation.run(redriven, tasks=True)
    rows = [(str(old), "would be redriven" if dry_run else str(new)) for old, new in report.redriven.items()]
    rows += [(str(old), f"refused: {why}") for old, why in report.refused.items()]
    rows += [(str(old), "skipped: no dead letter, or redriven before") for old in report.skipped]
    document = {
        "redriven": {str(old): None if dry_run else str(new) for old, new in report.redriven.items()},
        "refused": {str(old): why for old, why in report.refused.items()},
        "skipped": report.skipped,
        "dry_run": dry_run,
    }
    note = f"{len(report.redriven)} {'would be ' if dry_run else ''}redriven"
    invocation.answer(document, output.table(("ID", "AS"), rows, whole=2), note=note)
    if report.refused:
        raise typer.Exit(int(ExitCode.CHECK))


def _filter(
    status: list[JobStatus] | None,
    task: list[str] | None,
    queue: list[str] | None,
    error: list[str] | None,
    since: datetime | None,
    until: datetime | None,
    **more: Any,
) -> DeadLetterFilter:
    from adapter.store.dead_letters import DeadLetterFilter

    return DeadLetterFilter(
        statuses=tuple(status or ()),
        tasks=tuple(task or ()),
        queues=tuple(queue or ()),
        errors=tuple(error or ()),
        finished_from=since,
        finished_to=until,
        **more,
    )
