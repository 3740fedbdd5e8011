"""Schedules: see them, add them, pause, resume and remove them."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from adapter.cli.exits import CommandError
from adapter.cli.invocation import SOURCE, Invocation, actor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.store.schedules import Schedule

app = typer.Typer(
    no_args_is_help=True, help="Schedules: who fires what and when; add, pause, resume, cancel."
)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id, or the beginning or end of it.")]
_Reason = Annotated[str, typer.Option(help="Why; it is written down.")]


@app.command("list")
def list_(
    ctx: typer.Context, task: Annotated[str | None, typer.Option(help="Only of this task.")] = None
) -> None:
    """List the schedules: when each fires next, who keeps its clock, and what keeps it from making jobs."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[list[Schedule], datetime]:
        return await adapter.list_schedules(task), adapter.clock.now()

    invocation = Invocation.of(ctx)
    found, now = invocation.run(read)
    rows = [
        (
            str(each.id)[-12:],
            output.cell(each.task, "bold"),
            each.cron,
            each.timezone,
            "paused" if not each.active else output.moment(each.next_at),
            output.ago(each.last_at, now),
            each.owner if each.handover_to is None else f"{each.owner} -> {each.handover_to}",
            each.problem or each.description,
        )
        for each in found
    ]
    columns = ("ID", "TASK", "CRON", "ZONE", "NEXT", "LAST", "CLOCK", "")
    document = {"schedules": [dataclasses.asdict(each) for each in found]}
    if found:
        invocation.answer(document, output.table(columns, rows, whole=3))
    else:
        invocation.answer(document, note="There are no schedules.")


@app.command("add")
def add(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    cron: Annotated[str, typer.Argument(help="Five fields: '0 9 * * 1-5'.")],
    reason: _Reason,
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="An IANA zone: Europe/Berlin.")] = None,
    data: Annotated[str | None, typer.Option(metavar="JSON", help="The payload of each tick.")] = None,
    tag: Annotated[
        str | None, typer.Option(help="While a tick's job has not started, the next makes no second.")
    ] = None,
    missed: Annotated[
        Literal["last", "all", "skip"], typer.Option(help="What becomes of ticks that nobody fired in time.")
    ] = "last",
    key: Annotated[
        str | None, typer.Option(help="A second call with this key changes the first's schedule.")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="Where the ticks go, whatever rollouts say.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="30m|2h|50%", help="Let each tick's job become due up to so much later."),
    ] = None,
) -> None:
    """Add a schedule."""
    try:
        payload = None if data is None else json.loads(data)
    except ValueError as error:
        raise CommandError(f"--data is no JSON: {error}.") from None

    async def make(adapter: Adapter) -> Schedule:
        return await adapter.schedule_cron(
            task,
            cron,
            payload,
            tz=tz,
            tag=tag,
            missed=missed,
            key=key,
            executor=executor,
            description=description,
            window=window,
            reason=reason,
            actor=actor(),
            source=SOURCE,
        )

    _answer(ctx, Invocation.of(ctx).run(make, tasks=True))


@app.command("pause")
def pause(ctx: typer.Context, schedule: _Id, reason: _Reason) -> None:
    """Let a schedule fire no more until it is resumed."""
    _turn(ctx, schedule, lambda adapter, found: adapter.pause_schedule(found, **_said(reason)))


@app.command("resume")
def resume(ctx: typer.Context, schedule: _Id, reason: _Reason) -> None:
    """Let a schedule fire again, from its next tick on."""
    _turn(ctx, schedule, lambda adapter, found: adapter.resume_schedule(found, **_said(reason)))


@app.command("cancel")
def cancel(ctx: typer.Context, schedule: _Id, reason: _Reason) -> None:
    """Remove a schedule; the jobs it has made go on."""
    _turn(ctx, schedule, lambda adapter, found: adapter.cancel_schedule(found, **_said(reason)), gone=True)


@app.command("hand-over")
def hand_over(
    ctx: typer.Context,
    schedule: _Id,
    reason: _Reason,
    to: Annotated[str, typer.Option(help="Who keeps its clock from then on: an executor, or local.")],
) -> None:
    """Hand the clock of a schedule to an executor, or take it back; done by whoever runs the loops."""
    from adapter.cli import output

    async def turn(adapter: Adapter) -> Schedule:
        found = await _id_of(adapter, schedule)
        return await adapter.hand_over_schedule(found, to=to, **_said(reason))

    invocation = Invocation.of(ctx)
    begun = invocation.run(turn, tasks=True)
    cut = output.moment(begun.handover_cut)
    invocation.answer(
        dataclasses.asdict(begun), f"{begun.handover_to} keeps the clock of {begun.task!r} from {cut} on"
    )


@app.command("next")
def next_(
    ctx: typer.Context,
    schedule: Annotated[str, typer.Argument(metavar="ID|CRON", help="A schedule, or an expression to try.")],
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 5,
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="The expression's zone.")] = None,
) -> None:
    """Show the next fire times: of a schedule, or of an expression nobody has scheduled yet."""
    from adapter.domain.cron import Cron

    async def read(adapter: Adapter) -> list[datetime]:
        what = Cron(schedule, tz) if " " in schedule else await _id_of(adapter, schedule)
        return await adapter.next_ticks(what, count)

    from adapter.cli import output

    invocation = Invocation.of(ctx)
    ticks = invocation.run(read)
    invocation.answer({"ticks": ticks}, output.table(("UTC",), [(output.moment(each),) for each in ticks]))


def _said(reason: str) -> dict[str, str]:
    return {"reason": reason, "actor": actor(), "source": SOURCE}


async def _id_of(adapter: Adapter, given: str) -> UUID:
    """Return the id of the one schedule whose id begins or ends like this."""
    found = [
        each.id
        for each in await adapter.list_schedules()
        if given and (str(each.id).startswith(given) or str(each.id).endswith(given))
    ]
    if len(found) > 1:
        raise CommandError(f"{given!r} fits {len(found)} schedules: give more of the id.")
    if not found:
        from adapter.domain.errors import ScheduleNotFoundError

        raise ScheduleNotFoundError(given)
    return found[0]


def _turn(
    ctx: typer.Context,
    given: str,
    verb: Callable[[Adapter, UUID], Coroutine[Any, Any, Schedule]],
    *,
    gone: bool = False,
) -> None:
    async def turn(adapter: Adapter) -> Schedule:
        return await verb(adapter, await _id_of(adapter, given))

    _answer(ctx, Invocation.of(ctx).run(turn), gone=gone)


def _answer(ctx: typer.Context, schedule: Schedule, *, gone: bool = False) -> None:
    from adapter.cli import output

    state = f"fires next at {output.moment(schedule.next_at)}" if schedule.active else "rests"
    Invocation.of(ctx).answer(
        dataclasses.asdict(schedule),
        f"schedule {schedule.id} of {schedule.task!r} {'is gone' if gone else state}",
    )
