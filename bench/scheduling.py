"""Scheduling: one awaited call after another, and in bulk."""

from __future__ import annotations

import time

from adapter import JobSpec
from bench.ground import Ground, Sample, Sizes, quantile


async def measure(ground: Ground, sizes: Sizes) -> list[Sample]:
    with ground.database() as url:
        async with ground.adapter(url) as adapter:
            await adapter.schedule_job("noop", {})
            took: list[float] = []
            spent = time.process_time()
            for _ in range(sizes.singles):
                began = time.perf_counter()
                await adapter.schedule_job("noop", {})
                took.append(time.perf_counter() - began)
            spent = time.process_time() - spent
            specs = [JobSpec("noop", {}) for _ in range(sizes.bulk)]
            began = time.perf_counter()
            for start in range(0, sizes.bulk, 1000):
                await adapter.schedule_specs(specs[start : start + 1000])
            bulk = sizes.bulk / (time.perf_counter() - began)
    return [
        Sample("schedule, one by one", len(took) / sum(took), "jobs/s", "raw: INSERT and commit, one by one"),
        Sample("schedule, one call, p50", quantile(took, 0.5) * 1000, "ms"),
        Sample("schedule, CPU of the caller", spent / len(took) * 1e6, "us each"),
        Sample("schedule, 1000 per call", bulk, "jobs/s", "raw: INSERT, 1000 per statement"),
    ]
