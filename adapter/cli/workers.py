"""``adapter worker --processes N`` and ``--reload``: workers that are kept running by a parent without work of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from adapter.cli.exits import CommandError, ExitCode, first
from adapter.cli.health import HealthFile, of_process
from adapter.cli.invocation import NO_APP
from adapter.cli.processes import PATIENCE_S, Family
from adapter.cli.supervision import Member, Supervisor

if TYPE_CHECKING:
    from adapter.cli.invocation import Invocation
    from adapter.cli.signals import Stop

#: On top of the grace of a worker, for what it does after its jobs, in seconds.
_AFTER_GRACE_S = 15.0


def run_workers(
    invocation: Invocation,
    processes: int,
    concurrency: int | None,
    queues: str | None,
    health_file: Path | None,
    *,
    reload: bool,
    role: str,
) -> None:
    """Keep worker processes running until a signal; SIGHUP restarts them one after the other.

    Raises:
        CommandError: a worker cannot start, or did not end as it should.
    """
    if invocation.app is None:
        raise CommandError(NO_APP)
    invocation.log(role=role or "workers")
    if reload:
        from adapter.cli.reloading import require_watcher

        require_watcher()
    options: list[str] = []
    if concurrency is not None:
        options += ["--concurrency", str(concurrency)]
    if queues is not None:
        options += ["--queues", queues]
    with tempfile.TemporaryDirectory(prefix="adapter-workers-") as directory:
        shown = health_file or Path(directory) / "health"
        members: list[Member] = []
        for number in range(1, processes + 1):
            name = f"worker-{number}"
            file = of_process(shown, name)
            # A process that never comes up must not look as if it had never been asked for.
            HealthFile(file).write(state="starting")
            members.append(Member(name, ("worker", *options, "--health-file", str(file)), health=file))
        try:
            asyncio.run(_keep(invocation, members, reload=reload, role=role))
        finally:
            for each in members:
                if each.health is not None:
                    HealthFile(each.health).remove()


async def _keep(invocation: Invocation, members: list[Member], *, reload: bool, role: str) -> None:
    from adapter.cli.signals import Stop
    from adapter.domain.clock import SystemClock

    patience = max(PATIENCE_S, invocation.settings.worker_grace_seconds + _AFTER_GRACE_S)
    stop = Stop(owned=bool(role))
    async with Family(invocation.app, patience=patience) as family:
        stop.calls(family.ask, family.insist)
        supervisor = Supervisor(family, SystemClock(), reloads=reload, patience=patience)
        try:
            await _until_stopped(supervisor, members, stop, reload=reload)
        except* CommandError as errors:
            raise first(errors) from None
    if not family.ended_well:
        raise CommandError(
            "A worker did not end as it should: its own words are above.",
            ExitCode.FAILURE,
            code="child_ended",
        )


async def _until_stopped(supervisor: Supervisor, members: list[Member], stop: Stop, *, reload: bool) -> None:
    changes = None
    if reload:
        from adapter.cli.reloading import changes_of_source

        changes = changes_of_source(Path.cwd())
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(supervisor.keep(members, changes))
        rolls: set[asyncio.Task[None]] = set()

        def roll() -> None:
            rolls.add(group.create_task(supervisor.roll()))

        # On a terminal the signal says that the terminal is gone, and nothing is to be left behind.
        heard = stop.ask if sys.stdin.isatty() else roll
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heard)
        await stop.wait()
        for each in (keeping, *rolls):
            each.cancel()
