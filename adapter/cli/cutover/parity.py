"""The parity report, for people and for CI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import ExitCode
from adapter.cli.invocation import Invocation
from adapter.domain.parity import AT_LEAST, MARGIN, ParityVerdict

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.domain.parity import ExecutorFigures, ParityReport, ShadowFigures, Spread, TaskParity

EXITS = {
    ParityVerdict.PASS: ExitCode.OK,
    ParityVerdict.FAIL: ExitCode.FAILURE,
    ParityVerdict.INCONCLUSIVE: ExitCode.CHECK,
}
_JOBS = ("EXECUTOR", "JOBS", "SUCCEED", "ATTEMPTS", "LAG", "WAIT", "RUN", "ERRORS", "REPAIRS", "PER 1,000")
_COPIES = ("COPIES AT", "EQUAL", "DIFFERENT", "TAKEN", "REFUSED", "VOID", "OPEN", "DROPPED", "TOOK", "WHERE")


def parity(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(help="The task's id; else all with two executors.")] = None,
    since: Annotated[str, typer.Option(help="How far to look back, as 24h.")] = "24h",
    reference: Annotated[
        str | None, typer.Option(help="The executor the others are held against; else the busiest.")
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0.001, max=99, help="How many per cent may fail or differ more.")
    ] = MARGIN * 100,
    at_least: Annotated[int, typer.Option(min=1, help="Jobs or copies that a verdict takes.")] = AT_LEAST,
) -> None:
    """Say whether a task does at one executor as well as at another. Exit 0: it does; 1: not; 3: not known yet."""
    from adapter.domain.durations import parse_duration

    back = parse_duration(since)

    async def read(adapter: Adapter) -> ParityReport:
        return await adapter.parity(
            task, since=back, reference=reference, margin=margin / 100, at_least=at_least
        )

    invocation = Invocation.of(ctx)
    found = invocation.run(read, tasks=True)
    note = "" if found.tasks else "No task had jobs or copies at more than one executor."
    invocation.answer(found, *(part for each in found.tasks for part in _parts(each)), note=note)
    raise typer.Exit(EXITS[found.verdict])


def _parts(found: TaskParity) -> list[Any]:
    from adapter.cli import output

    parts: list[Any] = [output.cell(found.task, "bold")]
    if found.executors:
        parts.append(output.table(_JOBS, [_jobs(each) for each in found.executors]))
    if found.shadows:
        parts.append(output.table(_COPIES, [_copies(each) for each in found.shadows]))
    verdicts = [
        (f"{each.executor} against {found.reference}", output.word(each.verdict), "; ".join(each.reasons))
        for each in found.verdicts
    ]
    if verdicts:
        parts.append(output.table(("VERDICT", "IS", "BECAUSE"), verdicts))
    return [*parts, *(output.cell(f"compared again: {each}", "yellow") for each in found.expired)]


def _jobs(figures: ExecutorFigures) -> tuple[Any, ...]:
    success = "-" if figures.success is None else f"{figures.success:.2%}"
    between = f"{success} ({figures.success_low:.1%} to {figures.success_high:.1%})"
    return (
        figures.executor,
        figures.jobs,
        between if figures.jobs else None,
        None if figures.attempts is None else f"{figures.attempts:.2f}",
        *(_spread(each) for each in (figures.lag, figures.wait, figures.run)),
        _counts(figures.errors),
        _counts(figures.repairs),
        None if figures.cost_per_1000 is None else f"{figures.cost_per_1000:.4g}",
    )


def _copies(figures: ShadowFigures) -> tuple[Any, ...]:
    return (
        figures.executor,
        figures.equal,
        figures.different,
        figures.taken,
        figures.refused,
        figures.void,
        figures.open,
        figures.dropped,
        _spread(figures.took),
        _counts(figures.paths),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _spread(seconds: Spread | None) -> str | None:
    """Return the medium, the 95th and the 99th of a hundred."""
    if seconds is None:
        return None
    return "/".join(f"{each:.3g}" for each in (seconds.p50, seconds.p95, seconds.p99)) + " s"
