"""What is changed of jobs that are there: when they are due, tags, metadata, keys; and who is around them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, JobContext
from adapter.domain.errors import (
    InvalidArgumentError,
    JobNotFoundError,
    JobStateError,
    TooManyTagsError,
)
from adapter.domain.metadata_operations import MetadataOperation
from tests.rig import Rig, new_id, rigged, usual_tasks

HOUR = timedelta(hours=1)


async def test_a_delayed_job_is_due_when_it_is_said_last_and_its_ttl_begins_then(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1, delay=HOUR, ttl=HOUR)).job
    moved = await rig.adapter.reschedule_job(job.id, delay=2 * HOUR, actor="me")
    assert moved.status == "DELAYED"
    assert moved.due is not None
    assert moved.expires_at is not None
    assert moved.expires_at - moved.due == HOUR
    assert job.due is not None
    assert timedelta(0) < moved.due - job.due - HOUR < timedelta(minutes=1)
    exactly = await rig.adapter.reschedule_job(job.id, due=job.due)
    assert exactly.due == job.due
    assert await rig.events(job.id) == ["rescheduled", "rescheduled"]
    await rig.adapter.reschedule_job(job.id, delay=timedelta(0))
    await rig.adapter.maintenance.run_once()
    assert await rig.work() == 1


async def test_only_a_job_that_is_delayed_here_is_rescheduled(rig: Rig) -> None:
    queued = (await rig.adapter.schedule_job("echo", 1)).id
    there, _ = await rig.sent("remote")
    await rig.set(there, "status = 'DELAYED', due = now() + interval '1 hour'")
    retried = (await rig.adapter.schedule_job("echo", 1, delay=HOUR)).id
    await rig.set(retried, "started = now(), attempt = 1")
    canceled = (await rig.adapter.schedule_job("echo", 1, delay=HOUR)).id
    await rig.adapter.cancel_job(canceled)
    for job_id, words in (
        (queued, "Cannot reschedule a run that is not delayed"),
        (there, "was given to trigger"),
        (retried, "has started"),
        (canceled, "Cannot reschedule a run that is not delayed"),
    ):
        before = await rig.row(job_id)
        with pytest.raises(JobStateError, match=words):
            await rig.adapter.reschedule_job(job_id, delay=HOUR)
        assert await rig.row(job_id) == before
    with pytest.raises(JobNotFoundError):
        await rig.adapter.reschedule_job(new_id(), delay=HOUR)
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.reschedule_job(queued)


async def test_tags_are_a_union_up_to_ten_of_open_and_finished_jobs(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1, tags=["a", "b"])).id
    assert await rig.adapter.add_tags(job, ["b", "c", "c"]) == ["c"]
    assert await rig.adapter.add_tags(job, ["c"]) == []
    await rig.work()
    assert await rig.adapter.add_tags(job, ["d"]) == ["d"]
    assert (await rig.row(job))["tags"] == ["a", "b", "c", "d"]
    await asyncio.gather(*(rig.adapter.add_tags(job, [f"t{n}"]) for n in range(6)))
    assert len((await rig.row(job))["tags"]) == 10
    with pytest.raises(TooManyTagsError, match="only have 10 tags, you're trying to set 11"):
        await rig.adapter.add_tags(job, ["one more"])
    for tag in ("", "x" * 129, "\x00"):
        with pytest.raises(InvalidArgumentError):
            await rig.adapter.add_tags(job, [tag])
    with pytest.raises(JobNotFoundError):
        await rig.adapter.add_tags(new_id(), ["a"])


def _family(adapter: Adapter) -> None:
    usual_tasks(adapter)

    @adapter.task("leaf")
    async def leaf(payload: int) -> int:
        return payload

    @adapter.task("middle")
    async def middle(payload: int, ctx: JobContext) -> Any:
        return await ctx.trigger_and_wait("leaf", payload)

    @adapter.task("root")
    async def root(payload: int, ctx: JobContext) -> Any:
        return await ctx.trigger_and_wait("middle", payload)

    del leaf, middle, root


async def test_a_job_knows_those_around_it(database_url: str) -> None:
    async with rigged(database_url, _family) as rig, rig.adapter.running(work=True):
        handle = await rig.adapter.schedule_job("root", 1)
        assert await handle.result(timeout=timedelta(seconds=10)) == 1
        root = await handle.refresh()
        (middle,) = (await rig.adapter.relatives(root)).children
        found = await rig.adapter.relatives(middle)
        assert (found.parent, found.root) == (root, root)
        (leaf,) = found.children
        assert {job.id for job in await rig.adapter.family(leaf)} == {middle.id, leaf.id}
        assert leaf.extra == {"depth": 2, "resumes_parent": True}
        set_root = MetadataOperation("set", "seen", 1)
        added = MetadataOperation("append", "by", "leaf")
        await rig.adapter.update_metadata(
            leaf.id, [added], parent_operations=[added], root_operations=[set_root]
        )
        # Parent and root are one here: both lists are applied, in this order.
        await rig.adapter.update_metadata(
            middle.id, [], parent_operations=[added], root_operations=[MetadataOperation("delete", "seen")]
        )
        kept = {job.id: (await rig.row(job.id))["metadata"] for job in (root, middle, leaf)}
        assert kept == {root.id: {"by": ["leaf"]}, middle.id: {"by": ["leaf"]}, leaf.id: {"by": ["leaf"]}}


async def test_metadata_is_changed_once_per_call_and_counts_no_change_twice(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1, metadata={"n": 1})).id
    one = [MetadataOperation("increment", "n", 1)]
    assert await rig.adapter.update_metadata(job, one, request_key="call") == {"n": 2}
    assert await rig.adapter.update_metadata(job, one, request_key="call") == {"n": 2}
    await asyncio.gather(*(rig.adapter.update_metadata(job, one) for _ in range(8)))
    assert (await rig.row(job))["metadata"] == {"n": 10}
    assert await rig.adapter.update_metadata(job, {"all": "new"}) == {"all": "new"}
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.update_metadata(job, [MetadataOperation("set", "text", "\x00")])
    await rig.work()
    assert await rig.adapter.update_metadata(job, {}) == {}
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET finished = now() - interval '61 minutes' WHERE id = %(id)s",
        id=job,
    )
    with pytest.raises(JobStateError, match="completed"):
        await rig.adapter.update_metadata(job, {"too": "late"})
    with pytest.raises(JobNotFoundError):
        await rig.adapter.update_metadata(new_id(), {})


async def test_a_key_that_is_reset_makes_a_new_job(rig: Rig) -> None:
    first = (await rig.adapter.schedule_job("echo", 1, idempotency_key="k")).id
    assert await rig.adapter.reset_idempotency_key("both", "k") is None
    assert await rig.adapter.reset_idempotency_key("echo", "k", request_key="call") == first
    second = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    assert second.id != first
    # The call whose answer was lost is made again, and takes nothing from the second.
    assert await rig.adapter.reset_idempotency_key("echo", "k", request_key="call") == first
    assert (await rig.adapter.schedule_job("echo", 1, idempotency_key="k")).id == second.id
    await rig.work()
    assert (await rig.adapter.schedule_job("echo", 1, idempotency_key="k")).id == second.id
    assert await rig.events(first) == ["key_reset"]
