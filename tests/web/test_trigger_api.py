"""The Trigger.dev-compatible API, as its SDK sends it (its API contract, 2, 4, 5, 7, 12, 20)."""

import json
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from adapter import Adapter
from adapter.domain.identity import job_id_of, run_id_of
from adapter.domain.job import Job
from adapter.web.auth import AUDIENCE, ISSUER, make_public_token
from adapter.web.trigger_api.packets import sign
from tests.web.conftest import KEY

HASH = "5e78863ed1ffb9fc66b1d61634b126bf8eb20267e7996297eeeb9b19c8c0f732"
#: Its types name classes of a package that is not needed here.
_jwt: Any = jwt


async def trigger(
    client: httpx.AsyncClient, payload: Any = None, task: str = "echo", **options: Any
) -> httpx.Response:
    body = {"payload": payload, "options": options}
    return await client.post(f"/api/v1/tasks/{task}/trigger", content=json.dumps(body).encode())


async def triggered(adapter: Adapter, client: httpx.AsyncClient, payload: Any = None, **options: Any) -> Job:
    reply = await trigger(client, payload, **options)
    assert reply.status_code == 200, reply.text
    return await job_of(adapter, reply)


async def job_of(adapter: Adapter, reply: httpx.Response) -> Job:
    job_id = job_id_of(reply.json()["id"])
    assert job_id is not None
    job = await adapter.get_job(job_id)
    assert job is not None
    return job


def as_token(adapter: Adapter, *scopes: str) -> dict[str, str]:
    token = make_public_token(KEY, scopes, timedelta(hours=1), now=adapter.clock.now())
    return {"authorization": f"Bearer {token}"}


# ---- trigger ----------------------------------------------------------------------------------------


async def test_a_trigger_answers_an_id_and_a_token_for_this_run_alone(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    reply = await trigger(
        client, '{"json":{"hello":"world","n":1}}', payloadType="application/super+json", payloadSize=32
    )
    run_id = reply.json()["id"]
    assert reply.json() == {"id": run_id, "isCached": False}
    claims: dict[str, Any] = _jwt.decode(
        reply.headers["x-trigger-jwt"],
        KEY.encode() + b"\0",
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
    )
    assert claims["scopes"] == [f"read:runs:{run_id}"]
    assert (await job_of(adapter, reply)).data == {"hello": "world", "n": 1}


@pytest.mark.parametrize(
    ("payload", "payload_type", "data"),
    [
        ({"a": 1}, None, {"a": 1}),
        ('{"a":1}', "application/json", '{"a":1}'),
        (None, "application/json", None),
        ("plain string", "text/plain", "plain string"),
        ('{"json":null}', "application/super+json", None),
        ('{"json":42}', "application/super+json", 42),
        (
            '{"json":{"d":"1970-01-01T00:00:00.000Z","b":"10","u":null},"meta":{"values":{"d":["Date"],"b":["bigint"],"u":["undefined"]}}}',
            "application/super+json",
            {"d": "1970-01-01T00:00:00.000Z", "b": 10},
        ),
        ({"not": "text"}, "application/super+json", None),
    ],
)
async def test_payload_types(
    adapter: Adapter, client: httpx.AsyncClient, payload: Any, payload_type: str | None, data: Any
) -> None:
    options = {} if payload_type is None else {"payloadType": payload_type}
    assert (await triggered(adapter, client, payload, **options)).data == data


async def test_the_options_reach_the_job(adapter: Adapter, client: httpx.AsyncClient) -> None:
    job = await triggered(
        adapter,
        client,
        1,
        queue={"name": "my-queue"},
        concurrencyKey="tenant-1",
        idempotencyKey=HASH,
        idempotencyKeyTTL="1h",
        idempotencyKeyOptions={"key": "my-key", "scope": "global"},
        delay="10m",
        ttl="1h",
        tags=["b:1", "a"],
        maxAttempts=7,
        metadata={"k": "v"},
        maxDuration=60,
        machine="small-2x",
        priority=10,
        region="eu-central-1",
    )
    assert (job.queue, job.concurrency_key, job.idempotency_key) == ("my-queue", "tenant-1", HASH)
    assert (job.status, job.max_attempts, job.priority) == ("DELAYED", 7, 10)
    assert (job.metadata, job.max_duration, set(job.tags)) == (
        {"k": "v"},
        timedelta(seconds=60),
        {"a", "b:1"},
    )
    run = (await client.get(f"/api/v3/runs/{run_id_of(job.id)}")).json()
    assert (run["idempotencyKey"], run["ttl"], run["status"]) == ("my-key", "1h", "DELAYED")
    assert "delayedUntil" in run


async def test_an_idempotency_key_answers_the_first_run(adapter: Adapter, client: httpx.AsyncClient) -> None:
    first = (await trigger(client, 1, idempotencyKey=HASH)).json()
    assert (await trigger(client, 2, idempotencyKey=HASH)).json() == {"id": first["id"], "isCached": True}
    by_header = await client.post(
        "/api/v1/tasks/echo/trigger", json={"payload": 3}, headers={"idempotency-key": HASH}
    )
    assert by_header.json() == {"id": first["id"], "isCached": True}
    assert (await trigger(client, 1, task="ns%2Ftask%20with%20space", idempotencyKey=HASH)).json()[
        "id"
    ] != first["id"]


async def test_a_repeated_http_call_answers_the_first_run_and_is_not_cached(
    client: httpx.AsyncClient,
) -> None:
    key = {"x-trigger-request-idempotency-key": "3884146a-cd6e-43a8-a888-7e69b48a9a7d"}
    replies = [
        await client.post("/api/v1/tasks/echo/trigger", json={"payload": 1}, headers=key) for _ in range(2)
    ]
    assert replies[0].json() == replies[1].json()
    assert replies[1].json()["isCached"] is False


async def test_a_task_s_id_may_hold_slashes_and_spaces(adapter: Adapter, client: httpx.AsyncClient) -> None:
    reply = await trigger(client, 1, task="ns%2Ftask%20with%20space")
    assert (await job_of(adapter, reply)).type == "ns/task with space"


@pytest.mark.parametrize(
    ("task", "status", "words"),
    [
        ("off", 422, "Task 'off' is disabled."),
        ("", 400, "Params Error"),
        ("a%00b", 400, "Params Error"),
        ("x" * 513, 400, "Params Error"),
    ],
)
async def test_a_task_that_cannot_be_scheduled(
    client: httpx.AsyncClient, task: str, status: int, words: str
) -> None:
    reply = await trigger(client, 1, task=task)
    assert reply.status_code == status
    assert reply.json()["error"].startswith(words)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "Request body is empty"),
        (b"{", 400, "Invalid JSON"),
        (b"[]", 400, "Invalid JSON"),
        (b'{"payload":NaN}', 400, "Invalid JSON"),
        (b'{"payload":"\\u0000"}', 400, "Invalid JSON"),
        (b'{"options":7}', 400, "Validation error: "),
        (b'{"options":{"machine":"bogus"}}', 400, "Validation error: "),
        (b'{"payload":"{","options":{"payloadType":"application/super+json"}}', 400, "The packet is no "),
        (b'{"payload":"x","options":{"payloadType":"text/html"}}', 400, "A packet of type "),
        (
            b'{"payload":"nowhere","options":{"payloadType":"application/store"}}',
            422,
            "There is no stored payload",
        ),
        (
            b'{"payload":"{\\"json\\":\\"\\\\u0000\\"}","options":{"payloadType":"application/super+json"}}',
            422,
            "The payload of 'echo' is not valid",
        ),
        (b'{"payload":1e999}', 400, "Invalid JSON"),
        (
            b'{"options":{"tags":["0","1","2","3","4","5","6","7","8","9","10"]}}',
            422,
            "Runs can only have 10 tags, you're trying to set 11.",
        ),
        (b'{"payload":"' + b"x" * 3 * 1024 * 1024 + b'"}', 413, "Request body too large"),
    ],
    ids=range(14),
)
async def test_what_a_trigger_refuses(
    client: httpx.AsyncClient, content: bytes, status: int, words: str
) -> None:
    reply = await client.post("/api/v1/tasks/echo/trigger", content=content)
    assert reply.status_code == status
    assert reply.json()["error"].startswith(words)
    assert (await client.get("/api/v1/runs")).json() == {"data": [], "pagination": {}}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"authorization": ""}, {"error": "Invalid or Missing API key"}),
        ({"authorization": "Bearer tr_prod_x"}, {"error": "Invalid API key"}),
        ({"authorization": "Bearer a.b.c"}, {"error": "Public Access Token is invalid"}),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/tasks/echo/trigger"),
        ("GET", "/api/v3/runs/run_1"),
        ("GET", "/api/v1/runs"),
        ("POST", "/api/v2/runs/run_1/cancel"),
        ("POST", "/api/v1/runs/run_1/cancel"),
        ("POST", "/api/v1/runs/run_1/replay"),
        ("PUT", "/api/v2/packets/a"),
        ("GET", "/api/v1/packets/a"),
        ("POST", "/api/v1/auth/jwt/claims"),
    ],
)
async def test_every_route_asks_who_calls_before_anything_else(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: dict[str, str]
) -> None:
    reply = await client.request(method, path, headers=headers, content=b"{ no json")
    assert (reply.status_code, reply.json()) == (401, body)


async def test_a_token_triggers_only_what_it_says(adapter: Adapter, client: httpx.AsyncClient) -> None:
    allowed = as_token(adapter, "trigger:tasks:echo")
    path = "/api/v1/tasks/{}/trigger"
    assert (await client.post(path.format("echo"), json={"payload": 1}, headers=allowed)).status_code == 200
    refused = await client.post(path.format("ns%2Ftask%20with%20space"), json={"payload": 1}, headers=allowed)
    assert (refused.status_code, refused.json()) == (
        403,
        {"error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization"},
    )


# ---- large payloads ---------------------------------------------------------------------------------


async def test_a_large_payload_takes_the_way_of_the_sdk(adapter: Adapter, client: httpx.AsyncClient) -> None:
    name = "trigger/packet_hzxfnbgr43m29duvx444t/payload.json"
    asked = await client.put(
        f"/api/v2/packets/{name.replace('/', '%2F')}", headers={"content-type": "application/json"}
    )
    assert asked.status_code == 200
    assert asked.json()["storagePath"] == name
    content = json.dumps({"json": {"big": "x" * 200_000}}).encode()
    stranger = {"authorization": "", "content-type": "application/super+json"}
    put = await client.put(asked.json()["presignedUrl"], content=content, headers=stranger)
    assert put.status_code == 200
    job = await triggered(adapter, client, name, payloadType="application/store", payloadSize=len(content))
    assert job.data == {"big": "x" * 200_000}
    for version in ("v1", "v2"):
        url = (await client.get(f"/api/{version}/packets/{name.replace('/', '%2F')}")).json()["presignedUrl"]
        read = await client.get(url, headers={"authorization": ""})
        assert (read.status_code, read.content) == (200, content)
        assert read.headers["content-type"] == "application/super+json"
        assert read.headers["content-disposition"] == "attachment"


async def test_a_url_is_good_for_one_verb_one_name_and_a_while(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    url = httpx.URL((await client.put("/api/v2/packets/a%2Fb")).json()["presignedUrl"])
    changed = [
        url.copy_set_param("signature", "0" * 64),
        url.copy_set_param("signature", "é"),
        url.copy_set_param("expires", "99999999999"),
        url.copy_set_param("expires", "1"),
        url.copy_set_param("expires", "²"),
        url.copy_remove_param("signature"),
        httpx.URL(str(url).replace("a%2Fb", "a%2Fc")),
    ]
    for each in changed:
        reply = await client.put(each, content=b"{}", headers={"content-type": "application/json"})
        assert (reply.status_code, list(reply.json())) == (403, ["error"])
    assert (await client.get(url)).status_code == 403
    get = (await client.get("/api/v2/packets/a%2Fb")).json()["presignedUrl"]
    assert (await client.get(get)).status_code == 404


async def test_a_url_ends(adapter: Adapter, client: httpx.AsyncClient) -> None:
    now = int(adapter.clock.now().timestamp())
    for expires, status in ((now - 1, 403), (now + 60, 200)):
        query = {"expires": str(expires), "signature": sign(KEY, "PUT", "a/b", expires).decode()}
        headers = {"content-type": "application/json", "authorization": ""}
        reply = await client.put("/api/v2/packet-store/a%2Fb", params=query, content=b"{}", headers=headers)
        assert reply.status_code == status


async def test_a_packet_is_of_a_known_type_and_size_and_names_are_text(client: httpx.AsyncClient) -> None:
    url = (await client.put("/api/v2/packets/a")).json()["presignedUrl"]
    assert (await client.put(url, content=b"x", headers={"content-type": "text/html"})).status_code == 415
    large = b"x" * (10 * 1024 * 1024 + 1)
    assert (await client.put(url, content=large, headers={"content-type": "text/plain"})).status_code == 413
    for name in ("", "a%00", "a%09b", "x" * 513):
        assert (await client.put(f"/api/v2/packets/{name}")).status_code == 400


async def test_packets_need_a_root_key(adapter: Adapter, client: httpx.AsyncClient) -> None:
    assert (await client.put("/api/v2/packets/a", headers=as_token(adapter, "admin"))).status_code == 403


# ---- runs -------------------------------------------------------------------------------------------


async def test_retrieve(adapter: Adapter, client: httpx.AsyncClient) -> None:
    job = await triggered(adapter, client, {"a": 1}, tags="single")
    run = (await client.get(f"/api/v3/runs/{run_id_of(job.id)}")).json()
    assert (run["id"], run["status"], run["taskIdentifier"]) == (run_id_of(job.id), "QUEUED", "echo")
    assert (run["payload"], run["tags"], run["isQueued"]) == ({"a": 1}, ["single"], True)


@pytest.mark.parametrize("run_id", ["run_nope", "run_" + "1" * 26, "run_" + "z" * 26, "x", "run_%00"])
async def test_an_unknown_run_is_no_reason_to_retry(client: httpx.AsyncClient, run_id: str) -> None:
    reply = await client.get(f"/api/v3/runs/{run_id}")
    assert (reply.status_code, reply.json()) == (404, {"error": "Not found"})
    assert "x-should-retry" not in reply.headers
    for verb in ("v2/runs/{}/cancel", "v1/runs/{}/cancel", "v1/runs/{}/replay"):
        reply = await client.post(f"/api/{verb.format(run_id)}")
        assert (reply.status_code, reply.json()) == (404, {"error": "Resource not found"})


async def test_who_may_read_a_run(adapter: Adapter, client: httpx.AsyncClient) -> None:
    run_id = run_id_of((await triggered(adapter, client, 1, tags=["vip"])).id)
    for scope, status in [
        (f"read:runs:{run_id}", 200),
        ("read:runs", 200),
        ("read:tags:vip", 200),
        ("read:tasks:echo", 200),
        ("read:tags:other", 403),
        ("trigger:tasks:echo", 403),
    ]:
        reply = await client.get(f"/api/v3/runs/{run_id}", headers=as_token(adapter, scope))
        assert reply.status_code == status, scope
    # A token of one run does not learn whether another is there.
    other = as_token(adapter, f"read:runs:{run_id}")
    assert (await client.get(f"/api/v3/runs/run_{'1' * 26}", headers=other)).status_code == 403


async def ids(client: httpx.AsyncClient, **params: str) -> list[str]:
    reply = await client.get("/api/v1/runs", params=params)
    assert reply.status_code == 200, reply.text
    return [run["id"] for run in reply.json()["data"]]


async def test_list_filters(adapter: Adapter, client: httpx.AsyncClient) -> None:
    plain = run_id_of((await triggered(adapter, client, 1, tags=["a"])).id)
    tagged = run_id_of((await triggered(adapter, client, 1, tags=["b", "c"], queue={"name": "q/1"})).id)
    later = run_id_of((await triggered(adapter, client, 1, task="ns%2Ftask%20with%20space", delay="1h")).id)
    assert await ids(client) == [later, tagged, plain]
    for params, found in [
        ({"filter[status]": "QUEUED"}, [tagged, plain]),
        ({"filter[status]": "DELAYED,COMPLETED"}, [later]),
        ({"filter[taskIdentifier]": "ns/task with space"}, [later]),
        ({"filter[tag]": "a,c"}, [tagged, plain]),
        ({"filter[tag]": "a,c", "filter[queue]": "q/1"}, [tagged]),
        ({"filter[createdAt][from]": str(int((adapter.clock.now().timestamp() + 3600) * 1000))}, []),
        ({"filter[createdAt][to]": "0"}, []),
        ({"filter[createdAt][period]": "1d"}, [later, tagged, plain]),
        ({"filter[bulkAction]": "bulk_1"}, []),
    ]:
        assert await ids(client, **params) == found, params
    (item, *_) = (await client.get("/api/v1/runs")).json()["data"]
    assert item["env"]["name"] == "prod"
    assert "payload" not in item


async def test_pages_end_and_before_wins(adapter: Adapter, client: httpx.AsyncClient) -> None:
    made = [run_id_of((await triggered(adapter, client, number)).id) for number in range(5)][::-1]

    async def page(**params: str) -> dict[str, Any]:
        return (await client.get("/api/v1/runs", params={"page[size]": "2"} | params)).json()

    first = await page()
    second = await page(**{"page[after]": first["pagination"]["next"]})
    third = await page(**{"page[after]": second["pagination"]["next"]})
    assert [run["id"] for shown in (first, second, third) for run in shown["data"]] == made
    assert "previous" not in first["pagination"]
    assert "next" not in third["pagination"]
    # The SDK sends both when it turns around.
    turned = {"page[before]": second["pagination"]["previous"], "page[after]": first["pagination"]["next"]}
    assert (await page(**turned))["data"] == first["data"]


@pytest.mark.parametrize(
    "params",
    [{"filter[status]": "DONE"}, {"page[size]": "101"}, {"page[size]": "0"}, {"filter[tag]": "\x00"}],
)
async def test_a_query_that_cannot_be_read(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    reply = await client.get("/api/v1/runs", params=params)
    assert (reply.status_code, reply.json()["error"]) == (400, "Query Error")


@pytest.mark.parametrize("cursor", ["x", "é", "AAAA", "MjAyNnx4"])
async def test_a_cursor_that_is_none_of_ours(client: httpx.AsyncClient, cursor: str) -> None:
    for name in ("page[after]", "page[before]"):
        reply = await client.get("/api/v1/runs", params={name: cursor})
        assert (reply.status_code, reply.json()["error"]) == (400, "Query Error")


async def test_a_token_lists_only_its_tags_or_tasks(adapter: Adapter, client: httpx.AsyncClient) -> None:
    async def status(scope: str, **params: str) -> int:
        return (await client.get("/api/v1/runs", params=params, headers=as_token(adapter, scope))).status_code

    assert await status("read:runs") == 200
    assert await status("read:tags:a") == 403
    assert await status("read:tags:a", **{"filter[tag]": "a"}) == 200
    assert await status("read:tags:a", **{"filter[tag]": "a,b"}) == 403
    assert await status("read:tasks:echo", **{"filter[taskIdentifier]": "echo"}) == 200
    assert await status("read:runs:run_1") == 403


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_cancel_is_the_same_twice(adapter: Adapter, client: httpx.AsyncClient, version: str) -> None:
    job = await triggered(adapter, client, 1)
    run_id = run_id_of(job.id)
    for _ in range(2):
        reply = await client.post(
            f"/api/{version}/runs/{run_id}/cancel", headers={"content-type": "application/json"}
        )
        assert (reply.status_code, reply.json()) == (200, {"id": run_id})
    run = (await client.get(f"/api/v3/runs/{run_id}")).json()
    assert (run["status"], run["isCancelled"]) == ("CANCELED", True)


async def test_a_token_that_reads_does_not_cancel(adapter: Adapter, client: httpx.AsyncClient) -> None:
    run_id = run_id_of((await triggered(adapter, client, 1)).id)
    path = f"/api/v2/runs/{run_id}/cancel"
    assert (await client.post(path, headers=as_token(adapter, "read:runs"))).status_code == 403
    assert (await client.post(path, headers=as_token(adapter, f"write:runs:{run_id}"))).status_code == 200


async def test_replay_is_a_new_run_like_the_old_one(adapter: Adapter, client: httpx.AsyncClient) -> None:
    old = await triggered(
        adapter, client, {"a": 1}, tags=["t"], queue={"name": "q"}, idempotencyKey=HASH, delay="1h"
    )
    reply = await client.post(f"/api/v1/runs/{run_id_of(old.id)}/replay")
    new = await job_of(adapter, reply)
    assert new.id != old.id
    assert (new.data, new.tags, new.queue, new.type) == (old.data, old.tags, old.queue, old.type)
    assert (new.idempotency_key, new.due, new.status) == (None, None, "QUEUED")


async def test_replay_with_overrides(adapter: Adapter, client: httpx.AsyncClient) -> None:
    old = await triggered(adapter, client, {"a": 1}, tags=["t"])
    body = {
        "payload": '{"json":{"new":true}}',
        "payloadType": "application/super+json",
        "tags": ["r"],
        "delay": "1m",
        "queue": "other",
        "maxAttempts": 2,
    }
    new = await job_of(adapter, await client.post(f"/api/v1/runs/{run_id_of(old.id)}/replay", json=body))
    assert (new.data, new.tags, new.queue, new.max_attempts) == ({"new": True}, ("r",), "other", 2)
    assert new.status == "DELAYED"
    refused = await client.post(f"/api/v1/runs/{run_id_of(old.id)}/replay", json={"new": 1})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("Validation error: ")


# ---- the rest ---------------------------------------------------------------------------------------


async def test_claims_for_tokens_the_sdk_signs(adapter: Adapter, client: httpx.AsyncClient) -> None:
    reply = await client.post("/api/v1/auth/jwt/claims")
    assert reply.json()["pub"] is True
    assert reply.json()["sub"].startswith("env_")
    assert (
        await client.post("/api/v1/auth/jwt/claims", headers=as_token(adapter, "admin"))
    ).status_code == 403


async def test_time_zones_need_no_key(client: httpx.AsyncClient) -> None:
    names = (await client.get("/api/v1/timezones", headers={"authorization": ""})).json()["timezones"]
    assert names[0] == "UTC"
    assert "Europe/Berlin" in names
    names = (await client.get("/api/v1/timezones?excludeUtc=true")).json()["timezones"]
    assert "UTC" not in names


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("GET", "/api/v3/runs/", 404),
        ("POST", "/api/v1/runs", 405),
        ("DELETE", "/api/v3/runs/run_1", 405),
        ("GET", "/api/v1/tasks/echo/trigger", 405),
        ("GET", "/api/trigger/webhook", 405),
        ("POST", "/api/v2/packets/a", 405),
    ],
)
async def test_every_other_answer_is_an_error_body(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    reply = await client.request(method, path)
    assert reply.status_code == status
    assert isinstance(reply.json()["error"], str)
    assert ("allow" in reply.headers) is (status == 405)


async def test_it_is_ready_and_alive(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).json() == {"status": "ok"}
