"""Queues: see them, pause them, change their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import SOURCE, Invocation, actor

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.store.queues import QueueInfo

app = typer.Typer(no_args_is_help=True, help="Queues: see them, pause them, change their limits.")

_Name = Annotated[str, typer.Argument(help="The queue's name.")]
_Reason = Annotated[str, typer.Option(help="Why; it is written down.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the queues: what waits, what runs, what limits them."""
    invocation = Invocation.of(ctx)
    _show(invocation, invocation.run(lambda adapter: adapter.list_queues()))


@app.command("show")
def show(ctx: typer.Context, name: _Name) -> None:
    """Show one queue."""
    invocation = Invocation.of(ctx)
    found = invocation.run(lambda adapter: adapter.list_queues(name))
    if not found:
        raise CommandError(f"There is no queue named {name!r}.", ExitCode.NOT_FOUND, code="queue_not_found")
    _show(invocation, found)


def _show(invocation: Invocation, found: list[QueueInfo]) -> None:
    from adapter.cli import output

    rows = [
        (
            each.name,
            str(each.waiting),
            str(each.running),
            output.brief(each.oldest_wait) if each.oldest_wait is not None else None,
            f"{each.limits}{' (set by hand)' if each.overrides else ''}",
            None if each.paused_at is None else f"{each.paused_by}: {each.pause_reason}",
        )
        for each in found
    ]
    columns = ("QUEUE", "WAITING", "RUNNING", "OLDEST", "LIMITS", "PAUSED")
    invocation.answer({"queues": [_document(each) for each in found]}, output.table(columns, rows))


def _document(each: QueueInfo) -> dict[str, Any]:
    return {
        "name": each.name,
        "waiting": each.waiting,
        "running": each.running,
        "oldest_wait_s": each.oldest_wait.total_seconds() if each.oldest_wait is not None else None,
        "limits": each.limits.as_json(),
        "declared": each.declared.as_json(),
        "overrides": each.overrides,
        "paused_at": each.paused_at,
        "paused_by": each.paused_by,
        "pause_reason": each.pause_reason,
    }


@app.command("pause")
def pause(ctx: typer.Context, name: _Name, reason: _Reason) -> None:
    """Let no more jobs of a queue start, in any process; those that run go on."""

    async def turn(adapter: Adapter) -> None:
        await adapter.pause_queue(name, reason=reason, actor=actor(), source=SOURCE)

    invocation = Invocation.of(ctx)
    invocation.run(turn)
    invocation.answer({"queue": name, "paused": True}, f"no more jobs of {name} start")


@app.command("resume")
def resume(ctx: typer.Context, name: _Name, reason: _Reason) -> None:
    """Let jobs of a paused queue start again."""

    async def turn(adapter: Adapter) -> None:
        await adapter.resume_queue(name, reason=reason, actor=actor(), source=SOURCE)

    invocation = Invocation.of(ctx)
    invocation.run(turn)
    invocation.answer({"queue": name, "paused": False}, f"jobs of {name} start again")


_Count = Annotated[str | None, typer.Option(metavar="N|none|registry")]
_Rate = Annotated[str | None, typer.Option(metavar="N/SECONDS|none|registry")]


@app.command("limit")
def limit(
    ctx: typer.Context,
    name: _Name,
    reason: _Reason,
    concurrency: _Count = None,
    per_key: _Count = None,
    rate: _Rate = None,
    key_rate: _Rate = None,
) -> None:
    """Set limits over those of the registry; `none` lifts one, `registry` takes back what was set."""
    given = {"concurrency_limit": concurrency, "key_limit": per_key, "rate": rate, "key_rate": key_rate}
    limits: dict[str, Any] = {each: _value(each, text) for each, text in given.items() if text is not None}

    async def turn(adapter: Adapter) -> QueueInfo:
        await adapter.set_queue_limits(name, reason=reason, actor=actor(), source=SOURCE, **limits)
        return (await adapter.list_queues(name))[0]

    invocation = Invocation.of(ctx)
    after = invocation.run(turn)
    invocation.answer(_document(after), f"limits of {name} now: {after.limits}")


def _value(name: str, text: str) -> Any:
    from datetime import timedelta

    from adapter.domain.limits import Rate

    if text in {"none", "registry"}:
        return None if text == "none" else text
    try:
        if not name.endswith("rate"):
            return int(text)
        count, _, seconds = text.partition("/")
        return Rate(int(count), timedelta(seconds=float(seconds)))
    except (ValueError, OverflowError):
        raise CommandError(f"{text!r} is no {name}: a number, or a rate such as 100/60.") from None
