"""The root of all commands: what stands before them, and what becomes of their errors."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from adapter.cli import (
    cron,
    cutover,
    db,
    dead,
    dev,
    doctor,
    exits,
    jobs,
    keys,
    outgoing,
    queues,
    reconcile,
    serving,
    status,
    tasks,
)
from adapter.cli.invocation import Invocation

_HELP = """Jobs in PostgreSQL that run here or elsewhere.

Answers are tables, or one JSON document with --json. Data goes to standard output, all else to standard error. \
--app and --json may stand anywhere on the line.
"""


class Root(TyperGroup):
    """Takes the global options wherever they stand, and tells errors in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            told = exits.told(error)
            if told is None:
                raise
            invocation = ctx.find_object(Invocation)
            tell(told, as_json=invocation is not None and invocation.as_json)
            raise typer.Exit(int(told.exit_code)) from error


def hoisted(args: list[str]) -> list[str]:
    """Return the arguments with the global options in front of the command."""
    front: list[str] = []
    rest: list[str] = []
    given = iter(args)
    for each in given:
        if each == "--":
            rest += [each, *given]
        elif each == "--json" or each.startswith("--app="):
            front.append(each)
        elif each == "--app":
            front += [each, *[value for value in [next(given, None)] if value is not None]]
        else:
            rest.append(each)
    return front + rest


def tell(told: exits.Told, *, as_json: bool) -> None:
    """Say on standard error why a command ended."""
    from rich.text import Text

    from adapter.cli import output
    from adapter.cli.logs import mask

    message = mask(told.message)
    if as_json:
        line = {"error": message, "code": told.code, "exit_code": told.exit_code}
        sys.stderr.write(json.dumps(line) + "\n")
        return
    text = Text("error", style="bold red")
    text.append(f" [{told.code}] ", style="dim")
    text.append(output.plain(message.replace("\n", "; ")), style="not bold default")
    output.talk().print(text)


app = typer.Typer(
    name="adapter",
    cls=Root,
    help=_HELP,
    epilog=exits.epilog(),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context,
    application: Annotated[
        str | None,
        typer.Option(
            "--app", envvar="ADAPTER_APP", metavar="PKG.MOD:ADAPTER", help="The application's adapter."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")] = False,
) -> None:
    """Remember what was said before the command."""
    ctx.obj = Invocation((application or "").strip() or None, as_json)


app.command("dev", rich_help_panel="Run")(dev.dev)
app.command("serve", rich_help_panel="Run")(serving.serve)
app.command("worker", rich_help_panel="Run")(serving.worker)
app.command("dispatch", rich_help_panel="Run")(serving.dispatch)
app.command("reconcile", rich_help_panel="Run")(reconcile.reconcile)
app.add_typer(jobs.app, name="jobs", rich_help_panel="Look and steer")
app.add_typer(dead.app, name="dead", rich_help_panel="Look and steer")
app.add_typer(tasks.app, name="tasks", rich_help_panel="Look and steer")
app.add_typer(cutover.app, name="cutover", rich_help_panel="Look and steer")
app.add_typer(cron.app, name="cron", rich_help_panel="Look and steer")
app.add_typer(queues.app, name="queues", rich_help_panel="Look and steer")
app.add_typer(keys.app, name="keys", rich_help_panel="Operate")
app.add_typer(outgoing.app, name="webhooks", rich_help_panel="Look and steer")
app.add_typer(db.app, name="db", rich_help_panel="Operate")
app.command("doctor", rich_help_panel="Operate")(doctor.doctor)
app.command("healthcheck", rich_help_panel="Operate")(status.healthcheck)
app.command("version", rich_help_panel="Operate")(status.version)
