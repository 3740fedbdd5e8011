"""What ``ADAPTER_APP`` names in the walk: the registry, and a witness of what its handlers do.

Both sides run it. The ledger knows nothing of any database: which job was begun, where, and how often.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from adapter import JobContext
from examples.cutover.news import adapter
from examples.demo.tasks import Ledger

_ledger = Ledger(Path(os.environ["NEWS_LEDGER"]), os.environ["NEWS_SIDE"])


@adapter.middleware
@asynccontextmanager
async def witnessed(ctx: JobContext) -> AsyncGenerator[None]:
    subject = f"{ctx.job.type} {ctx.job.data['story'] if ctx.job.data else ctx.job.id}"
    _ledger.write("start", subject, ctx.attempt)
    yield
    _ledger.write("end", subject, ctx.attempt)
