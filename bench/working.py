"""Working: how fast one worker process empties a queue of no-ops, and how soon it picks a job up."""

from __future__ import annotations

import asyncio
import random
import time

from adapter import JobSpec
from bench.app import Sent
from bench.ground import EMPTY, Ground, Sample, Sizes, cpu_s, peak_mb, quantile, until

_PER_SECOND = 50


async def drain(ground: Ground, sizes: Sizes) -> list[Sample]:
    with ground.database() as url:
        async with ground.adapter(url) as adapter:
            for start in range(0, sizes.drain, 1000):
                count = min(1000, sizes.drain - start)
                await adapter.schedule_specs([JobSpec("noop", {}) for _ in range(count)])
        async with ground.connection(url) as conn:
            with ground.process(url, "worker") as worker:
                await until(conn, EMPTY, worker)
                spent, peak = cpu_s(worker), peak_mb(worker)
                asked = await conn.execute(
                    "SELECT count(*) AS n, max(attempt) AS tries,"
                    " extract(epoch FROM max(finished) - min(started))::float8 AS seconds"
                    " FROM adapter.worker_jobs WHERE status = 'COMPLETED'"
                )
                row = await asked.fetchone()
    assert row is not None
    assert (row["n"], row["tries"]) == (sizes.drain, 1), f"a job was lost or ran twice: {row}"
    return [
        Sample(
            "drain no-ops, one worker",
            sizes.drain / row["seconds"],
            "jobs/s",
            "raw: claim 50, finish 50, again",
        ),
        Sample(
            "drain, CPU of the worker (boot included)",
            spent / sizes.drain * 1e6,
            "us each",
        ),
        Sample("drain, most memory of the worker", peak, "MB"),
    ]


async def latency(ground: Ground, sizes: Sizes) -> list[Sample]:
    rng = random.Random(0)
    with ground.database() as url, ground.process(url, "worker") as worker:
        async with ground.connection(url) as conn, ground.adapter(url) as adapter:
            await adapter.schedule_job("noop", {})
            await until(conn, EMPTY, worker)
            began = time.monotonic()
            for number in range(sizes.paced):
                at = began + (number + rng.uniform(-0.4, 0.4)) / _PER_SECOND
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                await adapter.schedule_job("lag", Sent(at_ns=time.monotonic_ns()))
            await until(conn, EMPTY, worker)
            asked = await conn.execute(
                "SELECT result::float8 AS ms FROM adapter.worker_jobs WHERE type = 'lag'"
            )
            lags = [row["ms"] for row in await asked.fetchall()]
    assert len(lags) == sizes.paced
    return [
        Sample(f"from call to handler at {_PER_SECOND}/s, p{share:.0f}", quantile(lags, share / 100), "ms")
        for share in (50, 95, 99)
    ]
