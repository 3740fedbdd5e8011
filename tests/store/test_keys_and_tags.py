"""Idempotency keys, request keys and tags: who holds them, until when, and who gets the job back."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from adapter import JobSpec
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import RELEASES_KEY, TERMINAL, JobStatus
from adapter.domain.outcome import Applied, Authority, RemoteReport
from adapter.store import retention
from tests.rig import Rig


async def keys(rig: Rig) -> list[str]:
    return [row["key"] for row in await rig.sql("SELECT key FROM {s}.job_keys ORDER BY key")]


async def _ended(rig: Rig, status: JobStatus, **options: Any) -> Any:
    job_id, run = await rig.sent(**options)
    await rig.set(job_id, "started = now()")
    said = RemoteReport(run_id=run.id, status=status, remote_status=status, authority=Authority.ENGINE)
    assert await rig.adapter.applier.apply(job_id, 1, "trigger", said) is Applied.CHANGED
    return job_id


@pytest.mark.parametrize("status", sorted(TERMINAL))
async def test_failed_like_ends_release_the_key_and_the_others_keep_it(rig: Rig, status: JobStatus) -> None:
    first = await _ended(rig, status, idempotency_key="k")
    again = await rig.adapter.schedule_job("remote", "other", idempotency_key="k")
    released = status in RELEASES_KEY
    assert again.deduplicated is not released
    assert (again.id == first) is not released
    assert await keys(rig) == ["key:k"]


async def test_an_open_job_holds_its_key(rig: Rig) -> None:
    one = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    two = await rig.adapter.schedule_job(
        "echo", 2, idempotency_key="k", executor="local", delay=timedelta(hours=1)
    )
    assert (two.id, two.deduplicated, two.job.data, two.status) == (one.id, True, 1, JobStatus.QUEUED)
    other = await rig.adapter.schedule_job("both", 3, idempotency_key="k")
    assert other.id != one.id


async def test_a_key_ends_with_its_time_whatever_became_of_the_job(rig: Rig) -> None:
    one = await rig.adapter.schedule_job("echo", 1, idempotency_key="k", idempotency_ttl=timedelta(minutes=5))
    await rig.sql("UPDATE {s}.job_keys SET expires_at = now() - interval '1 second'")
    two = await rig.adapter.schedule_job("echo", 2, idempotency_key="k")
    assert (two.id != one.id, two.deduplicated) == (True, False)
    assert await rig.value("SELECT job_id FROM {s}.job_keys") == two.id
    left = await rig.value("SELECT expires_at - now() FROM {s}.job_keys")
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


async def test_releasing_takes_only_the_key_that_is_still_the_jobs_own(rig: Rig) -> None:
    one = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    await rig.sql("UPDATE {s}.job_keys SET expires_at = now()")
    two = await rig.adapter.schedule_job("echo", 2, idempotency_key="k")
    await rig.set(one.id, "expires_at = now()")
    await rig.adapter.maintenance.run_once()
    assert await rig.status(one.id) == "EXPIRED"
    assert await rig.value("SELECT job_id FROM {s}.job_keys") == two.id


async def test_the_same_key_twice_in_one_call_makes_one_job(rig: Rig) -> None:
    specs = [JobSpec("echo", n, {"idempotency_key": "k"}) for n in range(3)]
    first, second, third = await rig.adapter.schedule_specs([*specs[:2], JobSpec("echo", 9)])
    assert (second.id, second.deduplicated, first.deduplicated) == (first.id, True, False)
    assert third.id != first.id
    again = await rig.adapter.schedule_specs([specs[2], JobSpec("echo", 8)])
    assert [each.deduplicated for each in again] == [True, False]


async def test_twenty_at_once_with_one_key_get_one_job(rig: Rig) -> None:
    jobs = await asyncio.gather(
        *(rig.adapter.schedule_job("echo", n, idempotency_key="k", tag=f"t{n}") for n in range(20))
    )
    assert len({job.id for job in jobs}) == 1
    assert sum(not job.deduplicated for job in jobs) == 1
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 1


async def test_twenty_at_once_with_one_tag_get_one_job(rig: Rig) -> None:
    jobs = await asyncio.gather(*(rig.adapter.schedule_job("echo", n, tag="t") for n in range(20)))
    assert len({job.id for job in jobs}) == 1
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 1


async def test_a_request_key_is_answered_even_after_its_run_has_failed(rig: Rig) -> None:
    first = await _ended(rig, JobStatus.FAILED, idempotency_key="k", request_key="r")
    again = await rig.adapter.schedule_job("remote", idempotency_key="k", request_key="r")
    assert (again.id, again.deduplicated, again.status) == (first, True, JobStatus.FAILED)
    fresh = await rig.adapter.schedule_job("remote", idempotency_key="k", request_key="r2")
    assert fresh.id != first
    left = await rig.value("SELECT expires_at - now() FROM {s}.job_keys WHERE key = 'request:r'")
    assert timedelta(hours=23) < left <= timedelta(hours=24)


async def test_a_request_key_wins_over_an_idempotency_key_and_that_over_a_tag(rig: Rig) -> None:
    by_request = await rig.adapter.schedule_job("echo", 1, request_key="r")
    by_key = await rig.adapter.schedule_job("echo", 2, idempotency_key="k")
    by_tag = await rig.adapter.schedule_job("echo", 3, tag="t")
    call = rig.adapter.schedule_job
    assert (await call("echo", 4, request_key="r", idempotency_key="k", tag="t")).id == by_request.id
    assert (await call("echo", 4, request_key="new", idempotency_key="k", tag="t")).id == by_key.id
    assert (await call("echo", 4, request_key="new", idempotency_key="new", tag="t")).id == by_tag.id
    assert await keys(rig) == ["key:k", "request:r"]


async def test_a_tag_conflict_leaves_no_key_behind(rig: Rig) -> None:
    held = await rig.adapter.schedule_job("echo", 1, tag="t")
    found = await rig.adapter.schedule_job("echo", 2, tag="t", idempotency_key="k", request_key="r")
    assert (found.id, await keys(rig)) == (held.id, [])
    await rig.work()
    fresh = await rig.adapter.schedule_job("echo", 2, tag="t", idempotency_key="k")
    assert (fresh.deduplicated, await keys(rig)) == (False, ["key:k"])


async def test_a_batch_inserts_what_is_free_and_finds_what_is_held(rig: Rig) -> None:
    held = await rig.adapter.schedule_job("echo", 0, tag="t1")
    keyed = await rig.adapter.schedule_job("echo", 0, idempotency_key="k1")
    specs = [JobSpec("echo", n, {"tag": f"t{n}", "idempotency_key": f"x{n}"}) for n in range(3)]
    specs.append(JobSpec("echo", 3, {"idempotency_key": "k1"}))
    jobs = await rig.adapter.schedule_specs(specs)
    assert [each.deduplicated for each in jobs] == [False, True, False, True]
    assert (jobs[1].id, jobs[3].id) == (held.id, keyed.id)
    assert await keys(rig) == ["key:k1", "key:x0", "key:x2"]


async def test_a_twin_of_a_job_that_was_only_found_gets_its_own(rig: Rig) -> None:
    """B shares a tag with A; A is an old job by its key, so nothing holds that tag."""
    old = await rig.adapter.schedule_job("echo", 0, idempotency_key="k")
    await rig.work()
    a, b, c = await rig.adapter.schedule_specs(
        [
            JobSpec("echo", 1, {"idempotency_key": "k", "tag": "t"}),
            JobSpec("echo", 2, {"tag": "t"}),
            JobSpec("echo", 3, {"tag": "t"}),
        ]
    )
    assert (a.id, a.deduplicated) == (old.id, True)
    assert (b.id != old.id, b.deduplicated, b.job.data) == (True, False, 2)
    assert (c.id, c.deduplicated) == (b.id, True)


async def test_a_tag_is_free_at_the_first_claim_and_never_taken_back(rig: Rig) -> None:
    one = await rig.adapter.schedule_job("echo", 1, tag="t")
    assert (await rig.adapter.schedule_job("echo", 2, tag="t")).id == one.id
    await rig.claim()
    two = await rig.adapter.schedule_job("echo", 2, tag="t")
    assert two.id != one.id
    await rig.set(one.id, "status = 'QUEUED', worker_id = NULL")
    _, claimed = await rig.claim()
    assert {job.id for job in claimed} == {one.id, two.id}
    assert (await rig.row(one.id))["tag_held"] is False


@pytest.mark.parametrize("how", ["fence", "report"])
async def test_a_remote_start_frees_the_tag(rig: Rig, how: str) -> None:
    job_id, run = await rig.sent(tag="t")
    assert (await rig.adapter.schedule_job("remote", tag="t")).id == job_id
    if how == "fence":
        assert (await rig.adapter.claim_start(job_id, 1, run.id, 1)).claimed
    else:
        await rig.webhook("RUN_STARTED", run)
        await rig.adapter.inbox.run_once()
    assert (await rig.adapter.schedule_job("remote", tag="t")).id != job_id


async def test_an_end_frees_the_tag(rig: Rig) -> None:
    one = await rig.adapter.schedule_job("echo", 1, tag="t")
    await rig.adapter.cancel_job(one.id)
    assert (await rig.adapter.schedule_job("echo", 2, tag="t")).id != one.id


async def test_a_finished_row_stays_as_long_as_its_key_is_held(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1, idempotency_key="k", keep_for=timedelta(hours=1))
    plain = await rig.adapter.schedule_job("echo", 1, keep_for=timedelta(hours=1))
    await rig.work()
    kept, short = await rig.row(job.id), await rig.row(plain.id)
    assert kept["remove_at"] == await rig.value("SELECT expires_at FROM {s}.job_keys")
    assert short["remove_at"] - short["finished"] == timedelta(hours=1)
    assert kept["drop_on"] > kept["remove_at"].date()


async def test_a_key_whose_job_is_gone_holds_nothing(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1, request_key="r", keep_for=timedelta(0))
    await rig.work()
    await rig.sql("DELETE FROM {s}.worker_jobs_finished WHERE id = %(id)s", id=job.id)
    again = await rig.adapter.schedule_job("echo", 1, request_key="r")
    assert (again.id != job.id, again.deduplicated) == (True, False)


async def test_expired_keys_are_swept(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    await rig.sql("UPDATE {s}.job_keys SET expires_at = now()")
    async with rig.adapter.database.connection() as conn:
        await retention.upkeep(conn, rig.schema)
    assert await keys(rig) == []


@pytest.mark.parametrize("name", ["idempotency_key", "request_key"])
@pytest.mark.parametrize("key", ["", "x" * 2049])
async def test_a_key_of_no_sensible_length_is_refused(rig: Rig, name: str, key: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.schedule_specs([JobSpec("echo", 1, cast("Any", {name: key}))])
