"""What the handlers of one worker process did, kept in memory and written down when the process ends.

No database and no counter of anybody's is asked: this is the independent witness that each job ran exactly once and
that a limit was kept. It costs a handler about 0.1 µs, with spans 0.3 µs. Imported by every Python contender, so the
standard library is all it needs. `node/ledger.mjs` is its twin.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: A byte is appended to the progress file for the first job and for every so many.
STEP = 500


class Ledger:
    """The record of one process. ``BENCH_LEDGER`` is a folder; without it nothing is written."""

    def __init__(self, *, keeps_ids: bool = True) -> None:
        self._ids = array("q")
        self._lags = array("d")
        self._begun, self._ended = array("q"), array("q")
        self._keeps_ids = keeps_ids
        self._count = 0
        self._first = 0
        self._progress = -1
        if folder := os.environ.get("BENCH_LEDGER"):
            path = Path(folder, str(os.getpid()))
            self._progress = os.open(f"{path}.progress", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            atexit.register(self._write, Path(f"{path}.json"))

    def hit(self, number: int) -> None:
        """Note that the handler of job ``number`` was reached."""
        if not self._count % STEP:
            if not self._count:
                self._first = time.monotonic_ns()
            os.write(self._progress, b".")
        self._count += 1
        if self._keeps_ids:
            self._ids.append(number)

    def lag(self, since_ns: int) -> None:
        """Note the time from a moment of the machine's monotonic clock until now."""
        self._lags.append((time.monotonic_ns() - since_ns) / 1e6)

    def span(self, number: int, begun_ns: int) -> None:
        """Note that a handler ran from then until now."""
        self._begun.append(begun_ns)
        self._ended.append(time.monotonic_ns())
        self.hit(number)

    def _write(self, path: Path) -> None:
        kept = {
            "count": self._count,
            "first_ns": self._first,
            "ids": list(self._ids),
            "lags_ms": list(self._lags),
            "spans_ns": list(zip(self._begun, self._ended, strict=True)),
        }
        path.with_suffix(".part").write_text(json.dumps(kept))
        path.with_suffix(".part").rename(path)


@dataclass(slots=True)
class Record:
    """What the ledgers of all processes of a measure say together."""

    count: int = 0
    first_ns: int = sys.maxsize
    ids: list[int] = field(default_factory=list[int])
    lags_ms: list[float] = field(default_factory=list[float])
    spans_ns: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def add(self, written: dict[str, Any]) -> None:
        """Add one process's ledger."""
        self.count += written["count"]
        if written["count"]:
            self.first_ns = min(self.first_ns, written["first_ns"])
        self.ids += written["ids"]
        self.lags_ms += written["lags_ms"]
        self.spans_ns += [(begun, ended) for begun, ended in written["spans_ns"]]


def progress(folder: Path) -> tuple[int, int]:
    """How many processes have begun, and the least number of jobs that were reached in all."""
    sizes = [path.stat().st_size for path in folder.glob("*.progress")]
    begun = [size for size in sizes if size]
    return len(begun), sum((size - 1) * STEP for size in begun)


def exactly_once(ids: Iterable[int], count: int) -> str | None:
    """What is wrong, or None when each of 0..count-1 is there once."""
    found = sorted(ids)
    if found == list(range(count)):
        return None
    missing = sorted({*range(count)} - {*found})
    twice = sorted({left for left, right in itertools.pairwise(found) if left == right})
    return f"{len(found)} runs of {count} jobs; lost: {missing[:5]}; ran twice: {twice[:5]}"


def most_at_once(spans_ns: Sequence[tuple[int, int]]) -> int:
    """How many spans overlapped at the worst moment. One that ends as another begins does not overlap it."""
    moments = sorted(
        [(begun, 1) for begun, _ in spans_ns] + [(ended, -1) for _, ended in spans_ns],
        key=lambda moment: (moment[0], moment[1]),
    )
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
