"""Circuits: an executor that failed too often gets jobs again on a person's word only."""

from __future__ import annotations

from typing import Annotated

import typer

from adapter.cli.cutover import changing


def resume(
    ctx: typer.Context,
    task: changing.Task,
    reason: changing.Reason,
    to: Annotated[str, typer.Option(help="The executor; needed when there are several.")] = "",
    expected_version: changing.Version = None,
) -> None:
    """Close an open circuit: the executor gets jobs again, and is judged anew."""
    changing.clear(ctx, "circuit", task, to, reason, expected_version)
