"""What was changed by whom, and back again."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.cutover import changing
from adapter.cli.exits import CommandError
from adapter.cli.invocation import SOURCE, Invocation, actor

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.store.flag_changes import FlagChange
    from adapter.store.history import Change


def history(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Of a task or queue only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 25,
    before: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="Only what is older.")
    ] = None,
) -> None:
    """List what people changed, the newest first: flags, circuits, queues, recalls; who, when, why."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[list[Change], datetime]:
        return await adapter.cutover_history(subject, before=before, limit=limit), adapter.clock.now()

    invocation = Invocation.of(ctx)
    found, now = invocation.run(read)
    rows = [
        (
            _short(each.id),
            output.ago(each.at, now),
            each.subject,
            output.cell(each.said, "bold"),
            f"{each.actor} ({each.source})",
            each.reason,
        )
        for each in found
    ]
    document = {"changes": found}
    if found:
        columns = ("CHANGE", "AGO", "OF", "WHAT", "WHO", "WHY")
        invocation.answer(document, output.table(columns, rows))
    else:
        invocation.answer(document, note="Nothing was changed yet.")


def _short(change: str) -> str:
    # A recall is named by a uuid, which `recalls` shows; nobody reverts one by it.
    return change if len(change) < 16 else change.partition("-")[0]


def revert(
    ctx: typer.Context,
    change: Annotated[str, typer.Argument(metavar="CHANGE", help="As `history` names it: flag-12.")],
    reason: changing.Reason,
) -> None:
    """Put back what a change of a flag replaced; refused when it was changed since."""
    kind, _, number = change.rpartition("-")
    if kind not in {"", "flag"} or not number.isdecimal():
        raise CommandError(f"{change!r} is no change of a flag: those are named flag-12 in `history`.")

    async def turn(adapter: Adapter) -> FlagChange:
        return await adapter.revert_change(int(number), reason=reason, actor=actor(), source=SOURCE)

    invocation = Invocation.of(ctx)
    made = invocation.run(turn)
    now = "is not set" if made.after is None else f"is as it was, at {made.executor}"
    changing.answer(invocation, made, f"the {made.kind} flag of {changing.named(made.task)} {now}")
