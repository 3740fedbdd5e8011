"""Webhooks to others: who is told how jobs go, and what became of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation
from adapter.cli.webhooks import app

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.core.webhooks.verbs import WebhookTest
    from adapter.domain.webhooks import State, WebhookSubscription

Which = Annotated[UUID, typer.Argument(metavar="SUBSCRIPTION", help="Its id.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="RUN_STARTED, RUN_COMPLETED, RUN_FAILED, RUN_CANCELED or alert.run.failed."),
]
SecretFile = Annotated[
    Path | None, typer.Option(help="A file with the secret, - for the input; else one is made.")
]
Private = Annotated[bool, typer.Option("--allow-private", help="The receiver may be inside the own network.")]


@app.command()
def subscriptions(ctx: typer.Context) -> None:
    """List who is told how jobs go; secrets are not shown."""
    from adapter.cli import output

    invocation = Invocation.of(ctx)

    async def read(adapter: Adapter) -> list[WebhookSubscription]:
        return await adapter.webhook_subscriptions()

    found = invocation.run(read)
    columns = ("ID", "NAME", "URL", "EVENTS", "STATE", "SECRETS", "WAITING", "DEAD")
    rows = [
        (
            str(each.id),
            each.name,
            each.url,
            " ".join(each.events),
            _state(each),
            each.secret_count,
            each.pending,
            each.dead,
        )
        for each in found
    ]
    note = "" if found else "Nobody is told."
    invocation.answer({"subscriptions": found}, output.table(columns, rows) if found else "", note=note)


@app.command()
def subscribe(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where events are posted.")],
    event: Events = None,
    name: Annotated[str | None, typer.Option(help="One of this name is changed instead of made.")] = None,
    secret_file: SecretFile = None,
    allow_private: Private = False,
) -> None:
    """Tell a URL how jobs go; shows the secret, this once."""
    invocation = Invocation.of(ctx)
    secret = _secret(secret_file)

    async def make(adapter: Adapter) -> WebhookSubscription:
        return await adapter.subscribe_webhook(
            url, event or (), name=name, secret=secret, allow_private=allow_private
        )

    made = invocation.run(make)
    said = f"{made.id} is told of {', '.join(made.events)}."
    invocation.answer({"subscription": made}, said if secret else f"{said}\nSecret: {made.secrets[0]}")


@app.command()
def change(
    ctx: typer.Context,
    subscription: Which,
    url: Annotated[str | None, typer.Option(help="Where to from now on.")] = None,
    event: Events = None,
    active: Annotated[bool | None, typer.Option("--on/--off", help="Whether it is told at all.")] = None,
) -> None:
    """Change where, of what, or whether somebody is told."""
    invocation = Invocation.of(ctx)
    if url is None and not event and active is None:
        raise CommandError("Say what is to change: --url, --event, --on or --off.")

    async def make(adapter: Adapter) -> WebhookSubscription:
        return await adapter.change_webhook(subscription, url=url, events=event or None, active=active)

    found = invocation.run(make)
    invocation.answer({"subscription": found}, f"{found.id}: {found.url}, {_state(found)}")


@app.command()
def rotate(
    ctx: typer.Context,
    subscription: Which,
    secret_file: SecretFile = None,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Make none; keep only the newest.")] = False,
) -> None:
    """Sign with a new secret as well, and show it, this once; then, when the receiver has it: --drop-old."""
    invocation = Invocation.of(ctx)
    secret = _secret(secret_file)

    async def make(adapter: Adapter) -> WebhookSubscription:
        return await adapter.rotate_webhook_secret(subscription, secret=secret, drop_old=drop_old)

    found = invocation.run(make)
    said = f"{found.secret_count} secrets sign what {found.id} is told."
    shown = found.secrets and not secret
    invocation.answer({"subscription": found}, f"{said}\nSecret: {found.secrets[0]}" if shown else said)


@app.command()
def unsubscribe(ctx: typer.Context, subscription: Which) -> None:
    """Tell somebody nothing more; what waits for them goes too."""
    invocation = Invocation.of(ctx)

    async def remove(adapter: Adapter) -> None:
        await adapter.unsubscribe_webhook(subscription)

    invocation.run(remove)
    invocation.answer({"removed": subscription}, f"{subscription} is told nothing more.")


@app.command()
def deliveries(
    ctx: typer.Context,
    subscription: Annotated[UUID | None, typer.Option(help="Only of this one.")] = None,
    state: Annotated[str | None, typer.Option(help="pending, delivered or dead.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 25,
    before: Annotated[UUID | None, typer.Option(help="Only older ones than this: the next page.")] = None,
) -> None:
    """List what was told or is to be, newest first; payloads are not shown."""
    from adapter.cli import output

    invocation = Invocation.of(ctx)
    wanted: State | None
    match state:
        case None | "pending" | "delivered" | "dead":
            wanted = state
        case _:
            raise CommandError("A delivery is pending, delivered or dead.")

    async def read(adapter: Adapter) -> tuple[Any, Any]:
        found = await adapter.webhook_deliveries(subscription, state=wanted, before=before, limit=limit)
        return found, adapter.clock.now()

    found, now = invocation.run(read)
    columns = ("ID", "EVENT", "JOB", "STATE", "TRIES", "MADE", "ANSWER", "ERROR")
    rows = [
        (
            str(each.id),
            each.event,
            str(each.job_id),
            output.word(each.state),
            each.attempts,
            output.ago(each.created_at, now),
            each.status,
            each.error,
        )
        for each in found
    ]
    more = f"More: --before {found[-1].id}" if len(found) == limit else "" if found else "No deliveries."
    invocation.answer({"deliveries": found}, output.table(columns, rows) if found else "", note=more)


@app.command()
def redrive(
    ctx: typer.Context,
    delivery: Annotated[UUID | None, typer.Argument(metavar="[DELIVERY]", help="Which dead one.")] = None,
    subscription: Annotated[UUID | None, typer.Option(help="Every dead one of this subscription.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead one there is.")] = False,
) -> None:
    """Offer dead deliveries once more, under the ids they had."""
    invocation = Invocation.of(ctx)
    if [delivery is not None, subscription is not None, everything].count(True) != 1:
        raise CommandError("Name one delivery, or say --subscription or --all.")

    async def again(adapter: Adapter) -> int:
        return await adapter.redrive_webhooks(
            subscription, deliveries=None if delivery is None else [delivery]
        )

    count = invocation.run(again)
    if delivery is not None and not count:
        raise CommandError(
            f"There is no dead delivery {delivery}.", ExitCode.NOT_FOUND, code="delivery_not_found"
        )
    invocation.answer({"redriven": count}, f"{count} offered again")


@app.command("test")
def send_test(
    ctx: typer.Context,
    to: Annotated[str, typer.Argument(metavar="TO", help="A URL, or the id of a subscription.")],
    event: Annotated[str, typer.Option(help="Which event.")] = "RUN_COMPLETED",
    secret_file: SecretFile = None,
    allow_private: Private = False,
) -> None:
    """Send one signed event of a job that never was and print what came back, and how to ask once more with curl."""
    import shlex

    from adapter.cli import output

    invocation = Invocation.of(ctx)
    secret = _secret(secret_file)
    try:
        target: str | UUID = UUID(to)
    except ValueError:
        target = to

    async def send(adapter: Adapter) -> WebhookTest:
        return await adapter.test_webhook(target, event=event, secret=secret, allow_private=allow_private)

    sent = invocation.run(send)
    headers = {"content-type": "application/json"} | sent.headers
    curl = "curl -i -X POST " + shlex.quote(sent.url)
    curl += "".join(f" \\\n  -H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())
    curl += f" \\\n  --data-binary {shlex.quote(sent.body)}"
    said = sent.posted.error or f"it answered {sent.posted.status}"
    invocation.answer({"test": sent, "curl": curl}, f"{said}\n{output.plain(sent.posted.answer)}\n\n{curl}")
    if not sent.posted.is_taken:
        raise typer.Exit(int(ExitCode.CHECK))


def _state(each: WebhookSubscription) -> str:
    if not each.active:
        return f"off: {each.disabled_because}" if each.disabled_because else "off"
    return "left alone for a while" if each.open_until is not None else "on"


def _secret(file: Path | None) -> str | None:
    if file is None:
        return None
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    return text.strip()
