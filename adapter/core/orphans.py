"""Runs their remote no longer has. Concluding that takes patience: two looks, ten minutes apart."""

from __future__ import annotations

import asyncio
import logging

from adapter.core.applying import Applier
from adapter.domain.job import JobStatus
from adapter.store import remote_runs
from adapter.store.database import Database
from adapter.store.remote_runs import KnownRun
from adapter.store.reports import Report, finish, note

logger = logging.getLogger("adapter.reconcile")

#: A pass that would give up more than this many jobs, or this share, stops and asks a person.
_FEW, _SHARE = 10, 0.01


class Orphans:
    """Decides on missing runs within one pass."""

    def __init__(self, database: Database, applier: Applier) -> None:
        self._database = database
        self._applier = applier
        self._limit = _FEW
        self._given_up = 0
        self._one_at_a_time = asyncio.Lock()
        self.why_stopped: str | None = None

    def begin(self, total: int) -> None:
        """Start a pass over ``total`` runs."""
        self._limit = max(_FEW, int(total * _SHARE))
        self._given_up, self.why_stopped = 0, None

    async def missing(self, executor: str, known: KnownRun) -> bool:
        """A retrieve did not find the run; returns whether its job was given up. See `why_stopped` also.

        The job ends as SYSTEM_FAILURE, keeps its idempotency key, and takes its run's end back if that
        is reported after all.
        """
        schema = self._database.schema
        # One at a time: the limit is exact though runs are looked at side by side.
        async with self._one_at_a_time, self._database.connection() as conn:
            if not await remote_runs.missing(conn, schema, executor, known.run_id):
                return False
            if self._given_up >= self._limit:
                self.why_stopped = (
                    f"more than {self._limit} runs are missing at {executor}; check its key and address, "
                    "then run `adapter reconcile` again"
                )
                logger.error("reconciliation stops: %s", self.why_stopped)
                return False
            error = {"name": "Orphaned", "message": f"{executor} no longer knows run {known.run_id}."}
            report = Report(
                job_id=known.job_id,
                epoch=known.epoch,
                executor=executor,
                run_id=known.run_id,
                status=JobStatus.SYSTEM_FAILURE,
                remote_status="MISSING",
                error=error,
                orphaned=True,
                read_began=known.job_updated_at,
            )
            async with conn.transaction():
                ended = await finish(conn, schema, report)
                if ended is None:
                    return False
                await note(
                    conn,
                    schema,
                    job_id=ended.id,
                    epoch=ended.epoch,
                    kind="orphaned",
                    detail={"run": known.run_id},
                )
            self._given_up += 1
        self._applier.told(ended)
        return True

    async def gone(self, executor: str, known: KnownRun) -> bool:
        """An unwanted run cannot be found: after the same patience there is nothing left to cancel."""
        async with self._database.connection() as conn:
            schema = self._database.schema
            if not await remote_runs.missing(conn, schema, executor, known.run_id):
                return False
            return await remote_runs.ended(conn, schema, executor, known.run_id, "MISSING")
