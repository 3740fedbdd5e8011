"""How things stand: every switch, who turned it, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.domain.routing import Flags
    from adapter.store.flag_entries import FlagEntry


def status(ctx: typer.Context) -> None:
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
