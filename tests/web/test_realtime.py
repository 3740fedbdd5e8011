"""Feeds over the Electric shape protocol, as Trigger.dev's client asks for them (its API contract, 3.2 and 14)."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import httpx
import pytest
from pydantic import SecretStr

from adapter import Adapter
from adapter.domain.identity import run_id_of
from adapter.domain.job import Job, JobStatus
from adapter.web.app import create_app
from adapter.web.auth import make_public_token
from adapter.web.trigger_api import realtime
from adapter.web.trigger_api.shapes import run_row
from adapter.web.trigger_api.wire import BATCH, public_id
from tests.kit import eventually
from tests.rig import a_running_job, new_id, rigged
from tests.web.conftest import KEY

LATER = timedelta(hours=1)
UP_TO_DATE = {"headers": {"control": "up-to-date"}}


@pytest.fixture
async def job(adapter: Adapter) -> Job:
    return (await adapter.schedule_job("echo", {"n": 1}, delay=LATER, tags=["a", "b"], metadata={"k": 1})).job


def path_of(job: Job) -> str:
    return f"/realtime/v1/runs/{run_id_of(job.id)}"


async def ask(client: httpx.AsyncClient, path: str, **params: str) -> httpx.Response:
    return await client.get(path, params={"log": "full", "offset": "-1"} | params)


async def go_on(
    client: httpx.AsyncClient, path: str, before: httpx.Response, *, live: bool = True, **params: str
) -> httpx.Response:
    params |= {"handle": before.headers["electric-handle"], "offset": before.headers["electric-offset"]}
    return await ask(client, path, **params | ({"live": "true", "cursor": "1"} if live else {}))


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    *changes, last = answer.json()
    assert last == UP_TO_DATE
    return [change["value"] for change in changes]


def operations(answer: httpx.Response) -> list[str]:
    return [message["headers"].get("operation") for message in answer.json()[:-1]]


async def held(adapter: Adapter) -> None:
    """Until a request waits."""
    await eventually(lambda: any(feed.holders for feed in adapter.hub._feeds.values()))


async def test_a_snapshot_has_the_whole_row_and_what_the_client_cannot_do_without(
    client: httpx.AsyncClient, job: Job
) -> None:
    answer = await ask(client, path_of(job))
    headers = answer.headers
    assert (answer.status_code, headers["content-type"]) == (200, "application/json")
    assert headers["electric-schema"] == "{}"
    assert headers["electric-offset"].startswith(f"{int(job.updated_at.timestamp() * 1000)}_")
    assert {"electric-handle", "electric-cursor", "electric-up-to-date"} <= set(headers)
    assert headers["cache-control"] == "no-store"
    (row,) = rows(answer)
    assert operations(answer) == ["insert"]
    assert (row["id"], row["friendlyId"]) == (str(job.id), run_id_of(job.id))
    assert (row["status"], row["taskIdentifier"], row["runTags"]) == ("DELAYED", "echo", ["a", "b"])
    assert (row["payload"], row["payloadType"]) == ('{"n":1}', "application/json")
    assert (row["metadata"], row["output"], row["completedAt"], row["error"]) == ('{"k":1}', None, None, None)
    for name in ("createdAt", "updatedAt", "delayUntil"):
        assert datetime.fromisoformat(row[name]).tzinfo is None, "the client appends a Z"
        assert len(row[name]) == len("2026-11-22T10:01:52.765")


async def test_a_live_request_is_held_until_something_has_changed(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    first = await ask(client, path_of(job))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(go_on(client, path_of(job), first))
        await held(adapter)
        assert not waiting.done()
        await adapter.cancel_job(job.id)
        answer = await waiting
    (row,) = rows(answer)
    assert (row["status"], operations(answer)) == ("CANCELED", ["update"])
    assert row["completedAt"] is not None
    assert row["error"]["type"] == "BUILT_IN_ERROR"
    assert answer.headers["electric-offset"] != first.headers["electric-offset"]
    assert answer.headers["electric-handle"] == first.headers["electric-handle"]


async def test_a_live_request_that_has_missed_something_is_answered_at_once(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    first = await ask(client, path_of(job))
    await adapter.cancel_job(job.id)
    await adapter.hub.look()
    assert [row["status"] for row in rows(await go_on(client, path_of(job), first))] == ["CANCELED"]
    # As after a restart, or from another process.
    adapter.hub._feeds.clear()
    assert [row["status"] for row in rows(await go_on(client, path_of(job), first))] == ["CANCELED"]


async def test_a_held_request_ends_with_nothing_new(client: httpx.AsyncClient, job: Job) -> None:
    first = await ask(client, path_of(job))
    with mock.patch.object(realtime, "HOLD_S", 0.01):
        again = await go_on(client, path_of(job), first)
    assert rows(again) == rows(await go_on(client, path_of(job), first, live=False)) == []
    assert again.headers["electric-offset"] == first.headers["electric-offset"]


async def test_a_process_that_stops_answers_what_it_holds(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    first = await ask(client, path_of(job))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(go_on(client, path_of(job), first))
        await held(adapter)
        adapter.hub.close()
        assert rows(await waiting) == []


async def test_a_handle_of_something_else_begins_anew(client: httpx.AsyncClient, job: Job) -> None:
    first = await ask(client, path_of(job))
    offset, handle = first.headers["electric-offset"], first.headers["electric-handle"]
    for other in ("shape-df27cff1", "0" * 16 + "-0", ""):
        answer = await ask(client, path_of(job), handle=other, offset=offset, live="true")
        assert (answer.status_code, answer.json()) == (409, [{"headers": {"control": "must-refetch"}}])
        assert answer.headers["electric-handle"] == handle
    skipping = await go_on(client, path_of(job), first, skipColumns="payload")
    assert skipping.status_code == 409
    again = await ask(client, path_of(job), handle=skipping.headers["electric-handle"], skipColumns="payload")
    assert again.status_code == 200
    assert "payload" not in rows(again)[0]


@pytest.mark.parametrize("offset", ["now", "-2", "1", "1_x", "1_1_1", "", "9" * 40 + "_1"])
async def test_an_offset_that_is_none(client: httpx.AsyncClient, job: Job, offset: str) -> None:
    assert (await ask(client, path_of(job), offset=offset)).status_code == 400


async def test_columns_can_be_skipped_but_for_those_the_client_needs(
    client: httpx.AsyncClient, job: Job
) -> None:
    skipped = "payload,output,metadata,status,updatedAt,id,friendlyId,createdAt,taskIdentifier,unheard-of"
    (row,) = rows(await ask(client, path_of(job), skipColumns=skipped))
    assert not {"payload", "output", "metadata"} & set(row)
    assert {"status", "updatedAt", "id", "friendlyId", "createdAt", "taskIdentifier", "runTags"} <= set(row)


async def test_tags_feed_what_is_there_and_what_comes(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    path = "/realtime/v1/runs"
    first = await ask(client, path, tags="b,a", createdAt="1h")
    assert [row["id"] for row in rows(first)] == [str(job.id)]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(go_on(client, path, first, tags="a,b", createdAt="1h"))
        await held(adapter)
        await adapter.schedule_job("echo", 1, tags=["a"])
        later = (await adapter.schedule_job("echo", 2, tags=["b", "c", "a"])).job
        second = await waiting
    assert ([row["id"] for row in rows(second)], operations(second)) == ([str(later.id)], ["insert"])
    await adapter.cancel_job(job.id)
    third = await go_on(client, path, second, tags="a,b", createdAt="1h")
    assert ([row["id"] for row in rows(third)], operations(third)) == ([str(job.id)], ["update"])
    nothing = await ask(client, path, tags="nobody-has-it")
    assert (rows(nothing), nothing.headers["electric-offset"]) == ([], "0_0")
    assert (await go_on(client, path, first, tags="a,c", createdAt="1h")).status_code == 409


async def test_a_window_stays_where_it_was_when_it_was_asked_for(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    path = "/realtime/v1/runs"
    first = await ask(client, path, tags="a", createdAt="1h")
    later = datetime.now(UTC) + timedelta(hours=3)  # noqa: TID251, RUF100 - beside the database's time
    with mock.patch.object(type(adapter.clock), "now", return_value=later):
        assert rows(await ask(client, path, tags="a", createdAt="1h")) == []
        again = await go_on(client, path, first, live=False, tags="a", createdAt="1h")
    assert again.headers["electric-offset"] == first.headers["electric-offset"]
    assert str(job.id) in first.text


@pytest.mark.parametrize(
    "params",
    [{}, {"tags": ""}, {"tags": ","}, {"tags": ",".join("abcdefghijk")}, {"tags": "a", "createdAt": "soon"}],
)
async def test_tags_that_cannot_be_fed(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    answer = await ask(client, "/realtime/v1/runs", **params)
    assert (answer.status_code, answer.json()["error"]) == (400, "Query Error")


async def test_a_batch_is_fed(adapter: Adapter, client: httpx.AsyncClient, job: Job) -> None:
    batch_id = new_id()
    await adapter.database.fetch(
        "UPDATE {s}.worker_jobs_open SET batch_id = %(batch)s WHERE id = %(id)s",
        {"batch": batch_id, "id": job.id},
    )
    path = f"/realtime/v1/batches/{public_id(BATCH, batch_id)}"
    first = await ask(client, path)
    assert [row["friendlyId"] for row in rows(first)] == [run_id_of(job.id)]
    await adapter.cancel_job(job.id)
    assert [row["status"] for row in rows(await go_on(client, path, first))] == ["CANCELED"]


async def test_what_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    for path in (
        f"runs/{run_id_of(new_id())}",
        "runs/run_x",
        f"batches/{public_id(BATCH, new_id())}",
        "batches/batch_x",
        "streams/run_x/text",
    ):
        answer = await ask(client, f"/realtime/v1/{path}")
        assert (answer.status_code, answer.json()) == (404, {"error": "Not found"}), path


async def test_a_token_is_fed_what_its_scopes_name(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    batch = public_id(BATCH, new_id())
    allowed = {
        path_of(job): [
            f"read:runs:{run_id_of(job.id)}",
            "read:runs",
            "read:tags:b",
            "read:tasks:echo",
            "admin",
        ],
        "/realtime/v1/runs?tags=a,b": ["read:tags:a", "read:tags:b", "read:tags", "read:runs", "read:all"],
        f"/realtime/v1/batches/{batch}": [f"read:batch:{batch}", "read:batch", "read:runs"],
    }
    refused = [
        "read:tags:c",
        "write:runs",
        "read:runs:run_other",
        "read:batch:batch_other",
        "trigger:tasks:echo",
    ]

    async def status(path: str, scope: str) -> int:
        token = make_public_token(KEY, [scope], timedelta(hours=1), now=adapter.clock.now())
        return (await client.get(path, headers={"authorization": f"Bearer {token}"})).status_code

    for path, scopes in allowed.items():
        good = 404 if "batches" in path else 200
        assert {scope: await status(path, scope) for scope in scopes} == dict.fromkeys(scopes, good)
        assert {scope: await status(path, scope) for scope in refused} == dict.fromkeys(refused, 403)
    assert (
        await client.get(path_of(job), headers={"authorization": "Bearer tr_dev_wrong"})
    ).status_code == 401


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_has_a_word_the_client_knows(status: JobStatus) -> None:
    known = {
        "PENDING",
        "DELAYED",
        "EXECUTING",
        "WAITING_TO_RESUME",
        "COMPLETED_SUCCESSFULLY",
        "COMPLETED_WITH_ERRORS",
        "CANCELED",
        "CRASHED",
        "SYSTEM_FAILURE",
        "EXPIRED",
        "TIMED_OUT",
    }
    at = datetime(2026, 11, 26, 9, tzinfo=UTC)
    ended = {"finished": at, "error": {"message": "x"}} if status.is_terminal else {}
    row = run_row(a_running_job(status=status, started=at, result=1, **ended))
    assert row["status"] in known
    assert (row["completedAt"] is not None) == status.is_terminal
    assert (row["expiredAt"] is not None) == (status is JobStatus.EXPIRED)
    assert (row["output"] == "1") == (status is JobStatus.COMPLETED)
    assert (row["error"] is not None) == (status.is_terminal and status is not JobStatus.COMPLETED)


async def test_any_of_two_servers_answers_the_next_request(database_url: str) -> None:
    keys = (SecretStr(KEY),)
    async with AsyncExitStack() as stack:
        rigs = [await stack.enter_async_context(rigged(database_url, api_keys=keys)) for _ in range(2)]
        one, other = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app=create_app(rig.adapter, owns_adapter=False)),
                    base_url="http://adapter.test",
                    headers={"authorization": f"Bearer {KEY}"},
                )
            )
            for rig in rigs
        ]
        jobs = [
            (await rigs[0].adapter.schedule_job("echo", n, delay=LATER, tags=["a"])).job for n in range(3)
        ]
        path = "/realtime/v1/runs"
        answer = await ask(one, path, tags="a")
        for job in jobs:
            answer = await go_on(other, path, answer, live=False, tags="a")
            assert (answer.status_code, rows(answer)) == (200, [])
            await rigs[1].adapter.cancel_job(job.id)
            answer = await go_on(other, path, answer, tags="a")
            assert [row["id"] for row in rows(answer)] == [str(job.id)]
            # This one has not heard of it, and is not asked for what it last knew.
            answer = await go_on(one, path, answer, live=False, tags="a")
            assert (answer.status_code, rows(answer)) == (200, [])


async def test_followers_do_not_fill_the_log(
    client: httpx.AsyncClient, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "adapter.web"):
        await ask(client, path_of(job))
        await ask(client, "/realtime/v1/runs/run_nope")
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO"]
