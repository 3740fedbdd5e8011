"""Many jobs of one call that differ in nothing but their payloads: planned, routed and described once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapter.core.alike import are_alike
from adapter.core.handle import JobHandle, Jobs
from adapter.core.planning import JobSpec, Planner
from adapter.core.scheduling import Scheduler
from adapter.store.database import Database
from adapter.store.mass_inserting import insert_alike
from adapter.store.rows import Alike
from adapter.store.steps import run_direct

#: One alone shares its commit with others.
_FEWEST = 2


class MassInsert:
    """Inserts jobs that are alike, have no name for others to hold and no time of their own."""

    def __init__(self, database: Database, planner: Planner, scheduler: Scheduler) -> None:
        self._database = database
        self._planner = planner
        self._scheduler = scheduler

    async def insert(self, specs: Sequence[JobSpec], jobs: Jobs) -> list[JobHandle[Any]] | None:
        """Insert a job for each spec, all or nothing; None, and nothing is written, when that takes more.

        Raises:
            InvalidPayloadError, and what `Planner.plan` raises: nothing is written.
            DatabaseUnavailableError: it is not known whether they are in.
        """
        if len(specs) < _FEWEST:
            return None
        first, others = specs[0], specs[1:]
        if not all(are_alike(first, each) for each in others):
            return None
        like = self._planner.plan(first)
        flags = self._scheduler.fresh_flags
        if not self._scheduler.is_plain(like) or (
            flags is not None and not self._scheduler.routes_alike(like, flags)
        ):
            return None
        definition = like.definition
        payloads = [like.job.payload.encode(), *definition.dump_payload_texts([each.data for each in others])]
        handles: list[JobHandle[Any]] = []

        def make_handles(ids: Sequence[bytes]) -> None:
            load = definition.load_result
            handles.extend(
                [
                    JobHandle(jobs, written, load, job_id, payload)
                    for job_id, payload in zip(ids, payloads, strict=True)
                ]
            )

        async with self._database.connection() as conn:
            schema = self._database.schema
            flags = flags or await run_direct(conn, schema, self._scheduler.read_flags())
            if not self._scheduler.routes_alike(like, flags):
                return None
            written = Alike(self._scheduler.routed(like, flags))
            written.at = await insert_alike(
                conn, schema, written.like, payloads, flags.version, then=make_handles
            )
        if written.at is None:
            self._scheduler.forget_flags()
            return None
        return handles
