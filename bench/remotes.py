"""Jobs that a remote has: taking its webhooks in, and reconciling when there were none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import psutil
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from adapter import Adapter, JobHandle, JobSpec
from adapter.domain.signing import sign_standard
from adapter.executors.trigger_dev import TriggerDev
from bench.contenders import ADAPTER, Contender
from bench.ground import Ground, Sizes
from bench.meter import cpu_s
from bench.processes import StuckError, peak_mb, server
from bench.raw import SINGLE
from bench.samples import Sample
from bench.serving import free_port, post, send_all, until_ready

_KEY = "tr_dev_bench0123456789"
_SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBiZW5jaG1hcms="
_CONNECTIONS = 16
_PATIENCE_S = 120.0
_ACCEPT_ALL = (
    "WITH now_there AS (UPDATE adapter.worker_jobs_open SET status = 'QUEUED', submit_state = 'accepted',"
    " remote_status = 'QUEUED', remote_environment = %(environment)s, next_try_at = NULL,"
    " first_try_at = now(), submit_tries = 1, remote_run_id = 'run_' || replace(id::text, '-', '') RETURNING *)"
    " INSERT INTO adapter.remote_runs (executor, run_id, job_id, epoch, environment)"
    " SELECT executor, remote_run_id, id, epoch, remote_environment FROM now_there"
)


async def _remote_jobs(adapter: Adapter, url: str, ground: Ground, count: int) -> list[str]:
    """Make jobs that a remote has accepted; returns their ids."""
    handles: list[JobHandle[Any]] = []
    for start in range(0, count, 1000):
        specs = [JobSpec("elsewhere", {}, {"executor": "trigger"}) for _ in range(min(1000, count - start))]
        handles += await adapter.schedule_specs(specs)
    async with ground.connection(url) as conn:
        executor = adapter.executors.by_name["trigger"]
        await conn.execute(_ACCEPT_ALL, {"environment": executor.environment})
        await conn.execute("ANALYZE")
    return [str(handle.id) for handle in handles]


def _run_id(job_id: str) -> str:
    return f"run_{job_id.replace('-', '')}"


# ---- webhooks ------------------------------------------------------------------------------------


def _request(job_id: str, port: int) -> bytes:
    now = datetime.now(UTC)
    moment = now.isoformat()
    run = {
        "id": _run_id(job_id),
        "status": "COMPLETED",
        "taskIdentifier": "elsewhere",
        "attempt": 1,
        "tags": [f"job:{job_id}:1"],
        "updatedAt": moment,
        "startedAt": moment,
        "finishedAt": moment,
        "output": {"ok": True},
    }
    event = {"type": "RUN_COMPLETED", "timestamp": moment, "data": {"source": "engine", "run": run}}
    body = json.dumps(event).encode()
    headers = {
        "content-type": "application/json",
        **sign_standard(_SECRET, f"msg_{job_id}", now, body),
    }
    return post("/api/trigger/webhook", port, headers, body)


def webhooks(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    return asyncio.run(_webhooks(ground, sizes))


async def _webhooks(ground: Ground, sizes: Sizes) -> list[Sample]:
    port = free_port()
    with ground.database() as url:
        executor = TriggerDev(secret_key=_KEY, api_url="http://127.0.0.1:9")
        async with ground.adapter(url, executors=[executor]) as adapter:
            ids = await _remote_jobs(adapter, url, ground, sizes.webhooks)
        environ = {
            "TRIGGER_WEBHOOK_SECRET": _SECRET,
            "TRIGGER_SECRET_KEY": _KEY,
            "TRIGGER_API_URL": "http://127.0.0.1:9",
        }
        with server(url, ground.folder, "serve", "--port", str(port), **environ) as serving:
            await until_ready(port)
            requests = [_request(job_id, port) for job_id in ids]
            booted = cpu_s([serving])
            async with ground.connection(url) as conn:
                began = time.perf_counter()
                await send_all(requests, port, _CONNECTIONS)
                accepted = time.perf_counter() - began
                await _until_none_is_open(conn, serving)
                applied = time.perf_counter() - began
            peak, spent = peak_mb(serving), cpu_s([serving]) - booted
    return [
        Sample("webhooks accepted, one server", sizes.webhooks / accepted, "/s", of=(SINGLE[1],)),
        Sample("webhooks accepted and applied", sizes.webhooks / applied, "/s"),
        Sample("webhooks, CPU of the server for both", spent / sizes.webhooks * 1e6, "µs each"),
        Sample("webhooks, most memory of the server", peak, "MB"),
    ]


async def _until_none_is_open(conn: AsyncConnection[DictRow], serving: psutil.Process) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        row = await (await conn.execute(ADAPTER.open_jobs)).fetchone()
        if row is not None and not row["exists"]:
            return
        if time.monotonic() > deadline or serving.status() == psutil.STATUS_ZOMBIE:
            raise StuckError("jobs stayed open")
        await asyncio.sleep(0.05)


# ---- reconciliation ------------------------------------------------------------------------------


class FastRemote(httpx.AsyncBaseTransport):
    """A remote that costs next to nothing: dictionaries behind Trigger.dev's wire format."""

    def __init__(self, status: str) -> None:
        self._status = status
        self._by_tag: dict[str, dict[str, Any]] = {}
        self._by_id: dict[str, dict[str, Any]] = {}

    def fill(self, job_ids: list[str]) -> None:
        """Have a run for each of these jobs."""
        status, moment = self._status, datetime.now(UTC).isoformat()
        started = (
            {"startedAt": moment, "finishedAt": moment, "attemptCount": 1} if status == "COMPLETED" else {}
        )
        for job_id in job_ids:
            tag = f"job:{job_id}:1"
            run = {"id": _run_id(job_id), "status": status, "taskIdentifier": "elsewhere", "tags": [tag]}
            self._by_tag[tag] = run | {"createdAt": moment, "updatedAt": moment, **started}
        self._by_id = {run["id"]: run for run in self._by_tag.values()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/runs":
            tags = parse_qs(request.url.query.decode())["filter[tag]"][0].split(",")
            found = [self._by_tag[tag] for tag in tags if tag in self._by_tag]
            return httpx.Response(200, json={"data": found, "pagination": {}})
        run = self._by_id[request.url.path.rpartition("/")[2]]
        return httpx.Response(200, json=run | {"output": {"ok": True}, "payload": {}, "attempts": []})


def reconcile(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    return asyncio.run(_reconcile(ground, sizes))


async def _reconcile(ground: Ground, sizes: Sizes) -> list[Sample]:
    samples: list[Sample] = []
    for share, status in ((0, "QUEUED"), (100, "COMPLETED")):
        with ground.database() as url:
            remote = FastRemote(status)
            executor = TriggerDev(
                secret_key=_KEY, api_url="https://remote.test", requests_per_minute=0, transport=remote
            )
            async with ground.adapter(url, executors=[executor]) as adapter:
                ids = await _remote_jobs(adapter, url, ground, sizes.runs)
                remote.fill(ids)
                report = await adapter.reconcile()
                left = (await adapter.database.fetch("SELECT count(*) AS n FROM {s}.worker_jobs_open"))[0][
                    "n"
                ]
        assert report.stopped is None, report.stopped
        assert left == (0 if share else sizes.runs), left
        name = f"reconcile {sizes.runs:,} runs, {share} % finished there"
        samples += [
            Sample(name, report.seconds, "s"),
            Sample(f"{name}: list calls", report.list_calls, ""),
            Sample(f"{name}: retrieves", report.retrieves, ""),
        ]
    return samples
