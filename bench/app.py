"""The application that is measured: ``adapter --app bench.app:adapter``."""

from __future__ import annotations

import asyncio
import os
import time

from pydantic import JsonValue

from adapter import Adapter, Queue
from bench.ledger import Ledger

LIMIT = 100
#: What a handler that is not a no-op takes.
PAUSE_S = 0.005
Payload = dict[str, JsonValue]


def declare(adapter: Adapter) -> Adapter:
    # A million ids would be a drift of the memory that is ours to measure.
    ledger = Ledger(keeps_ids="BENCH_COUNTS_ONLY" not in os.environ)
    limited = Queue("limited", concurrency_limit=LIMIT)

    @adapter.task("noop")
    async def noop(payload: Payload) -> None:
        ledger.hit(payload["i"])

    @adapter.task("lag")
    async def lag(payload: Payload) -> None:
        ledger.lag(payload["at_ns"])

    async def spanning(payload: Payload, pause: float) -> None:
        begun = time.monotonic_ns()
        await asyncio.sleep(pause)
        ledger.span(payload["i"], begun)

    @adapter.task("free")
    async def free(payload: Payload) -> None:
        await spanning(payload, 0)

    @adapter.task("limited", queue=limited)
    async def limited_one(payload: Payload) -> None:
        await spanning(payload, 0)

    @adapter.task("free-slow")
    async def free_slow(payload: Payload) -> None:
        await spanning(payload, PAUSE_S)

    @adapter.task("limited-slow", queue=limited)
    async def limited_slow(payload: Payload) -> None:
        await spanning(payload, PAUSE_S)

    adapter.remote_task("elsewhere", remote_id={"trigger": "elsewhere"})
    return adapter


adapter = declare(Adapter.from_env())
