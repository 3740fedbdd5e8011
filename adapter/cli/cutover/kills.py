"""Kill switches: every new job to one executor, whatever else says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.cutover import changing
from adapter.cli.invocation import Invocation, actor
from adapter.domain.job import executor_name

if TYPE_CHECKING:
    from adapter.app import Adapter


def kill(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: Annotated[str, typer.Option(help="The executor that gets every new job.")] = "local",
    expected_version: changing.Version = None,
) -> None:
    """Send every new job of a task, or of all, to one executor, whatever else says."""

    async def turn(adapter: Adapter) -> list[str]:
        await adapter.steering.kill(
            task,
            to=to,
            reason=reason,
            actor=actor(),
            source=changing.SOURCE,
            expected_version=expected_version,
        )
        return adapter.steering.boot_findings(await adapter.flags())

    invocation = Invocation.of(ctx)
    findings = changing.run(invocation, task, turn)
    if invocation.app is not None:
        for each in findings:
            invocation.say(f"warning: {each}", style="yellow")
    executor = executor_name(to)
    invocation.answer(
        {"kind": "kill", "task": task, "executor": executor, "reason": reason},
        f"every new job of {changing.named(task)} goes to {executor} now",
    )


def unkill(ctx: typer.Context, task: changing.Task, reason: changing.Reason) -> None:
    """Take a runtime kill switch away."""
    changing.clear(ctx, "kill", task, "", reason)
