"""Many jobs of one call that differ in nothing but their payloads: planned, routed and described once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import NoneType
from typing import Any
from uuid import UUID

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


#: What is the same when it is equal and of one type: neither 1 and True nor 1 and 1.0 are.
_SCALARS = frozenset({str, int, bool, timedelta, UUID, NoneType})


def are_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether two specs surely ask for the same but for their payloads."""
    return (
        one.task == other.task
        and one.parent is other.parent
        and one.undeclared == other.undeclared
        and (not (one.options or other.options) or _are_same(one.options, other.options))
    )


def _are_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one is other or (
        one.keys() == other.keys() and all(_is_same(name, value, other[name]) for name, value in one.items())
    )


def _is_same(name: str, value: Any, given: Any) -> bool:
    # Tags are texts, or the first of their calls is refused.
    compared = name == "tags" or type(value) in _SCALARS
    return value is given or (compared and type(value) is type(given) and value == given)
