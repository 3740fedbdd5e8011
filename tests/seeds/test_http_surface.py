"""S2, S3, S4: how things stand, GraphQL's rule of owner or user 0, and alerts at the guides' thresholds."""

import httpx
from pydantic import SecretStr

from adapter import Adapter, Settings
from adapter.core import figures

KEY = "tr_dev_" + "s" * 24


async def test_s2_status_and_s3_cancel_by_owner_or_user_0(database_url: str) -> None:
    settings = Settings(database_url=SecretStr(database_url), api_keys=(SecretStr(KEY),), graphql=True)
    adapter = Adapter(settings)

    @adapter.task("import_jobs")
    async def import_jobs(payload: object) -> None:
        del payload

    del import_jobs
    transport = httpx.ASGITransport(app=adapter.asgi())
    async with (
        adapter,
        httpx.AsyncClient(
            transport=transport, base_url="http://adapter.test", headers={"authorization": f"Bearer {KEY}"}
        ) as client,
    ):
        job = await adapter.schedule_job("import_jobs", {}, user_id=42)
        standing = (await client.get("/api/admin/status")).json()
        assert standing["enabled"] is False  # no worker lives, and nothing remote is configured
        assert standing["tasks"]["import_jobs"] == {"pending": 1, "running": 0, "completed": 0, "failed": 0}
        assert {*standing["queues"], *standing["executors"]} == {"default", "local"}
        mutation = (
            "mutation CancelJob($jobId: ID!) { cancelJob(jobId: $jobId) { id success finished result } }"
        )
        for user, can in ((41, False), (0, True)):
            key = (await adapter.create_key("user", user_id=str(user))).secret
            answer = await client.post(
                "/graphql",
                json={"query": mutation, "variables": {"jobId": str(job.id)}},
                headers={"authorization": f"Bearer {key}"},
            )
            assert ("errors" not in answer.json()) is can


def test_s4_alerts_at_a_depth_of_1000_and_an_error_rate_of_5_percent() -> None:
    assert (figures.MOST_WAITING, figures.MOST_FAILED) == (1000, 0.05)
