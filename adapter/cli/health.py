"""A file by which a process without HTTP shows that its event loop turns.

It says nothing of the database: whoever restarts workers because PostgreSQL is down helps nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter.domain.clock import Clock, SystemClock

#: How often the file is written, and how old it may be, in seconds.
BEAT_S = 1.0
MOST_AGE_S = 15.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a health file says. ``age``: seconds since it was written; ``pid`` None: nothing was read."""

    file: Path
    age: float
    pid: int | None = None
    state: str = ""


class HealthFile:
    """Writes the file of one process; each write replaces it whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **facts: Any) -> None:
        """Write what is so now. A disk that is full ends no worker: the file grows old instead."""
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps({"pid": os.getpid(), **facts}), encoding="utf-8")
            fresh.replace(self._path)

    def remove(self) -> None:
        """Take it away: the process ends as it should."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    @asynccontextmanager
    async def kept(self, facts: Callable[[], dict[str, Any]], clock: Clock) -> AsyncGenerator[None]:
        """Write it again and again while the block runs, on the event loop: it is the loop that is looked at."""

        async def beat() -> None:
            while True:
                self.write(**facts())
                await clock.sleep(BEAT_S)

        async with asyncio.TaskGroup() as group:
            beating = group.create_task(beat())
            try:
                yield
            finally:
                beating.cancel()
        self.remove()


def read(path: Path) -> list[Shown]:
    """Return what a process, or each of several (``path.worker-1`` …), shows; empty when there is none."""
    if path.exists():
        return [_read(path)]
    return [
        _read(each) for each in sorted(path.parent.glob(f"{path.name}.worker-*")) if each.suffix != ".new"
    ]


def _read(file: Path) -> Shown:
    try:
        age = SystemClock().now().timestamp() - file.stat().st_mtime
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Shown(file, float("inf"))
    return Shown(file, age, said.get("pid"), str(said.get("state", "")))


def of_process(path: Path, name: str) -> Path:
    """Return the file of one of several processes."""
    return path.with_name(f"{path.name}.{name}")
