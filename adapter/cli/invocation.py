"""What every command is given: the application, how to answer, and how to get work done."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from adapter.cli.exits import CommandError

if TYPE_CHECKING:
    import typer
    from rich.console import RenderableType

    from adapter.app import Adapter
    from adapter.settings import Settings

T = TypeVar("T")
NO_APP = "This needs the tasks of an application: say --app pkg.mod:adapter, or set ADAPTER_APP."


@dataclass
class Invocation:
    """One run of the command. ``app`` is where the application's adapter is, as it was given."""

    app: str | None
    as_json: bool

    @classmethod
    def of(cls, ctx: typer.Context) -> Invocation:
        """Return the invocation a command belongs to."""
        found = ctx.find_object(cls)
        assert found is not None
        return found

    @cached_property
    def settings(self) -> Settings:
        """What the environment says; for what has to be known without the application."""
        from adapter.settings import Settings

        return Settings.from_env()

    def log(self, *, role: str = "", quiet: bool = False) -> None:
        """Turn logging on.

        ``quiet``: only what goes wrong with this very command, unless somebody asked for more. What every
        start warns of is the doctor's.
        """
        from adapter.cli import logs

        level = self.settings.log_level
        quiet = quiet and "log_level" not in self.settings.model_fields_set
        logs.configure(self.settings.log, "WARNING" if quiet else level, role=role, boot_warnings=not quiet)

    def adapter(self, *, tasks: bool = False) -> Adapter:
        """Return the application's adapter, or one without tasks that is made from the environment.

        Raises:
            CommandError: ``tasks`` are needed and no application was named, or it cannot be loaded.
        """
        from adapter.app import Adapter

        if self.app is None:
            if tasks:
                raise CommandError(NO_APP)
            return Adapter(self.settings)
        from adapter.cli.loading import load

        return load(self.app)

    def run(self, work: Callable[[Adapter], Awaitable[T]], *, tasks: bool = False) -> T:
        """Open the adapter, do the work, close it."""
        self.log(quiet=True)
        adapter = self.adapter(tasks=tasks)
        reach(adapter)

        async def opened() -> T:
            async with adapter:
                return await work(adapter)

        return asyncio.run(opened())

    def answer(self, value: Any, *parts: RenderableType, note: str = "") -> None:
        """Print ``value`` for programs, or ``parts`` for people, and them a note that is no data."""
        from adapter.cli import output

        if self.as_json:
            output.document(value)
        else:
            output.show(*parts)
            if note:
                output.say(note, style="dim")

    def say(self, text: str, *, style: str = "") -> None:
        """Tell the person something that is no data."""
        from adapter.cli import output

        output.say(text, style=style)


def reach(adapter: Adapter) -> None:
    """Connect once: a pool would try for seconds, and then not say why.

    Raises:
        psycopg.OperationalError: the database cannot be reached.
        ConfigurationError: no database is set.
    """
    import psycopg

    psycopg.connect(adapter.settings.database("adapter cli").conninfo).close()


#: Whence changes made by the command came, as audits have it.
SOURCE = "cli"


def actor() -> str:
    """Return who is at the keyboard, for audits."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def job_id(text: str) -> UUID:
    """Return the job an id means: its uuid, or the ``run_…`` our API shows.

    Raises:
        CommandError: it is neither.
    """
    from adapter.domain.identity import job_id_of

    try:
        return UUID(text)
    except ValueError:
        found = job_id_of(text)
    if found is None:
        raise CommandError(f"{text!r} is no job id: neither a uuid nor a run_… id of this adapter.")
    return found


def json_value(text: str, what: str) -> Any:
    """Return JSON given as text, as ``@file``, or as ``-`` for standard input.

    Raises:
        CommandError: it is no JSON. The text itself is not shown.
    """
    import json
    import sys
    from pathlib import Path

    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{what} cannot be read: {error}") from None
    try:
        return json.loads(text)
    except ValueError as error:
        where = (
            f" at line {error.lineno}, column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        raise CommandError(f"{what} is no JSON{where}.") from None


def pairs(given: list[str] | None, option: str) -> dict[str, Any]:
    """Return ``k=v`` words as a mapping; a value that is JSON is read as such.

    Raises:
        CommandError: a word has no ``=``.
    """
    import json

    found: dict[str, Any] = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise CommandError(f"{option} takes name=value.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
