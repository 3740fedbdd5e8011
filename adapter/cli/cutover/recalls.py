"""Going back and moving on with what was given away: rollback, migrate-pending, and the recalls they begin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from adapter.cli.cutover import changing
from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, actor
from adapter.domain.recall import RecallOutcome

if TYPE_CHECKING:
    from rich.console import RenderableType

    from adapter.app import Adapter
    from adapter.core.cutover.rollback_report import RollbackReport

    Act = Callable[[Adapter, bool], Awaitable[RollbackReport]]


class Mode(StrEnum):
    """What a rollback touches."""

    NEW_ONLY = "new-only"
    UNSTARTED = "recall-unstarted"
    ALL = "recall-all"


_MEANS = {
    "open": "not settled yet",
    RecallOutcome.MOVED: "never started there, moved",
    RecallOutcome.MOVED_RUNNING: "canceled at work as asked for, moved",
    RecallOutcome.HIT_MOVED: "began before our cancel came: canceled at work, moved (idempotent)",
    RecallOutcome.HIT_CANCELED: "began before our cancel came: canceled at work, and ended",
    RecallOutcome.STARTED: "had started, goes on there",
    RecallOutcome.ENDED: "ended there meanwhile",
    RecallOutcome.CANCELED: "canceled by somebody meanwhile",
    RecallOutcome.LEFT: "stays where it is: stopped, or nothing can be proven of it",
}

_To = Annotated[str, typer.Option(help="The executor they go to.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what there is and what holds; change nothing.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Timeout = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds to work on it here; then any process with sync loops goes on."),
]
_Id = Annotated[UUID, typer.Argument(metavar="ID", help="As `recalls` shows it.")]


def rollback(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    mode: Annotated[
        Mode, typer.Option(help="Only new jobs; or take back what has not started; or all.")
    ] = Mode.NEW_ONLY,
    to: _To = "local",
    dry_run: _DryRun = False,
    yes: _Yes = False,
    timeout: _Timeout = None,
) -> None:
    """Send new jobs back at once, and with --mode take back what was given away.

    Ends with 3 when jobs were hit at work or stay there, with 4 when it is not done in time.
    """

    async def act(adapter: Adapter, dry: bool) -> RollbackReport:
        return await adapter.rollback(
            task, mode=mode.value, to=to, reason=reason, actor=actor(), dry_run=dry, timeout=_time(timeout)
        )

    _carry_out(Invocation.of(ctx), act, dry_run=dry_run, ask=mode is not Mode.NEW_ONLY and not yes)


def migrate_pending(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: _To,
    batch: Annotated[int, typer.Option(min=1, help="Jobs in one transaction.")] = 500,
    per_second: Annotated[float | None, typer.Option(help="At most so many jobs per second.")] = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    timeout: _Timeout = None,
) -> None:
    """Move delayed and queued jobs that nobody was given: switches steer new jobs only."""

    async def act(adapter: Adapter, dry: bool) -> RollbackReport:
        return await adapter.migrate_pending(
            task,
            to=to,
            reason=reason,
            actor=actor(),
            batch=batch,
            per_second=per_second,
            dry_run=dry,
            timeout=_time(timeout),
        )

    _carry_out(Invocation.of(ctx), act, dry_run=dry_run, ask=not yes)


def recalls(ctx: typer.Context, limit: Annotated[int, typer.Option(min=1, max=1000)] = 25) -> None:
    """List rollbacks and migrations that took jobs along, the newest first."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[list[RollbackReport], list[tuple[str | None, str, str]]]:
        found = await adapter.recalls(limit)
        reports = [await adapter.recall_report(each.id) for each in found]
        now = adapter.clock.now()
        said = [(output.ago(each.created_at, now), each.actor, each.reason) for each in found]
        return reports, said

    invocation = Invocation.of(ctx)
    reports, said = invocation.run(read)
    rows = [
        (str(each.recall_id), each.task, each.mode, each.target, str(each.state), _counts(each), *words)
        for each, words in zip(reports, said, strict=True)
    ]
    columns = ("ID", "TASK", "MODE", "TO", "STATE", "JOBS", "AGO", "WHO", "WHY")
    document = {"recalls": reports}
    if rows:
        invocation.answer(document, output.table(columns, rows))
    else:
        invocation.answer(document, note="Nothing was taken back yet.")


def resume_recall(ctx: typer.Context, recall: _Id, timeout: _Timeout = None) -> None:
    """Go on with a recall that was stopped, or whose process died."""

    async def act(adapter: Adapter, _: bool) -> RollbackReport:
        return await adapter.resume_recall(recall, timeout=_time(timeout))

    _carry_out(Invocation.of(ctx), act, dry_run=False, ask=False)


def stop_recall(ctx: typer.Context, recall: _Id, timeout: _Timeout = None) -> None:
    """End a recall: what nothing was asked of stays, cancels that have left are seen through."""

    async def act(adapter: Adapter, _: bool) -> RollbackReport:
        return await adapter.stop_recall(recall, timeout=_time(timeout))

    _carry_out(Invocation.of(ctx), act, dry_run=False, ask=False, stopping=True)


def _carry_out(invocation: Invocation, act: Act, *, dry_run: bool, ask: bool, stopping: bool = False) -> None:
    if ask and not dry_run:
        _confirm(invocation, act)
    report = invocation.run(lambda adapter: act(adapter, dry_run), tasks=True)
    _answer(invocation, report)
    if not report.is_done:
        raise typer.Exit(int(ExitCode.TIMEOUT))
    if report.hit_running or (report.left and not stopping):
        raise typer.Exit(int(ExitCode.CHECK))


def _confirm(invocation: Invocation, act: Act) -> None:
    """Show what would be done and ask.

    Raises:
        CommandError: there is nobody to be asked.
    """
    import sys

    if invocation.as_json or not sys.stdin.isatty():
        raise CommandError("This moves jobs. Look at it with --dry-run, then say --yes.")
    _answer(invocation, invocation.run(lambda adapter: act(adapter, True), tasks=True))
    if not typer.confirm("Go on?"):
        raise typer.Exit(int(ExitCode.OK))


def _answer(invocation: Invocation, report: RollbackReport) -> None:
    from adapter.cli import output

    parts: list[RenderableType] = []
    if report.hit_running:
        ids = ", ".join(map(str, report.hit_running))
        parts.append(output.cell(f"hit at work: {len(report.hit_running)} jobs: {ids}", "bold red"))
    if report.dry_run or report.promises:
        rows = [
            (
                each.task,
                each.executor,
                str(each.jobs.unsent),
                str(each.jobs.uncertain),
                str(each.jobs.accepted),
                str(each.jobs.started),
                f"{each.guarantee}: {each.says}",
            )
            for each in report.promises
        ]
        columns = ("TASK", "AT", "UNSENT", "UNCERTAIN", "ACCEPTED", "STARTED", "WHAT HOLDS")
        parts.append(output.table(columns, rows))
    if report.outcomes:
        outcomes = [(name, str(n), _MEANS.get(name, "")) for name, n in sorted(report.outcomes.items())]
        parts.append(output.table(("OUTCOME", "JOBS", ""), outcomes))
    parts += [f"{task} is left out: {why}" for task, why in report.skipped.items()]
    if report.left:
        parts.append("stay where they are: " + ", ".join(map(str, report.left)))
    invocation.answer(report, *parts, note=_note(report))


def _note(report: RollbackReport) -> str:
    eta = "" if report.eta_seconds is None else f"; about {report.eta_seconds:.0f} s by the rate limit"
    if report.dry_run:
        return f"a dry run: nothing was changed{eta}"
    if report.recall_id is None:
        return (
            f"new jobs of {changing.named(report.task)} go to {report.target}; nothing given away is touched"
        )
    return f"recall {report.recall_id} is {report.state}: {report.calls} calls, {report.seconds:.1f} s{eta}"


def _counts(report: RollbackReport) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(report.outcomes.items()))


def _time(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
