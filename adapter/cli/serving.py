"""The long-running roles: server, worker, dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.invocation import Invocation, reach

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.cli.signals import Stop
    from adapter.core.worker import Worker

logger = logging.getLogger("adapter.cli")

_Role = Annotated[str, typer.Option("--supervised", hidden=True)]


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = 8000,
    work: Annotated[bool, typer.Option("--work/--no-work", help="Also run jobs in this process.")] = False,
    loops: Annotated[
        bool, typer.Option("--loops/--no-loops", help="Also dispatch, take webhooks in and reconcile.")
    ] = True,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    role: _Role = "",
) -> None:
    """Serve the HTTP API, webhooks and health, and by default run the dispatcher's loops as well."""
    invocation = Invocation.of(ctx)
    invocation.log(role=role)
    adapter = invocation.adapter()
    if not len(adapter.registry):
        logger.warning("no tasks are declared: every trigger will be refused; say --app pkg.mod:adapter")
    reach(adapter)
    listener = listen(host, port) if fd is None else socket.socket(fileno=fd)
    with listener:
        asyncio.run(_serve(adapter, listener, invocation.app, work=work, loops=loops, role=role))
    _leave()


def worker(
    ctx: typer.Context,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs to run at once, per process.")] = None,
    queues: Annotated[str | None, typer.Option(metavar="A,B", help="Only these queues.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Run what is ready, then end.")] = False,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes to keep running.")] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when the source changes.")] = False,
    health_file: Annotated[
        Path | None, typer.Option(help="Written every second; `adapter healthcheck --file` reads it.")
    ] = None,
    role: _Role = "",
) -> None:
    """Run jobs of the local executor. A signal lets running jobs end, a second one does not."""
    invocation = Invocation.of(ctx)
    if processes > 1 or reload:
        if once:
            raise CommandError("--once is for one process, and without --reload.")
        from adapter.cli.workers import run_workers

        run_workers(invocation, processes, concurrency, queues, health_file, reload=reload, role=role)
        return
    invocation.log(role=role, quiet=once)
    adapter = invocation.adapter(tasks=True)
    if not adapter.registry.runnable:
        # It would claim what others can run, only to give it back.
        raise CommandError("No task has a handler here: this worker could run nothing.")
    options: dict[str, Any] = {"app": invocation.app}
    if concurrency is not None:
        options["concurrency"] = concurrency
    if queues is not None:
        options["queues"] = tuple(each.strip() for each in queues.split(",") if each.strip())
    reach(adapter)
    if once:
        done = asyncio.run(_work_once(adapter, options))
        invocation.answer({"ran": done}, f"{done} jobs run")
    else:
        asyncio.run(_work(adapter, options, role, health_file))
    _leave()


def dispatch(ctx: typer.Context, role: _Role = "") -> None:
    """Hand remote jobs out, apply webhooks and reconcile; serves nothing and runs nothing."""
    invocation = Invocation.of(ctx)
    invocation.log(role=role)
    adapter = invocation.adapter()
    if not adapter.executors.names:
        logger.warning("no remote executor is configured: there is only upkeep to do")
    reach(adapter)
    asyncio.run(_dispatch(adapter, role))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        CommandError: the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # asyncio sets this only where a socket names its protocol, and without it each answer on a kept
        # connection waits 40 ms for an acknowledgment.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise CommandError(
            f"{host} port {port} cannot be listened on: {words}.", ExitCode.FAILURE, code="address"
        ) from None


def url_of(listener: socket.socket) -> str:
    """Return how a program on this machine reaches a listening socket."""
    address: tuple[str, int] = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - told from, not bound to
    return f"http://{f'[{host}]' if ':' in host else host}:{address[1]}"


async def _serve(
    adapter: Adapter, listener: socket.socket, app: str | None, *, work: bool, loops: bool, role: str
) -> None:
    from adapter.cli.signals import Stop
    from adapter.cli.uvicorn_server import Server
    from adapter.web.app import create_app

    stop = Stop(owned=bool(role))
    async with adapter.running(work=work, dispatch=loops, sync=loops, app=app) as own_worker:
        server = Server(create_app(adapter, owns_adapter=False))
        stop.calls(server.ask_to_stop, server.insist)
        # Streams and held requests would keep the server until its patience is over.
        stop.calls(adapter.hub.close, adapter.hub.close)
        if own_worker is not None:
            # New jobs are not begun while requests in hand are answered.
            stop.calls(own_worker.stop, own_worker.force)
        logger.info("serving on %s", url_of(listener))
        await server.serve(sockets=[listener])


async def _work(adapter: Adapter, options: dict[str, Any], role: str, health_file: Path | None) -> None:
    from adapter.cli.health import HealthFile
    from adapter.cli.signals import Stop

    stop = Stop(owned=bool(role))
    own_worker: Worker | None = None

    def facts() -> dict[str, Any]:
        if own_worker is None:
            return {"state": "starting", "running": 0}
        return {"state": own_worker.state, "running": own_worker.running}

    async with contextlib.AsyncExitStack() as stack:
        if health_file is not None:
            await stack.enter_async_context(HealthFile(health_file).kept(facts, adapter.clock))
        own_worker = await stack.enter_async_context(
            adapter.running(work=True, dispatch=False, sync=False, **options)
        )
        assert own_worker is not None
        stop.calls(own_worker.stop, own_worker.force)
        await stop.wait()


async def _work_once(adapter: Adapter, options: dict[str, Any]) -> int:
    from adapter.cli.signals import Stop

    stop = Stop()
    async with adapter:
        own_worker = adapter.worker(**options)
        stop.calls(own_worker.stop, own_worker.force)
        return await own_worker.run_until_idle()


async def _dispatch(adapter: Adapter, role: str) -> None:
    from adapter.cli.signals import Stop

    stop: Stop = Stop(owned=bool(role))
    async with adapter.running(work=False, dispatch=True, sync=True):
        logger.info("dispatching to %s", ", ".join(adapter.executors.names) or "nobody")
        await stop.wait()


def _leave() -> None:
    from adapter.cli.signals import leave_behind_threads

    leave_behind_threads()
