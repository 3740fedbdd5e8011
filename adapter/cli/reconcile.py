"""Comparing unfinished remote jobs with their remotes, by hand."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.exits import ExitCode
from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from adapter.app import Adapter
    from adapter.core.reconcile import Progress, ReconcileReport

_MEANS = {
    "in_sync": "as the remote says",
    "advanced": "were behind and are not any more",
    "redispatched": "uncertain submits whose runs were found",
    "orphaned": "lost by the remote: ended as SYSTEM_FAILURE",
    "canceled_again": "unwanted runs, canceled once more",
    "unknown": "nothing could be concluded",
}


def reconcile(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do none of it.")
    ] = False,
) -> None:
    """Compare every unfinished remote job with its remote, and repair what was missed.

    Ends with 3 when it stopped early, or when a remote had lost runs.
    """
    invocation = Invocation.of(ctx)

    async def compare(adapter: Adapter) -> ReconcileReport:
        with _bar() as progress:
            return await adapter.reconcile(dry_run=dry_run, progress=progress)

    report = invocation.run(compare)
    _answer(invocation, report)
    if report.stopped is not None or report.orphaned:
        raise typer.Exit(int(ExitCode.CHECK))


@contextmanager
def _bar() -> Generator[Progress | None]:
    """Show a bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from adapter.cli import output

    talk = output.talk()
    if not talk.is_terminal:
        yield None
        return
    columns = (TextColumn("asking the remotes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _answer(invocation: Invocation, report: ReconcileReport) -> None:
    import dataclasses

    from adapter.cli import output

    rows = [(verdict, str(count), _MEANS[verdict]) for verdict, count in report.verdicts.items()]
    parts: list[RenderableType] = [output.table(("VERDICT", "RUNS", ""), rows)]
    calls = f"{report.list_calls} list calls, {report.retrieves} retrieves"
    parts.append(f"{report.examined} runs examined in {report.seconds:.1f} s, {calls}")
    if report.dry_run:
        parts.append("a dry run: nothing was changed")
    if report.orphaned:
        parts.append("orphaned: " + ", ".join(map(str, report.orphaned)))
    if report.stopped is not None:
        parts.append(f"stopped early: {output.plain(report.stopped)}")
    invocation.answer(dataclasses.asdict(report), *parts)
