"""What we tell of a failed run is an alert of Trigger.dev's to the official SDK."""

from typing import Any

import httpx
import pytest

from adapter import Adapter, RetryPolicy
from adapter.domain.identity import run_id_of
from adapter.domain.signing import ALERT_HEADER
from adapter.executors.webhook_posts import WebhookPoster
from tests.interop import node_tools
from tests.rig import rigged

SECRET = "the secret of the alert"


def failing(adapter: Adapter) -> None:
    @adapter.task("fails", retry=RetryPolicy(max_attempts=1))
    async def fails(_payload: Any) -> None:
        raise ValueError("boom")

    del fails


@pytest.mark.once("about the SDK")
@pytest.mark.interop
async def test_the_sdk_reads_an_alert_of_ours(database_url: str) -> None:
    received: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        received.append(request)
        return httpx.Response(200)

    async with rigged(database_url, failing) as rig:
        rig.adapter.deliverer.poster = WebhookPoster(rig.adapter.clock, httpx.MockTransport(take))
        await rig.adapter.deliverer.poster.open()
        await rig.adapter.subscribe_webhook(
            "https://receiver.test/", ["alert.run.failed"], secret=SECRET, allow_private=True
        )
        job = await rig.adapter.schedule_job("fails", tags=["vip"])
        await rig.work()
        assert await rig.status(job.id) == "FAILED"
        await rig.adapter.deliverer.run_once()
    (request,) = received
    env = {
        "BODY": request.content.decode(),
        "SIGNATURE": request.headers[ALERT_HEADER],
        "SECRET": SECRET,
        "RUN": run_id_of(job.id),
    }
    assert node_tools.run_node("alert.mjs", env=env) == "read\n"
