"""Why a job does not run: what binds it is named, and nothing else is."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Rate, WaitReason
from adapter.domain.errors import JobNotFoundError
from adapter.domain.limits import Limits
from adapter.domain.outcome import Lease
from adapter.store import limited_claims, processes
from tests.rig import Rig, new_id

MINUTE = timedelta(minutes=1)


async def why(rig: Rig, job_id: UUID) -> list[WaitReason]:
    return await rig.adapter.why_waiting(job_id)


async def codes(rig: Rig, job_id: UUID) -> list[str]:
    return [each.code for each in await why(rig, job_id)]


async def only(rig: Rig, job_id: UUID) -> WaitReason:
    (reason,) = await why(rig, job_id)
    return reason


async def now(rig: Rig) -> datetime:
    return await rig.value("SELECT now()")


async def a_worker_lives(rig: Rig, *tasks: str) -> None:
    """A worker that has said what it can run, and claims nothing by itself."""
    worker = new_id()
    async with rig.adapter.database.connection() as conn:
        given: dict[str, Any] = {"name": "w", "host": "h", "pid": 1, "lease": MINUTE}
        await processes.register(conn, rig.schema, worker_id=worker, **given)
        await processes.advertise(conn, rig.schema, worker, dict.fromkeys(tasks or ("echo",), "hash"))


async def limit(rig: Rig, queue: str, **limits: Any) -> None:
    async with rig.adapter.database.connection() as conn:
        await processes.declare_queues(conn, rig.schema, {queue: Limits(**limits)})


async def add(rig: Rig, task: str = "echo", **options: Any) -> UUID:
    return (await rig.adapter.schedule_job(task, 1, **options)).id


async def claimed(rig: Rig, queue: str, *, key: str | None = None) -> UUID:
    """A job that one claim has taken, as a worker's does it: it runs, and its start counts."""
    job = await add(rig, queue=queue, concurrency_key=key)
    if not await claim_limited(rig, queue):
        await rig.claim(queue=queue)
    assert await rig.status(job) == "EXECUTING"
    return job


async def claim_limited(rig: Rig, queue: str) -> int:
    async with rig.adapter.database.connection() as conn:
        return len(await limited_claims.claim_limited(conn, rig.schema, Lease(new_id(), 1), [queue], 100))


async def test_a_job_that_nobody_knows_is_an_error(rig: Rig) -> None:
    with pytest.raises(JobNotFoundError):
        await why(rig, new_id())


async def test_what_runs_or_has_ended_waits_for_nothing(rig: Rig) -> None:
    job = await claimed(rig, "default")
    assert await codes(rig, job) == []
    done = await add(rig, delay=MINUTE)
    await rig.adapter.cancel_job(done)
    assert await codes(rig, done) == []


async def test_a_ready_job_says_so_and_what_is_ahead_of_it(rig: Rig) -> None:
    await a_worker_lives(rig)
    first, second = await add(rig, queue="q"), await add(rig, queue="q")
    urgent = await add(rig, queue="q", priority=1)
    await add(rig, queue="another")
    assert [await codes(rig, each) for each in (first, second, urgent)] == [["ahead"], ["ahead"], ["ready"]]
    assert (await only(rig, second)).detail == {"queue": "q", "jobs": 2, "more": False}
    assert "by priority and age: 1." in (await only(rig, first)).text


async def test_a_delayed_job_says_until_when(rig: Rig) -> None:
    await a_worker_lives(rig)
    job = await add(rig, delay=MINUTE)
    reason = await only(rig, job)
    assert (reason.code, reason.until) == ("due", (await rig.row(job))["due"])
    await rig.set(job, "due = now() - interval '1 minute'")
    reason = await only(rig, job)
    assert (reason.code, reason.until, reason.since) == ("due", None, (await rig.row(job))["due"])


async def test_a_paused_queue_says_by_whom_and_why(rig: Rig) -> None:
    await a_worker_lives(rig)
    job = await add(rig, queue="q")
    await rig.adapter.pause_queue("q", reason="INC-1", actor="ann")
    reason = await only(rig, job)
    assert (reason.code, reason.detail) == ("paused", {"queue": "q", "by": "ann", "reason": "INC-1"})
    assert reason.since == await rig.value("SELECT paused_at FROM {s}.job_queues WHERE name = 'q'")
    await rig.adapter.resume_queue("q", reason="over")
    assert await codes(rig, job) == ["ready"]


@pytest.mark.parametrize("limits", [{"concurrency_limit": 1}, {"concurrency_limit": 1, "key_limit": 1}])
async def test_a_full_queue_says_its_limit(rig: Rig, limits: dict[str, int]) -> None:
    await a_worker_lives(rig)
    await limit(rig, "q", **limits)
    running = await claimed(rig, "q")
    job = await add(rig, queue="q")
    reason = await only(rig, job)
    assert reason.code == "concurrency_limit"
    assert reason.detail == {"queue": "q", "running": 1, "limit": 1}
    await rig.sql("DELETE FROM {s}.worker_jobs_open WHERE id = %(id)s", id=running)
    assert await codes(rig, job) == ["ready"]


async def test_each_key_has_a_copy_of_the_limit_so_that_of_the_others_binds_nobody(rig: Rig) -> None:
    await a_worker_lives(rig)
    await limit(rig, "q", concurrency_limit=1)
    await claimed(rig, "q", key="a")
    blocked, free, bare = [await add(rig, queue="q", concurrency_key=key) for key in ("a", "b", None)]
    reason = await only(rig, blocked)
    assert reason.code == "key_limit"
    assert reason.detail == {"queue": "q", "key": "a", "running": 1, "limit": 1}
    assert [await codes(rig, each) for each in (free, bare)] == [["ready"], ["ready"]]


async def test_with_a_key_limit_a_key_may_be_bound_by_both(rig: Rig) -> None:
    await a_worker_lives(rig)
    await limit(rig, "q", concurrency_limit=1, key_limit=1)
    await claimed(rig, "q", key="a")
    job = await add(rig, queue="q", concurrency_key="a")
    assert await codes(rig, job) == ["concurrency_limit", "key_limit"]
    assert await codes(rig, await add(rig, queue="q", concurrency_key="b")) == ["concurrency_limit"]


@pytest.mark.parametrize("name", ["rate", "key_rate"])
async def test_a_spent_rate_says_when_the_next_may_start_and_then_it_does(rig: Rig, name: str) -> None:
    await a_worker_lives(rig)
    period = timedelta(seconds=1)
    await limit(rig, "q", **{name: Rate(1, period)})
    before = await now(rig)
    await claimed(rig, "q", key="a")
    job = await add(rig, queue="q", concurrency_key="a")
    reason = await only(rig, job)
    assert (reason.code, reason.detail["rate"]) == (name, "1 per 1 s")
    assert reason.until is not None
    assert before + period < reason.until <= await now(rig) + period * 1.01
    await claim_limited(rig, "q")
    assert await rig.status(job) == "QUEUED" or await now(rig) >= reason.until
    await rig.sql("SELECT pg_sleep(extract(epoch FROM %(at)s - clock_timestamp()))", at=reason.until)
    assert await codes(rig, job) in ([], ["ready"])
    await claim_limited(rig, "q")
    assert await rig.status(job) == "EXECUTING"


async def test_without_a_living_worker_it_says_since_when(rig: Rig) -> None:
    job = await add(rig)
    assert (await only(rig, job)).code == "no_worker"
    await a_worker_lives(rig)
    assert await codes(rig, job) == ["ready"]
    await rig.sql("UPDATE {s}.workers SET seen_at = now() - interval '1 hour'")
    reason = await only(rig, job)
    assert (reason.code, reason.since) == ("no_worker", await rig.value("SELECT seen_at FROM {s}.workers"))


async def test_without_a_handler_anywhere_it_says_for_what(rig: Rig) -> None:
    await a_worker_lives(rig, "another")
    job = await add(rig)
    assert (await only(rig, job)).code == "no_handler"
    await rig.set(job, "status = 'WAITING', waiting_for = 'executor'")
    reason = await only(rig, job)
    assert (reason.code, reason.detail) == ("no_handler", {"task": "echo"})
    assert "No living worker" in reason.text
    await a_worker_lives(rig, "echo")
    assert "within a minute or two" in (await only(rig, job)).text


async def test_a_token_is_no_missing_handler(rig: Rig) -> None:
    job = await add(rig)
    await rig.set(job, "status = 'WAITING', waiting_for = 'token'")
    assert await codes(rig, job) == ["token"]


async def test_a_parent_names_the_children_that_it_awaits(rig: Rig) -> None:
    await a_worker_lives(rig)
    parent, one, other = [await add(rig) for _ in range(3)]
    gone = new_id()
    await rig.sql(
        "UPDATE {s}.worker_jobs_open SET status = 'WAITING', waiting_for = 'children', awaiting = %(awaiting)s"
        " WHERE id = %(id)s",
        id=parent,
        awaiting=[one, other, gone],
    )
    reason = await only(rig, parent)
    assert (reason.code, reason.text) == ("children", "It awaits 2 of 3 children.")
    assert reason.detail == {"awaited": 3, "open": 2, "some": [str(one), str(other)]}


async def test_a_parent_without_a_place_says_so_and_those_behind_it_say_for_whom_they_wait(rig: Rig) -> None:
    await a_worker_lives(rig)
    await limit(rig, "q", concurrency_limit=1)
    running = await claimed(rig, "q")
    parent, behind = await add(rig, queue="q"), await add(rig, queue="q")
    await rig.set(parent, "status = 'WAITING', waiting_for = 'children', awaiting = NULL")
    assert await codes(rig, parent) == ["children", "concurrency_limit"]
    assert await codes(rig, behind) == ["concurrency_limit", "parent_first"]
    await rig.sql("DELETE FROM {s}.worker_jobs_open WHERE id = %(id)s", id=running)
    assert await codes(rig, behind) == ["parent_first"]
    assert (await only(rig, behind)).detail == {"parent": str(parent)}


async def test_a_job_of_sql_that_nobody_has_routed_says_so(rig: Rig) -> None:
    job = await rig.value("SELECT {s}.schedule_job('unheard-of')")
    assert await codes(rig, job) == ["not_routed"]


async def test_a_remote_job_says_how_far_its_submit_has_come(rig: Rig) -> None:
    job = await add(rig, "remote")
    reason = await only(rig, job)
    assert (reason.code, reason.detail["submit_state"]) == ("submit", "never")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job)
    reason = await only(rig, job)
    assert (reason.detail["submit_state"], reason.detail["tries"]) == ("unknown", 1)
    assert reason.until == (await rig.row(job))["next_try_at"]
    await rig.set(job, "submit_state = 'trying', dispatch_lease_until = now() + interval '1 minute'")
    assert (await only(rig, job)).text == "A dispatcher is submitting it."
    await rig.set(job, "dispatch_lease_until = now() - interval '1 minute'")
    assert "fallen silent" in (await only(rig, job)).text


async def test_a_job_at_its_remote_says_under_which_run_and_how_it_is_there(rig: Rig) -> None:
    job, run = await rig.sent()
    reason = await only(rig, job)
    assert (reason.code, reason.detail["remote_run_id"]) == ("remote", run.id)
    assert run.id in reason.text


async def test_a_throttling_executor_and_an_open_circuit_are_named(rig: Rig) -> None:
    job = await add(rig, "remote")
    async with rig.adapter.database.connection() as conn:
        await processes.pause_budget(conn, rig.schema, "trigger", ["dispatch"], MINUTE)
    throttled, _ = await why(rig, job)
    assert throttled.code == "throttled"
    assert throttled.until == await rig.value("SELECT paused_until FROM {s}.remote_budgets")
    await rig.sql(
        "INSERT INTO {s}.executor_flags (kind, task, executor, version, reason, actor)"
        " VALUES ('circuit', '*', 'trigger', 1, 'it is down', 'ann')"
    )
    assert await codes(rig, job) == ["circuit", "throttled", "submit"]
    assert "by ann: it is down" in (await why(rig, job))[0].text


async def test_what_is_due_later_at_a_remote_says_only_that(rig: Rig) -> None:
    assert await codes(rig, await add(rig, "remote", delay=MINUTE)) == ["due"]


async def test_a_hundred_thousand_jobs_ahead_are_not_all_counted(rig: Rig) -> None:
    await a_worker_lives(rig)
    await rig.sql(
        "INSERT INTO {s}.worker_jobs_open (id, type, status, executor, queue)"
        " SELECT gen_random_uuid(), 'echo', 'QUEUED', 'local', 'q' FROM generate_series(1, 12000)"
    )
    reason = await only(rig, await add(rig, queue="q"))
    assert reason.detail == {"queue": "q", "jobs": 10_000, "more": True}
