"""Kill switches and rollouts: see them, turn them, take them away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, actor, pairs
from adapter.domain.job import executor_name

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.domain.routing import Flags
    from adapter.store.flag_entries import FlagEntry

app = typer.Typer(no_args_is_help=True, help="Kill switches and rollouts: see them, turn them.")
setting = typer.Typer(no_args_is_help=True, help="Turn a flag. Every change is written down with its reason.")
clearing = typer.Typer(no_args_is_help=True, help="Take a flag away.")
app.add_typer(setting, name="set")
app.add_typer(clearing, name="clear")

_SOURCE = "cli"
_Task = Annotated[str, typer.Argument(help="The task's id, or '*' for every task.")]
_Reason = Annotated[str, typer.Option(help="Why; it is written down.")]
_Version = Annotated[
    int | None, typer.Option("--if-version", help="Only if the flag still has this version; 0: is not set.")
]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List every switch: of the environment, of the file, and those turned at runtime."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[Flags, list[FlagEntry], datetime]:
        from adapter.store.flag_entries import entries

        async with adapter.database.connection() as conn:
            stored = await entries(conn, adapter.database.schema)
        return await adapter.flags(), stored, adapter.clock.now()

    invocation = Invocation.of(ctx)
    flags, stored, now = invocation.run(read)
    listed = [*_fixed(flags), *(_turned(each) for each in stored)]
    rows = [
        (
            each["kind"],
            each["task"],
            output.cell(each["executor"], "bold"),
            _share(each),
            each["source"],
            each["reason"],
            each["actor"],
            output.ago(each["updated_at"], now),
        )
        for each in listed
    ]
    columns = ("KIND", "TASK", "EXECUTOR", "SHARE", "SOURCE", "REASON", "WHO", "SINCE")
    document = {"version": flags.version, "flags": listed}
    if listed:
        invocation.answer(document, output.table(columns, rows, whole=3))
    else:
        invocation.answer(document, note="No flags are set.")


def _fixed(flags: Flags) -> list[dict[str, Any]]:
    """Return the switches that only a redeploy or an edit of the file takes away."""
    sources = (("environment", flags.kill_environment), ("file", flags.kill_file))
    nothing = dict.fromkeys(
        ("percent", "hash_by", "detail", "version", "reason", "actor", "updated_at"), None
    )
    return [
        {"kind": "kill", "task": task, "executor": executor, "source": source, **nothing}
        for source, switches in sources
        for task, executor in sorted(switches.items())
    ]


def _turned(entry: FlagEntry) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(entry), "source": "runtime"}


def _share(flag: dict[str, Any]) -> str | None:
    if flag["percent"] is None:
        return None
    lists = ", ".join(sorted(flag["detail"] or {}))
    return f"{flag['percent']:g}% by {flag['hash_by']}{f' ({lists})' if lists else ''}"


@setting.command("kill")
def set_kill(
    ctx: typer.Context,
    task: _Task,
    reason: _Reason,
    to: Annotated[str, typer.Option(help="The executor that gets every new job.")] = "local",
    expected_version: _Version = None,
) -> None:
    """Send every new job of a task, or of all, to one executor, whatever else says."""

    async def turn(adapter: Adapter) -> list[str]:
        await adapter.steering.kill(
            task, to=to, reason=reason, actor=actor(), source=_SOURCE, expected_version=expected_version
        )
        return adapter.steering.boot_findings(await adapter.flags())

    invocation = Invocation.of(ctx)
    findings = _with_tasks(invocation, task, turn)
    if invocation.app is not None:
        for each in findings:
            invocation.say(f"warning: {each}", style="yellow")
    to = executor_name(to)
    invocation.answer(
        {"kind": "kill", "task": task, "executor": to, "reason": reason},
        f"every new job of {_named(task)} goes to {to} now",
    )


@setting.command("rollout")
def set_rollout(
    ctx: typer.Context,
    task: _Task,
    reason: _Reason,
    to: Annotated[str, typer.Option(help="The executor that gets the share.")],
    percent: Annotated[float, typer.Option(min=0, max=100, help="The share, in steps of 0.001.")],
    by: Annotated[
        str | None, typer.Option(metavar="UNIT", help="tag, user_id, data.<path> or context.<name>.")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="UNIT", help="Always goes there.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="UNIT", help="Never goes there.")] = None,
    when: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Only jobs whose context= says so.")
    ] = None,
    expected_version: _Version = None,
) -> None:
    """Send a share of a task's new jobs to an executor. Raising it only adds, lowering takes back the last."""
    invocation = Invocation.of(ctx)
    conditions = pairs(when, "--when")

    async def turn(adapter: Adapter) -> None:
        await adapter.steering.rollout(
            task,
            to=to,
            percent=percent,
            reason=reason,
            by=by,
            allow=allow,
            deny=deny,
            when=conditions,
            actor=actor(),
            source=_SOURCE,
            expected_version=expected_version,
        )

    _with_tasks(invocation, task, turn)
    to = executor_name(to)
    invocation.answer(
        {"kind": "rollout", "task": task, "executor": to, "percent": percent, "reason": reason},
        f"{percent:g}% of the new jobs of {_named(task)} go to {to} now",
    )


@clearing.command("kill")
def clear_kill(ctx: typer.Context, task: _Task, reason: _Reason) -> None:
    """Take a runtime kill switch away."""
    _clear(ctx, "kill", task, "", reason)


@clearing.command("rollout")
def clear_rollout(
    ctx: typer.Context,
    task: _Task,
    reason: _Reason,
    to: Annotated[str, typer.Option(help="The rollout's executor; needed when there are several.")] = "",
) -> None:
    """Take a rollout away. Setting it again finds the same jobs."""
    _clear(ctx, "rollout", task, to, reason)


@clearing.command("circuit")
def clear_circuit(
    ctx: typer.Context,
    task: _Task,
    reason: _Reason,
    to: Annotated[str, typer.Option(help="The executor; needed when there are several.")] = "",
) -> None:
    """Close an open circuit: the executor gets jobs again."""
    _clear(ctx, "circuit", task, to, reason)


def _clear(ctx: typer.Context, kind: str, task: str, executor: str, reason: str) -> None:
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
            kind, task, executor=name, reason=reason, actor=actor(), source=_SOURCE
        )

    invocation = Invocation.of(ctx)
    before = invocation.run(turn)
    if before is None:
        raise CommandError(
            f"There is no {kind} flag of {_named(task)}.", ExitCode.NOT_FOUND, code="flag_not_found"
        )
    invocation.answer({"cleared": before}, f"the {kind} flag of {_named(task)} is gone")


def _with_tasks(invocation: Invocation, task: str, turn: Any) -> Any:
    # Only the application knows its tasks; every task is nobody's in particular.
    return invocation.run(turn, tasks=task != "*")


def _named(task: str) -> str:
    return "every task" if task == "*" else repr(task)
