"""A process whose handler swallows every cancellation ends all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import kit, pooling

pytestmark = pytest.mark.once("about the end of a process")

PROGRAM = """
import asyncio
from datetime import timedelta

from adapter import Adapter, Batch, BatchItem

adapter = Adapter.from_env()
began, began_all = asyncio.Event(), asyncio.Event()


@adapter.task("forever")
async def forever(payload: int) -> None:
    began.set()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


@adapter.task("all-of-them", batch=Batch(size=2, wait=timedelta(0)))
async def all_of_them(items: list[BatchItem[int]]) -> None:
    began_all.set()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


async def main() -> None:
    stop = {"grace": timedelta(0), "cancel_grace": timedelta(milliseconds=100)}
    async with adapter.running(work=True, **stop):
        jobs = [await forever.schedule(1), await all_of_them.schedule(1)]
        await began.wait()
        await began_all.wait()
    async with adapter:
        for job in jobs:
            found = await adapter.get_job(job.id)
            print(found.status, found.attempt)


asyncio.run(main())
print("ended")
"""


def test_a_coroutine_that_never_ends_does_not_keep_its_process(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(file)],
        env=pooling.environment(
            {"PATH": os.defpath, "PYTHONPATH": str(kit.ROOT), "DATABASE_URL": database_url}
        ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.splitlines() == ["QUEUED 0", "QUEUED 0", "ended"], done.stderr
    assert "left behind" in done.stderr
    assert "Task was destroyed" not in done.stderr
