"""Batches as Trigger.dev's SDK opens, fills and reads them (its API contract, 6)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from starlette.types import Message

from adapter import Adapter, JobFilter, JobSpec
from adapter.core.batches import FindPacket
from adapter.domain.errors import BatchAbortedError, BatchNotFoundError, InvalidArgumentError
from adapter.domain.identity import job_id_of, own_id, public_id, run_id_of
from adapter.domain.job import Job, JobStatus
from adapter.web.app import create_app
from adapter.web.auth import AUDIENCE, ISSUER, make_public_token
from adapter.web.trigger_api.lines import MOST_ITEM_BYTES
from adapter.web.trigger_api.wire import BATCH
from tests.web.conftest import KEY

HASH = "c06e74ae9e89378631bd961e46df993756f26ea18dd2b08c58a06851c357fd58"
NDJSON = {"content-type": "application/x-ndjson"}
_jwt: Any = jwt


def item(index: int, task: str = "echo", **more: Any) -> dict[str, Any]:
    payload = {
        "payload": json.dumps({"json": {"i": index}}),
        "options": {"payloadType": "application/super+json"},
    }
    return {"index": index, "task": task, **payload, **more}


def stream(items: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in items)


async def opened(client: httpx.AsyncClient, count: int, **more: Any) -> str:
    reply = await client.post(
        "/api/v3/batches", json={"runCount": count, "taskIdentifiers": ["echo"], **more}
    )
    assert reply.status_code == 202, reply.text
    assert reply.json()["runCount"] == count
    assert reply.json()["isCached"] is False
    return reply.json()["id"]


async def filled(client: httpx.AsyncClient, batch: str, content: Any) -> dict[str, Any]:
    reply = await client.post(f"/api/v3/batches/{batch}/items", content=content, headers=NDJSON)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def shown(client: httpx.AsyncClient, batch: str) -> dict[str, Any]:
    reply = await client.get(f"/api/v2/batches/{batch}")
    assert reply.status_code == 200, reply.text
    return reply.json()


async def jobs_of(adapter: Adapter, batch: str) -> list[Job]:
    batch_id = own_id(BATCH, batch)
    assert batch_id is not None
    return await adapter.batch_jobs(batch_id)


def as_token(adapter: Adapter, *scopes: str) -> dict[str, str]:
    token = make_public_token(KEY, scopes, timedelta(hours=1), now=adapter.clock.now())
    return {"authorization": f"Bearer {token}"}


# ---- a stream ---------------------------------------------------------------------------------------


async def test_a_batch_is_opened_filled_and_read(adapter: Adapter, client: httpx.AsyncClient) -> None:
    reply = await client.post(
        "/api/v3/batches",
        json={
            "runCount": 2,
            "taskIdentifiers": ["echo"],
            "idempotencyKey": HASH,
            "idempotencyKeyOptions": {"key": "batchkey", "scope": "run"},
        },
    )
    batch = reply.json()["id"]
    assert reply.json() == {"id": batch, "runCount": 2, "isCached": False, "idempotencyKey": HASH}
    claims: dict[str, Any] = _jwt.decode(
        reply.headers["x-trigger-jwt"],
        KEY.encode() + b"\0",
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
    )
    assert claims["scopes"] == [f"read:batch:{batch}"]
    assert (await shown(client, batch))["status"] == "PENDING"
    last = item(1, options={"tags": ["bt"], "delay": "1h", "queue": {"name": "q2"}, "metadata": {"a": 1}})
    assert await filled(client, batch, stream([item(0), last])) == {
        "id": batch,
        "itemsAccepted": 2,
        "itemsDeduplicated": 0,
        "sealed": True,
        "runCount": 2,
    }
    jobs = await jobs_of(adapter, batch)
    assert [job.data for job in jobs] == [{"i": 0}, {"json": {"i": 1}}]
    assert [job.status for job in jobs] == ["QUEUED", "DELAYED"]
    assert (jobs[1].tags, jobs[1].queue, jobs[1].metadata) == (("bt",), "q2", {"a": 1})
    found = await shown(client, batch)
    assert found["runs"] == [run_id_of(job.id) for job in jobs]
    assert (found["status"], found["runCount"], found["processing"]["errors"]) == ("PENDING", 2, [])
    run = (await client.get(f"/api/v3/runs/{found['runs'][0]}")).json()
    assert (run["batchId"], run["triggerFunction"]) == (batch, "batchTrigger")
    listed = (await client.get("/api/v1/runs", params={"filter[batch]": batch})).json()
    assert len(listed["data"]) == 2


async def test_nothing_runs_before_all_are_there_and_what_is_there_need_not_come_again(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    batch = await opened(client, 3)
    part = {"id": batch, "itemsAccepted": 2, "itemsDeduplicated": 0, "runCount": 3}
    assert await filled(client, batch, stream([item(2), item(0)])) == part | {
        "sealed": False,
        "enqueuedCount": 2,
        "expectedCount": 3,
    }
    assert (await adapter.list_jobs()).jobs == ()
    again = await filled(client, batch, stream([item(0, task="another"), item(1), item(2), item(2)]))
    assert again == part | {"itemsAccepted": 1, "itemsDeduplicated": 3, "sealed": True}
    # The first that came under an index is the one.
    assert [(job.type, job.data) for job in await jobs_of(adapter, batch)] == [
        ("echo", {"i": 0}),
        ("echo", {"i": 1}),
        ("echo", {"i": 2}),
    ]
    assert await filled(client, batch, stream([item(0), item(1), item(2)])) == part | {
        "itemsAccepted": 0,
        "itemsDeduplicated": 3,
        "sealed": True,
    }
    assert len((await adapter.list_jobs()).jobs) == 3
    assert await adapter.database.fetch("SELECT * FROM {s}.batch_items") == []


async def test_lines_may_come_in_any_pieces(adapter: Adapter, client: httpx.AsyncClient) -> None:
    whole = b"\n  \r\n" + stream([item(n, payload=f'"ü{n}☂"', options={}) for n in range(4)]).rstrip(b"\n")
    batch = await opened(client, 4)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), 7):
            yield whole[at : at + 7]

    assert (await filled(client, batch, pieces()))["sealed"] is True
    # A string of type application/json is JSON text, unlike that of a single trigger.
    assert [job.data for job in await jobs_of(adapter, batch)] == [f"ü{n}☂" for n in range(4)]


async def test_a_stream_that_is_cut_is_taken_up_again(adapter: Adapter, client: httpx.AsyncClient) -> None:
    batch = await opened(client, 3)
    app = create_app(adapter, owns_adapter=False)
    said: list[Message] = [
        {"type": "http.request", "body": stream([item(0), item(1)]) + b'{"index":2,', "more_body": True},
        {"type": "http.disconnect"},
    ]
    path = f"/api/v3/batches/{batch}/items"
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/x-ndjson")]
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("adapter.test", 80), "client": None,
    }  # fmt: skip
    answered: list[Message] = []

    async def receive() -> Message:
        return said.pop(0)

    async def send(message: Message) -> None:
        answered.append(message)

    await app(scope, receive, send)
    assert answered == []
    assert (await adapter.list_jobs()).jobs == ()
    added = await filled(client, batch, stream([item(0), item(1), item(2)]))
    assert (added["itemsAccepted"], added["itemsDeduplicated"], added["sealed"]) == (1, 2, True)


async def test_a_large_stream_is_held_in_the_database_meanwhile(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    batch = await opened(client, 4)
    items = [item(n, payload=json.dumps({"big": "x" * 2_500_000, "n": n}), options={}) for n in range(4)]

    async def pieces() -> AsyncIterator[bytes]:
        for each in items:
            yield stream([each])

    assert (await filled(client, batch, pieces()))["itemsAccepted"] == 4
    jobs = await jobs_of(adapter, batch)
    assert [(job.data["n"], len(job.data["big"])) for job in jobs] == [(n, 2_500_000) for n in range(4)]


async def test_an_item_that_is_too_large_is_a_run_that_has_failed(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    batch = await opened(client, 2)

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"index":1,"task":"ec\\u0068o","payload":"'
        for _ in range(MOST_ITEM_BYTES // 1024 + 1):
            yield b"x" * 1024
        yield b'"}\n' + stream([item(0)])

    assert (await filled(client, batch, pieces()))["sealed"] is True
    good, bad = await jobs_of(adapter, batch)
    assert (good.status, bad.status, bad.type) == (JobStatus.QUEUED, JobStatus.SYSTEM_FAILURE, "echo")
    assert (await shown(client, batch))["processing"]["errors"] == []
    run = (await client.get(f"/api/v3/runs/{run_id_of(bad.id)}")).json()
    assert "larger" in run["error"]["message"]
    nameless = await client.post(
        f"/api/v3/batches/{batch}/items", content=b'{"payload":"' + b"x" * MOST_ITEM_BYTES, headers=NDJSON
    )
    assert nameless.status_code == 422


async def test_items_that_no_run_can_be_made_of_are_told(adapter: Adapter, client: httpx.AsyncClient) -> None:
    bad = [
        item(0, options={"machine": "bogus"}),
        item(1, options={"tags": [f"t{n}" for n in range(11)]}),
        item(2, task="off"),
        item(3, payload="{", options={"payloadType": "application/super+json"}),
        item(4, payload="nowhere", options={"payloadType": "application/store"}),
    ]
    batch = await opened(client, 6)
    assert (await filled(client, batch, stream([*bad, item(5)])))["sealed"] is True
    found = await shown(client, batch)
    assert (found["status"], len(found["runs"])) == ("PARTIAL_FAILED", 1)
    errors = found["processing"]["errors"]
    assert [error["index"] for error in errors] == [0, 1, 2, 3, 4]
    assert [error["taskIdentifier"] for error in errors] == ["echo", "echo", "off", "echo", "echo"]
    for error, words in zip(
        errors, ["machine", "10 tags", "disabled", "packet", "stored payload"], strict=True
    ):
        assert words in error["error"]
    batch = await opened(client, 1)
    await filled(client, batch, stream([bad[0]]))
    assert (await shown(client, batch))["status"] == "ABORTED"


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'"text"',
        b'{"index":0}',
        b'{"index":0,"task":""}',
        b'{"index":0,"task":7}',
        b'{"task":"echo"}',
        b'{"index":-1,"task":"echo"}',
        b'{"index":true,"task":"echo"}',
        b'{"index":"0","task":"echo"}',
        b'{"index":2,"task":"echo"}',
        b'{"index":0,"task":"echo","options":[]}',
        b'{"index":0,"task":"echo","payload":NaN}',
        b'{"index":0,"task":"echo","payload":"\\u0000"}',
        b"\xff",
    ],
)
async def test_lines_that_are_no_items(client: httpx.AsyncClient, line: bytes) -> None:
    batch = await opened(client, 2)
    reply = await client.post(f"/api/v3/batches/{batch}/items", content=line, headers=NDJSON)
    assert (reply.status_code, list(reply.json())) == (422, ["error"])


async def test_where_items_cannot_go(client: httpx.AsyncClient) -> None:
    batch = await opened(client, 1)
    path = f"/api/v3/batches/{batch}/items"
    assert (await client.post(path, json=item(0))).status_code == 415
    for unknown in ("batch_unknown", public_id(BATCH, job_id_of("run_" + "1" * 26) or pytest.fail("no id"))):
        reply = await client.post(f"/api/v3/batches/{unknown}/items", content=b"", headers=NDJSON)
        assert reply.status_code == 422
        reply = await client.get(f"/api/v2/batches/{unknown}")
        assert (reply.status_code, "x-should-retry" in reply.headers) == (404, False)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"runCount": 0}, 400),
        ({"runCount": 1001}, 400),
        ({"runCount": 1.5}, 400),
        ({}, 400),
        ({"runCount": 1, "idempotencyKey": "k" * 2049}, 400),
        ({"runCount": 1, "taskIdentifiers": ["x" * 131_100]}, 413),
    ],
)
async def test_batches_that_cannot_be_opened(
    client: httpx.AsyncClient, body: dict[str, Any], status: int
) -> None:
    assert (await client.post("/api/v3/batches", json=body)).status_code == status


# ---- once -------------------------------------------------------------------------------------------


async def test_a_batch_s_key_finds_it_and_until_it_is_filled_it_is_as_new(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    body = {"runCount": 1, "idempotencyKey": HASH}
    first = await client.post("/api/v3/batches", json=body)
    # Upstream says isCached, and the SDK would send no items to a batch that waits for them.
    again = await client.post("/api/v3/batches", json=body)
    assert (again.status_code, again.json()) == (202, first.json())
    await filled(client, first.json()["id"], stream([item(0)]))
    again = await client.post("/api/v3/batches", json=body)
    assert (again.status_code, again.json()) == (200, first.json() | {"isCached": True})
    await adapter.database.fetch("UPDATE {s}.batches SET key_expires_at = now()")
    other = await client.post("/api/v3/batches", json=body)
    assert (other.status_code, other.json()["id"] == first.json()["id"]) == (202, False)
    # Waiting for another number of items, it is another batch.
    third = await client.post("/api/v3/batches", json=body | {"runCount": 2})
    assert (third.status_code, third.json()["id"] == other.json()["id"]) == (202, False)


async def test_a_repeated_request_opens_one_batch_and_makes_its_runs_once(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    key = {"x-trigger-request-idempotency-key": "3884146a-cd6e-43a8-a888-7e69b48a9a7d"}
    replies = [await client.post("/api/v3/batches", json={"runCount": 1}, headers=key) for _ in range(2)]
    assert replies[0].json() == replies[1].json()
    assert replies[1].json()["isCached"] is False
    key = {"x-trigger-request-idempotency-key": "5884146a-cd6e-43a8-a888-7e69b48a9a7d"}
    body = {"items": [{"task": "echo", "payload": "1"}]}
    replies = [await client.post("/api/v2/tasks/batch", json=body, headers=key) for _ in range(2)]
    assert replies[0].json() == replies[1].json()
    assert len((await adapter.list_jobs()).jobs) == 1


async def test_streams_at_the_same_time_fill_a_batch_once(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    body = {"runCount": 40, "idempotencyKey": HASH}
    replies = await asyncio.gather(*(client.post("/api/v3/batches", json=body) for _ in range(6)))
    assert len({reply.json()["id"] for reply in replies}) == 1
    batch = replies[0].json()["id"]
    parts = [range(40), range(25), range(20, 40), range(0, 40, 2)]
    added = await asyncio.gather(*(filled(client, batch, stream(item(n) for n in part)) for part in parts))
    assert sum(each["itemsAccepted"] for each in added) == 40
    assert all(
        each["itemsAccepted"] + each["itemsDeduplicated"] == len(part)
        for each, part in zip(added, parts, strict=True)
    )
    assert [job.data["i"] for job in await jobs_of(adapter, batch)] == list(range(40))
    assert len((await adapter.list_jobs(JobFilter(limit=100))).jobs) == 40


async def test_batches_with_the_same_keys_in_other_orders_do_not_stop_each_other(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    keys = [f"key-{n}" for n in range(30)]

    async def one(order: list[str]) -> list[str]:
        batch = await opened(client, len(order))
        items = [item(n, options={"idempotencyKey": key}) for n, key in enumerate(order)]
        await filled(client, batch, stream(items))
        return (await shown(client, batch))["runs"]

    runs = await asyncio.gather(*(one(order) for order in (keys, keys[::-1], keys, keys[::-1])))
    assert runs[0] == runs[2] == runs[1][::-1] == runs[3][::-1]
    assert len((await adapter.list_jobs(JobFilter(limit=100))).jobs) == 30


async def test_items_with_keys_find_the_runs_of_those_keys(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    items = [item(0, options={"idempotencyKey": "a"}), item(1, options={"idempotencyKey": "a"}), item(2)]
    first = await opened(client, 3)
    await filled(client, first, stream(items))
    runs = (await shown(client, first))["runs"]
    assert (runs[0] == runs[1], runs[0] == runs[2]) == (True, False)
    second = await opened(client, 1)
    await filled(client, second, stream([items[0]]))
    assert (await shown(client, second))["runs"] == [runs[0]]
    assert len((await adapter.list_jobs()).jobs) == 2


async def test_a_batch_that_nobody_fills_is_aborted(adapter: Adapter, client: httpx.AsyncClient) -> None:
    batch = await opened(client, 2, idempotencyKey=HASH)
    await filled(client, batch, stream([item(0)]))
    await adapter.database.fetch("UPDATE {s}.batches SET created_at = now() - interval '61 minutes'")
    assert (await shown(client, batch))["status"] == "ABORTED"
    reply = await client.post(f"/api/v3/batches/{batch}/items", content=stream([item(1)]), headers=NDJSON)
    assert reply.status_code == 422
    other = await opened(client, 2, idempotencyKey=HASH)
    assert other != batch
    await adapter.retention.run_once()
    assert await adapter.database.fetch("SELECT * FROM {s}.batch_items") == []
    assert [(await shown(client, each))["status"] for each in (batch, other)] == ["ABORTED", "PENDING"]
    await adapter.database.fetch("UPDATE {s}.batches SET created_at = now() - interval '31 days'")
    await adapter.retention.run_once()
    assert (await client.get(f"/api/v2/batches/{batch}")).status_code == 404


# ---- one request ------------------------------------------------------------------------------------


async def test_a_whole_batch_in_one_request(adapter: Adapter, client: httpx.AsyncClient) -> None:
    parent = (await client.post("/api/v1/tasks/echo/trigger", json={"payload": 1})).json()["id"]
    body = {
        "items": [
            {
                "task": "echo",
                "payload": '{"a":1}',
                "options": {"payloadType": "application/json", "tags": "t"},
            },
            {"task": "not known yet", "payload": {"b": 2}},
        ],
        "parentRunId": parent,
        "resumeParentOnCompletion": True,
    }
    key = {"idempotency-key": HASH, "idempotency-key-ttl": "5m"}
    reply = await client.post("/api/v2/tasks/batch", json=body, headers=key)
    batch = reply.json()["id"]
    assert (reply.status_code, reply.json()) == (202, {"id": batch, "runCount": 2, "idempotencyKey": HASH})
    jobs = await jobs_of(adapter, batch)
    assert [(job.data, job.status, job.tags) for job in jobs] == [
        ({"a": 1}, "QUEUED", ("t",)),
        ({"b": 2}, "WAITING", ()),
    ]
    assert {job.parent_id for job in jobs} == {job_id_of(parent)}
    run = (await client.get(f"/api/v3/runs/{run_id_of(jobs[0].id)}")).json()
    assert run["triggerFunction"] == "batchTriggerAndWait"
    again = await client.post("/api/v2/tasks/batch", json=body, headers=key)
    assert again.json() == reply.json() | {"isCached": True}
    with_runs = await client.post("/api/v1/tasks/batch", json=body)
    assert [(run["taskIdentifier"], run["isCached"]) for run in with_runs.json()["runs"]] == [
        ("echo", False),
        ("not known yet", False),
    ]
    oldest = await client.post(
        "/api/v1/tasks/ns%2Ftask%20with%20space/batch", json={"items": [{"payload": 1}]}
    )
    assert [job.type for job in await jobs_of(adapter, oldest.json()["batchId"])] == ["ns/task with space"]
    assert len(oldest.json()["runs"]) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"items": []}, 400),
        ({"items": [{"payload": 1}]}, 400),
        ({"items": [{"task": "echo", "options": {"machine": "bogus"}}]}, 400),
        ({"items": [{"task": "echo"}] * 501}, 400),
        ({"items": [{"task": "echo", "payload": "x" * 1024 * 1024}]}, 413),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/tasks/batch", "/api/v2/tasks/batch"])
async def test_whole_batches_that_are_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    assert (await client.post(path, json=body)).status_code == status


async def test_the_older_forms_take_all_or_nothing(adapter: Adapter, client: httpx.AsyncClient) -> None:
    bad = {"task": "echo", "options": {"tags": [f"t{n}" for n in range(11)]}}
    for each in (bad, {"task": "off"}, {"task": "echo", "payload": "{"}):
        body = {"items": [{"task": "echo"}, each]}
        assert (await client.post("/api/v1/tasks/batch", json=body)).status_code in {400, 422}
    assert (await adapter.list_jobs()).jobs == ()
    reply = await client.post("/api/v2/tasks/batch", json={"items": [{"task": "echo"}, bad]})
    assert (await shown(client, reply.json()["id"]))["status"] == "PARTIAL_FAILED"


# ---- reading ----------------------------------------------------------------------------------------


async def test_a_batch_is_completed_when_its_runs_have_ended_and_has_their_results(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    batch = await opened(client, 2)
    await filled(client, batch, stream([item(0), item(1)]))
    runs = (await shown(client, batch))["runs"]
    worker = adapter.worker(concurrency=1)
    await worker.run_once()
    await client.post(f"/api/v2/runs/{runs[1]}/cancel")
    while (await shown(client, batch))["status"] != "COMPLETED":
        await worker.run_once()
    brief = (await client.get(f"/api/v1/batches/{batch}")).json()
    assert (brief["status"], "processing" in brief) == ("COMPLETED", False)
    results = (await client.get(f"/api/v1/batches/{batch}/results")).json()
    assert results["id"] == batch
    assert results["items"][0] == {
        "ok": True,
        "id": runs[0],
        "taskIdentifier": "echo",
        "output": '{"i":0}',
        "outputType": "application/json",
    }
    if not results["items"][1]["ok"]:
        assert results["items"][1]["error"]["type"] == "BUILT_IN_ERROR"


async def test_tokens(adapter: Adapter, client: httpx.AsyncClient) -> None:
    body = {"runCount": 1, "taskIdentifiers": ["echo"]}
    post, get = client.post, client.get
    allowed = as_token(adapter, "batchTrigger:tasks:echo")
    assert (
        await post("/api/v3/batches", json=body, headers=as_token(adapter, "read:runs"))
    ).status_code == 403
    assert (await post("/api/v3/batches", json={"runCount": 1}, headers=allowed)).status_code == 403
    batch = (await post("/api/v3/batches", json=body, headers=allowed)).json()["id"]
    path = f"/api/v3/batches/{batch}/items"
    other = stream([item(0, task="ns/task with space")])
    assert (await post(path, content=other, headers=NDJSON | allowed)).status_code == 403
    assert (await post(path, content=stream([item(0)]), headers=NDJSON | allowed)).status_code == 200
    one = {"items": [{"task": "echo"}, {"task": "other"}]}
    assert (await post("/api/v2/tasks/batch", json=one, headers=allowed)).status_code == 403
    for tail in ("v2/batches/{}", "v1/batches/{}", "v1/batches/{}/results"):
        url = f"/api/{tail.format(batch)}"
        assert (await get(url, headers=allowed)).status_code == 403
        assert (await get(url, headers=as_token(adapter, f"read:batch:{batch}"))).status_code == 200
    for method, url in (("POST", "/api/v3/batches"), ("POST", path), ("GET", f"/api/v2/batches/{batch}")):
        assert (await client.request(method, url, headers={"authorization": ""})).status_code == 401


async def test_a_user_s_batches_are_that_user_s(adapter: Adapter, client: httpx.AsyncClient) -> None:
    ones, others = [
        {"authorization": f"Bearer {(await adapter.create_key('app', user_id=user)).secret}"} for user in "78"
    ]
    theirs = (await client.post("/api/v1/tasks/echo/trigger", json={"payload": 1}, headers=others)).json()[
        "id"
    ]
    body = {"runCount": 1, "taskIdentifiers": ["echo"], "idempotencyKey": HASH, "parentRunId": theirs}
    batch = (await client.post("/api/v3/batches", json=body, headers=ones)).json()["id"]
    path, items = f"/api/v3/batches/{batch}/items", stream([item(0)])
    assert (await client.post(path, content=items, headers=NDJSON | others)).status_code == 422
    assert (await client.post("/api/v3/batches", json=body, headers=others)).status_code == 404
    assert (await client.post(path, content=items, headers=NDJSON | ones)).status_code == 200
    (job,) = await jobs_of(adapter, batch)
    assert (job.user_id, job.parent_id) == ("7", None)
    for headers, status in ((ones, 200), (others, 404), ({}, 200)):
        assert (await client.get(f"/api/v2/batches/{batch}", headers=headers)).status_code == status


async def test_a_single_use_token_makes_one_batch(adapter: Adapter, client: httpx.AsyncClient) -> None:
    now = int(adapter.clock.now().timestamp())
    claims = {
        "pub": True, "otu": True, "scopes": ["batchTrigger:tasks:echo"], "iss": ISSUER, "aud": AUDIENCE, "exp": now + 900,
    }  # fmt: skip
    token: str = _jwt.encode(claims, KEY.encode() + b"\0", algorithm="HS256")
    request_key = "x-trigger-request-idempotency-key"
    headers = {"authorization": f"Bearer {token}", request_key: "one call"}
    body = {"runCount": 1, "taskIdentifiers": ["echo"]}
    batches = [
        (await client.post("/api/v3/batches", json=body, headers=headers)).json()["id"] for _ in range(2)
    ]
    assert batches[0] == batches[1]
    fresh = await client.post("/api/v3/batches", json=body, headers=headers | {request_key: "another call"})
    assert fresh.status_code == 422
    other = await opened(client, 1)
    for batch, status in ((other, 403), (batches[0], 200)):
        path = f"/api/v3/batches/{batch}/items"
        reply = await client.post(path, content=stream([item(0)]), headers=NDJSON | headers)
        assert reply.status_code == status


# ---- from Python ------------------------------------------------------------------------------------


async def test_batches_from_python(adapter: Adapter) -> None:
    specs = [JobSpec("echo", n) for n in range(3)]
    batch = await adapter.schedule_batch(specs, key="monday")
    assert [job.data for job in await adapter.batch_jobs(batch.id)] == [0, 1, 2]
    again = await adapter.schedule_batch(specs, key="monday")
    assert (again.id, again.deduplicated) == (batch.id, True)
    partly = await adapter.schedule_batch([JobSpec("echo", 1), JobSpec("unknown", 1)])
    assert (partly.status, [error["index"] for error in partly.errors]) == ("PARTIAL_FAILED", [1])
    for count in (0, 1001):
        with pytest.raises(InvalidArgumentError):
            await adapter.schedule_batch([JobSpec("echo", None)] * count)

    async def read(place: int, text: str, find: FindPacket) -> JobSpec:
        del find
        return JobSpec("echo", [place, text])

    waiting = await adapter.open_batch(1)
    with pytest.raises(InvalidArgumentError):
        await adapter.add_items(waiting.id, {1: ""}, read)
    with pytest.raises(BatchNotFoundError):
        await adapter.add_items(partly.job_ids[0], {0: ""}, read)
    await adapter.database.fetch("UPDATE {s}.batches SET created_at = now() - interval '2 hours'")
    with pytest.raises(BatchAbortedError):
        await adapter.add_items(waiting.id, {0: ""}, read)
