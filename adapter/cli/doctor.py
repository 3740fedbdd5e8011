"""``adapter doctor``: everything that can be found out before it hurts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from adapter.cli.exits import ExitCode
from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    from adapter.cli.verdicts import Check


def doctor(
    ctx: typer.Context,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Only what an alert would be raised for: depth, failures, lags.")
    ] = False,
) -> None:
    """Examine the database, the configuration and the backlog; ends with 3 when a check fails."""
    from adapter.cli import output
    from adapter.cli.checks import Doctor
    from adapter.cli.verdicts import Verdict

    invocation = Invocation.of(ctx)
    if alerts:
        _alert(invocation)
        return
    invocation.log(quiet=True)
    adapter = invocation.adapter()
    checks = asyncio.run(Doctor(adapter, knows_tasks=invocation.app is not None).examine())
    failed = [each for each in checks if each.verdict is Verdict.FAIL]
    warned = [each for each in checks if each.verdict is Verdict.WARN]
    document = {"ok": not failed, "checks": checks}
    passed = len(checks) - len(failed) - len(warned)
    invocation.answer(
        document,
        output.table(("CHECK", "", "FINDING"), [_row(each) for each in checks]),
        note=f"{passed} passed, {len(warned)} to look at, {len(failed)} failed",
    )
    if failed:
        raise typer.Exit(int(ExitCode.CHECK))


def _alert(invocation: Invocation) -> None:
    """Judge by the thresholds of the rules for Prometheus, for those who have none."""
    from adapter.cli import output

    found = invocation.run(lambda adapter: adapter.alerts())
    rows = [(each.name, each.subject, each.finding) for each in found]
    shown = output.table(("ALERT", "OF", "FINDING"), rows) if rows else "nothing to look at"
    invocation.answer({"ok": not found, "alerts": found}, shown)
    if found:
        raise typer.Exit(int(ExitCode.CHECK))


def _row(check: Check) -> tuple[object, ...]:
    from rich.text import Text

    from adapter.cli import output

    finding = Text(output.plain(check.finding))
    if check.advice:
        finding.append(f"\n{output.plain(check.advice)}", style="dim")
    return check.name, output.word(check.verdict), finding
