"""Tests of the shop, as its owner would write them."""

from collections.abc import AsyncIterator, Iterator

import pytest
import shop

from adapter import JobStatus, testing


@pytest.fixture(scope="session")
def database() -> Iterator[testing.JobDatabase]:
    with testing.embedded_database() as database:
        yield database


@pytest.fixture
def partner() -> testing.MemoryExecutor:
    return testing.MemoryExecutor("trigger")


@pytest.fixture
async def jobs(
    database: testing.JobDatabase, partner: testing.MemoryExecutor
) -> AsyncIterator[testing.JobsKit]:
    shop.stock["tea"] = 2
    async with testing.opened(shop.adapter, database, executors=[partner]) as jobs:
        yield jobs


async def test_an_order_is_a_job(jobs: testing.JobsKit) -> None:
    await shop.place_order(7, "tea")
    await jobs.assert_scheduled(shop.ship_order, {"item": "tea"}, tag="order-7", count=1)


async def test_what_ships_asks_for_a_review_a_week_later(jobs: testing.JobsKit) -> None:
    await shop.place_order(7, "tea")
    assert [job.result for job in await jobs.run_pending()] == ["shipped tea"]
    jobs.advance(days=7)
    assert [job.result for job in await jobs.run_pending()] == ["how was order 7?"]


async def test_what_is_out_of_stock_is_tried_again(jobs: testing.JobsKit) -> None:
    shop.stock["tea"] = 0
    job = await jobs.run_job(shop.ship_order, {"order_id": 7, "item": "tea"})
    assert job.status is JobStatus.DELAYED
    assert job.error is not None
    assert job.error["name"] == "OutOfStockError"


async def test_the_partner_may_lose_an_answer(jobs: testing.JobsKit, partner: testing.MemoryExecutor) -> None:
    partner.fail_next("accept_late")
    await shop.place_order(7, "tea")
    await jobs.run_pending()  # the run is found by its tag
    partner.complete(partner.only_run(), "label.pdf")
    await jobs.run_pending()
    (label,) = await jobs.assert_scheduled(shop.make_label, {"order_id": 7})
    assert label.result == "label.pdf"
