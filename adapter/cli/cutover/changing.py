"""What the verbs that change a flag have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import SOURCE, Invocation, actor
from adapter.domain.routing import EVERY_TASK

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.store.flag_changes import FlagChange

Task = Annotated[str, typer.Argument(help="The task's id, or '*' for every task.")]
Reason = Annotated[str, typer.Option(help="Why; it is written down.")]
Version = Annotated[
    int | None, typer.Option("--if-version", help="Only if the flag still has this version; 0: is not set.")
]


def clear(
    ctx: typer.Context,
    kind: Literal["kill", "rollout", "circuit", "shadow"],
    task: str,
    executor: str,
    reason: str,
    expected_version: int | None,
) -> None:
    """Take a flag away and answer."""

    async def turn(adapter: Adapter) -> FlagChange | None:
        return await adapter.clear_flag(
            kind,
            task,
            executor=executor,
            reason=reason,
            actor=actor(),
            source=SOURCE,
            expected_version=expected_version,
        )

    invocation = Invocation.of(ctx)
    made = invocation.run(turn)
    if made is None:
        raise CommandError(
            f"There is no {kind} flag of {named(task)}.", ExitCode.NOT_FOUND, code="flag_not_found"
        )
    answer(invocation, made, f"the {kind} flag of {named(task)} is gone")


def answer(invocation: Invocation, made: FlagChange, said: str) -> None:
    """Tell what was done, and how it is undone."""
    invocation.answer(made, said, note=f"Back: adapter cutover revert flag-{made.id} --reason …")


def run(invocation: Invocation, task: str, turn: Any) -> Any:
    """Carry out a change. Only the application knows its tasks; every task is nobody's in particular."""
    return invocation.run(turn, tasks=task != EVERY_TASK)


def named(task: str) -> str:
    """Return what a person calls the task."""
    return "every task" if task == EVERY_TASK else repr(task)
