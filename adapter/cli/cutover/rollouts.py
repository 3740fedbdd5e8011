"""Rollouts: a share of new jobs to an executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.cutover import changing
from adapter.cli.invocation import SOURCE, Invocation, actor, pairs

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.store.flag_changes import FlagChange


def rollout(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: Annotated[str, typer.Option(help="The executor that gets the share.")],
    percent: Annotated[float, typer.Option(min=0, max=100, help="The share, in steps of 0.001.")],
    by: Annotated[
        str | None, typer.Option(metavar="UNIT", help="tag, user_id, data.<path> or context.<name>.")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="UNIT", help="Always goes there.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="UNIT", help="Never goes there.")] = None,
    when: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="Only jobs whose context= says so; a JSON list: one of it."),
    ] = None,
    expected_version: changing.Version = None,
) -> None:
    """Send a share of a task's new jobs to an executor. Raising it only adds, lowering takes back the last."""
    invocation = Invocation.of(ctx)
    conditions = pairs(when, "--when")

    async def turn(adapter: Adapter) -> FlagChange:
        return await adapter.rollout(
            task,
            to=to,
            percent=percent,
            reason=reason,
            by=by,
            allow=allow or (),
            deny=deny or (),
            when=conditions,
            actor=actor(),
            source=SOURCE,
            expected_version=expected_version,
        )

    made = changing.run(invocation, task, turn)
    said = f"{percent:g}% of the new jobs of {changing.named(task)} go to {made.executor} now"
    changing.answer(invocation, made, said)


def withdraw(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: Annotated[str, typer.Option(help="The rollout's executor; needed when there are several.")] = "",
    expected_version: changing.Version = None,
) -> None:
    """Take a rollout away. Setting it again finds the same jobs."""
    changing.clear(ctx, "rollout", task, to, reason, expected_version)


def resalt(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: Annotated[str, typer.Option(help="The rollout's executor.")],
    expected_version: changing.Version = None,
) -> None:
    """Deal the jobs of a rollout anew: the same share of others. Jobs of one tag may change sides."""
    invocation = Invocation.of(ctx)

    async def turn(adapter: Adapter) -> FlagChange:
        return await adapter.resalt(
            task,
            to=to,
            reason=reason,
            actor=actor(),
            source=SOURCE,
            expected_version=expected_version,
        )

    made = invocation.run(turn)
    changing.answer(
        invocation, made, f"the rollout of {changing.named(task)} to {made.executor} is dealt anew"
    )
