"""The schema: bring it up, say where it is, compare it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from adapter.cli.exits import ExitCode
from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    from adapter.store.database import DatabaseConfig

app = typer.Typer(
    no_args_is_help=True, help="The database's schema: bring it up, say where it is, compare it."
)


def _config(invocation: Invocation) -> DatabaseConfig:
    invocation.log(quiet=True)
    # An application may name its database itself.
    settings = invocation.settings if invocation.app is None else invocation.adapter().settings
    return settings.database()


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Bring the schema to the newest revision. Safe from many processes at once."""
    from adapter.store import migrate

    invocation = Invocation.of(ctx)
    config = _config(invocation)
    before = migrate.current(config.url, config.schema)
    after = migrate.upgrade(config.url, config.schema)
    done = f"at {after}, as it was" if before == after else f"{before or 'empty'} -> {after}"
    invocation.answer(
        {"schema": config.schema, "before": before, "after": after}, f"schema {config.schema}: {done}"
    )


@app.command()
def current(ctx: typer.Context) -> None:
    """Say which revision the schema is at, and which one this version needs."""
    from adapter.store import migrate

    invocation = Invocation.of(ctx)
    config = _config(invocation)
    at, head = migrate.current(config.url, config.schema), migrate.head()
    note = "" if at == head else "  (run `adapter db upgrade`)"
    invocation.answer(
        {"schema": config.schema, "current": at, "head": head},
        f"schema {config.schema}: {at or 'empty'}, newest {head}{note}",
    )


@app.command()
def check(ctx: typer.Context) -> None:
    """Compare the database with the tables of this version; ends with 3 when they differ."""
    from adapter.store import migrate

    invocation = Invocation.of(ctx)
    config = _config(invocation)
    differences = migrate.check(config.url, config.schema)
    lines = differences or [f"schema {config.schema}: no differences"]
    invocation.answer({"schema": config.schema, "ok": not differences, "differences": differences}, *lines)
    if differences:
        raise typer.Exit(int(ExitCode.CHECK))
