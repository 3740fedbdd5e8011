"""The application of workers whose handlers run in child processes; ADAPTER_TEST_LEDGER names the ledger."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

from adapter import Adapter, JobContext, RetryPolicy, Settings
from tests.fault.ledger import Ledger

APP = "tests.fault.isolated:adapter"
adapter = Adapter(Settings.from_env())
directory = Path(os.environ["ADAPTER_TEST_LEDGER"]) if "ADAPTER_TEST_LEDGER" in os.environ else None
ledger = Ledger(directory) if directory is not None else None
AGAIN = RetryPolicy(max_attempts=50, min_timeout_in_ms=0, max_timeout_in_ms=0)


@adapter.task("apart", isolation="process", retry=AGAIN)
async def apart(data: dict[str, Any], context: JobContext) -> int:
    assert ledger is not None
    ledger.write("start", context.job.id)
    await asyncio.sleep(data["seconds"])
    ledger.write("end", context.job.id)
    return os.getpid()


@adapter.task("deaf", isolation="process", retry=AGAIN)
def deaf(_: dict[str, Any], context: JobContext) -> None:
    """Hears nothing the first time: no other thread of its process runs."""
    assert ledger is not None
    ledger.write("start", context.job.id)
    if context.attempt == 1:
        re.match(r"(a+)+$", "a" * 64 + "b")
    ledger.write("end", context.job.id)


@adapter.task("short-one", retry=AGAIN)
async def short_one(data: dict[str, Any], context: JobContext) -> int:
    assert ledger is not None
    ledger.write("start", context.job.id)
    await asyncio.sleep(data["seconds"])
    ledger.write("end", context.job.id)
    return 1


@adapter.task("apart-parent", isolation="process", retry=AGAIN)
def apart_parent(data: dict[str, Any], context: JobContext) -> int:
    assert ledger is not None
    ledger.write("start", context.job.id)
    results = adapter.sync.call(context.batch_trigger_and_wait([short_one.job(data) for _ in range(2)]))
    ledger.write("end", context.job.id)
    return sum(results)
