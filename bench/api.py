"""What the HTTP API adds: triggers one by one and batches through a server, beside the same calls of the library."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from uuid import UUID

from bench.contenders import Contender
from bench.ground import Ground, Sizes
from bench.meter import cpu_s
from bench.processes import server
from bench.raw import connections
from bench.samples import Sample
from bench.scheduling import MANY, MEASURES
from bench.serving import as_json, exchange, free_port, post, send_all, until_ready

_KEY = "tr_dev_bench0123456789abcdef"
_HEADERS = {"authorization": f"Bearer {_KEY}", "content-type": "application/json"}
_BATCH = 1000


def measure(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    return asyncio.run(_measure(ground, sizes))


async def _measure(ground: Ground, sizes: Sizes) -> list[Sample]:
    samples: list[Sample] = []
    for count in MEASURES:
        samples += await _triggers(ground, sizes.singles * count // 2, count)
    return [*samples, *await _batches(ground, max(1, sizes.bulk // _BATCH))]


def _trigger(number: int, port: int) -> bytes:
    """A trigger as the SDK sends it, with a key of its own for each call."""
    payload = json.dumps({"json": {"i": number}})
    body = {
        "payload": payload,
        "options": {"payloadType": "application/super+json", "payloadSize": len(payload)},
    }
    headers = _HEADERS | {"x-trigger-request-idempotency-key": str(UUID(int=number + 1))}
    return post("/api/v1/tasks/noop/trigger", port, headers, json.dumps(body).encode())


async def _triggers(ground: Ground, jobs: int, count: int) -> list[Sample]:
    port, what = free_port(), f"trigger through the API, {connections(count)}"
    with ground.database() as url:
        async with ground.adapter(url):
            pass
        with server(url, ground.folder, "serve", "--port", str(port), ADAPTER_API_KEY=_KEY) as serving:
            await until_ready(port)
            await send_all((_trigger(number, port) for number in range(jobs, jobs + 50)), port, count)
            requests, before = [_trigger(number, port) for number in range(jobs)], cpu_s([serving])
            began = time.perf_counter()
            took = await send_all(requests, port, count)
            seconds, spent = time.perf_counter() - began, cpu_s([serving]) - before
    return [
        Sample(what, jobs / seconds, "jobs/s", of=(MEASURES[count],)),
        Sample(f"{what}: p50 of a call", statistics.median(took) * 1000, "ms", better="less"),
        Sample(f"{what}: CPU of the server", spent / jobs * 1e6, "µs each", better="less"),
    ]


def _items(number: int) -> Iterator[bytes]:
    for index in range(_BATCH):
        payload = json.dumps({"json": {"i": number * _BATCH + index}})
        options = {"payloadType": "application/super+json", "payloadSize": len(payload)}
        yield (
            json.dumps({"index": index, "task": "noop", "payload": payload, "options": options}).encode()
            + b"\n"
        )


async def _batches(ground: Ground, batches: int) -> list[Sample]:
    port, what = free_port(), f"trigger {_BATCH} per batch through the API"
    ndjson = _HEADERS | {"content-type": "application/x-ndjson"}
    with ground.database() as url:
        async with ground.adapter(url):
            pass
        with server(url, ground.folder, "serve", "--port", str(port), ADAPTER_API_KEY=_KEY) as serving:
            await until_ready(port)
            bodies = [b"".join(_items(number)) for number in range(batches)]
            opening = post("/api/v3/batches", port, _HEADERS, json.dumps({"runCount": _BATCH}).encode())
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            before, began = cpu_s([serving]), time.perf_counter()
            for body in bodies:
                batch = as_json(await exchange(reader, writer, opening))["id"]
                filling = post(f"/api/v3/batches/{batch}/items", port, ndjson, body)
                if not as_json(await exchange(reader, writer, filling))["sealed"]:
                    raise RuntimeError("a whole batch was not sealed")
            seconds, spent = time.perf_counter() - began, cpu_s([serving]) - before
            writer.close()
    jobs = batches * _BATCH
    return [
        Sample(what, jobs / seconds, "jobs/s", of=(MANY,)),
        Sample(f"{what}: CPU of the server", spent / jobs * 1e6, "µs each", better="less"),
    ]
