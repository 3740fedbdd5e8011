"""The forward twin of a recall: delayed and queued jobs go along, since each carries its destination."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from adapter.core.cutover.rollback import RollbackReport
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.recall import Guarantee
from tests.cutover.recalled import recalling, sent, where
from tests.rig import Rig


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with recalling(database_url) as made:
        yield made


async def along(rig: Rig, to: str = "trigger", task: str = "fragile", **options: Any) -> RollbackReport:
    return await rig.adapter.migrate_pending(task, to=to, reason="week 3", actor="ann", **options)


async def test_delayed_and_queued_jobs_go_to_the_remote_and_run_there(rig: Rig) -> None:
    soon = await rig.adapter.schedule_job("fragile", 1, tag="t")
    late = await rig.adapter.schedule_job("fragile", 2, delay=timedelta(hours=1))
    report = await along(rig)
    assert (await where(rig, soon.id), await where(rig, late.id)) == (
        ("PENDING", "trigger", 2),
        ("DELAYED", "trigger", 2),
    )
    assert (report.outcomes, report.calls) == ({"moved": 2}, 0)
    (event,) = await rig.sql(
        "SELECT kind, actor, detail FROM {s}.job_events WHERE job_id = %(id)s", id=soon.id
    )
    assert (event["kind"], event["actor"], event["detail"]["to"]) == ("rerouted", "ann", "trigger")
    await rig.dispatch(soon.id)
    (run,) = rig.fake.runs.values()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, 1)
    await rig.adapter.reconcile()
    assert await where(rig, soon.id) == ("COMPLETED", "trigger", 2)


async def test_what_runs_has_run_or_is_to_be_canceled_stays(rig: Rig) -> None:
    running = await rig.adapter.schedule_job("fragile", 1)
    await rig.claim()
    tried = await rig.adapter.schedule_job("fragile", 2)
    await rig.set(tried.id, "attempt = 1, started = now()")
    unwanted = await rig.adapter.schedule_job("fragile", 3)
    await rig.set(unwanted.id, "cancel_requested = true")
    assert (await along(rig)).outcomes == {}
    assert {(await where(rig, job.id))[1:] for job in (running, tried, unwanted)} == {("local", 1)}


async def test_what_no_try_has_left_for_comes_back_the_same_way(rig: Rig) -> None:
    held = await rig.adapter.schedule_job("fragile", 1, executor="trigger", delay=timedelta(hours=1))
    given, _ = await sent(rig)
    report = await along(rig, "local")
    assert (await where(rig, held.id), await where(rig, given)) == (
        ("DELAYED", "local", 2),
        ("QUEUED", "trigger", 1),
    )
    assert report.outcomes == {"moved": 1}


async def test_a_claim_and_a_migration_never_both_get_a_job(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("fragile", 1)
    lease, claimed = await rig.claim()
    assert [each.id for each in claimed] == [job.id]
    await along(rig)
    assert await where(rig, job.id) == ("EXECUTING", "local", 1)
    del lease


async def test_batches_and_a_dry_run(rig: Rig) -> None:
    for n in range(5):
        await rig.adapter.schedule_job("fragile", n)
    preview = await along(rig, dry_run=True)
    (promise,) = preview.promises
    assert (promise.jobs.unsent, promise.guarantee) == (5, Guarantee.UNSENT)
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE epoch > 1") == 0
    assert (await along(rig, batch=2)).outcomes == {"moved": 5}
    assert (await along(rig)).outcomes == {}


async def test_a_rate_is_kept(rig: Rig) -> None:
    for n in range(4):
        await rig.adapter.schedule_job("fragile", n)
    report = await along(rig, batch=1, per_second=20)
    assert report.seconds >= 0.2


async def test_jobs_that_a_switch_would_bring_back_are_refused(rig: Rig) -> None:
    await rig.adapter.kill("fragile", to="local", reason="r")
    with pytest.raises(InvalidArgumentError, match="would bring them back to 'local'"):
        await along(rig)
    report = await along(rig, task="*")
    assert set(report.skipped) == {"fragile"}


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"per_second": 0}])
async def test_a_shape_that_cannot_be_is_refused(rig: Rig, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await along(rig, **wrong)
