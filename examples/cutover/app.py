"""What ``ADAPTER_APP`` names in the walk: the registry, and a witness of what its handlers do.

Both sides run it. The ledger knows nothing of any database: which job was begun, where, and how often.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from adapter import JobContext
from examples.cutover import documents
from examples.cutover.news import HOME, adapter
from examples.demo.tasks import Ledger

documents.declare(adapter, HOME)
_ledger = Ledger(Path(os.environ["NEWS_LEDGER"]), os.environ["NEWS_SIDE"])


@adapter.middleware
@asynccontextmanager
async def witnessed(ctx: JobContext) -> AsyncGenerator[None]:
    data: dict[str, object] = ctx.job.data or {}
    # A story has a reader, too; what is metered has a number.
    words = [data["story"]] if "story" in data else [each for each in data.values() if isinstance(each, str)]
    subject = f"{ctx.job.type} {words[0] if words else ctx.job.id}"
    _ledger.write("start", subject, ctx.attempt)
    yield
    _ledger.write("end", subject, ctx.attempt)
