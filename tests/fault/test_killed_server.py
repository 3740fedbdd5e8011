"""kill -9 of whoever receives webhooks: what was answered 2xx is applied, the rest is found by reconciliation."""

import asyncio
import json
from typing import Any

import httpx

from adapter.domain.clock import SystemClock
from adapter.domain.identity import parse_epoch_tag
from adapter.domain.signing import sign_standard
from adapter.store.postgres_process import free_port
from tests.fakes.trigger_engine import FakeRun, iso
from tests.fault.remote import Remote
from tests.fault.site import Site
from tests.kit import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JOBS = 60


async def test_the_server_is_killed_while_webhooks_come_in(site: Site, remote: Remote) -> None:
    port = free_port()
    site.env |= remote.env | {"ADAPTER_WEBHOOK_SECRETS": SECRET}
    async with site.adapter() as adapter:
        for n in range(JOBS):
            await adapter.schedule_job("away", {"n": n}, executor="trigger")
        await adapter.dispatcher.run_once()
    assert len(remote.fake.runs) == JOBS
    first = await site.start("server", str(port)).ready()
    for run in list(remote.fake.runs):
        remote.fake.start(run)
        remote.fake.complete(run, {"ran": "there"})
    acknowledged: list[str] = []
    few = asyncio.Semaphore(4)

    async def send(run: FakeRun) -> None:
        async with few:
            await _send(port, run, acknowledged)
            # At once, so that no answer can be on its way but those of the few.
            if len(acknowledged) == JOBS // 4:
                first.kill()

    await asyncio.gather(*(send(run) for run in remote.fake.runs.values()))
    assert JOBS // 4 <= len(acknowledged) < JOBS // 2
    stored = {row["delivery_id"] for row in site.rows("SELECT delivery_id FROM webhook_inbox")}
    assert stored >= set(acknowledged), "a webhook was answered before it was stored"

    # A pass that died with its process keeps its lease and what it took for a while; that is moved instead of waited for.
    site.rows("UPDATE leases SET until = now()")
    site.rows("UPDATE webhook_inbox SET next_try_at = now() WHERE state = 'pending'")
    await site.start("server", str(port)).ready()
    await site.all_done()
    await eventually(lambda: site.count("webhook_inbox", "state <> 'applied'") == 0, within=40)
    assert site.count("worker_jobs_finished", "status = 'COMPLETED'") == JOBS
    assert site.count("remote_runs", "role <> 'bound'") == 0


async def _send(port: int, run: FakeRun, acknowledged: list[str]) -> None:
    body = json.dumps(_completed(run)).encode()
    headers = sign_standard(SECRET, run.id, SystemClock().now(), body)
    url = f"http://127.0.0.1:{port}/api/trigger/webhook"
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.post(url, content=body, headers=headers, timeout=20)
        except httpx.TransportError:
            return
    assert answer.status_code == 200, answer.text
    acknowledged.append(run.id)


def _completed(run: FakeRun) -> dict[str, Any]:
    job_id, epoch = next(parsed for tag in run.tags if (parsed := parse_epoch_tag(tag)))
    said = {"id": run.id, "status": "COMPLETED", "attempt": run.attempts, "updatedAt": iso(run.updated_at)}
    job = {"id": str(job_id), "epoch": epoch}
    return {
        "type": "RUN_COMPLETED",
        "timestamp": iso(run.updated_at),
        "data": {"source": "engine", "run": said, "job": job},
    }
