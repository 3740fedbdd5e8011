"""Trigger.dev's filters of runs as a `JobFilter`, from a query or a body (its API contract, 7.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

from adapter.domain.durations import parse_duration
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.identity import own_id
from adapter.store.insights import JobFilter
from adapter.web.bodies import is_text
from adapter.web.errors import bad_query
from adapter.web.trigger_api.options import Machine
from adapter.web.trigger_api.pages import page_sides, page_size
from adapter.web.trigger_api.wire import BATCH, BULK, SCHEDULE, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from adapter.store.insights import Wait

#: What is shown when neither a period nor a bound is given, as upstream does.
DEFAULT_PERIOD = timedelta(days=7)
_LONGEST_PERIOD = timedelta(days=36_525)
#: A larger number is milliseconds since 1970; a smaller one can only be a mistake in seconds.
_LARGEST_MS = 253_402_300_799_999
#: Upstream's name for a task's own queue.
_OWN_QUEUE = "task/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller says of the runs it means, as it came."""

    statuses: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    bulk_action: str | None = None
    schedule: str | None = None
    batch: str | None = None
    is_test: bool | None = None
    begin: str | None = None
    end: str | None = None
    period: str | None = None


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What a list asks for. ``wanted`` None: nothing here can match."""

    wanted: JobFilter | None
    tags: tuple[str, ...]
    tasks: tuple[str, ...]
    batches: tuple[str, ...]


class _NothingMatchesError(Exception):
    """Something is asked for that no run here ever has."""


def run_query(params: Mapping[str, str], now: datetime, own_queue: Callable[[str], str]) -> RunQuery:
    """Read the query of a list. ``own_queue``: the queue that a task has by itself.

    Raises:
        ApiError: 400 "Query Error", naming the parameter.
    """
    require_text(params)
    asked = Asked(
        statuses=listed(params, "status"),
        tasks=listed(params, "taskIdentifier"),
        versions=listed(params, "version"),
        tags=listed(params, "tag"),
        queues=listed(params, "queue"),
        machines=listed(params, "machine"),
        regions=listed(params, "region"),
        bulk_action=params.get("filter[bulkAction]") or None,
        schedule=params.get("filter[schedule]") or None,
        batch=params.get("filter[batch]") or None,
        is_test=_flag(params, "filter[isTest]"),
        begin=params.get("filter[createdAt][from]") or None,
        end=params.get("filter[createdAt][to]") or None,
        period=params.get("filter[createdAt][period]") or None,
    )
    size, (after, before) = page_size(params), page_sides(params)
    wanted = run_filter(asked, now, own_queue)
    if wanted is not None:
        wanted = replace(wanted, limit=size, after=after, before=before)
    return RunQuery(wanted, asked.tags, asked.tasks, (asked.batch,) if asked.batch else ())


def run_filter(asked: Asked, now: datetime, own_queue: Callable[[str], str]) -> JobFilter | None:
    """Return the filter; None when nothing here can match.

    Raises:
        ApiError: 400 "Query Error", naming the parameter.
    """
    created_from, created_to = created_window(asked, now)
    if any(machine not in get_args(Machine) for machine in asked.machines):
        raise bad_query("filter[machine]: not a machine")
    if unknown := [word for word in asked.statuses if word not in STATUSES]:
        raise bad_query(f"filter[status]: {unknown[0][:40]!r} is not a status")
    groups = [STATUSES[word] for word in asked.statuses]
    statuses = frozenset(status for group in groups for status in group.statuses)
    waits: set[Wait] = {wait for group in groups for wait in group.waits}
    try:
        if groups and not statuses:
            raise _NothingMatchesError  # noqa: TRY301 - as an id that is none of ours
        bulk_action, schedule = _id(asked.bulk_action, BULK), _id(asked.schedule, SCHEDULE)
        batch = _id(asked.batch, BATCH)
    except _NothingMatchesError:
        return None
    of_tasks = [queue.removeprefix(_OWN_QUEUE) for queue in asked.queues if queue.startswith(_OWN_QUEUE)]
    return JobFilter(
        statuses=tuple(sorted(statuses)),
        waits=tuple(sorted(waits)),
        types=asked.tasks,
        tags=asked.tags,
        queues=tuple(queue for queue in asked.queues if not queue.startswith(_OWN_QUEUE)),
        task_queues=tuple((task, own_queue(task)) for task in of_tasks),
        machines=asked.machines,
        regions=asked.regions,
        versions=asked.versions,
        is_test=asked.is_test,
        created_from=created_from,
        created_to=created_to,
        bulk_action_id=bulk_action,
        schedule_id=schedule,
        batch_id=batch,
    )


def require_text(params: Mapping[str, str]) -> None:
    """Refuse a query in which PostgreSQL could not look for something: 400."""
    if any(not is_text(value) for value in params.values()):
        raise bad_query("a value holds a character that cannot be stored")


def listed(params: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the words of ``filter[name]``, which commas part."""
    return tuple(dict.fromkeys(part for part in params.get(f"filter[{name}]", "").split(",") if part))


def _flag(params: Mapping[str, str], name: str) -> bool | None:
    given = params.get(name) or None
    if given not in {None, "true", "false"}:
        raise bad_query(f"{name} must be true or false")
    return None if given is None else given == "true"


def _id(given: str | None, prefix: str) -> UUID | None:
    found = None if given is None else own_id(prefix, given)
    if given is not None and found is None:
        raise _NothingMatchesError
    return found


def created_window(asked: Asked, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return between which times what is asked for was made; without a word of it, the last days.

    Raises:
        ApiError: 400 "Query Error", naming the parameter.
    """
    if asked.period is not None:
        try:
            return now - min(parse_duration(asked.period), _LONGEST_PERIOD), None
        except InvalidArgumentError as error:
            raise bad_query(f"filter[createdAt][period]: {error}") from None
    begin = _moment(asked.begin, "filter[createdAt][from]")
    end = _moment(asked.end, "filter[createdAt][to]")
    if begin is None and end is None:
        return now - DEFAULT_PERIOD, None
    return begin, end


def _moment(given: str | None, name: str) -> datetime | None:
    """Read epoch milliseconds or an ISO date."""
    if given is None:
        return None
    if given.isascii() and given.isdecimal() and len(given) <= 15 and int(given) <= _LARGEST_MS:
        return datetime.fromtimestamp(int(given) / 1000, UTC)
    try:
        at = datetime.fromisoformat(given)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad_query(f"{name} is neither milliseconds nor a date") from None
