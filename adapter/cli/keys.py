"""Keys of the HTTP API: make them, replace them, end them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, actor

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.domain.keys import ApiKey, MadeKey

app = typer.Typer(no_args_is_help=True, help="Keys of the HTTP API: make them, replace them, end them.")

_Key = Annotated[
    str, typer.Argument(help="The key's id, or the beginning of the key that `keys list` shows.")
]


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is, or what for.")],
    environment: Annotated[
        str, typer.Option("--env", help="dev, stg, prod, preview; pat: a personal access token.")
    ] = "prod",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do, such as read:runs; may be repeated. None: everything."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only for jobs of this user.")] = None,
) -> None:
    """Make a key and show it, this once: only a hash of it is kept."""
    invocation = Invocation.of(ctx)

    async def make(adapter: Adapter) -> tuple[MadeKey, bool]:
        made = await adapter.create_key(
            name, environment=environment, scopes=scope, user_id=user, actor=actor()
        )
        return made, bool(adapter.settings.api_keys)

    made, is_on = invocation.run(make)
    if not is_on:
        invocation.say(
            "No root key is set, so the API lets nobody in yet: set ADAPTER_API_KEYS.", style="yellow"
        )
    _show_secret(invocation, made)


@app.command("list")
def list_(
    ctx: typer.Context,
    revoked: Annotated[
        bool, typer.Option("--revoked", help="Also those that are not good any more.")
    ] = False,
) -> None:
    """List the keys: what they may do, and when they were last used."""
    from adapter.cli import output

    invocation = Invocation.of(ctx)
    found = invocation.run(lambda adapter: adapter.list_keys(revoked=revoked))
    rows = [
        (
            str(each.id),
            each.name,
            each.prefix + "…",
            "everything" if each.scopes is None else ", ".join(each.scopes),
            each.user_id,
            output.moment(each.created_at),
            "never" if each.last_used_at is None else output.moment(each.last_used_at),
            None if each.revoked_at is None else output.moment(each.revoked_at),
        )
        for each in found
    ]
    columns = ("ID", "NAME", "KEY", "MAY", "USER", "CREATED", "LAST USED", "ENDS")
    invocation.answer({"keys": [_document(each) for each in found]}, output.table(columns, rows))


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    key: _Key,
    after: Annotated[float, typer.Option(min=0, help="Seconds it goes on.")] = 0,
) -> None:
    """End a key; it holds in every server within a second."""
    invocation = Invocation.of(ctx)

    async def end(adapter: Adapter) -> ApiKey:
        return await adapter.revoke_key(
            await _found(adapter, key), after=timedelta(seconds=after), actor=actor()
        )

    about = invocation.run(end)
    when = "is revoked" if not after else f"ends in {after:g} s"
    invocation.answer(_document(about), f"{about.prefix}… ({about.name}) {when}")


@app.command("rotate")
def rotate(
    ctx: typer.Context,
    key: _Key,
    overlap: Annotated[float, typer.Option(min=0, help="Seconds the old one goes on.")] = 0,
) -> None:
    """Make a key with the same name and rights, show it, and end the old one."""
    invocation = Invocation.of(ctx)

    async def replace(adapter: Adapter) -> MadeKey:
        return await adapter.rotate_key(
            await _found(adapter, key), overlap=timedelta(seconds=overlap), actor=actor()
        )

    _show_secret(invocation, invocation.run(replace))


async def _found(adapter: Adapter, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        pass
    known = [each.id for each in await adapter.list_keys() if text.startswith(each.prefix)]
    if len(known) != 1:
        # What was typed may be a key, so it is not shown again.
        what = "Several keys begin" if known else "No key begins"
        raise CommandError(
            f"{what} like that. `adapter keys list` shows their ids.",
            ExitCode.CONFLICT if known else ExitCode.NOT_FOUND,
            code="key_not_found",
        )
    return known[0]


def _show_secret(invocation: Invocation, made: MadeKey) -> None:
    invocation.answer(
        {"key": made.secret, **_document(made.about)},
        made.secret,
        note=f"{made.about.name}: this is the only time it is shown",
    )


def _document(each: ApiKey) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "prefix": each.prefix,
        "scopes": each.scopes,
        "user_id": each.user_id,
        "created_at": each.created_at,
        "last_used_at": each.last_used_at,
        "revoked_at": each.revoked_at,
    }
