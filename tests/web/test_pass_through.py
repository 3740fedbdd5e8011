"""What is not ours is handed to the Trigger.dev behind us; here that is another adapter, and servers that misbehave."""

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
import uvicorn
from psycopg import sql
from pydantic import JsonValue
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter import Adapter
from adapter.cli import pass_through_checks
from adapter.cli.verdicts import Verdict
from adapter.domain.errors import ConfigurationError
from adapter.domain.identity import epoch_tag, public_id, run_id_of
from adapter.domain.wait_token import WAITPOINT
from adapter.settings import Settings
from adapter.store import migrate
from adapter.testing.broom import Broom
from adapter.web.app import create_app
from adapter.web.auth import environment_id, make_public_token
from tests.interop.processes import free_port
from tests.kit import eventually
from tests.rig import new_id

OURS, THEIRS = "tr_prod_" + "o" * 24, "tr_prod_" + "t" * 24
UPSTREAM_SCHEMA = "upstream"


@asynccontextmanager
async def listening(app: ASGIApp, port: int) -> AsyncGenerator[None]:
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        try:
            await eventually(lambda: server.started)
            yield
        finally:
            server.should_exit = True


def adapter_with(url: str, *tasks: str, **settings: Any) -> Adapter:
    made = Adapter(Settings.model_validate({"database_url": url, **settings}))

    async def echo(payload: JsonValue) -> JsonValue:
        return payload

    for task in tasks:
        made.task(task)(echo)
    return made


class Both:
    """``near`` hands on to ``far``. The client shows a key that is near's; ``stranger`` one that only far knows."""

    def __init__(self, near: Adapter, far: Adapter, near_url: str, far_url: str) -> None:
        self.near, self.far = near, far
        self.near_url, self.far_url = near_url, far_url
        self.client = httpx.AsyncClient(base_url=near_url, headers={"authorization": f"Bearer {OURS}"})
        self.stranger = httpx.AsyncClient(base_url=near_url, headers={"authorization": f"Bearer {THEIRS}"})

    async def trigger(self, task: str, payload: Any = None, **options: Any) -> str:
        answer = await self.client.post(
            f"/api/v1/tasks/{quote(task, safe='')}/trigger", json={"payload": payload, "options": options}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    async def counted(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        await self.near.pass_through.flush()
        return {
            (each.endpoint, each.task): (each.requests, each.refused, each.failed)
            for each in await self.near.forwarded()
        }


@pytest.fixture(scope="module")
def two_schemas(database_url: str) -> Iterator[str]:
    migrate.upgrade(database_url, schema=UPSTREAM_SCHEMA)
    yield database_url
    with psycopg.connect(database_url) as conn:
        conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(UPSTREAM_SCHEMA)))


@pytest.fixture
async def both(two_schemas: str) -> AsyncIterator[Both]:
    port = free_port()
    far = adapter_with(two_schemas, "there", "there/too", database_schema=UPSTREAM_SCHEMA, api_keys=[THEIRS])
    async with AsyncExitStack() as stack:
        far_url = f"http://127.0.0.1:{port}"
        near = adapter_with(
            two_schemas, "here", api_keys=[OURS], upstream_url=far_url, upstream_keys=[f"{OURS}={THEIRS}"]
        )
        await stack.enter_async_context(far)
        await stack.enter_async_context(near)
        await stack.enter_async_context(listening(create_app(far, owns_adapter=False), port))
        near_port = free_port()
        await stack.enter_async_context(listening(create_app(near, owns_adapter=False), near_port))
        made = Both(near, far, f"http://127.0.0.1:{near_port}", far_url)
        await stack.enter_async_context(made.client)
        await stack.enter_async_context(made.stranger)
        yield made
    broom = Broom(two_schemas, UPSTREAM_SCHEMA)
    broom.sweep()
    broom.close()


async def test_a_task_decides_where_its_run_is_made(both: Both) -> None:
    here, there = await both.trigger("here", 1), await both.trigger("there/too", 2)
    assert [job.type for job in (await both.near.list_jobs()).jobs] == ["here"]
    (far_job,) = (await both.far.list_jobs()).jobs
    assert (far_job.type, far_job.data, run_id_of(far_job.id)) == ("there/too", 2, there)
    # Each is retrieved, canceled and replayed where it is.
    for run, task in ((here, "here"), (there, "there/too")):
        got = await both.client.get(f"/api/v3/runs/{run}")
        assert (got.status_code, got.json()["taskIdentifier"]) == (200, task)
        assert got.headers.get("x-adapter-forwarded") == ("1" if task != "here" else None)
        assert (await both.client.post(f"/api/v2/runs/{run}/cancel")).json() == {"id": run}
        replayed = (await both.client.post(f"/api/v1/runs/{run}/replay")).json()["id"]
        assert (await both.client.get(f"/api/v3/runs/{replayed}")).json()["taskIdentifier"] == task
    assert len((await both.far.list_jobs()).jobs) == 2
    unknown = await both.client.get(f"/api/v3/runs/{run_id_of(new_id())}")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Not found"})
    assert await both.counted() == {
        ("POST /tasks/{task}/trigger", "there/too"): (1, 0, 0),
        ("GET /runs/{run}", ""): (3, 1, 0),
        ("POST /runs/{run}/cancel", ""): (1, 0, 0),
        ("POST /runs/{run}/replay", ""): (1, 0, 0),
    }


async def test_a_key_that_is_none_of_ours_is_upstreams_to_judge_but_opens_nothing_here(both: Both) -> None:
    answer = await both.stranger.post("/api/v1/tasks/there/trigger", json={"payload": 1})
    assert answer.status_code == 200
    got = await both.stranger.get(f"/api/v3/runs/{answer.json()['id']}")
    assert got.json()["payload"] == 1
    # The token that upstream made for the run reads it through us.
    token = {"authorization": f"Bearer {answer.headers['x-trigger-jwt']}"}
    assert (await both.client.get(f"/api/v3/runs/{answer.json()['id']}", headers=token)).status_code == 200
    here = await both.trigger("here")
    for refused in (
        await both.stranger.post("/api/v1/tasks/here/trigger", json={"payload": 1}),
        await both.stranger.get(f"/api/v3/runs/{here}"),
        await both.stranger.post(f"/api/v2/runs/{here}/cancel"),
        await both.stranger.get("/api/admin/cutover/status"),
    ):
        assert (refused.status_code, "x-adapter-forwarded" in refused.headers) == (401, False)
    wrong = await both.client.get("/api/v1/runs", headers={"authorization": "Bearer tr_prod_nobody"})
    assert (wrong.status_code, wrong.headers["x-adapter-forwarded"]) == (401, "1")
    assert len((await both.near.list_jobs()).jobs) == 1


async def test_a_public_token_of_ours_can_do_there_what_it_can_here_and_no_more(both: Both) -> None:
    run, other = await both.trigger("there"), await both.trigger("there")
    now = both.near.clock.now()
    claims = (await both.client.post("/api/v1/auth/jwt/claims")).json()
    assert claims["sub"] == environment_id(OURS)
    token = make_public_token(OURS, [f"read:runs:{run}"], timedelta(hours=1), now=now)
    headers = {"authorization": f"Bearer {token}"}
    assert (await both.client.get(f"/api/v3/runs/{run}", headers=headers)).status_code == 200
    assert (await both.client.get(f"/api/v3/runs/{other}", headers=headers)).status_code == 403
    assert (await both.client.post(f"/api/v2/runs/{run}/cancel", headers=headers)).status_code == 403
    forged = make_public_token("guessed", ["admin"], timedelta(hours=1), now=now)
    refused = await both.client.get(f"/api/v3/runs/{run}", headers={"authorization": f"Bearer {forged}"})
    assert refused.status_code == 401


async def test_a_list_of_runs_is_one_list_of_both_sides_newest_first(both: Both) -> None:
    made: list[str] = []
    for n in range(7):
        made.append(await both.trigger("here" if n % 3 else "there", n, tags=["listed"]))
        # The wire knows milliseconds.
        await both.client.get("/livez")
    made.reverse()
    # What we have submitted there ourselves is shown as our job only.
    await both.far.schedule_job("there", tags=["listed", epoch_tag(new_id(), 1)])
    query: dict[str, Any] = {"filter[tag]": "listed", "page[size]": 2}
    seen: list[list[str]] = []
    previous: list[str | None] = []
    while True:
        answer = await both.client.get("/api/v1/runs", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        seen.append([run["id"] for run in page["data"]])
        previous.append(page["pagination"].get("previous"))
        # New ones neither push anything out nor in.
        await both.trigger("here", tags=["listed"])
        await both.trigger("there", tags=["listed"])
        if "next" not in page["pagination"]:
            break
        query["page[after]"] = page["pagination"]["next"]
    assert [run for page in seen for run in page] == made
    assert [len(page) for page in seen] == [2, 2, 2, 1]
    assert previous[0] is None
    back = await both.client.get("/api/v1/runs", params=query | {"page[before]": previous[3]})
    assert [run["id"] for run in back.json()["data"]] == seen[2]
    assert back.json()["pagination"]["previous"]
    again = await both.client.get(
        "/api/v1/runs",
        params={"page[after]": back.json()["pagination"]["next"], **dict(list(query.items())[:2])},
    )
    assert [run["id"] for run in again.json()["data"]] == seen[3]
    assert (await both.client.get("/api/v1/runs", params={"page[after]": "mine"})).status_code == 400
    assert (await both.client.get("/api/v1/runs", params={"page[size]": "101"})).status_code == 400
    assert (await both.client.get("/api/v1/runs", params={"filter[status]": "NO"})).status_code == 400


async def test_a_large_payload_goes_where_its_run_goes(both: Both) -> None:
    for task, at in (("here", both.near), ("there", both.far)):
        name = f"trigger/packet_{task}/payload.json"
        said = (await both.client.put(f"/api/v2/packets/{quote(name, safe='')}")).json()
        assert said["presignedUrl"].startswith(both.near_url)
        text = json.dumps({"json": {"big": task * 1000}})
        put = await both.client.put(
            said["presignedUrl"], content=text, headers={"content-type": "application/super+json"}
        )
        assert put.status_code == 200
        await both.trigger(task, said["storagePath"], payloadType="application/store")
        (job,) = (await at.list_jobs()).jobs
        assert job.data == {"big": task * 1000}


@pytest.mark.parametrize(
    ("tasks", "status"), [(["there"], None), (["here", "there"], 422)], ids=["theirs", "mixed"]
)
async def test_a_batch_belongs_to_one_side(both: Both, tasks: list[str], status: int | None) -> None:
    answer = await both.client.post("/api/v3/batches", json={"runCount": 2, "taskIdentifiers": tasks})
    if status is None:
        assert answer.headers["x-adapter-forwarded"] == "1"
    else:
        assert (answer.status_code, answer.json()["code"]) == (status, "mixed_places")
        assert "here here, there at Trigger.dev" in answer.json()["error"]


async def test_schedules_of_both_sides_are_numbered_through(both: Both) -> None:
    for n in range(3):
        for task in ("here", "there"):
            made = await both.client.post(
                "/api/v1/schedules",
                json={"task": task, "cron": "0 0 * * *", "deduplicationKey": f"{task} {n}"},
            )
            assert made.status_code == 200, made.text
            assert made.headers.get("x-adapter-forwarded") == ("1" if task == "there" else None)
    seen: list[str] = []
    for page in (1, 2, 3):
        answer = (await both.client.get(f"/api/v1/schedules?perPage=2&page={page}")).json()
        assert answer["pagination"] == {"currentPage": page, "totalPages": 3, "count": 6}
        seen += [each["task"] for each in answer["data"]]
    assert seen == ["here"] * 3 + ["there"] * 3
    beyond = (await both.client.get("/api/v1/schedules?perPage=2&page=4")).json()
    assert beyond["data"] == []
    theirs = (await both.client.get("/api/v1/schedules?perPage=1&page=6")).json()["data"][0]
    turned = await both.client.post(f"/api/v1/schedules/{theirs['id']}/deactivate")
    assert (turned.json()["active"], turned.headers["x-adapter-forwarded"]) == (False, "1")


async def test_queues_tokens_and_keys_are_where_their_tasks_are(both: Both) -> None:
    await both.trigger("here")
    await both.trigger("there")
    for task, by in (("here", None), ("there", "1")):
        found = await both.client.get(f"/api/v1/queues/{task}?type=task")
        assert found.headers.get("x-adapter-forwarded") == by
    ours = (await both.client.get("/api/v1/queues/default?type=custom")).json()
    by_id = await both.client.get(f"/api/v1/queues/{ours['id']}?type=id")
    assert (by_id.json()["name"], "x-adapter-forwarded" in by_id.headers) == ("default", False)
    unknown = await both.client.get("/api/v1/queues/queue_nobody?type=id")
    assert (unknown.status_code, unknown.headers["x-adapter-forwarded"]) == (404, "1")
    token = await both.client.post("/api/v1/waitpoints/tokens", json={"timeout": "1h"})
    assert token.headers["x-adapter-forwarded"] == "1"
    got = await both.client.get(f"/api/v1/waitpoints/tokens/{token.json()['id']}")
    assert (got.json()["status"], got.headers["x-adapter-forwarded"]) == ("WAITING", "1")
    # Whoever completes it by its URL shows no key.
    done = await both.client.post(
        f"/api/v1/waitpoints/tokens/{token.json()['id']}/callback/wrong",
        json={},
        headers={"authorization": ""},
    )
    assert (done.status_code, done.headers["x-adapter-forwarded"]) == (401, "1")
    own = await both.near.create_token()
    shown = await both.client.get(f"/api/v1/waitpoints/tokens/{public_id(WAITPOINT, own.id)}")
    assert (shown.status_code, "x-adapter-forwarded" in shown.headers) == (200, False)
    listed = (await both.client.get("/api/v1/waitpoints/tokens")).json()["data"]
    assert [each["id"] for each in listed] == [public_id(WAITPOINT, own.id), token.json()["id"]]
    here, there = await both.trigger("here"), await both.trigger("there")
    mixed = await both.client.post("/api/v1/bulk-actions", json={"action": "cancel", "runIds": [here, there]})
    assert (mixed.status_code, mixed.json()["code"]) == (422, "mixed_places")
    many = await both.client.post("/api/v1/bulk-actions", json={"action": "cancel", "runIds": [there]})
    assert (many.status_code, many.headers["x-adapter-forwarded"]) == (202, "1")


async def test_without_a_key_of_theirs_everything_of_a_caller_of_ours_stays_here(two_schemas: str) -> None:
    async with both_ends(two_schemas, recorder := Recorder(), upstream_keys=[]) as client:
        assert (await client.post("/api/v1/tasks/there/trigger", json={"payload": 1})).status_code == 200
        listed = await client.get("/api/v1/runs")
        assert (listed.status_code, listed.headers["x-adapter-left-out"]) == (200, "upstream")
        assert (await client.get("/api/v1/projects/proj/envvars/dev")).status_code == 404
        assert recorder.requests == []


async def test_the_doctor_says_what_still_goes_there(two_schemas: str) -> None:
    async with both_ends(two_schemas, Recorder()) as client:
        await client.post("/api/v1/tasks/there/trigger", json={"payload": 1})
    # Closing has written it down.
    near = adapter_with(two_schemas, api_keys=[OURS], upstream_url="http://127.0.0.1:9")
    passing, keys = await pass_through_checks.examine(near)
    assert passing.verdict is Verdict.PASS
    assert passing.finding == (
        "forwarded in the last 7 days: 1, failed: 0; most: 1 POST /tasks/{task}/trigger (there)"
    )
    assert keys.verdict is Verdict.WARN


class Recorder:
    """An upstream that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        self.status = 200
        self.chunks: list[bytes] = [b"{}"]
        self.holds = False
        self.breaks = False
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + "?" + scope["query_string"].decode()
        self.requests.append((scope["method"], target, headers, body))
        if self.holds:
            await receive()
            self.gone.set()
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self.breaks:
            raise RuntimeError("on purpose")
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def both_ends(url: str, upstream: ASGIApp | None, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
    port, near_port = free_port(), free_port()
    given = {"api_keys": [OURS], "upstream_keys": [THEIRS], "upstream_url": f"http://127.0.0.1:{port}/base"}
    near = adapter_with(url, "here", **(given | settings))
    async with AsyncExitStack() as stack:
        if upstream is not None:
            await stack.enter_async_context(listening(upstream, port))
        await stack.enter_async_context(near)
        await stack.enter_async_context(listening(create_app(near, owns_adapter=False), near_port))
        yield await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{near_port}", headers={"authorization": f"Bearer {OURS}"}
            )
        )


async def test_what_leaves_and_what_comes_back(database_url: str) -> None:
    recorder = Recorder()
    recorder.headers += [
        (b"set-cookie", b"a=b"),
        (b"x-ratelimit-reset", b"123"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"1"),
        (b"x-trigger-jwt", b"token"),
    ]
    sent = {
        "cookie": "session=secret",
        "x-forwarded-for": "10.0.0.1",
        "forwarded": "for=10.0.0.1",
        "x-trigger-request-idempotency-key": "k",
        "x-request-id": "r",
        "traceparent": "00-1-2-00",
        "accept-encoding": "br",
    }
    async with both_ends(database_url, recorder) as client:
        answer = await client.post(
            "/api/v1/tasks/a%252Fb%20c/trigger?x=%2F", json={"payload": 1}, headers=sent
        )
    ((method, target, headers, body),) = recorder.requests
    assert (method, target) == ("POST", "/base/api/v1/tasks/a%252Fb%20c/trigger?x=%2F")
    assert json.loads(body) == {"payload": 1}
    assert headers["authorization"] == f"Bearer {THEIRS}"
    assert headers["content-length"] == str(len(body))
    assert not {"cookie", "x-forwarded-for", "forwarded", "transfer-encoding"} & set(headers)
    assert {name: headers[name] for name in sent if name in headers} == {
        name: sent[name]
        for name in ("x-trigger-request-idempotency-key", "x-request-id", "traceparent", "accept-encoding")
    }
    assert OURS not in json.dumps(headers)
    assert (answer.headers["x-trigger-jwt"], answer.headers["x-ratelimit-reset"]) == ("token", "123")
    assert not {"set-cookie", "x-hop"} & set(answer.headers)


async def test_bodies_pass_as_streams_and_in_their_own_encoding(database_url: str) -> None:
    recorder = Recorder()
    recorder.headers.append((b"content-encoding", b"gzip"))
    packed = zlib.compress(b"x", wbits=31)
    recorder.chunks = [packed]

    async def lines() -> AsyncIterator[bytes]:
        for n in range(3):
            yield json.dumps({"index": n, "task": "there"}).encode() + b"\n"

    async with both_ends(database_url, recorder) as client:
        answer = await client.post(
            "/api/v3/batches/batch_feqmkjnbmbaek9zjv17wz/items",
            content=lines(),
            headers={"content-type": "application/x-ndjson"},
        )
    ((_, _, headers, body),) = recorder.requests
    assert [json.loads(line)["index"] for line in body.splitlines()] == [0, 1, 2]
    assert headers["transfer-encoding"] == "chunked"
    assert (answer.headers["content-encoding"], answer.text) == ("gzip", "x")


async def test_events_come_as_they_are_said(database_url: str) -> None:
    recorder, told = Recorder(), asyncio.Event()
    recorder.headers = [(b"content-type", b"text/event-stream")]

    async def said(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": recorder.headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await told.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    async with (
        both_ends(database_url, said) as client,
        client.stream("GET", "/realtime/v1/streams/run_feqmkjnbmbaek9zjv17wz/log") as answer,
    ):
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"data: 1\n\n"
        told.set()
        assert await anext(chunks) == b"data: 2\n\n"


async def test_a_caller_that_leaves_a_long_poll_ends_it_there_too(database_url: str) -> None:
    recorder = Recorder()
    recorder.holds = True
    async with both_ends(database_url, recorder) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(
                "/realtime/v1/runs/run_feqmkjnbmbaek9zjv17wz?live=true", timeout=httpx.Timeout(5, read=0.2)
            )
        await asyncio.wait_for(recorder.gone.wait(), 5)


async def test_an_upstream_that_is_down_or_breaks_off_is_tried_again_by_the_sdk(database_url: str) -> None:
    async with both_ends(database_url, None) as client:
        answer = await client.post("/api/v1/tasks/there/trigger", json={"payload": 1})
        assert (answer.status_code, answer.json()["code"]) == (503, "not_sent")
        assert (await client.get("/api/v1/runs")).status_code == 503
        assert (await client.post("/api/v1/tasks/here/trigger", json={"payload": 1})).status_code == 200

    async def slams(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("before the first byte")

    async with both_ends(database_url, slams) as client:
        assert (await client.get("/api/v3/runs/run_feqmkjnbmbaek9zjv17wz")).status_code in {500, 502}
    recorder = Recorder()
    recorder.breaks, recorder.chunks = True, [b'{"half":']
    async with both_ends(database_url, recorder) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/v3/runs/run_feqmkjnbmbaek9zjv17wz")


async def test_a_redirect_is_the_callers_to_follow_and_dots_lead_nowhere(database_url: str) -> None:
    recorder = Recorder()
    recorder.status = 302
    recorder.headers.append((b"location", b"http://169.254.169.254/"))
    async with both_ends(database_url, recorder) as client:
        answer = await client.get("/api/v3/runs/run_feqmkjnbmbaek9zjv17wz")
        assert (answer.status_code, len(recorder.requests)) == (302, 1)
        assert (await client.get("/api/v3/runs/%2e%2e/x")).status_code == 404
        assert len(recorder.requests) == 1


async def test_a_run_of_a_job_that_we_submitted_is_that_job(database_url: str) -> None:
    recorder = Recorder()
    async with both_ends(database_url, recorder) as client:
        ours = (await client.post("/api/v1/tasks/here/trigger", json={"payload": 1})).json()["id"]
        with psycopg.connect(database_url) as conn:
            conn.execute(
                "INSERT INTO adapter.remote_runs (executor, run_id, job_id, epoch)"
                " SELECT 'trigger', 'run_theirs', id, 1 FROM adapter.worker_jobs_open"
            )
        assert (await client.get("/api/v3/runs/run_theirs")).json()["id"] == ours
        assert (await client.post("/api/v2/runs/run_theirs/cancel")).json() == {"id": ours}
        assert (await client.get(f"/api/v3/runs/{ours}")).json()["status"] == "CANCELED"
        assert recorder.requests == []


async def test_what_was_passed_on_can_be_seen_and_survives(both: Both) -> None:
    await both.trigger("there")
    refused = {"payload": 1, "options": {"machine": "bogus"}}
    await both.client.post("/api/v1/tasks/nobody-has-it/trigger", json=refused)
    await both.near.pass_through.flush()
    shown = (await both.client.get("/api/admin/pass-through")).json()
    assert (shown["on"], shown["days"]) == (True, 7)
    assert {
        (each["endpoint"], each["task"], each["requests"], each["refused"]) for each in shown["forwarded"]
    } == {
        ("POST /tasks/{task}/trigger", "there", 1, 0),
        # A name that upstream did not take is not kept.
        ("POST /tasks/{task}/trigger", "", 1, 1),
    }
    assert (await both.stranger.get("/api/admin/pass-through")).status_code == 401


@pytest.mark.parametrize("keys", [["a=b=c", "=x"], ["one", "two"]])
async def test_upstreams_keys_that_cannot_be_read_stop_the_boot(database_url: str, keys: list[str]) -> None:
    near = adapter_with(database_url, upstream_url="https://api.trigger.dev", upstream_keys=keys)
    with pytest.raises(ConfigurationError):
        await near.open()
