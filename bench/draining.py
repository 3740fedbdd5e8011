"""Draining: how fast one worker process empties a queue of no-ops, and what gets in its way."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg import sql

from bench.contenders import ADAPTER, Contender
from bench.ground import Ground, Sizes, Stock
from bench.ledger import Record, exactly_once
from bench.meter import Costs, Meter
from bench.processes import StuckError, Workers
from bench.samples import Sample

PLAIN = "drain no-ops, one worker process"
RAW_DRAIN = "claim 100, finish 100, again"
WATCHER = "bench-watches"
_ATTEMPTS = "SELECT count(*), max(attempt) FROM adapter.worker_jobs WHERE status = 'COMPLETED'"


def plain(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    return [replace(_drain(ground, each, _jobs(each, sizes.drain)), of=(RAW_DRAIN,)) for each in contenders]


def finished(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    measure = f"drain with {sizes.finished:,} finished jobs kept"
    return [
        replace(
            _drain(ground, each, _jobs(each, sizes.drain), kept=sizes.finished), measure=measure, of=(PLAIN,)
        )
        for each in contenders
        if each.kept
    ]


def waiting(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    """Of many that wait, the first ones; the others are left."""
    measure = f"drain with {sizes.waiting:,} jobs waiting"
    samples: list[Sample] = []
    for each in contenders:
        count = _jobs(each, sizes.drain)
        with (
            ground.database(each, Stock(max(sizes.waiting, count))) as url,
            psycopg.connect(url, autocommit=True) as conn,
            ground.workers(each, url) as workers,
        ):
            meter = Meter(conn, workers.cpu_s)
            workers.until_begun()
            meter.start()
            reached = workers.until_surely(count)
            ended, costs = time.monotonic_ns(), meter.stop(reached)
            record = workers.stop()
        twice = len(record.ids) - len({*record.ids})
        assert not twice, f"{each.name}: {twice} jobs ran twice"
        rate = reached / (ended - record.first_ns) * 1e9
        samples.append(Sample(measure, rate, "jobs/s", each.name, of=(PLAIN,), costs=costs))
    return samples


def snapshot(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    """Vacuum can remove nothing meanwhile, as during a long report or a forgotten BEGIN."""
    return [
        replace(
            _drain(ground, each, _jobs(each, sizes.drain), snapshot=True),
            measure="drain while an old snapshot is held",
            of=(PLAIN,),
        )
        for each in contenders
    ]


def two(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    """The same queue, by two worker processes. The peers with one that can be beaten by a second are measured too."""
    return [
        replace(
            _drain(ground, each, _jobs(each, sizes.drain), processes=2),
            measure="drain no-ops, two worker processes",
            of=(PLAIN,),
        )
        for each in contenders
    ]


def _jobs(contender: Contender, count: int) -> int:
    return max(1, int(count * contender.share))


@contextmanager
def old_snapshot(url: str) -> Generator[None]:
    """Hold a snapshot open in another session."""
    with psycopg.connect(url) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT count(*) FROM pg_class")
        yield


def _drain(
    ground: Ground,
    contender: Contender,
    count: int,
    *,
    kept: int = 0,
    snapshot: bool = False,
    processes: int = 1,
) -> Sample:
    with (
        ground.database(contender, Stock(count, finished=kept)) as url,
        old_snapshot(url) if snapshot else _nothing(),
    ):
        return drain(ground, contender, url, count, kept=kept, processes=processes)


def drain(
    ground: Ground, contender: Contender, url: str, count: int, *, kept: int = 0, processes: int = 1
) -> Sample:
    """Drain the ``count`` jobs of a database, and see that each ran once."""
    seconds, costs, record = drained(ground, contender, url, count, processes=processes)
    if contender is ADAPTER and not kept:
        with psycopg.connect(url) as conn:
            row = conn.execute(_ATTEMPTS).fetchone()
        assert row == (count, 1), f"rows and most attempts: {row}"
    if wrong := exactly_once(record.ids, count):
        raise StuckError(f"{contender.name}: {wrong}")
    return Sample(PLAIN, count / seconds, "jobs/s", contender.name, costs=costs)


@contextmanager
def _nothing() -> Generator[None]:
    yield


def drained(
    ground: Ground, contender: Contender, url: str, count: int, *, processes: int = 1, **environ: str
) -> tuple[float, Costs, Record]:
    """Drain ``count`` jobs: from the first handler until the database says that none is open.

    Several processes start together: the queue is locked until each of them has come to it.
    """
    with (
        psycopg.connect(url, autocommit=True, application_name=WATCHER) as conn,
        psycopg.connect(url, application_name=WATCHER) as gate,
    ):
        if processes > 1:
            gate.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.SQL(contender.queue)))
        with ground.workers(contender, url, processes, **environ) as workers:
            if processes > 1:
                workers.until_held_up(conn, contender.queue)
            gate.rollback()
            seconds, costs, record = _watched(workers, conn, contender, count)
    return seconds, costs, record


def _watched(
    workers: Workers, conn: psycopg.Connection, contender: Contender, count: int
) -> tuple[float, Costs, Record]:
    meter = Meter(conn, workers.cpu_s)
    workers.until_begun()
    meter.start()
    workers.until_nearly(count)
    workers.until_none(conn, contender.open_jobs)
    ended, costs = time.monotonic_ns(), meter.stop(count)
    record = workers.stop()
    return (ended - record.first_ns) / 1e9, costs, record
