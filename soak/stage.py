"""What is loaded: a PostgreSQL, ``adapter worker --processes N``, and somebody who pulls plugs."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import psutil

from adapter.store.embedded import EmbeddedPostgres

_CONCURRENCY = 10
_ROOT = Path(__file__).resolve().parent.parent


class Workers:
    """The supervised workers, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, url: str, number: int, lease: float, log: Path) -> Workers:
        """Start them as a person would."""
        settings = {
            "ADAPTER_DATABASE_URL": url,
            "ADAPTER_APP": "soak.app",
            "ADAPTER_DB_POOL_SIZE": "3",
            "ADAPTER_WORKER_THREADS": "8",
            "ADAPTER_WORKER_LEASE_SECONDS": str(lease),
            "ADAPTER_LOG": "json",
        }
        command = ["worker", "--processes", str(number), "--concurrency", str(_CONCURRENCY)]
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "adapter.cli",
                *command,
                cwd=_ROOT,
                env={"PATH": os.environ.get("PATH", os.defpath), **settings},
                stdout=out,
                stderr=out,
            )
        return cls(process)

    def living(self) -> dict[str, psutil.Process]:
        """Return the worker processes there are, by name."""
        found: dict[str, psutil.Process] = {}
        for each in psutil.Process(self._process.pid).children():
            try:
                words = each.cmdline()
            except psutil.Error:
                continue
            if "--supervised" in words:
                found[words[words.index("--supervised") + 1]] = each
        return found

    async def stop(self) -> int:
        """Ask them to end; returns the exit code of all of them together."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


class Plugs:
    """Kills a worker now and then, and restarts PostgreSQL. Half of the workers are spared: they show leaks."""

    def __init__(self, server: EmbeddedPostgres, workers: Workers, number: int, seed: int) -> None:
        self._server = server
        self._workers = workers
        self._mortal = {f"worker-{each}" for each in range(number // 2 + 1, number + 1)}
        self._dice = random.Random(seed)
        self.kills = self.restarts = 0

    async def run(self, kill_every: float, restart_every: float) -> None:
        """Pull plugs until canceled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill(kill_every))
            group.create_task(self._restart(restart_every))

    async def _kill(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            there = [each for name, each in self._workers.living().items() if name in self._mortal]
            if there:
                self._dice.choice(there).kill()
                self.kills += 1

    async def _restart(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self._server.restart)
            self.restarts += 1
