"""Lists: every filter, both cursors, open and finished jobs in one order."""

from datetime import timedelta
from typing import Any

import pytest

from adapter import JobFilter, JobSpec, JobStatus
from adapter.domain.errors import InvalidArgumentError
from adapter.store.insights import JobPage
from tests.rig import Rig, new_id


async def _some_jobs(rig: Rig) -> dict[str, Any]:
    call = rig.adapter.schedule_job
    made = {
        "done": await call("echo", 1, tag="a", tags=["red", "blue"], user_id="u1"),
        "failed": await call("both", 1, ttl=timedelta(0), tags=["red"]),
    }
    await rig.adapter.maintenance.run_once()
    await rig.work()
    made |= {
        "queued": await call("echo", 1, tag="b", tags=["green"], user_id="u1"),
        "pending": await call("remote", 1, user_id="u2"),
        "delayed": await call("echo", 1, queue="slow", delay=timedelta(hours=1)),
    }
    return {name: job.id for name, job in made.items()}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["delayed", "pending", "queued", "failed", "done"]),
        ({"statuses": (JobStatus.COMPLETED,)}, ["done"]),
        ({"statuses": (JobStatus.COMPLETED, JobStatus.QUEUED)}, ["queued", "done"]),
        ({"statuses": (JobStatus.DELAYED, JobStatus.EXPIRED)}, ["delayed", "failed"]),
        ({"types": ("echo",)}, ["delayed", "queued", "done"]),
        ({"types": ("both", "remote")}, ["pending", "failed"]),
        ({"tags": ("red",)}, ["failed", "done"]),
        ({"tags": ("blue", "green")}, ["queued", "done"]),
        ({"tag": "b"}, ["queued"]),
        ({"user_id": "u1"}, ["queued", "done"]),
        ({"executors": ("trigger",)}, ["pending"]),
        ({"executors": ("internal",)}, ["delayed", "queued", "failed", "done"]),
        ({"queues": ("slow",)}, ["delayed"]),
        ({"types": ("echo",), "user_id": "u1", "statuses": (JobStatus.COMPLETED,)}, ["done"]),
        ({"tags": ("nothing",)}, []),
    ],
)
async def test_filters(rig: Rig, wanted: Any, found: list[str]) -> None:
    made = await _some_jobs(rig)
    page = await rig.adapter.list_jobs(JobFilter(**wanted))
    assert [job.id for job in page.jobs] == [made[name] for name in found]
    assert (page.next, page.previous) == (None, None)


async def test_times_bound_a_list(rig: Rig) -> None:
    made = await _some_jobs(rig)
    middle = (await rig.row(made["queued"]))["created_at"]
    later = await rig.adapter.list_jobs(JobFilter(created_from=middle))
    earlier = await rig.adapter.list_jobs(JobFilter(created_to=middle))
    assert [job.id for job in later.jobs] == [made[name] for name in ("delayed", "pending", "queued")]
    assert [job.id for job in earlier.jobs] == [made[name] for name in ("queued", "failed", "done")]


async def _all_pages(rig: Rig, **wanted: Any) -> list[JobPage]:
    pages = [await rig.adapter.list_jobs(JobFilter(**wanted))]
    while pages[-1].next is not None:
        pages.append(await rig.adapter.list_jobs(JobFilter(**wanted, after=pages[-1].next)))
    return pages


@pytest.mark.parametrize("count", [0, 1, 6, 7, 13])
async def test_walking_forward_and_back_shows_every_job_once_in_one_order(rig: Rig, count: int) -> None:
    jobs = await rig.adapter.schedule_specs([JobSpec("echo", n) for n in range(count)])
    worker = rig.worker(concurrency=2)
    await worker.run_once()
    # All of one call have one creation time: the id decides.
    expected = sorted((job.id for job in jobs), reverse=True)
    pages = await _all_pages(rig, limit=3)
    assert [job.id for page in pages for job in page.jobs] == expected
    assert pages[0].previous is None
    back = [pages[-1]]
    while back[-1].previous is not None:
        back.append(await rig.adapter.list_jobs(JobFilter(limit=3, before=back[-1].previous)))
    assert [job.id for page in reversed(back) for job in page.jobs] == expected
    if len(back) > 1:
        assert back[-1].next == pages[0].next


async def test_jobs_made_while_somebody_walks_shift_nothing(rig: Rig) -> None:
    made = [(await rig.adapter.schedule_job("echo", n)).id for n in range(4)]
    first = await rig.adapter.list_jobs(JobFilter(limit=2))
    await rig.adapter.schedule_job("echo", 9)
    second = await rig.adapter.list_jobs(JobFilter(limit=2, after=first.next))
    assert [job.id for job in (*first.jobs, *second.jobs)] == made[::-1]


@pytest.mark.parametrize(
    "wanted", [{"limit": 0}, {"limit": 101}, {"after": "x"}, {"before": "bm9uc2Vuc2U="}, {"after": "é"}]
)
async def test_what_cannot_be_meant_is_refused(rig: Rig, wanted: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.list_jobs(JobFilter(**wanted))


async def test_a_job_reads_the_same_from_a_list_and_by_its_id(rig: Rig) -> None:
    made = await _some_jobs(rig)
    page = await rig.adapter.list_jobs()
    for job in page.jobs:
        assert await rig.adapter.get_job(job.id) == job
    assert len(page.jobs) == len(made)
    assert await rig.adapter.get_job(new_id()) is None
