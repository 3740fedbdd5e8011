"""Executors: how they do, and taking one out by hand."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.cutover import changing
from adapter.cli.invocation import SOURCE, Invocation, actor

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.core.cutover.health_verbs import ExecutorHealth
    from adapter.store.flag_changes import FlagChange


def health(ctx: typer.Context) -> None:
    """Show how executors do: failures of their own, canaries, open circuits."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[ExecutorHealth, datetime]:
        return await adapter.executor_health(), adapter.clock.now()

    invocation = Invocation.of(ctx)
    found, now = invocation.run(read)
    parts: list[Any] = []
    if found.circuits:
        circuits = [
            (each.task, each.executor, each.reason, each.actor, output.ago(each.updated_at, now))
            for each in found.circuits
        ]
        parts.append(output.table(("OPEN CIRCUIT", "EXECUTOR", "WHY", "WHO", "SINCE"), circuits, whole=2))
    if found.canaries:
        canaries = [
            (
                each.executor,
                output.brief(each.every),
                output.ago(each.last_success_at, now) or "never",
                None if each.took is None else output.brief(each.took),
            )
            for each in found.canaries
        ]
        parts.append(output.table(("CANARY", "EVERY", "CAME BACK", "TOOK"), canaries))
    if found.tasks:
        tasks = [
            (each.task, each.executor, each.runs, each.failures, f"{each.at_least:.1%}", each.in_a_row)
            for each in found.tasks
        ]
        columns = ("TASK", "EXECUTOR", "RUNS", "ITS FAILURES", "SURELY OVER", "NOT ARRIVED")
        parts.append(output.table(columns, tasks, whole=2))
    if parts:
        invocation.answer(dataclasses.asdict(found), *parts)
    else:
        invocation.answer(dataclasses.asdict(found), note="Nothing was sent to an executor yet.")


def trip(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    executor: Annotated[str, typer.Option("--at", help="The executor that gets no more jobs of it.")],
    expected_version: changing.Version = None,
) -> None:
    """Open a circuit by hand: new and unsent jobs go to the fallback, or wait."""

    async def turn(adapter: Adapter) -> FlagChange:
        return await adapter.open_circuit(
            task,
            executor=executor,
            reason=reason,
            actor=actor(),
            source=SOURCE,
            expected_version=expected_version,
        )

    invocation = Invocation.of(ctx)
    made = changing.run(invocation, task, turn)
    said = f"{made.executor} gets no more jobs of {changing.named(task)} until somebody resumes it"
    changing.answer(invocation, made, said)
