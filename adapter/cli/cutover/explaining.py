"""Why a job goes where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.invocation import Invocation, job_id, json_value, pairs

if TYPE_CHECKING:
    from adapter.core.cutover.steering import Explanation
    from adapter.store.insights import JobEvent


def explain(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    tag: Annotated[str | None, typer.Option(help="The job's tag.")] = None,
    user_id: Annotated[str | None, typer.Option(help="Its user.")] = None,
    data: Annotated[str, typer.Option(metavar="JSON", help="The payload: JSON, @file, or -.")] = "null",
    context: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="What rollouts may look at.")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="As if the call had said so.")] = None,
) -> None:
    """Say where a job would go now, rule by rule; nothing is scheduled."""
    options: dict[str, Any] = {
        "tag": tag,
        "user_id": user_id,
        "data": json_value(data, "--data"),
        "context": pairs(context, "--context"),
        "executor": executor,
    }
    invocation = Invocation.of(ctx)
    found = invocation.run(lambda adapter: adapter.explain(task, **options), tasks=True)
    _explained(invocation, found)


def _explained(invocation: Invocation, found: Explanation) -> None:
    from rich.text import Text

    from adapter.cli import output

    deciding = max((n for n, step in enumerate(found.steps) if step.decided is not None), default=None)
    rows = [
        (
            Text("▶" if n == deciding else " ", style="bold green"),
            output.cell(step.rule, "bold" if n == deciding else ""),
            output.cell(step.decided, "bold green" if n == deciding else ""),
            step.detail,
        )
        for n, step in enumerate(found.steps)
    ]
    headline = Text.assemble(
        (output.plain(found.task), "bold"),
        " goes to ",
        (output.plain(found.route.executor), "bold green"),
        f": {output.plain(found.route.reason)}",
        (" - and waits" if found.route.blocked else "", "yellow"),
    )
    document = {
        "task": found.task,
        "executor": found.route.executor,
        "reason": found.route.reason,
        "blocked": found.route.blocked,
        "notes": found.notes,
        "steps": [
            {"rule": each.rule, "decided": each.decided, "detail": each.detail, "deciding": n == deciding}
            for n, each in enumerate(found.steps)
        ],
    }
    notes = [Text(f"note: {output.plain(each)}", style="yellow") for each in found.notes]
    table = output.table(("", "RULE", "EXECUTOR", "DETAIL"), rows, whole=3)
    invocation.answer(document, headline, table, *notes)


def explain_job(
    ctx: typer.Context, job: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
) -> None:
    """Say why a job went where it went: the reason, the change behind it, what moved it later."""
    from adapter.cli import output

    wanted = job_id(job)
    invocation = Invocation.of(ctx)
    found = invocation.run(lambda adapter: adapter.explain_job(wanted))
    first = found.moves[0].detail if found.moves else None
    began = (first or {}).get("from") or found.job.executor
    rows = [(output.moment(found.job.created_at), f"to {began}: {found.job.route_reason}", None, None)]
    rows += [
        (output.moment(each.at), f"the change behind it, {each.id}: {each.said}", each.actor, each.reason)
        for each in found.changes
    ]
    rows += [
        (output.moment(each.at), _moved(each), each.actor, (each.detail or {}).get("reason"))
        for each in found.moves
    ]
    document = {
        "job": str(found.job.id),
        "task": found.job.type,
        "executor": found.job.executor,
        "epoch": found.job.epoch,
        "reason": found.job.route_reason,
        "changes": found.changes,
        "moves": found.moves,
    }
    invocation.answer(document, output.table(("AT", "WHAT", "WHO", "WHY"), rows))


def _moved(event: JobEvent) -> str:
    there = (event.detail or {}).get("to")
    return f"{event.kind} to {there}" if there else event.kind
