"""Tasks: what is declared, and where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.domain.routing import Flags
    from adapter.domain.task import TaskPolicy

app = typer.Typer(no_args_is_help=True, help="Tasks: what the application declares, and where it goes.")


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the declared tasks: where each can run, where it goes now and why."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> list[dict[str, Any]]:
        flags = await adapter.flags()
        return [_described(each.policy, adapter, flags) for each in adapter.registry]

    invocation = Invocation.of(ctx)
    found = invocation.run(read, tasks=True)
    rows = [
        (
            each["id"],
            ", ".join(each["can_run"]) or None,
            output.cell(each["goes_to"], "bold"),
            each["reason"],
            each["queue"] if each["queue_limit"] is None else f"{each['queue']} ({each['queue_limit']})",
            f"{each['max_attempts']} x",
        )
        for each in found
    ]
    columns = ("TASK", "CAN RUN", "GOES TO", "BECAUSE", "QUEUE", "RETRY")
    if found:
        invocation.answer({"tasks": found}, output.table(columns, rows))
    else:
        invocation.answer({"tasks": found}, note="No tasks are declared.")


def _described(policy: TaskPolicy, adapter: Adapter, flags: Flags) -> dict[str, Any]:
    from adapter.domain.destinations import destination
    from adapter.domain.routing import can_run

    where = destination(policy, flags)
    reason = where.rule
    places = [name for name in ("local", *adapter.executors.names) if can_run(policy, name, flags)]
    if not places:
        reason += "; nothing here can run it"
    return {
        "id": policy.id,
        "description": policy.description,
        "enabled": policy.enabled,
        "can_run": places,
        "goes_to": str(where),
        "reason": reason,
        "remote_ids": policy.remote_ids,
        "queue": policy.queue.name,
        "queue_limit": policy.queue.concurrency_limit,
        "max_attempts": policy.retry.max_attempts,
        "retry": policy.retry.model_dump(),
        "idempotent": policy.idempotent,
    }
