"""Reconciliation: walk over every run not known to have ended, ask its remote, and repair.

On boot and every five minutes. One process at a time, by a renewed lease. Asks in groups by our tags;
what a list does not show is asked for one by one before anything is concluded from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.applying import Applier, report_of
from adapter.core.budget import Budgets
from adapter.core.orphans import Orphans
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.domain.errors import ExecutorError, NotSentError, ThrottledError
from adapter.domain.identity import epoch_tag
from adapter.domain.outcome import Applied
from adapter.executors.base import Executor, RemoteRun, RunFilter
from adapter.store import jobs, processes, remote_runs
from adapter.store.remote_runs import Cursor, KnownRun

logger = logging.getLogger("adapter.reconcile")

LEASE = timedelta(minutes=2)
#: Runs asked for by one list call: as many tags as fit a request.
PER_CALL = 100
#: Why a pass did nothing: its lease is held, perhaps by a process that died a moment ago.
BUSY = "another process is reconciling"
#: Runs looked at side by side, so that a slow remote does not make a pass slow.
_AT_ONCE = 6
_NOBODY = UUID(int=0)
#: So many runs in a row that cannot be read mean that the remote cannot be asked at all.
_MOST_ERRORS = 5


class _LostLeaseError(Exception):
    """Another process reconciles now."""


class Verdict(StrEnum):
    """What reconciliation found of one run."""

    #: The row says what the remote says.
    IN_SYNC = "in_sync"
    #: The row was behind and was brought forward.
    ADVANCED = "advanced"
    #: A job whose submit was uncertain, or answered with a run nobody has: its run was found by its tag.
    REDISPATCHED = "redispatched"
    #: The remote has lost the run; the job ended as SYSTEM_FAILURE.
    ORPHANED = "orphaned"
    #: A run that must not go on was canceled once more.
    CANCELED_AGAIN = "canceled_again"
    #: Nothing could be concluded.
    UNKNOWN = "unknown"


@dataclass(slots=True, kw_only=True)
class ReconcileReport:
    """What one pass found and did. ``stopped``: why it ended early, None when it did not."""

    dry_run: bool = False
    examined: int = 0
    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    #: Ids of jobs whose runs the remote no longer has.
    orphaned: list[UUID] = field(default_factory=list[UUID])
    list_calls: int = 0
    retrieves: int = 0
    seconds: float = 0.0
    stopped: str | None = None

    def count(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self.verdicts[verdict] += 1


Progress = Callable[[int, int], None]


class Reconciler:
    """Compares every run we know of with what its remote says."""

    def __init__(self, parts: Parts, applier: Applier, reader: Reader, budgets: Budgets) -> None:
        self._database = parts.database
        self._executors = parts.executors
        self._applier = applier
        self._reader = reader
        self._budgets = budgets
        self._clock = parts.clock
        self._orphans = Orphans(parts.database, applier)
        self._holder = UUID(str(uuid7()))
        self._held_at = 0.0

    async def run_once(
        self, *, dry_run: bool = False, progress: Progress | None = None, unless_done_within: float = 0.0
    ) -> ReconcileReport:
        """Make one pass; returns at once with ``stopped`` when another process is at it.

        ``unless_done_within``: also when some process completed a pass so many seconds ago.
        """
        report = ReconcileReport(dry_run=dry_run)
        began = self._clock.monotonic()
        held = await self._hold()
        if held is None:
            report.stopped = BUSY
            return report
        done_ago = held["done_ago"]
        if done_ago is not None and done_ago < unless_done_within:
            report.stopped = f"a pass was completed {done_ago:.0f} s ago"
            await self._release(done=False)
            return report
        logger.info("starting reconciliation")
        try:
            for name in self._executors.names:
                await self._executor(self._executors.by_name[name], report, progress)
        except _LostLeaseError:
            report.stopped = "another process took over"
        finally:
            report.seconds = self._clock.monotonic() - began
            await self._release(done=report.stopped is None and not dry_run)
        found = {verdict.value: n for verdict, n in report.verdicts.items() if n}
        logger.info("reconciliation complete: %s", found or "nothing to do", extra={"verdicts": found})
        return report

    async def _keep_hold(self) -> None:
        """Renew the lease when it is due: a page of runs that answer slowly may outlast it."""
        if self._clock.monotonic() - self._held_at > LEASE.total_seconds() / 4 and await self._hold() is None:
            raise _LostLeaseError

    async def _release(self, *, done: bool) -> None:
        async with self._database.connection() as conn:
            await processes.release_lease(conn, self._database.schema, "reconcile", self._holder, done=done)

    async def _hold(self) -> dict[str, Any] | None:
        self._held_at = self._clock.monotonic()
        async with self._database.connection() as conn:
            schema = self._database.schema
            return await processes.take_lease(conn, schema, "reconcile", self._holder, LEASE)

    async def _executor(self, executor: Executor, report: ReconcileReport, progress: Progress | None) -> None:
        schema = self._database.schema
        async with self._database.connection() as conn:
            total = await remote_runs.count_open(conn, schema, executor.name)
            until = await remote_runs.database_now(conn, schema)
        logger.info("found %d unfinished jobs at %s", total, executor.name, extra={"executor": executor.name})
        self._orphans.begin(total)
        cursor, done = Cursor(), 0
        stopped: str | None = None
        while stopped is None:
            async with self._database.connection() as conn:
                page = await remote_runs.page(
                    conn, schema, executor.name, after=cursor, until=until, limit=PER_CALL
                )
            if not page:
                break
            cursor = Cursor(page[-1].created_at, page[-1].run_id)
            try:
                stopped = await self._page(executor, page, report)
            except ExecutorError as error:
                stopped = self._cannot_ask(executor, error)
            done += len(page)
            if progress is not None:
                progress(done, max(total, done))
            if await self._hold() is None:
                raise _LostLeaseError
        if stopped is None:
            try:
                await self._uncertain(executor, report)
            except ExecutorError as error:
                stopped = self._cannot_ask(executor, error)
        # Another executor may be well all the same.
        report.stopped = report.stopped or stopped

    @staticmethod
    def _cannot_ask(executor: Executor, error: ExecutorError) -> str:
        logger.warning("%s cannot be asked: %s", executor.name, error, extra={"executor": executor.name})
        return f"{executor.name} cannot be asked: {error}"

    async def _page(self, executor: Executor, page: list[KnownRun], report: ReconcileReport) -> str | None:
        """Compare a page of runs; returns why the pass over this executor must stop, None to go on."""
        asked = [each for each in page if each.environment in {None, executor.environment}]
        for each in page:
            if each not in asked:
                # Our key opens another environment: it could only answer that it knows no such run.
                report.examined += 1
                report.count(Verdict.UNKNOWN)
        listed = await self._list(executor, asked, report)
        in_a_row = 0
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            await self._keep_hold()
            looks = (self._one(executor, each, listed.get(each.run_id), report) for each in part)
            for each, verdict in zip(part, await asyncio.gather(*looks, return_exceptions=True), strict=True):
                report.examined += 1
                if isinstance(verdict, Verdict):
                    in_a_row = 0
                    report.count(verdict)
                    continue
                # One run that cannot be read must not keep the others from being looked at.
                in_a_row += 1
                fatal = not isinstance(verdict, ExecutorError) or isinstance(
                    verdict, (NotSentError, ThrottledError)
                )
                if fatal or in_a_row == _MOST_ERRORS:
                    raise verdict
                logger.warning("run %s cannot be compared: %s", each.run_id, verdict)
                report.count(Verdict.UNKNOWN)
            if self._orphans.why_stopped is not None:
                return self._orphans.why_stopped
        started = [run_id for run_id, run in listed.items() if not run.never_started]
        if not report.dry_run and listed:
            async with self._database.connection() as conn:
                await remote_runs.seen(conn, self._database.schema, executor.name, list(listed), started)
        return None

    async def _list(
        self, executor: Executor, page: list[KnownRun], report: ReconcileReport
    ) -> dict[str, RemoteRun]:
        """Return the runs the remote shows under the tags of these; a run may exist all the same."""
        if not page or not executor.capabilities.lookup:
            return {}
        wanted = RunFilter(
            since=min(each.created_at for each in page) - timedelta(hours=1),
            tags=tuple(sorted({epoch_tag(each.job_id, each.epoch) for each in page})),
        )
        found: dict[str, RemoteRun] = {}
        after: str | None = None
        while True:
            await self._budgets.take(executor, "reads")
            report.list_calls += 1
            runs = await executor.list_runs(wanted, after)
            found.update((run.run_id, run) for run in runs.runs)
            after = runs.next
            if after is None or len(found) >= len(page) * 2:
                return found

    async def _one(
        self, executor: Executor, known: KnownRun, listed: RemoteRun | None, report: ReconcileReport
    ) -> Verdict:
        if known.unwanted:
            return await self._unwanted(executor, known, listed, report)
        if listed is not None and not listed.status.is_terminal:
            if listed.remote_status == known.job_remote_status or known.job_status is None:
                return Verdict.IN_SYNC
            if report.dry_run:
                return Verdict.ADVANCED
            applied = await self._applier.apply(
                known.job_id, known.epoch, executor.name, report_of(listed, None)
            )
            return Verdict.ADVANCED if applied is Applied.CHANGED else Verdict.IN_SYNC
        if report.dry_run and listed is not None:
            return Verdict.ADVANCED
        return await self._retrieve(executor, known, report)

    async def _retrieve(self, executor: Executor, known: KnownRun, report: ReconcileReport) -> Verdict:
        report.retrieves += 1
        if report.dry_run:
            run = await self._peek(executor, known.run_id)
            if run is None:
                return Verdict.UNKNOWN
            same = run.remote_status == known.job_remote_status
            return Verdict.IN_SYNC if same else Verdict.ADVANCED
        seen = await self._reader.read(executor, known.job_id, known.epoch, known.run_id)
        if seen.run is None:
            return await self._missing(executor, known, report)
        return Verdict.ADVANCED if seen.applied is Applied.CHANGED else Verdict.IN_SYNC

    async def _missing(self, executor: Executor, known: KnownRun, report: ReconcileReport) -> Verdict:
        if known.missing_since is not None and await self._adopted(executor, known, report):
            return Verdict.REDISPATCHED
        if not await self._orphans.missing(executor.name, known):
            return Verdict.UNKNOWN
        report.orphaned.append(known.job_id)
        return Verdict.ORPHANED

    async def _adopted(self, executor: Executor, lost: KnownRun, report: ReconcileReport) -> bool:
        """Take the run that carries the epoch's tag for the job's, whose own nobody has ever seen."""
        async with self._database.connection() as conn:
            job = await jobs.get(conn, self._database.schema, lost.job_id)
        if job is None or job.last_synced_at is not None or job.remote_run_id != lost.run_id:
            return False
        report.list_calls += 1
        for run in await self._reader.find(executor, job):
            if run.run_id == lost.run_id:
                continue
            async with self._database.connection() as conn:
                if not await remote_runs.adopt(conn, self._database.schema, lost, run.run_id):
                    return False
            await self._reader.read(executor, job.id, job.epoch, run.run_id)
            return True
        return False

    async def _peek(self, executor: Executor, run_id: str) -> RemoteRun | None:
        await self._budgets.take(executor, "reads")
        return await executor.retrieve(run_id)

    async def _unwanted(
        self, executor: Executor, known: KnownRun, listed: RemoteRun | None, report: ReconcileReport
    ) -> Verdict:
        if report.dry_run:
            return Verdict.CANCELED_AGAIN
        if known.unheard_of is not None and await self._peek(executor, known.unheard_of) is None:
            # The job's own run may be one that nobody has; then this is the one to go on with.
            return Verdict.UNKNOWN
        if listed is None or not listed.status.is_terminal:
            await self._budgets.take(executor, "cancel")
            await executor.cancel(known.run_id)
        report.retrieves += 1
        seen = await self._reader.read(executor, known.job_id, known.epoch, known.run_id)
        if seen.run is None and known.is_current:
            # The job still waits for the end of this very run.
            return await self._missing(executor, known, report)
        if seen.run is None and await self._orphans.gone(executor.name, known):
            return Verdict.IN_SYNC
        return Verdict.CANCELED_AGAIN

    async def _uncertain(self, executor: Executor, report: ReconcileReport) -> None:
        """Look for the runs of jobs whose submit may have got through."""
        after = _NOBODY
        while True:
            async with self._database.connection() as conn:
                rows = await remote_runs.uncertain(
                    conn, self._database.schema, executor.name, after, PER_CALL
                )
            if not rows:
                return
            after = rows[-1].id
            for job in rows:
                await self._keep_hold()
                report.examined += 1
                if job.remote_environment not in {None, executor.environment}:
                    report.count(Verdict.UNKNOWN)
                    continue
                report.list_calls += 1
                found = await self._reader.find(executor, job)
                if not report.dry_run:
                    await self._reader.adopt(executor, job, found)
                # Not found: the dispatcher submits it again under the same keys while that is safe.
                report.count(Verdict.REDISPATCHED if found else Verdict.UNKNOWN)
