"""A migration that adds columns while processes run: their sessions keep plans of before."""

import pytest

from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import Job
from adapter.store.lent import OutdatedPlanError
from tests.rig import Rig


@pytest.mark.direct("prepared statements of the session")
async def test_a_plan_of_before_costs_one_try_and_no_connection_keeps_one(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1)).id
    database = rig.adapter.database
    async with database.connection() as one, database.connection() as other:
        for conn in (one, other):
            for _ in range(4):
                await conn.execute(database.schema.sql("SELECT * FROM {s}.worker_jobs_open"), prepare=True)
    for _ in range(4):
        assert await rig.adapter.get_job(job)
    await rig.sql("ALTER TABLE {s}.worker_jobs_open ADD COLUMN next_one text")
    with pytest.raises(DatabaseUnavailableError) as raised:
        await rig.adapter.get_job(job)
    assert isinstance(raised.value.__cause__, OutdatedPlanError)
    assert await rig.adapter.get_job(job)
    # Of those that were idle none is used again.
    async with database.connection() as one, database.connection() as other:
        for conn in (one, other):
            await conn.execute(database.schema.sql("SELECT * FROM {s}.worker_jobs_open"), prepare=True)


@pytest.mark.direct("prepared statements of the session")
async def test_what_handlers_have_done_is_written_after_a_migration_too(rig: Rig) -> None:
    ended: list[Job] = []
    rig.adapter.observers.on_finished(ended.append)
    worker = rig.worker()
    # One connection for all of it, as while a worker runs.
    worker._completer.connection.hold()
    jobs = [(await rig.adapter.schedule_job("echo", 0)).id]
    await worker.run_once()
    for number in range(1, 6):
        if number == 5:
            await rig.sql("ALTER TABLE {s}.worker_jobs_finished ADD COLUMN next_one text")
        jobs.append((await rig.adapter.schedule_job("echo", number)).id)
        await worker.run_once()
    await worker._completer.connection.close()
    assert [job.id for job in ended] == jobs
    assert [
        await rig.value("SELECT result FROM {s}.worker_jobs_finished WHERE id = %(id)s", id=each)
        for each in jobs
    ] == [*range(6)]
