from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter.domain.identity import public_id
from adapter.domain.job import JobStatus
from adapter.store.cursors import cursor_at
from adapter.store.insights import JobFilter
from adapter.web.errors import ApiError
from adapter.web.trigger_api.queries import run_query
from adapter.web.trigger_api.wire import BATCH, BULK, SCHEDULE

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WEEK = NOW - timedelta(days=7)
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
HERE = cursor_at(NOW, ID)


def wanted(params: dict[str, str]) -> JobFilter | None:
    return run_query(params, NOW, lambda task: f"queue-of-{task}").wanted


def test_without_a_filter_the_last_seven_days() -> None:
    assert wanted({}) == JobFilter(created_from=WEEK, limit=25)


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"filter[status]": "COMPLETED,DELAYED"}, {"statuses": (JobStatus.COMPLETED, JobStatus.DELAYED)}),
        (
            {"filter[status]": "QUEUED"},
            {"statuses": (JobStatus.PENDING, JobStatus.QUEUED, JobStatus.WAITING), "waits": ("key",)},
        ),
        ({"filter[status]": "PENDING_VERSION"}, {"statuses": (JobStatus.WAITING,), "waits": ("executor",)}),
        (
            {"filter[status]": "WAITING,PENDING_VERSION"},
            {"statuses": (JobStatus.WAITING,), "waits": ("children", "executor", "remote", "token")},
        ),
        ({"filter[status]": "DEQUEUED,EXECUTING"}, {"statuses": (JobStatus.EXECUTING,)}),
        ({"filter[taskIdentifier]": "echo,fail"}, {"types": ("echo", "fail")}),
        ({"filter[tag]": "a,b,a"}, {"tags": ("a", "b")}),
        (
            {"filter[queue]": "task/echo,my-queue"},
            {"queues": ("my-queue",), "task_queues": (("echo", "queue-of-echo"),)},
        ),
        ({"filter[schedule]": public_id(SCHEDULE, ID)}, {"schedule_id": ID}),
        ({"filter[batch]": public_id(BATCH, ID)}, {"batch_id": ID}),
        ({"filter[isTest]": "false"}, {"is_test": False}),
        ({"filter[isTest]": "true"}, {"is_test": True}),
        ({"filter[version]": "1,2"}, {"versions": ("1", "2")}),
        ({"filter[region]": "eu"}, {"regions": ("eu",)}),
        ({"filter[machine]": "small-1x"}, {"machines": ("small-1x",)}),
        ({"filter[bulkAction]": public_id(BULK, ID)}, {"bulk_action_id": ID}),
        ({"page[size]": "100"}, {"limit": 100}),
        ({"page[after]": HERE}, {"after": HERE}),
        ({"page[before]": HERE}, {"before": HERE}),
        ({"page[after]": "whatever", "page[before]": HERE}, {"before": HERE}),
        ({"unknown": "x", "filter[env]": "dev"}, {}),
    ],
)
def test_each_filter(params: dict[str, str], fields: dict[str, Any]) -> None:
    assert wanted(params) == replace(JobFilter(created_from=WEEK), **fields)


@pytest.mark.parametrize(
    ("params", "begin", "end"),
    [
        ({"[period]": "1d"}, NOW - timedelta(days=1), None),
        ({"[from]": "1795000000000"}, datetime.fromtimestamp(1795000000, UTC), None),
        ({"[to]": "1795000000000"}, None, datetime.fromtimestamp(1795000000, UTC)),
        (
            {"[from]": "2026-11-01T00:00:00Z", "[to]": "2026-11-02T00:00:00"},
            datetime(2026, 11, 1, tzinfo=UTC),
            datetime(2026, 11, 2, tzinfo=UTC),
        ),
        ({"[period]": "2h", "[from]": "0", "[to]": "0"}, NOW - timedelta(hours=2), None),
        ({"[period]": "9999999w"}, NOW - timedelta(days=36_525), None),
        ({"[from]": "0"}, datetime(1970, 1, 1, tzinfo=UTC), None),
    ],
)
def test_windows(params: dict[str, str], begin: datetime | None, end: datetime | None) -> None:
    found = wanted({f"filter[createdAt]{name}": value for name, value in params.items()})
    assert found is not None
    assert (found.created_from, found.created_to) == (begin, end)


@pytest.mark.parametrize(
    "params",
    [
        {"filter[status]": "DEQUEUED"},
        {"filter[bulkAction]": "bulk_1"},
        {"filter[schedule]": "sched_other"},
        {"filter[batch]": "run_1"},
    ],
)
def test_what_no_run_here_can_be(params: dict[str, str]) -> None:
    assert wanted(params) is None


@pytest.mark.parametrize(
    "params",
    [
        {"filter[status]": "PENDING"},
        {"filter[status]": "COMPLETED,done"},
        {"filter[machine]": "huge"},
        {"filter[isTest]": "maybe"},
        {"page[size]": "0"},
        {"page[size]": "101"},
        {"page[size]": "-1"},
        {"page[size]": "many"},
        {"page[size]": "²"},
        {"filter[createdAt][period]": "soon"},
        {"filter[createdAt][from]": "soon"},
        {"filter[createdAt][to]": "9" * 30},
        {"filter[tag]": "a\x00"},
        {"page[after]": "x"},
        {"page[before]": "bm9uc2Vuc2U="},
    ],
)
def test_what_cannot_be_read_is_a_query_error(params: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        wanted(params)
    assert (caught.value.status, caught.value.body["error"]) == (400, "Query Error")
