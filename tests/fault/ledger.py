"""What really ran, written down by the processes themselves and by nothing that is under test.

Each process appends lines to a file of its own; a line is one write to a file opened with O_APPEND, so a
killed process leaves whole lines.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

#: What explains one more start of a handler.
AGAIN = ("rescued", "retry", "returned")


class Ledger:
    """The file of one process."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
        self._file = os.open(directory / f"{os.getpid()}-{time.monotonic_ns()}.ledger", flags, 0o600)

    def write(self, event: str, job_id: UUID, at: int | None = None) -> None:
        """Write down what happened, now or at an earlier moment."""
        os.write(self._file, f"{job_id} {event} {os.getpid()} {at or time.monotonic_ns()}\n".encode())


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing a process did."""

    job_id: UUID
    event: str
    pid: int
    at: int


def read(directory: Path) -> list[Entry]:
    """Everything that was written down, in its order."""
    entries: list[Entry] = []
    for file in directory.glob("*.ledger"):
        for line in file.read_text().splitlines():
            job_id, event, pid, at = line.split()
            entries.append(Entry(UUID(job_id), event, int(pid), int(at)))
    return sorted(entries, key=lambda each: each.at)


def starts(entries: Iterable[Entry]) -> Counter[UUID]:
    """How often the handler of each job was begun."""
    return Counter(each.job_id for each in entries if each.event == "start")


def check(
    scheduled: Sequence[UUID],
    entries: Sequence[Entry],
    finished: Sequence[Any],
    events: Sequence[Any],
    *,
    still_open: int,
) -> None:
    """Lost nothing, finished everything once, started again only where that was recorded.

    ``finished``: rows with ``id`` and ``status``; ``events``: rows with ``job_id`` and ``kind``.
    """
    assert still_open == 0, f"{still_open} jobs are still open"
    ends = Counter(row["id"] for row in finished)
    assert set(ends) == set(scheduled), f"lost: {set(scheduled) - set(ends)}"
    assert max(ends.values()) == 1, "a job finished twice"
    explained: dict[UUID, int] = defaultdict(int)
    for row in events:
        explained[row["job_id"]] += row["kind"] in AGAIN
    begun = starts(entries)
    for job_id in scheduled:
        assert begun[job_id] <= 1 + explained[job_id], (
            f"{job_id} started {begun[job_id]} times, explained {explained[job_id]} times"
        )
    for row in finished:
        assert row["status"] != "COMPLETED" or begun[row["id"]] >= 1, f"{row['id']} completed without a start"
