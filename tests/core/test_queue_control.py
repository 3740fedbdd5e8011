"""Pause, resume and limits at run time: for every process at its next claim, written down, kept over restarts."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from adapter import Adapter, Queue, Rate
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.limits import Limits
from tests.rig import Rig, rigged


def _few(adapter: Adapter) -> None:
    @adapter.task("limited", queue=Queue("few", concurrency_limit=3))
    async def limited(payload: Any) -> Any:
        return payload

    del limited


async def test_a_paused_queue_starts_nothing_anywhere_until_it_is_resumed(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    worker = rig.worker()
    assert await worker.run_once() == 1
    await rig.adapter.schedule_job("echo", 2)
    await rig.adapter.pause_queue("default", reason="INC-7", actor="eve")
    (queue,) = await rig.adapter.list_queues("default")
    assert (queue.waiting, queue.running, queue.paused_by, queue.pause_reason) == (1, 0, "eve", "INC-7")
    assert queue.oldest_wait is not None
    assert await worker.run_once() == 0
    assert await rig.worker().run_once() == 0
    await rig.adapter.resume_queue("default", reason="over")
    worker.look_again()
    assert await worker.run_once() == 1
    assert await rig.status(job.id) == "COMPLETED"


async def test_limits_set_by_hand_outlive_what_the_registry_declares(database_url: str) -> None:
    async with rigged(database_url, _few) as rig:
        worker = rig.worker()
        for n in range(9):
            await rig.adapter.schedule_job("limited", n)
        assert await worker.run_once() == 3
        await rig.adapter.set_queue_limits(
            "few", concurrency_limit=1, rate=Rate(5, timedelta(days=1)), reason="INC-7"
        )
        assert await rig.worker().run_once() == 1
        (queue,) = await rig.adapter.list_queues("few")
        assert queue.declared == Limits(concurrency_limit=3)
        assert queue.limits == Limits(concurrency_limit=1, rate=Rate(5, timedelta(days=1)))
        await rig.adapter.set_queue_limits("few", concurrency_limit=None, rate=None, reason="all of them")
        (queue,) = await rig.adapter.list_queues("few")
        assert queue.limits == Limits()
        await rig.adapter.set_queue_limits(
            "few", concurrency_limit="registry", rate="registry", reason="over"
        )
        (queue,) = await rig.adapter.list_queues("few")
        assert (queue.limits, queue.overrides) == (Limits(concurrency_limit=3), {})


async def test_who_changed_a_queue_and_why_is_written_down_for_good(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1)
    await rig.work()
    await rig.adapter.pause_queue("default", reason="INC-7", actor="eve")
    await rig.adapter.set_queue_limits("default", key_limit=2, reason="INC-8")
    rows = await rig.sql(
        "SELECT kind, actor, source, reason, before, after FROM {s}.queue_changes ORDER BY id DESC LIMIT 2"
    )
    assert [(row["kind"], row["actor"], row["source"], row["reason"]) for row in rows] == [
        ("limits", "application", "api", "INC-8"),
        ("pause", "eve", "api", "INC-7"),
    ]
    assert rows[0]["before"] == {"paused": True, "overrides": {}}
    assert rows[0]["after"] == {"paused": True, "overrides": {"key_limit": 2}}
    with pytest.raises(psycopg.errors.RaiseException, match="queue_changes is append-only"):
        await rig.sql("DELETE FROM {s}.queue_changes")


async def test_a_limit_below_what_runs_lets_nothing_start(rig: Rig) -> None:
    await rig.work()
    for n in range(6):
        await rig.adapter.schedule_job("echo", n)
    await rig.claim()
    await rig.adapter.schedule_job("echo", 7)
    worker = rig.worker()
    await rig.adapter.set_queue_limits("default", concurrency_limit=2, reason="too many")
    assert await worker.run_once() == 0
    await rig.adapter.set_queue_limits("default", concurrency_limit=7, reason="one more")
    worker.look_again()
    assert await worker.run_once() == 1


async def test_a_change_that_cannot_be_is_refused(rig: Rig) -> None:
    await rig.work()
    with pytest.raises(InvalidArgumentError, match="no queue named 'nope'"):
        await rig.adapter.pause_queue("nope", reason="x")
    with pytest.raises(InvalidArgumentError, match="needs a reason"):
        await rig.adapter.pause_queue("default", reason=" ")
    with pytest.raises(InvalidArgumentError, match="0 or more"):
        await rig.adapter.set_queue_limits("default", key_limit=-1, reason="x")
    with pytest.raises(InvalidArgumentError, match="which limit"):
        await rig.adapter.set_queue_limits("default", reason="x")
