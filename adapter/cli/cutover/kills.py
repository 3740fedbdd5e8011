"""Kill switches: every new job to one executor, whatever else says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.cutover import changing
from adapter.cli.invocation import SOURCE, Invocation, actor

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.store.flag_changes import FlagChange


def kill(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: Annotated[str, typer.Option(help="The executor that gets every new job.")] = "local",
    expected_version: changing.Version = None,
) -> None:
    """Send every new job of a task, or of all, to one executor, whatever else says."""

    async def turn(adapter: Adapter) -> tuple[FlagChange, list[str]]:
        made = await adapter.kill(
            task,
            to=to,
            reason=reason,
            actor=actor(),
            source=SOURCE,
            expected_version=expected_version,
        )
        return made, adapter.steering.boot_findings(await adapter.flags())

    invocation = Invocation.of(ctx)
    made, findings = changing.run(invocation, task, turn)
    if invocation.app is not None:
        for each in findings:
            invocation.say(f"warning: {each}", style="yellow")
    said = f"every new job of {changing.named(task)} goes to {made.executor} now"
    changing.answer(invocation, made, said)


def unkill(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    expected_version: changing.Version = None,
) -> None:
    """Take a runtime kill switch away: the rules below it decide again."""
    changing.clear(ctx, "kill", task, "", reason, expected_version)
