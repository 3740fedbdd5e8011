"""Figures of everything, for people, for Prometheus and for alerts: read rarely, however often they are asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from adapter.domain.clock import Clock
from adapter.domain.job import OPEN, JobStatus
from adapter.store import figures as store
from adapter.store.database import Database
from adapter.store.figures import Figures, OpenCount, RecentEnds

#: How old figures may be, in seconds; older when reading them takes long: it costs a twentieth of a connection at most.
FRESH_S = 5.0
_SHARE = 20

#: From which depth a queue, and from which share of failures a task, is an alert (the seed guides' thresholds).
MOST_WAITING = 1000
MOST_FAILED = 0.05
#: Fewer ends than this in the window say nothing of a share.
FEWEST_ENDED = 20
WINDOW = timedelta(minutes=15)
#: How long a run may not be heard of, and a webhook may wait, before somebody should look.
LONGEST_UNSYNCED = timedelta(minutes=15)
LONGEST_IN_INBOX = timedelta(minutes=5)

AlertName = Literal[
    "AdapterQueueDeep", "AdapterTaskFails", "AdapterNoWorker", "AdapterSyncLags", "AdapterInboxWaits"
]
_READY = {JobStatus.QUEUED.value, JobStatus.PENDING.value}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should look at, by the name that the rule for Prometheus has."""

    name: AlertName
    subject: str
    finding: str


@dataclass(slots=True)
class Counts:
    """How many jobs wait, run, have completed and have failed; canceled ones are none of these."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0

    def add(self, status: str, jobs: int) -> None:
        """Count jobs of this status."""
        if status == JobStatus.COMPLETED:
            self.completed += jobs
        elif status == JobStatus.EXECUTING:
            self.running += jobs
        elif status in OPEN:
            self.pending += jobs
        elif status != JobStatus.CANCELED:
            self.failed += jobs


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Counts per task, per queue and per executor; what has ended is counted since the first look ever."""

    tasks: dict[str, Counts]
    queues: dict[str, Counts]
    executors: dict[str, Counts]


class FigureKeeper:
    """The figures as one process last read them; asked by many at once, it reads once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = asyncio.Lock()
        self._read: Figures | None = None
        self._good_until = 0.0

    async def current(self) -> Figures:
        """Return the figures, `FRESH_S` old at most unless reading them takes long."""
        async with self._lock:
            began = self._clock.monotonic()
            if self._read is None or began >= self._good_until:
                async with self._database.connection() as conn:
                    self._read = await store.look(conn, self._database.schema)
                ended = self._clock.monotonic()
                self._good_until = ended + max(FRESH_S, _SHARE * (ended - began))
            return self._read


class TellsFigures:
    """Mixed into the adapter: how many jobs there are, and what somebody should look at."""

    database: Database
    figure_keeper: FigureKeeper

    async def figures(self) -> Figures:
        """Return all figures; they may be some seconds old."""
        return await self.figure_keeper.current()

    async def job_counts(self) -> JobCounts:
        """Return how many jobs wait, run, have completed and have failed; they may be some seconds old."""
        found = await self.figure_keeper.current()
        counts = JobCounts({}, {}, {})
        for each in (*found.open, *found.ended):
            for kind, name in (
                (counts.tasks, each.task),
                (counts.queues, each.queue),
                (counts.executors, each.executor or "not routed"),
            ):
                kind.setdefault(name, Counts()).add(each.status, each.jobs)
        return counts

    async def alerts(self) -> list[Alert]:
        """Return what somebody should look at now, by the thresholds of the rules for Prometheus."""
        found = await self.figure_keeper.current()
        async with self.database.connection() as conn:
            ends = await store.recent(conn, self.database.schema, WINDOW)
        return [*_deep(found), *_failing(ends), *_unattended(found), *_lagging(found)]


def _deep(found: Figures) -> list[Alert]:
    waiting: dict[str, int] = {}
    for each in found.open:
        if each.status in _READY:
            waiting[each.queue] = waiting.get(each.queue, 0) + each.jobs
    return [
        Alert("AdapterQueueDeep", queue, f"{jobs} jobs wait in the queue {queue}, more than {MOST_WAITING}")
        for queue, jobs in sorted(waiting.items())
        if jobs > MOST_WAITING
    ]


def _failing(ends: list[RecentEnds]) -> list[Alert]:
    return [
        Alert(
            "AdapterTaskFails",
            each.task,
            f"{each.failed} of {each.ended} jobs of {each.task} failed in the last 15 minutes, more than 5 %",
        )
        for each in ends
        if each.ended >= FEWEST_ENDED and each.failed > MOST_FAILED * each.ended
    ]


def _unattended(found: Figures) -> list[Alert]:
    waiting = sum(each.jobs for each in found.open if each.executor == "local" and each.status == "QUEUED")
    if found.workers or not waiting:
        return []
    return [Alert("AdapterNoWorker", "local", f"{waiting} local jobs are ready, and no worker lives")]


def _lagging(found: Figures) -> list[Alert]:
    alerts: list[Alert] = []
    for executor in sorted({each.executor for each in found.open}):
        lag = max(_unsynced(found.open, executor), default=timedelta())
        if lag > LONGEST_UNSYNCED:
            said = f"of a run at {executor} nothing was heard for {_minutes(lag)} minutes"
            alerts.append(Alert("AdapterSyncLags", executor, said))
    if found.inbox_oldest is not None and found.inbox_oldest > LONGEST_IN_INBOX:
        said = f"{found.inbox_pending} webhooks wait, the first for {_minutes(found.inbox_oldest)} minutes"
        alerts.append(Alert("AdapterInboxWaits", "inbox", said))
    return alerts


def _unsynced(open_: list[OpenCount], executor: str) -> list[timedelta]:
    return [each.unsynced for each in open_ if each.executor == executor and each.unsynced is not None]


def _minutes(time: timedelta) -> int:
    return int(time.total_seconds() // 60)
