"""From samples and rows to a table and one word: did it hold?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from soak.sampling import OfProcess, Samples

#: The bounds. Growth compares the middle third of a process's life with its last third, by medians.
MOST_RSS_MB = 100.0
MOST_RSS_GROWTH_MB = 4.0
MOST_DESCRIPTOR_GROWTH = 4.0
MOST_THREAD_GROWTH = 4.0
#: A worker that lived shorter than this share of the run shows no slope.
LONG_LIFE = 0.6
#: Of the last third against the middle third: the time from scheduling to start, and the rate of ends.
MOST_LATENCY_DRIFT = 1.5
LATENCY_ALLOWANCE_MS = 25.0
LEAST_THROUGHPUT = 0.7
#: Of the rate that was asked for: below it the load was another than the one that is said to hold.
LEAST_RATE = 0.5
MOST_TABLE_MB = 64.0

_ROWS = """
SELECT
  (SELECT count(*) FROM soak.expected),
  (SELECT count(*) FROM soak.expected e WHERE NOT EXISTS
    (SELECT FROM adapter.worker_jobs j WHERE j.id = e.id)),
  (SELECT count(*) FROM adapter.worker_jobs_open),
  (SELECT count(*) - count(DISTINCT id) FROM adapter.worker_jobs_finished),
  (SELECT count(*) FROM adapter.worker_jobs_finished),
  (SELECT count(*) FROM adapter.worker_jobs_finished WHERE NOT success AND status <> 'CANCELED'),
  (SELECT count(*) FROM adapter.job_events WHERE kind = 'rescued')
"""
_THIRDS = """
WITH span AS (SELECT min(created_at) AS a, max(created_at) AS z FROM adapter.worker_jobs_finished
  WHERE id IN (SELECT id FROM soak.expected)),
parted AS (SELECT least(width_bucket(extract(epoch FROM f.created_at), extract(epoch FROM a)::numeric,
    extract(epoch FROM z)::numeric + 0.001, 3), 3) AS third, f.*
  FROM adapter.worker_jobs_finished f, span WHERE f.created_at BETWEEN a AND z)
SELECT third,
  count(*),
  1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started - created_at))
    FILTER (WHERE type = 'quick' AND due IS NULL AND attempt = 1)
FROM parted GROUP BY third ORDER BY third
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what was found, what is allowed, and whether it held."""

    name: str
    found: str
    allowed: str
    held: bool


def facts(url: str) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """Return what the rows say at the end: counts, and three thirds of the run."""
    with psycopg.connect(url) as conn:
        counts = conn.execute(_ROWS).fetchone()
        assert counts is not None
        return counts, conn.execute(_THIRDS).fetchall()


def judge(
    samples: Samples,
    counts: Sequence[Any],
    thirds: Sequence[Sequence[Any]],
    *,
    rate: float,
    seconds: float,
    code: int,
) -> list[Line]:
    """Compare everything with its bound; ``rate``: jobs a second that were asked for."""
    expected, lost, still_open, twice, finished, failed, rescued = counts
    looks = [look for each in samples.processes.values() for look in each]
    lives = [each for each in samples.processes.values() if each[-1].at - each[0].at >= seconds * LONG_LIFE]
    largest = max((look.rss for look in looks), default=float("inf"))
    database = samples.database
    (_, before, slow_before), (_, after, slow_after) = thirds[1], thirds[2]
    allowed_ms = float(slow_before) * MOST_LATENCY_DRIFT + LATENCY_ALLOWANCE_MS
    tables = max((each.table + each.indexes for each in database), default=0.0)
    least = max(1.0, rate * seconds * LEAST_RATE)
    return [
        _is("scheduled, of the rate", expected, f">= {least:.0f}", held=expected >= least),
        _is("lost", lost, "0", held=lost == 0),
        _is("still open", still_open, "0", held=still_open == 0),
        _is("finished more than once", twice, "0", held=twice == 0),
        _is("failed (none should)", failed, "0", held=failed == 0),
        _is("finished, children included", finished, f">= {expected}", held=finished >= expected),
        _is("rescued after kills", rescued, "", held=True),
        _is("exit code of the workers", code, "0", held=code == 0),
        _is("long-lived workers", len(lives), "> 0", held=bool(lives)),
        _most("largest RSS of a worker, MB", largest, MOST_RSS_MB),
        _most("RSS growth, worst worker, MB", _growth(lives, lambda each: each.rss), MOST_RSS_GROWTH_MB),
        _most(
            "descriptor growth, worst worker",
            _growth(lives, lambda each: each.descriptors),
            MOST_DESCRIPTOR_GROWTH,
        ),
        _most("thread growth, worst worker", _growth(lives, lambda each: each.threads), MOST_THREAD_GROWTH),
        _is("most connections", max((each.connections for each in database), default=0), "", held=True),
        _most("open table and indexes, MB", tables, MOST_TABLE_MB),
        _is("most dead tuples seen", max((each.dead for each in database), default=0), "", held=True),
        _most("wait of a quick job, last third, ms", float(slow_after), allowed_ms),
        _is(
            "finished in the last third / the middle third",
            f"{after / before:.2f}",
            f">= {LEAST_THROUGHPUT:g}",
            held=after >= before * LEAST_THROUGHPUT,
        ),
    ]


def _is(name: str, found: object, allowed: str, *, held: bool) -> Line:
    return Line(name, str(found), allowed, held)


def _most(name: str, found: float, bound: float) -> Line:
    return Line(name, f"{found:.1f}", f"<= {bound:.1f}", found <= bound)


def _growth(lives: Sequence[list[OfProcess]], what: Callable[[OfProcess], float]) -> float:
    """Return the largest growth from the middle third of a life to its last third."""
    grown = [0.0]
    for looks in lives:
        third = max(1, len(looks) // 3)
        middle, last = looks[third : 2 * third] or looks, looks[-third:]
        grown.append(statistics.median(map(what, last)) - statistics.median(map(what, middle)))
    return max(grown)
