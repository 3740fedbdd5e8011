"""Redriving dead letters: a new job for each, once, whoever asks how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Required, TypedDict, Unpack
from uuid import UUID

from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planned, Planner
from adapter.core.replaying import replay_options
from adapter.core.scheduling import Scheduled, Scheduler, topics_of
from adapter.domain.errors import AdapterError, InvalidArgumentError
from adapter.store import dead_letters, jobs
from adapter.store.dead_letters import DeadLetterFilter, DeadLetterPage
from adapter.store.steps import run

#: Jobs of one transaction.
_BATCH = 100


@dataclass(slots=True)
class RedriveReport:
    """What a redrive did, or would do: new job by old one, why some could not be, and what others were faster at."""

    redriven: dict[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    refused: dict[UUID, str] = field(default_factory=dict[UUID, str])
    skipped: list[UUID] = field(default_factory=list[UUID])
    dry_run: bool = False


class RedriveOptions(TypedDict, total=False):
    """How to redrive, with a ``reason`` for the books. ``limit``: at most so many, 1000 unless told. ``dry_run``: only say what would be done.

    ``again``: also what was redriven before. ``per_second``: let so many become due per second, not all now.
    """

    reason: Required[str]
    actor: str
    limit: int
    dry_run: bool
    again: bool
    per_second: float | None


class DeadLetters:
    """Jobs that ended badly: to look at, and to try again."""

    def __init__(self, parts: Parts, planner: Planner, scheduler: Scheduler) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._planner = planner
        self._scheduler = scheduler

    async def page(self, wanted: DeadLetterFilter) -> DeadLetterPage:
        """Return one page, the latest end first."""
        async with self._database.connection() as conn:
            return await dead_letters.page(conn, self._database.schema, wanted)

    async def redrive(
        self,
        wanted: DeadLetterFilter | Sequence[UUID],
        **options: Unpack[RedriveOptions],
    ) -> RedriveReport:
        """Schedule a new job for each dead letter, in batches; see `Adapter.redrive`."""
        reason, actor = options["reason"], options.get("actor", "application")
        limit, per_second = options.get("limit", 1000), options.get("per_second")
        dry_run, again = options.get("dry_run", False), options.get("again", False)
        if not reason.strip():
            msg = "A reason is needed."
            raise InvalidArgumentError(msg)
        if limit < 1 or (per_second is not None and per_second <= 0):
            msg = "limit= and per_second= must be positive."
            raise InvalidArgumentError(msg)
        report = RedriveReport(dry_run=dry_run)
        async with self._database.connection() as conn:
            schema = self._database.schema
            # How often each was redriven is read first: what happens from here on is another's redrive.
            found = await dead_letters.ids(conn, schema, wanted, limit, again=again)
            seen = await dead_letters.times_redriven(conn, schema, found) if again else {}
        if not isinstance(wanted, DeadLetterFilter):
            report.skipped += [each for each in wanted if each not in set(found)]
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            delays = {
                each: timedelta(seconds=(start + n) / per_second) if per_second else None
                for n, each in enumerate(batch)
            }
            planned = await self._plan(delays, reason, actor, report)
            if dry_run:
                report.redriven.update({old: each.job.id for old, each in planned.items()})
            elif planned:
                await self._carry_out(planned, seen, reason, actor, report)
        return report

    async def _plan(
        self, delays: dict[UUID, timedelta | None], reason: str, actor: str, report: RedriveReport
    ) -> dict[UUID, Planned]:
        async with self._database.connection() as conn:
            known = await run(conn, self._database.schema, jobs.by_ids(list(delays)))
        planned: dict[UUID, Planned] = {}
        for old, delay in delays.items():
            job = known.get(old)
            if job is None:
                report.skipped.append(old)
                continue
            options = replay_options(job, actor)
            options["extra"] = {**(options.get("extra") or {}), "redrive_reason": reason}
            if delay:
                options["delay"] = delay
            try:
                planned[old] = self._planner.plan(JobSpec(job.type, job.data, options))
            except AdapterError as error:
                # One that cannot be scheduled any more costs the others nothing.
                report.refused[old] = str(error)
        return planned

    async def _carry_out(
        self,
        planned: dict[UUID, Planned],
        seen: dict[UUID, int],
        reason: str,
        actor: str,
        report: RedriveReport,
    ) -> None:
        schema = self._database.schema
        new_by_old = {old: each.job.id for old, each in planned.items()}
        async with self._database.transaction() as conn:
            ours = await dead_letters.mark(conn, schema, new_by_old, seen=seen, reason=reason, actor=actor)
            mine = [each for old, each in planned.items() if old in ours]
            made: list[Scheduled] = await run(conn, schema, self._scheduler.schedule(mine)) if mine else []
        report.redriven.update({old: new for old, new in new_by_old.items() if old in ours})
        report.skipped += [old for old in planned if old not in ours]
        self._notifier.poke(*topics_of(mine, made))
