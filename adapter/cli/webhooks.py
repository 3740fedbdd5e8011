"""Webhooks that came in: see them, and offer dead ones again."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.store.inbox import InboxEntry

app = typer.Typer(no_args_is_help=True, help="Webhooks: those that came in, and who is told how jobs go.")


class State(StrEnum):
    """What became of a webhook."""

    pending = "pending"
    applied = "applied"
    dead = "dead"


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 25,
    before: Annotated[int | None, typer.Option(help="Only those with a smaller id: the next page.")] = None,
) -> None:
    """List what came in, newest first; bodies are not shown."""
    from adapter.cli import output
    from adapter.store import inbox

    invocation = Invocation.of(ctx)

    async def read(adapter: Adapter) -> tuple[list[InboxEntry], datetime]:
        async with adapter.database.connection() as conn:
            found = await inbox.entries(
                conn,
                adapter.database.schema,
                state=state.value if state else None,
                limit=limit,
                before=before,
            )
        return found, adapter.clock.now()

    found, now = invocation.run(read)
    columns = ("ID", "STATE", "FROM", "RECEIVED", "TRIES", "RESULT", "JOB", "ERROR")
    rows = [
        (
            str(each.id),
            output.word(each.state),
            each.source,
            output.ago(each.received_at, now),
            each.attempts,
            each.result,
            each.job_id,
            each.error,
        )
        for each in found
    ]
    if not found:
        invocation.answer({"webhooks": found}, note="No webhooks.")
        return
    more = f"More: --before {found[-1].id}" if len(found) == limit else ""
    invocation.answer({"webhooks": found}, output.table(columns, rows), note=more)


@app.command()
def replay(
    ctx: typer.Context,
    entry: Annotated[int | None, typer.Argument(metavar="[ID]", help="Which dead letter.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter there is.")] = False,
) -> None:
    """Offer a dead letter, or all of them, once more."""
    from adapter.store import inbox
    from adapter.store.wakeup import INBOX

    invocation = Invocation.of(ctx)
    if (entry is None) != everything:
        raise CommandError("Name one dead letter by its id, or say --all.")

    async def replayed(adapter: Adapter) -> int:
        async with adapter.database.connection() as conn:
            count = await inbox.replay(conn, adapter.database.schema, entry)
        adapter.notifier.poke(INBOX)
        return count

    count = invocation.run(replayed)
    if entry is not None and not count:
        raise CommandError(f"There is no dead letter {entry}.", ExitCode.NOT_FOUND, code="webhook_not_found")
    invocation.answer({"replayed": count}, f"{count} offered again")
