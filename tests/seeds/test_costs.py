"""The cost table of the document jobs' seed, as the parity report has it."""

from collections.abc import AsyncGenerator

import pytest

from adapter import Adapter
from tests.rig import Rig, rigged


def declare(adapter: Adapter) -> None:
    @adapter.task("ingest-document", remote_id={"trigger": "ingest-document"})
    async def ingest(payload: str) -> None:
        del payload

    # What the seed gives: the paid tier of Trigger.dev by its runs, and next to nothing for one's own.
    adapter.price("trigger", per_run=99 / 2000)
    adapter.price("local", per_run=0.70 / 1_000_000, per_second=0.00002)
    del ingest


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, declare) as made:
        yield made


async def test_cost_table(rig: Rig) -> None:
    """S4: the parity report shows cost per 1,000 jobs where prices are configured."""
    for _ in range(2):
        await rig.adapter.schedule_job("ingest-document", "a")
    await rig.work()
    _, run = await rig.sent("ingest-document", "a", executor="trigger")
    rig.fake.start(run.id)
    rig.fake.complete(run.id, output=None)
    await rig.adapter.reconcile()
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET finished = started + interval '10 s' WHERE executor = 'local'"
    )
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET started = now() - interval '10 s', finished = now() - interval '5 s' WHERE executor = 'local'"
    )
    here, there = (await rig.adapter.parity("ingest-document")).tasks[0].executors
    assert there.cost_per_1000 == pytest.approx(49.5)
    assert here.cost_per_1000 == pytest.approx(1000 * (0.70 / 1_000_000 + 5 * 0.00002))


async def test_without_prices_there_is_no_cost(database_url: str) -> None:
    async with rigged(database_url) as made:
        await made.adapter.schedule_job("echo", 1)
        await made.work()
        assert [each.cost_per_1000 for each in (await made.adapter.parity("echo")).tasks[0].executors] == [
            None
        ]
