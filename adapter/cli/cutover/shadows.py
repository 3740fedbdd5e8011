"""Shadows: copies on another executor that are only looked at."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.cutover import changing
from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import SOURCE, Invocation, actor
from adapter.domain.shadow import MOST_OPEN

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.store.flag_changes import FlagChange


class Mode(StrEnum):
    """What becomes of copies."""

    OFF = "off"
    ENQUEUE = "enqueue"
    EXECUTE = "execute"


def shadow(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    reason: changing.Reason,
    mode: Annotated[
        Mode, typer.Option(help="enqueue: taken there, not worked; execute: worked and compared.")
    ],
    at: Annotated[str, typer.Option(help="The executor that gets the copies.")],
    percent: Annotated[
        float, typer.Option(min=0, max=100, help="The share of ended jobs, in steps of 0.001.")
    ] = 100,
    most_open: Annotated[
        int, typer.Option(min=1, max=MOST_OPEN, help="Copies at once; more are dropped and counted.")
    ] = 10,
    expected_version: changing.Version = None,
) -> None:
    """Copy a task's ended jobs to another executor, where they are only looked at. Back: --mode off."""

    async def turn(adapter: Adapter) -> FlagChange | None:
        return await adapter.shadow(
            task,
            mode=mode.value,
            at=at,
            percent=percent,
            most_open=most_open,
            reason=reason,
            actor=actor(),
            source=SOURCE,
            expected_version=expected_version,
        )

    invocation = Invocation.of(ctx)
    made = invocation.run(turn, tasks=mode is not Mode.OFF)
    if made is None:
        raise CommandError(
            f"There is no shadow of {task!r} at {at}.", ExitCode.NOT_FOUND, code="flag_not_found"
        )
    said = f"{percent:g}% of the ended jobs of {task!r} are copied to {made.executor}: {mode.value}"
    changing.answer(invocation, made, said if made.after else f"no more jobs of {task!r} are copied to {at}")
