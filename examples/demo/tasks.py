"""The application's one task. It can run on our own workers and at the remote."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from adapter import Adapter, JobContext, Task
from examples.demo.corpus import Counts, Package, count

TASK = "index-package"
#: Work that only computes would be over before anybody could pull a plug.
_PAUSE_S = 0.1


class Ledger:
    """What this process ran, in a file of its own: a witness that knows nothing of any database."""

    def __init__(self, directory: Path, side: str) -> None:
        self._path = directory / f"{side}-{os.getpid()}.jsonl"

    def write(self, event: str, package: str, attempt: int) -> None:
        """Append one line, out of our hands before this returns."""
        line = json.dumps({"event": event, "package": package, "attempt": attempt})
        with self._path.open("a") as file:
            file.write(f"{line}\n")


def declare(adapter: Adapter, ledger: Ledger | None) -> Task[Package, Counts]:
    """Declare the task on an adapter. The process that only schedules needs no ledger."""

    @adapter.task(TASK, remote_id={"trigger": TASK})
    def index(package: Package, ctx: JobContext) -> Counts:
        assert ledger is not None
        ledger.write("start", package.name, ctx.attempt)
        counts = count(package.files)
        time.sleep(_PAUSE_S)
        ledger.write("end", package.name, ctx.attempt)
        return counts

    return index
