"""S0, phase 4, "Update Dashboard & Add SSE", and its checklist: "Job status updates in real-time via SSE"."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from unittest import mock

import httpx
from pydantic import SecretStr

from adapter.web.app import create_app
from adapter.web.auth import make_public_token
from tests.kit import eventually
from tests.rig import new_id, rigged

KEY = "tr_dev_" + "k" * 24


def sent(answer: httpx.Response) -> list[Any]:
    """What ``onmessage`` is given."""
    return [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: ")
    ]


async def test_job_status_updates_in_real_time_via_sse(database_url: str) -> None:
    async with rigged(database_url, api_keys=(SecretStr(KEY),)) as rig:
        adapter = rig.adapter
        transport = httpx.ASGITransport(app=create_app(adapter, owns_adapter=False))
        # As `new EventSource(url)` can ask: no header says who it is.
        token = make_public_token(KEY, ["read:runs"], timedelta(minutes=15), now=adapter.clock.now())
        about = {"token": token, "shape": "job_runs"}
        async with httpx.AsyncClient(transport=transport, base_url="http://adapter.test") as client:
            job = (await adapter.schedule_job("echo", {"storyId": "7"})).job
            async with asyncio.TaskGroup() as group:
                with mock.patch.object(adapter.hub, "until_moved", wraps=adapter.hub.until_moved) as waits:
                    following = group.create_task(client.get(f"/api/jobs/{job.id}/stream", params=about))
                    await eventually(lambda: waits.called)
                await rig.work()
                answer = await following
            first, *_, last = sent(answer)
            assert (first["id"], first["taskId"], first["status"]) == (str(job.id), "echo", "pending")
            assert (last["status"], last["result"], last["error"]) == ("completed", {"storyId": "7"}, None)
            unknown = await client.get(f"/api/jobs/{new_id()}/stream", params=about)
            assert sent(unknown) == [{"error": "not_found"}]
