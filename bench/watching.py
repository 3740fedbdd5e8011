"""Those who follow jobs: what a thousand of them take of one server, how soon they are told, what a worker notices."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread

import psutil
import psycopg

from adapter import Adapter
from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain.identity import run_id_of
from adapter.store.wakeup import CHANGED
from bench.contenders import ADAPTER, Contender
from bench.draining import PLAIN, drain
from bench.ground import Ground, Sizes, Stock
from bench.processes import StuckError, server
from bench.samples import Sample, quantile
from bench.subscribers import Feed, Stream, Subscriber, following

_KINDS: dict[str, type[Subscriber]] = {"SSE": Stream, "realtime": Feed}
_IDLE_S = 3.0
_BOOT_S = 20.0
_SINGLES = 100
_APART_S = 0.15


def measure(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    return [sample for name in _KINDS for sample in asyncio.run(_followed(ground, sizes.subscribers, name))]


def draining(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    """A worker drains while some of its jobs are followed; what it costs beside the same without."""
    count = sizes.drain
    measure = f"drain while {sizes.subscribers:,} of its jobs are followed"
    with ground.database(ADAPTER, Stock(count)) as url, serving(ground, url) as (port, key, _server):
        with psycopg.connect(url) as conn:
            rows = conn.execute("SELECT id FROM adapter.worker_jobs_open LIMIT %s", [sizes.subscribers])
            run_ids = [run_id_of(job_id) for (job_id,) in rows]
        with _beside(port, key, run_ids):
            sample = drain(ground, ADAPTER, url, count)
    return [replace(sample, measure=measure, of=(PLAIN,))]


async def _followed(ground: Ground, count: int, kind: str) -> list[Sample]:
    samples: list[Sample] = []

    def note(measure: str, value: float, unit: str) -> None:
        samples.append(Sample(f"{count:,} {kind} subscribers: {measure}", value, unit, better=None))

    with ground.database(ADAPTER) as url, serving(ground, url) as (port, key, process):
        async with ground.adapter(url) as adapter, ground.connection(url) as conn:
            jobs = await adapter.schedule_specs(
                [JobSpec("noop", {"i": n}, ScheduleOptions(delay=timedelta(hours=1))) for n in range(count)]
            )
            run_ids = [run_id_of(each.job.id) for each in jobs]
            before = process.memory_info().rss
            began = time.monotonic()
            async with following(_KINDS[kind], port, key, run_ids) as subscribers:
                note("time until all are there", time.monotonic() - began, "s")
                await asyncio.sleep(1)
                note("memory of each", (process.memory_info().rss - before) / 1024 / count, "KB")
                cpu, asked = _cpu_s(process), await _transactions(conn)
                await asyncio.sleep(_IDLE_S)
                note("CPU while idle", (_cpu_s(process) - cpu) / _IDLE_S * 100, "%")
                note("transactions while idle", (await _transactions(conn) - asked) / _IDLE_S, "/s")
                lags = [await _told(adapter, each) for each in subscribers[:: max(1, count // _SINGLES)]]
                note("until one is told, p50", quantile(lags, 0.5), "ms")
                note("until one is told, p99", quantile(lags, 0.99), "ms")
                lags = await _all_told(adapter, subscribers)
                note("all change at once, p50", quantile(lags, 0.5), "ms")
                note("all change at once, the last", max(lags), "ms")
                note("memory of the server", process.memory_info().rss / 2**20, "MB")
    return samples


async def _told(adapter: Adapter, subscriber: Subscriber) -> float:
    """Milliseconds from the commit of a change to the subscriber, in whose process the change was made."""
    # One that comes right after another waits for it: then they are read together.
    await asyncio.sleep(_APART_S)
    seen = len(subscriber.came)
    await _change(adapter, [subscriber])
    began = time.monotonic()
    adapter.notifier.poke(CHANGED)
    await subscriber.until(seen + 1)
    return (subscriber.came[-1] - began) * 1000


async def _all_told(adapter: Adapter, subscribers: Sequence[Subscriber]) -> list[float]:
    seen = [len(each.came) for each in subscribers]
    await _change(adapter, subscribers)
    began = time.monotonic()
    adapter.notifier.poke(CHANGED)
    await asyncio.gather(*(each.until(before + 1) for each, before in zip(subscribers, seen, strict=True)))
    return [(each.came[-1] - began) * 1000 for each in subscribers]


async def _change(adapter: Adapter, subscribers: Sequence[Subscriber]) -> None:
    """Change their jobs as a handler's progress does."""
    await adapter.database.fetch(
        "UPDATE {s}.worker_jobs_open SET priority = priority + 1, updated_at = now() WHERE id = ANY(%(ids)s)",
        {"ids": [each.job_id for each in subscribers]},
    )


async def _transactions(conn: psycopg.AsyncConnection[dict[str, int]]) -> int:
    cursor = await conn.execute(
        "SELECT sum(xact_commit)::int AS n FROM pg_stat_database WHERE datname = current_database()"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["n"]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def serving(ground: Ground, url: str) -> Generator[tuple[int, str, psutil.Process]]:
    """A server that only serves: its port, a key, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    key = "tr_dev_" + secrets.token_hex(12)
    command = ("serve", "--port", str(port), "--no-loops")
    with server(url, ground.folder, *command, ADAPTER_API_KEY=key) as process:
        deadline = time.monotonic() + _BOOT_S
        while not _is_ready(port):
            if time.monotonic() > deadline or not process.is_running():
                raise StuckError("the server did not come up")
            time.sleep(0.05)
        yield port, key, process


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _beside(port: int, key: str, run_ids: Sequence[str]) -> Generator[None]:
    """Subscribers on an event loop of their own, since what is measured has none."""
    there, done = Event(), Event()

    async def follow() -> None:
        async with following(Stream, port, key, run_ids):
            there.set()
            await asyncio.to_thread(done.wait)

    thread = Thread(target=lambda: asyncio.run(follow()))
    thread.start()
    try:
        if not there.wait(_BOOT_S * 3):
            raise StuckError("the subscribers did not get there")
        yield
    finally:
        done.set()
        thread.join()
