"""Leaving an executor for good, and going back to it for a while to see that one could."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.cutover import changing
from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import SOURCE, Invocation, actor
from adapter.domain.routing import EVERY_TASK

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.core.cutover.finalizing import FinalizeReport
    from adapter.domain.drill import Drill
    from adapter.store.finalizations import Finalization

Executor = Annotated[str, typer.Argument(help="The executor that is left.")]
OfTask = Annotated[str, typer.Option("--task", help="Of this task only.")]


def finalize(
    ctx: typer.Context,
    executor: Executor,
    task: OfTask = EVERY_TASK,
    check: Annotated[bool, typer.Option("--check", help="Only say what still ties you there.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it is written down.")] = "",
    accept: Annotated[
        list[str] | None, typer.Option(metavar="GATE=WHY", help="A gate that may stay open, and why.")
    ] = None,
) -> None:
    """Leave an executor for good: no flag sends jobs there any more, until `reopen`. Refused unless all gates pass."""
    invocation = Invocation.of(ctx)
    if check:
        _checked(
            invocation,
            invocation.run(lambda adapter: adapter.finalize_check(executor, task=task), tasks=True),
        )
        return
    accepted = dict(_accepted(each) for each in accept or [])

    async def leave(adapter: Adapter) -> Finalization:
        return await adapter.finalize(
            executor, task=task, reason=reason, accept=accepted, actor=actor(), source=SOURCE
        )

    made = invocation.run(leave, tasks=True)
    said = f"{made.executor} is left for good by {changing.named(made.task)}"
    invocation.answer(made, said, note=f"Back: adapter cutover reopen {made.executor} --reason …")


def reopen(
    ctx: typer.Context, executor: Executor, reason: changing.Reason, task: OfTask = EVERY_TASK
) -> None:
    """Let flags send jobs to an executor again that was left for good."""

    async def take_back(adapter: Adapter) -> Finalization | None:
        return await adapter.reopen(executor, task=task, reason=reason, actor=actor(), source=SOURCE)

    invocation = Invocation.of(ctx)
    made = invocation.run(take_back)
    if made is None:
        raise CommandError(
            f"{changing.named(task)} has not left {executor} for good.",
            ExitCode.NOT_FOUND,
            code="finalization_not_found",
        )
    invocation.answer(made, f"jobs of {changing.named(task)} may be sent to {made.executor} again")


def drill(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    reason: changing.Reason,
    hold: Annotated[str, typer.Option("--for", help="For how long.")] = "10m",
    to: Annotated[str, typer.Option(help="The executor to go back to.")] = "local",
) -> None:
    """Go back for a while, measure it, and put the flag as it was; ends with 3 when it did not pass."""
    from adapter.domain.drill import DrillState
    from adapter.domain.durations import parse_duration

    holding = parse_duration(hold)

    async def carry_out(adapter: Adapter) -> Drill:
        return await adapter.drill(task, hold=holding, to=to, reason=reason, actor=actor(), source=SOURCE)

    invocation = Invocation.of(ctx)
    made = invocation.run(carry_out, tasks=True)
    _drilled(invocation, made)
    if made.state in {DrillState.INTERRUPTED, DrillState.OVERTAKEN}:
        raise typer.Exit(int(ExitCode.CONFLICT))
    if made.state is not DrillState.PASSED:
        raise typer.Exit(int(ExitCode.CHECK))


def drills(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(help="Of this task only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 25,
) -> None:
    """List drills, the newest first."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[list[Drill], datetime]:
        return await adapter.drills(task, limit=limit), adapter.clock.now()

    invocation = Invocation.of(ctx)
    found, now = invocation.run(read)
    rows = [
        (
            each.task,
            each.target,
            output.word(each.state),
            output.ago(each.started_at, now),
            None if each.measured is None else each.measured.jobs,
            _seconds(None if each.measured is None else each.measured.stopped_after),
            each.actor,
            each.reason,
        )
        for each in found
    ]
    columns = ("TASK", "TO", "", "AGO", "JOBS", "LAST ELSEWHERE", "WHO", "WHY")
    parts = [output.table(columns, rows, whole=2)] if rows else []
    invocation.answer({"drills": found}, *parts, note="" if rows else "There was no drill yet.")


def _accepted(given: str) -> tuple[str, str]:
    gate, equals, why = given.partition("=")
    if not equals or not why.strip():
        raise CommandError("--accept takes GATE=WHY: the name of a gate, and the reason.")
    return gate, why


def _checked(invocation: Invocation, found: FinalizeReport) -> None:
    from adapter.cli import output

    gates = [(each.name, output.word(each.verdict), each.says) for each in found.gates]
    ties = [(each.name, output.cell("\n".join(each.found))) for each in found.ties]
    parts = [output.table(("GATE", "", "FINDING"), gates)]
    if ties:
        parts.append(output.table(("STILL THERE", "WHAT"), ties))
    note = "every gate has passed" if found.ready else "not every gate has passed"
    invocation.answer(found, *parts, note=note)
    if not found.ready:
        raise typer.Exit(int(ExitCode.CHECK))


def _drilled(invocation: Invocation, made: Drill) -> None:
    from adapter.cli import output

    measured = made.measured
    rows = [] if measured is None else [(c.name, output.word(c.verdict), c.says) for c in measured.checks]
    parts = [output.table(("CHECK", "", "FINDING"), rows)] if rows else []
    notes = {
        "interrupted": "it was interrupted; the flag is as it was",
        "overtaken": "somebody turned the flag meanwhile: it stays so",
    }
    note = notes.get(made.state, f"{made.state}; the flag is as it was")
    invocation.answer(made, *parts, note=note)


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}s"
