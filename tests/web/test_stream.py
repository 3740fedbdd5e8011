"""Server-sent events of one job: ``GET /api/jobs/{id}/stream``."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from unittest import mock

import httpx
import pytest

from adapter import Adapter
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.identity import run_id_of
from adapter.domain.job import Job
from adapter.web import stream
from adapter.web.auth import make_public_token
from tests.kit import eventually
from tests.rig import new_id
from tests.web.conftest import KEY


@pytest.fixture
async def job(adapter: Adapter) -> Job:
    return (await adapter.schedule_job("echo", {"n": 1}, delay=timedelta(hours=1), tags=["a"])).job


async def get(client: httpx.AsyncClient, job_id: object, *, last: str = "", **params: str) -> httpx.Response:
    headers = {"last-event-id": last} if last else {}
    return await client.get(f"/api/jobs/{job_id}/stream", params=params, headers=headers)


def events(answer: httpx.Response) -> list[tuple[str, Any]]:
    """Ids and data of what was sent."""
    found: list[tuple[str, Any]] = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "data" in fields:
            found.append((fields["id"], json.loads(fields["data"])))
    return found


def token_for(adapter: Adapter, *scopes: str, life: timedelta = timedelta(minutes=15)) -> str:
    return make_public_token(KEY, scopes, life, now=adapter.clock.now())


async def followed(
    adapter: Adapter, client: httpx.AsyncClient, job: Job, *, waits: int = 1, **params: str
) -> httpx.Response:
    """The stream of a job that is canceled once the stream has waited so often."""
    until_moved = adapter.hub.until_moved
    async with asyncio.TaskGroup() as group:
        with mock.patch.object(adapter.hub, "until_moved", wraps=until_moved) as waited:
            waiting = group.create_task(get(client, job.id, **params))
            await eventually(lambda: waited.call_count >= waits)
        await adapter.cancel_job(job.id)
        return await waiting


async def test_a_job_is_sent_whole_whenever_it_has_changed_until_it_has_ended(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    answer = await followed(adapter, client, job)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("retry: 2000\n\n")
    (first, before), (second, after) = events(answer)
    assert first != second
    assert (before["id"], before["run_id"]) == (str(job.id), run_id_of(job.id))
    assert (before["status"], before["data"], before["finished"]) == ("DELAYED", {"n": 1}, None)
    assert (after["status"], after["finished"] is not None) == ("CANCELED", True)


async def test_whoever_comes_back_is_not_told_twice_and_stays_away_after_the_end(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    await adapter.cancel_job(job.id)
    ((last, _),) = events(await get(client, job.id))
    again = await get(client, job.id, last=last)
    assert (again.status_code, again.text) == (204, "")
    assert len(events(await get(client, run_id_of(job.id), last="1_1"))) == 1


async def test_a_job_that_is_not_there(client: httpx.AsyncClient) -> None:
    for unknown in (new_id(), run_id_of(new_id()), "run_nope", "nope"):
        answer = await get(client, unknown)
        assert (answer.status_code, events(answer)) == (200, [("not_found", {"error": "not_found"})])
        assert (await get(client, unknown, last="not_found")).status_code == 204


async def test_the_words_of_the_guides(adapter: Adapter, client: httpx.AsyncClient, job: Job) -> None:
    (_, before), (_, after) = events(await followed(adapter, client, job, shape="job_runs"))
    assert (before["status"], before["taskId"], before["payload"]) == ("pending", "echo", {"n": 1})
    assert (after["status"], after["error"]) == ("failed", "canceled by the application")
    assert set(after) == {
        *("id", "taskId", "status", "payload", "result", "error", "startedAt", "completedAt", "createdAt")
    }
    assert (await get(client, job.id, shape="round")).status_code == 400


async def test_silence_is_broken_so_that_no_proxy_cuts_it(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    with mock.patch.object(stream, "HEARTBEAT_S", 0.01):
        answer = await followed(adapter, client, job, waits=3)
    assert ": still here\n\n" in answer.text
    assert len(events(answer)) == 2


async def test_a_stream_goes_on_after_the_database_was_away(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    read, failures = adapter.hub.read, 2

    async def failing(*given: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise DatabaseUnavailableError("gone for a moment")
        return await read(*given)

    await adapter.cancel_job(job.id)
    with (
        mock.patch.object(adapter.hub, "read", failing),
        mock.patch.object(type(adapter.clock), "sleep", mock.AsyncMock()),
    ):
        answer = await get(client, job.id)
    assert [each["status"] for _, each in events(answer)] == ["CANCELED"]


async def test_a_process_that_stops_ends_its_streams(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(get(client, job.id))
        await eventually(lambda: any(feed.holders for feed in adapter.hub._feeds.values()))
        adapter.hub.close()
        assert (await waiting).status_code == 200


async def test_who_may_follow(adapter: Adapter, client: httpx.AsyncClient, job: Job) -> None:
    await adapter.cancel_job(job.id)

    async def status(scope: str) -> int:
        headers = {"authorization": f"Bearer {token_for(adapter, scope)}"}
        return (await client.get(f"/api/jobs/{job.id}/stream", headers=headers)).status_code

    allowed = ["read:runs", f"read:runs:{run_id_of(job.id)}", "read:tags:a", "read:tasks:echo"]
    refused = ["read:tags:b", f"write:runs:{run_id_of(job.id)}", "read:runs:run_other"]
    assert [await status(scope) for scope in allowed] == [200] * 4
    assert [await status(scope) for scope in refused] == [403] * 3
    del client.headers["authorization"]
    assert (await get(client, job.id)).status_code == 401


async def test_a_token_in_the_query_is_a_short_one_and_never_a_key(
    adapter: Adapter, client: httpx.AsyncClient, job: Job
) -> None:
    await adapter.cancel_job(job.id)
    del client.headers["authorization"]
    scope = f"read:runs:{run_id_of(job.id)}"
    good = await get(client, job.id, token=token_for(adapter, scope))
    assert [each["status"] for _, each in events(good)] == ["CANCELED"]
    for bad in (KEY, token_for(adapter, scope, life=timedelta(hours=2)), "a.b.c", "é.b.c", ""):
        assert (await get(client, job.id, token=bad)).status_code == 401
    assert (await get(client, job.id, token=token_for(adapter, "read:runs:run_other"))).status_code == 403


async def test_a_stream_ends_with_its_token(adapter: Adapter, client: httpx.AsyncClient, job: Job) -> None:
    del client.headers["authorization"]
    token = token_for(adapter, "read:runs", life=timedelta(seconds=2))
    answer = await get(client, job.id, token=token)
    assert [each["status"] for _, each in events(answer)] == ["DELAYED"]
