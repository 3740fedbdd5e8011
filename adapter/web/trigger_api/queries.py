"""The query of ``GET /api/v1/runs``: Trigger.dev's filters as a `JobFilter` (its API contract, 7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from adapter.domain.durations import parse_duration
from adapter.domain.errors import InvalidArgumentError
from adapter.store.insights import JobFilter
from adapter.web.errors import ApiError
from adapter.web.trigger_api.options import Machine
from adapter.web.trigger_api.wire import BATCH, SCHEDULE, STATUSES, own_id

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What is shown when neither a period nor a bound is given, as upstream does.
DEFAULT_PERIOD = timedelta(days=7)
_DEFAULT_SIZE = 25
_MOST = 100
_LONGEST_PERIOD = timedelta(days=36_525)
#: A larger number is milliseconds since 1970; a smaller one can only be a mistake in seconds.
_LARGEST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What a list asks for. ``wanted`` None: nothing here can match."""

    wanted: JobFilter | None
    tags: tuple[str, ...]
    tasks: tuple[str, ...]


def run_query(params: Mapping[str, str], now: datetime) -> RunQuery:
    """Read the query.

    Runs here have no version, region, machine or bulk action and none is a test, so a filter for one
    of these matches nothing. A queue's ``task/`` prefix is upstream's name for a task's own queue.

    Raises:
        ApiError: 400 "Query Error", naming the parameter.
    """
    if any("\x00" in value for value in params.values()):
        raise _bad("a value holds a character that cannot be stored")
    statuses = _statuses(_listed(params, "filter[status]"))
    tags, tasks = _listed(params, "filter[tag]"), _listed(params, "filter[taskIdentifier]")
    schedule = _id(params, "filter[schedule]", SCHEDULE)
    batch = _id(params, "filter[batch]", BATCH)
    size = _size(params)
    created_from, created_to = _window(params, now)
    impossible = _is_impossible(params) or statuses == () or schedule == () or batch == ()
    if impossible:
        return RunQuery(None, tags, tasks)
    wanted = JobFilter(
        statuses=statuses or (),
        types=tasks,
        tags=tags,
        queues=_listed(params, "filter[queue]"),
        schedule_id=schedule[0] if schedule else None,
        batch_id=batch[0] if batch else None,
        created_from=created_from,
        created_to=created_to,
        limit=size,
        after=None if params.get("page[before]") else params.get("page[after]") or None,
        before=params.get("page[before]") or None,
    )
    return RunQuery(wanted, tags, tasks)


def _bad(why: str) -> ApiError:
    return ApiError(400, "Query Error", details=[{"message": why}])


def _listed(params: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for part in params.get(name, "").split(",") if part))


def _statuses(words: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Return what to look for, None for anything, () for what no run here ever is."""
    if not words:
        return None
    if unknown := [word for word in words if word not in STATUSES]:
        raise _bad(f"filter[status]: {unknown[0][:40]!r} is not a status")
    return tuple(sorted({status for word in words for status in STATUSES[word]}))


def _id(params: Mapping[str, str], name: str, prefix: str) -> tuple[Any, ...] | None:
    """Return the id in a tuple, None when it is not asked for, () when it is none of ours."""
    given = params.get(name)
    if not given:
        return None
    found = own_id(prefix, given)
    return () if found is None else (found,)


def _size(params: Mapping[str, str]) -> int:
    given = params.get("page[size]")
    if not given:
        return _DEFAULT_SIZE
    if not (given.isascii() and given.isdecimal() and len(given) <= 3 and 1 <= int(given) <= _MOST):
        raise _bad(f"page[size] must be from 1 to {_MOST}")
    return int(given)


def _is_impossible(params: Mapping[str, str]) -> bool:
    is_test = params.get("filter[isTest]")
    if is_test not in {None, "", "true", "false"}:
        raise _bad("filter[isTest] must be true or false")
    machines = _listed(params, "filter[machine]")
    if any(machine not in get_args(Machine) for machine in machines):
        raise _bad("filter[machine]: not a machine")
    others = ("filter[version]", "filter[bulkAction]", "filter[region]")
    return is_test == "true" or bool(machines) or any(params.get(name) for name in others)


def _window(params: Mapping[str, str], now: datetime) -> tuple[datetime | None, datetime | None]:
    period = params.get("filter[createdAt][period]")
    if period:
        try:
            return now - min(parse_duration(period), _LONGEST_PERIOD), None
        except InvalidArgumentError as error:
            raise _bad(f"filter[createdAt][period]: {error}") from None
    begin = _moment(params, "filter[createdAt][from]")
    end = _moment(params, "filter[createdAt][to]")
    if begin is None and end is None:
        return now - DEFAULT_PERIOD, None
    return begin, end


def _moment(params: Mapping[str, str], name: str) -> datetime | None:
    """Read epoch milliseconds or an ISO date."""
    given = params.get(name)
    if not given:
        return None
    if given.isascii() and given.isdecimal() and len(given) <= 15 and int(given) <= _LARGEST_MS:
        return datetime.fromtimestamp(int(given) / 1000, UTC)
    try:
        at = datetime.fromisoformat(given)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad(f"{name} is neither milliseconds nor a date") from None
