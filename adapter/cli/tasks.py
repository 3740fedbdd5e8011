"""Tasks: what is declared, and where it goes."""

from __future__ import annotations

from dataclasses import replace
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
    from adapter.domain.routing import can_run

    goes_to, reason = destination(policy, flags)
    places = [name for name in ("local", *adapter.executors.names) if can_run(policy, name, flags)]
    if not places:
        reason += "; nothing here can run it"
    return {
        "id": policy.id,
        "description": policy.description,
        "enabled": policy.enabled,
        "can_run": places,
        "goes_to": goes_to if policy.enabled else "nowhere",
        "reason": reason if policy.enabled else "disabled in the registry",
        "remote_ids": policy.remote_ids,
        "queue": policy.queue.name,
        "queue_limit": policy.queue.concurrency_limit,
        "max_attempts": policy.retry.max_attempts,
        "retry": policy.retry.model_dump(),
        "idempotent": policy.idempotent,
    }


def destination(policy: TaskPolicy, flags: Flags) -> tuple[str, str]:
    """Return where jobs of a task go and why. A rollout sends some here and some there: both are named."""
    from adapter.domain.routing import EVERY_TASK, Request, decide

    # A job of no tag and no user: what a rollout makes of it says nothing of the others.
    without = decide(policy, Request(job_id=""), replace(flags, rollouts=()))
    if without.reason.startswith("kill switch"):
        return without.executor, without.reason
    own = [each for each in flags.rollouts if each.task == policy.id]
    covering = own or [each for each in flags.rollouts if each.task == EVERY_TASK]
    open_to = [each for each in covering if policy.runs_at(each.executor) and each.percent > 0]
    if not open_to:
        return without.executor, without.reason
    shares = ", ".join(f"{each.executor} {each.percent:g}%" for each in open_to)
    conditions = {"allow": any(each.allow for each in open_to), "deny": any(each.deny for each in open_to)}
    conditions["when"] = any(each.when for each in open_to)
    lists = [name for name, given in conditions.items() if given]
    reason = f"rollout by {open_to[0].hash_by}" + (f" ({', '.join(lists)})" if lists else "")
    if sum(each.percent for each in open_to) < 100 or lists:
        shares += f", else {without.executor}"
        reason += f"; else {without.reason}"
    return shares, reason
