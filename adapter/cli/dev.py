"""``adapter dev``: a database, a server, a worker and a dispatcher with one command."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import string
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from adapter.cli.exits import CommandError, ExitCode, first
from adapter.cli.invocation import Invocation

if TYPE_CHECKING:
    import socket

    from adapter.cli.processes import Family
    from adapter.cli.supervision import Member
    from adapter.settings import Settings

_READY_S = 60.0
_STEP_S = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where the jobs of this run live. ``directory`` None: on somebody else's server."""

    url: str
    directory: Path | None = None
    pid: int | None = None


def dev(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    data_dir: Annotated[
        Path | None, typer.Option(help="Where a PostgreSQL of one's own keeps its data.", show_default=False)
    ] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start no worker.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart server, worker and dispatcher when the source changes.")
    ] = False,
) -> None:
    """Start everything for development: PostgreSQL, server, worker, dispatcher, each a process of its own.

    PostgreSQL is started unless a database URL is set. When one process ends, all end, with exit code 1.
    """
    from adapter.cli.serving import listen

    invocation = Invocation.of(ctx)
    invocation.log(role="dev", quiet=True)
    if reload:
        from adapter.cli.reloading import require_watcher

        require_watcher()
    settings, has_work = _application(invocation, reload=reload)
    if not has_work and not no_worker:
        invocation.say("No task has a handler here, so no worker is started: say --app pkg.mod:adapter.")
    given = settings.database_url
    key = None if settings.api_keys else _new_key()
    with _stoppable(), listen(host, port) as listener, contextlib.ExitStack() as stack:
        if given is None or data_dir is not None:
            directory = (data_dir or default_data_dir()).expanduser().resolve()
            place = stack.enter_context(_own_postgres(invocation, directory))
        else:
            place = Place(given.get_secret_value())
        _migrate(place, settings.database_schema)
        work = has_work and not no_worker
        asyncio.run(_run(invocation, place, listener, key=key, work=work, reload=reload))


def _application(invocation: Invocation, *, reload: bool) -> tuple[Settings, bool]:
    """Return the application's settings, and whether a worker is to be started.

    With ``reload`` an application that cannot be imported may be mended later.
    """
    try:
        adapter = invocation.adapter()
    except CommandError as error:
        if not reload:
            raise
        invocation.say(str(error))
        return invocation.settings, True
    return adapter.settings, bool(adapter.registry.runnable) or (reload and invocation.app is not None)


@contextmanager
def _own_postgres(invocation: Invocation, directory: Path) -> Generator[Place]:
    from adapter.cli.processes import environment
    from adapter.store.embedded import EmbeddedPostgres

    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    server = EmbeddedPostgres(directory, bin_dir=invocation.settings.postgres_bin, environ=environment())
    with server:
        claim = (directory / "data" / "postmaster.pid").read_text().split()
        try:
            yield Place(server.url(), directory, int(claim[0]))
        finally:
            # From here on nothing may keep the server from being stopped.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)


def default_data_dir() -> Path:
    """Return where `dev` keeps the data of the project in the working directory.

    For root it is a place that the account which runs PostgreSQL may enter.
    """
    here = Path.cwd()
    name = f"{here.name or 'root'}-{hashlib.sha256(str(here).encode()).hexdigest()[:8]}"
    state = Path("/var/lib") if os.geteuid() == 0 else Path.home() / ".local" / "state"
    return state / "trigger-adapter" / name


def _migrate(place: Place, schema: str) -> None:
    from adapter.store import migrate

    migrate.upgrade(place.url, schema)


def _new_key() -> str:
    alphabet = string.ascii_letters + string.digits
    return "tr_dev_" + "".join(secrets.choice(alphabet) for _ in range(24))


@contextmanager
def _stoppable() -> Generator[None]:
    """Let a signal end what is not yet, or no more, in the hands of the event loop; quietly."""

    def ended(*_: object) -> NoReturn:
        raise SystemExit(0)

    before = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _run(
    invocation: Invocation,
    place: Place,
    listener: socket.socket,
    *,
    key: str | None,
    work: bool,
    reload: bool,
) -> None:
    from adapter.cli.processes import Family
    from adapter.cli.serving import url_of
    from adapter.cli.signals import Stop
    from adapter.cli.supervision import Member

    stop = Stop()
    added = {"ADAPTER_DATABASE_URL": place.url, **({"ADAPTER_API_KEY": key} if key else {})}
    url, fd = url_of(listener), listener.fileno()
    members = [Member("server", ("serve", "--no-loops", "--fd", str(fd)), pass_fd=fd)]
    if work:
        members.append(Member("worker", ("worker",)))
    members.append(Member("dispatcher", ("dispatch",)))
    async with Family(invocation.app, added) as family:
        stop.calls(family.ask, family.insist)
        if not reload:
            for each in members:
                await family.start(each.name, *each.command, pass_fd=each.pass_fd)
            listener.close()
        reason: CommandError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                running = _kept(family, members) if reload else family.until_one_ends()
                watchers = [
                    group.create_task(running),
                    group.create_task(_until_gone(place)),
                    group.create_task(
                        _announce(invocation, place, url, key, family, patience=None if reload else _READY_S)
                    ),
                ]
                await stop.wait()
                for each in watchers:
                    each.cancel()
        except* CommandError as errors:
            # One reason is enough: what ends first takes the others with it.
            reason = first(errors)
        if reason is not None:
            # What is left may wait for what is gone.
            family.ask()
            family.insist()
            raise reason


async def _kept(family: Family, members: list[Member]) -> None:
    """Keep the processes running, and restart them when the source changes. The port stays ours meanwhile."""
    from adapter.cli.reloading import changes_of_source
    from adapter.cli.supervision import Supervisor
    from adapter.domain.clock import SystemClock

    await Supervisor(family, SystemClock(), reloads=True).keep(members, changes_of_source(Path.cwd()))


async def _until_gone(place: Place) -> None:
    """Watch our own PostgreSQL.

    Raises:
        CommandError: it has ended.
    """
    import psycopg

    if place.directory is None:
        return
    try:
        async with await psycopg.AsyncConnection.connect(place.url, autocommit=True) as conn:
            async for _ in conn.notifies():
                pass
    except psycopg.OperationalError:
        raise CommandError(
            f"PostgreSQL (pid {place.pid}) ended.", ExitCode.FAILURE, code="child_ended"
        ) from None


async def _announce(
    invocation: Invocation,
    place: Place,
    url: str,
    key: str | None,
    family: Family,
    *,
    patience: float | None,
) -> None:
    """Say where everything is, once it is ready.

    Raises:
        CommandError: that takes too long.
    """
    try:
        async with asyncio.timeout(patience):
            await _until_ready(url)
    except TimeoutError:
        raise CommandError(
            f"{url}/readyz does not answer 200 after {patience:g} s.", ExitCode.TIMEOUT, code="not_ready"
        ) from None
    from adapter.cli import output

    everybody = {"dev": os.getpid(), **({"postgres": place.pid} if place.pid else {}), **family.pids}
    document = {
        "url": url,
        "database_url": hidden(place.url),
        "data_dir": place.directory,
        "api_key": key,
        "pids": everybody,
    }
    facts: list[tuple[str, object]] = [
        ("url", url),
        ("api key", f"{key}  (of this run; ADAPTER_API_KEY keeps one)" if key else None),
        ("database", hidden(place.url)),
        ("data", place.directory),
        ("pids", ", ".join(f"{name} {pid}" for name, pid in everybody.items())),
    ]
    invocation.answer(document, output.facts(facts))
    invocation.say("Ready. Ctrl+C stops everything.", style="green")


async def _until_ready(url: str) -> None:
    import httpx

    from adapter.domain.clock import SystemClock

    clock = SystemClock()
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"{url}/readyz")).status_code == 200:
                    return
            await clock.sleep(_STEP_S)


def hidden(url: str) -> str:
    """Return a database URL that can be shown."""
    from psycopg.conninfo import conninfo_to_dict

    from adapter.store.database import DatabaseConfig

    parts: dict[str, Any] = conninfo_to_dict(DatabaseConfig(url).conninfo)
    user = f"{parts['user']}:***@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"
