"""What an executor still holds; and whether one could take the jobs back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import ExitCode
from adapter.cli.invocation import Invocation
from adapter.domain.durations import parse_duration

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.core.cutover.draining import DrainStatus, TaskDrain

Quiet = Annotated[str, typer.Option(help="Drained only when no new job came for so long.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Of this task only.")]


def drain(
    ctx: typer.Context,
    executor: Annotated[str | None, typer.Argument(help="The executor; without it all.")] = None,
    task: OfTask = None,
    quiet: Quiet = "15m",
) -> None:
    """Show what executors still hold, how long that takes, and what they say themselves."""
    window = parse_duration(quiet)
    invocation = Invocation.of(ctx)
    _show(invocation, invocation.run(lambda adapter: adapter.drain_status(executor, task=task, quiet=window)))


def wait_drained(
    ctx: typer.Context,
    executor: Annotated[str, typer.Argument(help="The executor.")],
    timeout: Annotated[str, typer.Option(help="How long to wait; ends with 4 then.")] = "30m",
    task: OfTask = None,
    quiet: Quiet = "15m",
) -> None:
    """Wait until an executor holds nothing any more."""
    longest, window = parse_duration(timeout), parse_duration(quiet)
    invocation = Invocation.of(ctx)
    found = invocation.run(
        lambda adapter: adapter.wait_drained(executor, task=task, timeout=longest, quiet=window)
    )
    _show(invocation, found)
    if not found.drained:
        raise typer.Exit(int(ExitCode.TIMEOUT))


def can_go_back(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(help="The task; without it all.")] = None,
    to: Annotated[str, typer.Option(help="The executor that would have to take its jobs.")] = "local",
) -> None:
    """Say whether an executor could take a task's jobs as things are now; ends with 3 when not surely."""
    from adapter.cli import output
    from adapter.domain.gates import Verdict

    invocation = Invocation.of(ctx)
    found = invocation.run(lambda adapter: adapter.can_go_back(task, to=to), tasks=True)
    rows = [
        (each.task, output.word(check.verdict), check.name, check.says)
        for each in found
        for check in each.checks
        if task is not None or check.verdict is not Verdict.PASSED
    ]
    fine = sum(each.verdict is Verdict.PASSED for each in found)
    parts = [output.table(("TASK", "", "CHECK", "FINDING"), rows)] if rows else []
    invocation.answer({"ways": found}, *parts, note=f"{fine} of {len(found)} tasks could go to {to} now")
    if fine < len(found):
        raise typer.Exit(int(ExitCode.CHECK))


def _show(invocation: Invocation, found: DrainStatus) -> None:
    from adapter.cli import output

    rows = [_row(each, found.at) for each in found.tasks]
    columns = ("EXECUTOR", "TASK", "OPEN", "OLDEST", "ENDS IN", "THERE", "LEFT")
    parts = [output.table(columns, rows, whole=2)] if rows else []
    invocation.answer(found, *parts, note="drained: nothing is left" if found.drained else "not drained")
    for name, why in found.remote_unknown.items() if not invocation.as_json else ():
        invocation.say(f"warning: what {name} holds by its own count is unknown: {why}", style="yellow")


def _row(task: TaskDrain, now: datetime) -> tuple[Any, ...]:
    from datetime import timedelta

    from adapter.cli import output

    jobs = ", ".join(f"{status} {count}" for status, count in sorted(task.open.items()))
    ends = (
        "never at this rate"
        if task.eta_seconds is None
        else output.brief(timedelta(seconds=task.eta_seconds))
    )
    return (
        task.executor,
        task.task or "(jobs that are gone)",
        jobs,
        output.ago(task.oldest_at, now),
        ends if jobs else None,
        task.remote,
        ", ".join(task.left) or "nothing",
    )
