"""The memory of a worker that drains: its peak, and how it drifts over very many jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg

from bench.contenders import ADAPTER, Contender
from bench.ground import Ground, Sizes, Stock
from bench.samples import Sample


def measure(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    count = sizes.memory
    with (
        ground.database(ADAPTER, Stock(count)) as url,
        psycopg.connect(url, autocommit=True) as conn,
        # The ledger would grow with every id.
        ground.workers(ADAPTER, url, BENCH_COUNTS_ONLY="1") as workers,
    ):
        workers.until_begun()
        began = time.monotonic()
        workers.until_surely(count // 10)
        early = workers.resident_mb()
        workers.until_nearly(count)
        workers.until_none(conn, ADAPTER.open_jobs)
        seconds, late, peak = time.monotonic() - began, workers.resident_mb(), workers.peak_mb()
        record = workers.stop()
        assert record.count == count, f"{record.count} runs of {count} jobs"
    jobs = f"{count:,} jobs"
    return [
        Sample(f"memory of a worker, {jobs}: most", peak, "MB", better=None),
        Sample(f"memory of a worker, {jobs}: drift after the first tenth", late - early, "MB", better=None),
        Sample(f"drain no-ops, {jobs}", count / seconds, "jobs/s", better=None),
    ]
