"""An executor on the in-memory Trigger.dev."""

from collections.abc import AsyncIterator

import pytest

from adapter.executors.trigger_dev import TriggerDev
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fake(clock: ManualClock) -> FakeTriggerDev:
    return FakeTriggerDev(clock)


@pytest.fixture
async def executor(fake: FakeTriggerDev) -> AsyncIterator[TriggerDev]:
    executor = TriggerDev(secret_key=SECRET_KEY, api_url=API_URL, clock=fake.clock, transport=fake.transport)
    await executor.open()
    yield executor
    await executor.close()
