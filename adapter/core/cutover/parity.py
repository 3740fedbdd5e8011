"""The parity report: what the store has seen of a task at its executors, put together and judged."""

from __future__ import annotations

from datetime import datetime, timedelta

from adapter.core.option_checks import check_moment
from adapter.core.registry import Registry
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.failback import CANARY, SILENT
from adapter.domain.job import executor_name
from adapter.domain.parity import (
    ExecutorFigures,
    ParityReport,
    ParityTerms,
    Price,
    ShadowFigures,
    TaskParity,
    judge,
    reference_of,
)
from adapter.store import parity
from adapter.store.database import Database
from adapter.store.parity import Copied, Ended


async def parity_report(
    database: Database,
    registry: Registry,
    task: str | None,
    *,
    since: timedelta | datetime,
    reference: str | None,
    terms: ParityTerms,
) -> ParityReport:
    """Report on one task, or on all that ended at more than one executor.

    Raises:
        UnknownTaskError: there is no such task.
        InvalidArgumentError: ``since`` is not in the past, or has no time zone.
    """
    tasks = (
        [registry.get(task).id] if task is not None else [each.id for each in registry if each.id != CANARY]
    )
    async with database.connection() as conn:
        until = await parity.now(conn, database.schema)
        begin = _begin(since, until)
        ended = await parity.ended(conn, database.schema, tasks, begin, until)
        copied = await parity.copied(conn, database.schema, tasks, begin, until)
    held_against = None if reference is None else executor_name(reference)
    found: list[TaskParity] = []
    for each in tasks:
        executors = [
            _figures(executor, one, registry.prices.get(executor))
            for (of, executor), one in sorted(ended.items())
            if of == each
        ]
        shadows = [_shadow(executor, one) for (of, executor), one in sorted(copied.items()) if of == each]
        expired = [str(rule) for rule in registry.get(each).policy.compare.expired(until.date())]
        if task is not None or len({one.executor for one in (*executors, *shadows)}) > 1:
            found.append(
                _task(each, executors, shadows, reference=held_against, terms=terms, expired=expired)
            )
    return ParityReport(since=begin, until=until, terms=terms, tasks=found)


def _begin(since: timedelta | datetime, until: datetime) -> datetime:
    if isinstance(since, datetime):
        check_moment("since", since)
    begin = since if isinstance(since, datetime) else until - since
    if begin >= until:
        msg = "since= must lie in the past."
        raise InvalidArgumentError(msg)
    return begin


def _task(
    task: str,
    executors: list[ExecutorFigures],
    shadows: list[ShadowFigures],
    *,
    reference: str | None,
    terms: ParityTerms,
    expired: list[str],
) -> TaskParity:
    jobs = {each.executor: each for each in executors}
    copies = {each.executor: each for each in shadows}
    chosen = reference or reference_of(executors, shadows)
    verdicts = [
        judge(each, jobs.get(each), jobs.get(chosen), copies.get(each), terms)
        for each in sorted({*jobs, *copies} - {chosen})
        if chosen is not None
    ]
    return TaskParity(
        task=task, reference=chosen, executors=executors, shadows=shadows, verdicts=verdicts, expired=expired
    )


def _figures(executor: str, ended: Ended, price: Price | None) -> ExecutorFigures:
    silent = {each.value for each in SILENT}
    jobs = sum(count for status, count in ended.statuses.items() if status not in silent)
    return ExecutorFigures(
        executor=executor,
        jobs=jobs,
        succeeded=ended.statuses.get("COMPLETED", 0),
        statuses=dict(ended.statuses),
        errors=dict(ended.errors),
        attempts=ended.attempts,
        lag=ended.lag,
        wait=ended.wait,
        run=ended.run,
        repairs=ended.repairs,
        cost_per_1000=price.of(jobs, ended.seconds) * 1000 / jobs if price is not None and jobs else None,
    )


def _shadow(executor: str, copied: Copied) -> ShadowFigures:
    return ShadowFigures(
        executor=executor,
        dropped=copied.dropped,
        took=copied.took,
        paths=copied.paths,
        mismatches=copied.mismatches,
        **copied.verdicts,
    )
