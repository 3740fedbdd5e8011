"""What the verbs that change a flag have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, actor
from adapter.domain.routing import EVERY_TASK

if TYPE_CHECKING:
    from adapter.app import Adapter

#: Whence a change came, as the audit has it.
SOURCE = "cli"

Task = Annotated[str, typer.Argument(help="The task's id, or '*' for every task.")]
Reason = Annotated[str, typer.Option(help="Why; it is written down.")]
Version = Annotated[
    int | None, typer.Option("--if-version", help="Only if the flag still has this version; 0: is not set.")
]


def clear(ctx: typer.Context, kind: str, task: str, executor: str, reason: str) -> None:
    """Take a flag away and answer; without an executor, the only one there is."""

    async def turn(adapter: Adapter) -> dict[str, Any] | None:
        from adapter.store.flag_entries import entries

        name = executor
        if not name and kind != "kill":
            async with adapter.database.connection() as conn:
                stored = await entries(conn, adapter.database.schema)
            there = [each.executor for each in stored if (each.kind, each.task) == (kind, task)]
            if len(there) > 1:
                raise CommandError(f"There are several: say --to {' or --to '.join(there)}.")
            name = "".join(there)
        return await adapter.steering.clear(
            kind, task, executor=name, reason=reason, actor=actor(), source=SOURCE
        )

    invocation = Invocation.of(ctx)
    before = invocation.run(turn)
    if before is None:
        raise CommandError(
            f"There is no {kind} flag of {named(task)}.", ExitCode.NOT_FOUND, code="flag_not_found"
        )
    invocation.answer({"cleared": before}, f"the {kind} flag of {named(task)} is gone")


def run(invocation: Invocation, task: str, turn: Any) -> Any:
    """Carry out a change. Only the application knows its tasks; every task is nobody's in particular."""
    return invocation.run(turn, tasks=task != EVERY_TASK)


def named(task: str) -> str:
    """Return what a person calls the task."""
    return "every task" if task == EVERY_TASK else repr(task)
