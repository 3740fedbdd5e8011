"""The outbox: what the statements themselves allow, whatever the dispatcher above them thinks."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter.store import outbox
from tests.rig import Rig, new_id

MINUTE = timedelta(minutes=1)


async def _claim(rig: Rig, *only: UUID, **over: Any) -> list[outbox.Outgoing]:
    given: dict[str, Any] = {
        "executor": "trigger",
        "environment": "here",
        "lease": new_id(),
        "lease_for": MINUTE,
        "limit": 10,
        "held": [],
        "flags_version": await rig.value("SELECT version FROM {s}.flags_state"),
        "only": list(only) or None,
    }
    async with rig.adapter.database.connection() as conn:
        return await outbox.claim(conn, rig.schema, **(given | over))


async def test_a_claim_commits_lease_environment_and_first_try_time(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", ttl=timedelta(hours=1))
    (row,) = await _claim(rig)
    stored = await rig.row(job.id)
    assert (stored["submit_state"], stored["remote_environment"], stored["submit_tries"]) == (
        "trying",
        "here",
        1,
    )
    assert stored["first_try_at"] == stored["updated_at"]
    assert stored["dispatch_lease_until"] - stored["updated_at"] == MINUTE
    assert (row.first, row.tries, row.age) == (True, 1, timedelta(0))
    assert timedelta(minutes=59) < (row.ttl or MINUTE) <= timedelta(hours=1)


async def test_a_lapsed_lease_makes_the_next_try_unknown_and_says_so_once(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    await _claim(rig)
    assert await _claim(rig) == []
    first = await rig.row(job.id)
    for tries in (2, 3):
        await rig.due_now(job.id)
        (row,) = await _claim(rig)
        assert (row.first, row.tries) == (False, tries)
    stored = await rig.row(job.id)
    assert (stored["submit_state"], stored["first_try_at"]) == ("unknown", first["first_try_at"])
    assert await rig.events(job.id) == ["submit_unknown"]


async def test_nothing_left_takes_back_what_a_first_try_wrote(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    (row,) = await _claim(rig)
    async with rig.adapter.database.connection() as conn:
        assert await outbox.not_sent(conn, rig.schema, row, delay=MINUTE)
    stored = await rig.row(job.id)
    assert (stored["submit_state"], stored["first_try_at"], stored["remote_environment"]) == (
        "never",
        None,
        None,
    )


async def test_nothing_left_after_an_unknown_try_stays_unknown(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    (row,) = await _claim(rig)
    async with rig.adapter.database.connection() as conn:
        assert await outbox.unknown(conn, rig.schema, row, why="w", delay=timedelta(0))
        (row,) = await _claim(rig)
        assert await outbox.not_sent(conn, rig.schema, row, delay=MINUTE)
    stored = await rig.row(job.id)
    assert (stored["submit_state"], stored["remote_environment"]) == ("unknown", "here")
    assert stored["first_try_at"] is not None


@pytest.mark.parametrize("verb", ["rejected", "canceled"])
async def test_a_row_of_an_unknown_try_is_not_ended_by_a_refusal(rig: Rig, verb: str) -> None:
    job = await rig.adapter.schedule_job("remote", idempotency_key="k")
    (row,) = await _claim(rig)
    async with rig.adapter.database.connection() as conn:
        await outbox.unknown(conn, rig.schema, row, why="w", delay=timedelta(0))
        (row,) = await _claim(rig)
        ended = (
            await outbox.rejected(conn, rig.schema, row, why="no")
            if verb == "rejected"
            else await outbox.canceled(conn, rig.schema, row)
        )
    assert ended is None
    assert (await rig.row(job.id))["submit_state"] == "unknown"
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 1


async def test_a_refused_first_try_ends_the_job_and_frees_its_key(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", idempotency_key="k")
    (row,) = await _claim(rig)
    async with rig.adapter.database.connection() as conn:
        ended = await outbox.rejected(conn, rig.schema, row, why="no such task")
    assert ended is not None
    stored = await rig.row(job.id)
    assert (stored["status"], stored["error"]) == ("FAILED", {"name": "Rejected", "message": "no such task"})
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 0


@pytest.mark.parametrize(
    ("state", "over"),
    [
        ("next_try_at = now() + interval '1 min'", {}),
        ("submit_state = 'accepted'", {}),
        ("status = 'QUEUED'", {}),
        ("status = 'DELAYED', due = now() + interval '1 h'", {}),
        ("remote_environment = 'elsewhere', submit_state = 'unknown'", {}),
        ("executor = 'local', status = 'QUEUED'", {}),
        ("expires_at = now()", {}),
        ("priority = 0", {"held": ["remote"]}),
        ("priority = 0", {"flags_version": -1}),
        ("priority = 0", {"executor": "another"}),
    ],
)
async def test_what_a_claim_leaves_alone(rig: Rig, state: Any, over: dict[str, Any]) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.set(job.id, state)
    before = await rig.row(job.id)
    assert await _claim(rig, **over) == []
    assert await rig.row(job.id) == before


@pytest.mark.parametrize("over", [{"held": ["remote"]}, {"flags_version": -1}])
async def test_a_held_task_and_a_turned_flag_stop_no_uncertain_row(rig: Rig, over: dict[str, Any]) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.set(job.id, "submit_state = 'unknown', first_try_at = now()")
    assert [row.job.id for row in await _claim(rig, **over)] == [job.id]


async def test_the_next_try_is_the_soonest_of_them(rig: Rig) -> None:
    async with rig.adapter.database.connection() as conn:
        assert await outbox.next_try(conn, rig.schema, "trigger") is None
        for seconds in (50, 20):
            job = await rig.adapter.schedule_job("remote")
            await rig.sql(
                "UPDATE {s}.worker_jobs_open SET next_try_at = now() + make_interval(secs => %(s)s) WHERE id = %(id)s",
                s=seconds,
                id=job.id,
            )
        assert 15 < (await outbox.next_try(conn, rig.schema, "trigger") or 0) <= 20
        await rig.set(job.id, "dispatch_lease_until = now() + interval '40 s'")
        assert 35 < (await outbox.next_try(conn, rig.schema, "trigger") or 0) <= 40
