"""``make soak``: does it hold for hours? Ends with a table, and with 0 only when everything held."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import psycopg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from adapter import Settings
from adapter.store import migrate
from adapter.store.embedded import EmbeddedPostgres
from soak import verdict
from soak.app import adapter
from soak.load import Load
from soak.sampling import Samples
from soak.stage import Plugs, Workers

_DRAIN_S = 120.0
_BOOT_S = 120.0


async def soak(
    server: EmbeddedPostgres, arguments: argparse.Namespace, samples: Samples, log: Path
) -> tuple[int, Load, Plugs]:
    """Load for so many seconds, then wait for the rest; returns the workers' exit code."""
    url, seconds = server.url(), float(arguments.seconds)
    adapter.settings = Settings(database_url=SecretStr(url))
    async with adapter:
        workers = await Workers.start(url, arguments.workers, arguments.lease, log)
        load = Load(adapter, url, arguments.rate, arguments.seed)
        plugs = Plugs(server, workers, arguments.workers, arguments.seed)
        try:
            await _until(_at_work(arguments.workers), _BOOT_S, "the workers did not start")
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                faults = group.create_task(
                    plugs.run(
                        arguments.kill_every or max(5.0, min(60.0, seconds / 5)),
                        arguments.restart_every or max(10.0, min(600.0, seconds / 2.2)),
                    )
                )
                looks = group.create_task(samples.take(workers, url, max(0.5, seconds / 400)))
                loading = group.create_task(load.run(stop))
                await asyncio.sleep(seconds)
                faults.cancel()
                stop.set()
                await loading
                looks.cancel()
            await load.cancel_rest()
            with contextlib.suppress(TimeoutError):
                await _until("SELECT count(*) = 0 FROM {s}.worker_jobs_open", _DRAIN_S, "")
        finally:
            code = await workers.stop()
    return code, load, plugs


def _at_work(number: int) -> str:
    return f"SELECT count(*) = {number:d} FROM {{s}}.workers"  # noqa: S608 - a number


async def _until(statement: str, seconds: float, otherwise: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while True:
                async with adapter.database.connection() as conn:
                    text = statement.replace("{s}", adapter.database.schema.quoted)
                    row = await (await conn.execute(text.encode())).fetchone()
                if row is not None and next(iter(row.values())):
                    return
                await asyncio.sleep(0.2)
    except TimeoutError:
        if otherwise:
            raise TimeoutError(otherwise) from None
        raise


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=None)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--rate", type=float, default=100, help="jobs a second")
    parser.add_argument("--kill-every", type=float, default=None, help="seconds between kill -9 of a worker")
    parser.add_argument(
        "--restart-every", type=float, default=None, help="seconds between PostgreSQL restarts"
    )
    parser.add_argument("--lease", type=float, default=30, help="seconds until a silent worker is dead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pg-bin", default=None, help="a directory with initdb and postgres")
    parser.add_argument("--log", type=Path, default=None, help="where the workers' log goes")
    found = parser.parse_args()
    if found.hours is not None:
        found.seconds = found.hours * 3600
    return found


def main() -> None:
    arguments = read_arguments()
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="adapter-soak-"))
    samples = Samples()
    logs = Path(tempfile.mkdtemp(prefix="adapter-soak-log-"))
    log = arguments.log or logs / "workers.log"
    try:
        with EmbeddedPostgres(directory, bin_dir=arguments.pg_bin) as server:
            migrate.upgrade(server.url(), "adapter")
            with psycopg.connect(server.url()) as conn:
                conn.execute("CREATE SCHEMA soak")
                conn.execute("CREATE TABLE soak.expected (id uuid PRIMARY KEY)")
            console.print(
                f"{arguments.workers} workers, {arguments.rate:g} jobs/s for {arguments.seconds:g} s, "
                f"PostgreSQL {server.version}"
            )
            code, load, plugs = asyncio.run(soak(server, arguments, samples, log))
            counts, thirds = verdict.facts(server.url())
        lines = verdict.judge(
            samples, counts, thirds, rate=arguments.rate, seconds=arguments.seconds, code=code
        )
        console.print(
            f"{plugs.kills} kills, {plugs.restarts} restarts of PostgreSQL, "
            f"{load.refused} transactions refused meanwhile"
        )
        table = Table("measure", "found", "allowed", "")
        for line in lines:
            table.add_row(line.name, line.found, line.allowed, "" if line.held else "FAILED")
        console.print(table)
        held = all(line.held for line in lines)
        if not held:
            sys.stdout.write(log.read_text(errors="replace")[-4000:])
    finally:
        for each in (directory, logs):
            shutil.rmtree(each, ignore_errors=True)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
