"""What a person may assume of an uncertain submit, and when that is refused."""

from typing import Any

import pytest

from adapter.domain.errors import InvalidArgumentError, JobNotFoundError, JobStateError
from tests.rig import Rig, new_id


async def _in(rig: Rig, state: Any) -> Any:
    job = await rig.adapter.schedule_job("remote", 1, idempotency_key="k", tag="t")
    await rig.set(job.id, state)
    return job.id


UNCERTAIN = "submit_state = 'unknown', first_try_at = now(), remote_environment = 'e'"
ACCEPTED = "submit_state = 'accepted', status = 'QUEUED', remote_run_id = 'run_1'"


@pytest.mark.parametrize("state", [UNCERTAIN, ACCEPTED])
async def test_assumed_not_started_opens_a_clean_epoch(rig: Rig, state: Any) -> None:
    job_id = await _in(rig, state)
    await rig.adapter.applier.accepted(job_id, 1, "trigger", "run_1", None)
    await rig.adapter.resolve_job(job_id, assume="not-started", reason="I looked", actor="ann")
    row = await rig.row(job_id)
    assert (row["epoch"], row["status"], row["submit_state"]) == (2, "PENDING", "never")
    assert [
        row[name] for name in ("first_try_at", "remote_run_id", "remote_environment", "dispatch_lease")
    ] == [None] * 4
    assert row["idempotency_key"] == "k"
    runs = await rig.sql("SELECT run_id, wanted FROM {s}.remote_runs WHERE epoch = 1")
    assert [row["wanted"] for row in runs] == ["canceled"]
    (event,) = [each for each in await rig.adapter.job_events(job_id) if each.kind == "assumed_not_started"]
    assert (event.actor, event.detail, event.epoch) == ("ann", {"reason": "I looked"}, 2)


@pytest.mark.parametrize("state", [UNCERTAIN, ACCEPTED, f"{ACCEPTED}, started = now()"])
async def test_assumed_lost_ends_it_as_an_orphan_that_keeps_its_key(rig: Rig, state: Any) -> None:
    job_id = await _in(rig, state)
    await rig.adapter.resolve_job(job_id, assume="lost", reason="gone", actor="ann")
    row = await rig.row(job_id)
    assert (row["status"], row["orphaned"], row["error"]["name"]) == ("SYSTEM_FAILURE", True, "AssumedLost")
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 1
    assert await rig.events(job_id) == ["assumed_lost"]


@pytest.mark.parametrize("assume", ["not-started", "lost"])
@pytest.mark.parametrize(
    "state",
    [
        "submit_state = 'never'",
        "submit_state = 'trying', dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() + interval '1 min'",
        "submit_state = 'unknown', dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() + interval '1 min'",
        "executor = 'local', status = 'QUEUED'",
    ],
)
async def test_where_nothing_is_uncertain_nothing_is_assumed(rig: Rig, state: Any, assume: Any) -> None:
    job_id = await _in(rig, state)
    before = await rig.row(job_id)
    with pytest.raises(JobStateError):
        await rig.adapter.resolve_job(job_id, assume=assume, reason="r", actor="a")
    assert await rig.row(job_id) == before


@pytest.mark.parametrize("state", [f"{ACCEPTED}, started = now()", f"{UNCERTAIN}, cancel_requested = true"])
async def test_started_or_canceled_jobs_are_not_submitted_anew(rig: Rig, state: Any) -> None:
    job_id = await _in(rig, state)
    with pytest.raises(JobStateError):
        await rig.adapter.resolve_job(job_id, assume="not-started", reason="r", actor="a")


async def test_a_reason_and_a_job_are_needed(rig: Rig) -> None:
    job_id = await _in(rig, UNCERTAIN)
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.resolve_job(job_id, assume="lost", reason=" ", actor="a")
    with pytest.raises(JobNotFoundError):
        await rig.adapter.resolve_job(new_id(), assume="lost", reason="r", actor="a")
