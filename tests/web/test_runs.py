"""Runs that are there, as the SDK reads and changes them (Trigger.dev's API contract, 2, 3, 4.3, 7)."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from adapter import Adapter, JobSpec
from adapter.domain.identity import job_id_of, public_id, run_id_of
from adapter.domain.job import Job
from adapter.web.auth import make_public_token
from adapter.web.trigger_api.wire import BULK, SCHEDULE
from tests.web.conftest import KEY

UNKNOWN = "run_" + "1" * 26


async def made(adapter: Adapter, task: str = "echo", data: Any = 1, **options: Any) -> str:
    return run_id_of((await adapter.schedule_job(task, data, **options)).id)


async def job_of(adapter: Adapter, run_id: str) -> Job:
    job_id = job_id_of(run_id)
    assert job_id is not None
    job = await adapter.get_job(job_id)
    assert job is not None
    return job


def as_token(adapter: Adapter, *scopes: str) -> dict[str, str]:
    token = make_public_token(KEY, scopes, timedelta(hours=1), now=adapter.clock.now())
    return {"authorization": f"Bearer {token}"}


async def work(adapter: Adapter) -> None:
    worker = adapter.worker()
    await worker.run_once()
    await worker._tries.caller.close()


async def listed(client: httpx.AsyncClient, path: str = "/api/v1/runs", **filters: str) -> list[str]:
    reply = await client.get(path, params={f"filter[{name}]": value for name, value in filters.items()})
    assert reply.status_code == 200, reply.text
    return [run["id"] for run in reply.json()["data"]]


# ---- retrieve ---------------------------------------------------------------------------------------


async def test_a_run_shows_what_its_caller_asked_for_its_schedule_and_its_relatives(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    schedule = await adapter.schedule_cron("echo", "0 0 * * *", key="dd1", external_id="user_1")
    asked = {"machine": "small-2x", "region": "eu", "version": "20250101.1", "test": True, "ttl": "10m"}
    root = await adapter.schedule_job("echo", 1, schedule_id=schedule.id, extra=asked)
    (child,) = await adapter.schedule_specs([JobSpec("echo", 2, parent=root.job)])
    (leaf,) = await adapter.schedule_specs([JobSpec("echo", 3, parent=child.job)])
    run = (await client.get(f"/api/v3/runs/{run_id_of(root.id)}")).json()
    shown = [run[name] for name in ("machine", "region", "version", "isTest", "ttl", "depth", "taskKind")]
    assert shown == ["small-2x", "eu", "20250101.1", True, "10m", 0, "SCHEDULED"]
    assert run["schedule"] == {
        "id": public_id(SCHEDULE, schedule.id),
        "externalId": "user_1",
        "deduplicationKey": "dd1",
        "generator": {"type": "CRON", "expression": "0 0 * * *", "description": "At 12:00 AM"},
    }
    assert [each["id"] for each in run["relatedRuns"]["children"]] == [run_id_of(child.id)]
    assert not {"root", "parent"} & set(run["relatedRuns"])
    below = (await client.get(f"/api/v3/runs/{run_id_of(leaf.id)}")).json()
    assert below["depth"] == 2
    related = below["relatedRuns"]
    assert (related["parent"]["id"], related["root"]["id"]) == (run_id_of(child.id), run_id_of(root.id))
    assert related["children"] == []
    assert "payload" not in related["parent"]
    await adapter.cancel_schedule(schedule.id, reason="gone", actor="me")
    assert "schedule" not in (await client.get(f"/api/v3/runs/{run_id_of(root.id)}")).json()


async def test_what_is_large_is_read_at_a_url_that_needs_no_key(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    large = "ä" * 70_000
    run_id = await made(adapter, data=large)
    await work(adapter)
    run = (await client.get(f"/api/v3/runs/{run_id}")).json()
    assert not {"payload", "output"} & set(run)
    anybody = {"authorization": ""}
    for field in ("payload", "output"):
        url = run[f"{field}PresignedUrl"]
        reply = await client.get(url, headers=anybody)
        assert (reply.status_code, reply.json()) == (200, large)
        assert reply.headers["content-type"] == "application/json"
        other = (
            url.replace("/payload?", "/output?")
            if field == "payload"
            else url.replace("/output?", "/payload?")
        )
        assert (await client.get(other, headers=anybody)).status_code == 403
        asked = (await client.get(f"/api/v1/runs/{run_id}/packets/{field}")).json()["presignedUrl"]
        assert asked.partition("?")[0] == url.partition("?")[0]
    small = await made(adapter)
    assert (await client.get(f"/api/v1/runs/{small}/packets/payload")).status_code == 200
    for field, status in (("output", 404), ("other", 400)):
        assert (await client.get(f"/api/v1/runs/{small}/packets/{field}")).status_code == status


@pytest.mark.parametrize("what", ["metadata", "events", "trace", "spans/abc", "packets/payload", "result"])
async def test_who_may_read_the_rest_of_a_run(adapter: Adapter, client: httpx.AsyncClient, what: str) -> None:
    run_id = await made(adapter, tags=["vip"])
    await work(adapter)
    path = f"/api/v1/runs/{run_id}/{what}"
    good = 404 if what.startswith("spans") else 200
    for scope in (f"read:runs:{run_id}", "read:tags:vip", "read:tasks:echo", "read:runs"):
        assert (await client.get(path, headers=as_token(adapter, scope))).status_code == good, scope
    for scope in (f"read:runs:{UNKNOWN}", "read:tags:other", f"write:runs:{run_id}"):
        assert (await client.get(path, headers=as_token(adapter, scope))).status_code == 403, scope
    assert (await client.get(path, headers={"authorization": "Bearer x"})).status_code == 401
    for unknown in (UNKNOWN, "run_of_others"):
        reply = await client.get(f"/api/v1/runs/{unknown}/{what}")
        assert (reply.status_code, "x-should-retry" in reply.headers) == (404, False)


async def test_a_result_is_there_once_the_run_has_ended(adapter: Adapter, client: httpx.AsyncClient) -> None:
    run_id, other = await made(adapter, data={"a": 1}), await made(adapter)
    assert (await client.get(f"/api/v1/runs/{run_id}/result")).status_code == 404
    await client.post(f"/api/v2/runs/{other}/cancel")
    await work(adapter)
    result = (await client.get(f"/api/v1/runs/{run_id}/result")).json()
    assert result == {
        "ok": True,
        "id": run_id,
        "taskIdentifier": "echo",
        "output": '{"a":1}',
        "outputType": "application/json",
    }
    failed = (await client.get(f"/api/v1/runs/{other}/result")).json()
    assert (failed["ok"], failed["error"]["type"]) == (False, "BUILT_IN_ERROR")


async def test_a_trace_is_a_tree_of_runs_and_what_happened_to_them(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    root = await adapter.schedule_job("echo", 1)
    (child,) = await adapter.schedule_specs([JobSpec("echo", 2, {"delay": timedelta(hours=1)}, root.job)])
    root_id, child_id = run_id_of(root.id), run_id_of(child.id)
    await client.post(f"/api/v1/runs/{child_id}/reschedule", json={"delay": "2h"})
    trace = (await client.get(f"/api/v1/runs/{root_id}/trace")).json()["trace"]
    span = trace["rootSpan"]
    assert (span["runId"], span["data"]["message"], span["data"]["isPartial"]) == (root_id, "echo", True)
    (below,) = span["children"]
    assert (below["runId"], below["parentId"]) == (child_id, span["id"])
    (event,) = below["children"]
    assert event["data"]["message"] == "rescheduled"
    page = (await client.get(f"/api/v1/runs/{root_id}/trace", params={"page[size]": "2"})).json()
    rest = (
        await client.get(
            f"/api/v1/runs/{root_id}/trace",
            params={"page[size]": "2", "page[after]": page["pagination"]["next"]},
        )
    ).json()
    assert [each["id"] for each in (*page["data"], *rest["data"])] == [span["id"], below["id"], event["id"]]
    assert rest["pagination"] == {}
    one = (await client.get(f"/api/v1/runs/{root_id}/spans/{span['id']}")).json()
    assert (one["spanId"], one["parentId"], one["triggeredRuns"][0]["runId"]) == (span["id"], None, child_id)
    events = (await client.get(f"/api/v1/runs/{child_id}/events")).json()["events"]
    assert [each["message"] for each in events] == ["echo", "rescheduled"]
    for size in ("0", "10001", "x"):
        reply = await client.get(f"/api/v1/runs/{root_id}/trace", params={"page[size]": size})
        assert (reply.status_code, reply.json()["error"]) == (400, "Query Error")


# ---- list -------------------------------------------------------------------------------------------


async def test_every_filter_finds_what_it_says(adapter: Adapter, client: httpx.AsyncClient) -> None:
    schedule = await adapter.schedule_cron("echo", "0 0 * * *")
    of_schedule = await made(adapter, schedule_id=schedule.id)
    asked = await made(
        adapter, extra={"machine": "small-2x", "region": "eu", "version": "20250101.1", "test": True}
    )
    queued = await made(adapter, queue="mine")
    done = await made(adapter, "ns/task with space", tags=["a"])
    await adapter.cancel_job((await job_of(adapter, done)).id)
    every = [done, queued, asked, of_schedule]
    for filters, found in (
        ({}, every),
        ({"schedule": public_id(SCHEDULE, schedule.id)}, [of_schedule]),
        ({"machine": "small-2x,micro"}, [asked]),
        ({"region": "eu"}, [asked]),
        ({"version": "20250101.1"}, [asked]),
        ({"isTest": "true"}, [asked]),
        ({"isTest": "false"}, [done, queued, of_schedule]),
        ({"queue": "mine"}, [queued]),
        ({"queue": "task/echo"}, [asked, of_schedule]),
        ({"queue": "task/echo,mine"}, [queued, asked, of_schedule]),
        ({"status": "CANCELED"}, [done]),
        ({"status": "QUEUED,CANCELED", "tag": "a,b"}, [done]),
        ({"createdAt][period": "1h"}, every),
        ({"createdAt][to": "0"}, []),
        ({"bulkAction": public_id(BULK, schedule.id)}, []),
    ):
        assert await listed(client, **filters) == found, filters
    path = "/api/v1/projects/proj_x/runs"
    assert await listed(client, path, env="dev,prod") == every
    assert await listed(client, path, env="staging") == []


async def test_a_run_is_found_under_the_word_that_it_shows(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    body = {"payload": 1}
    unknown = (await client.post("/api/v1/tasks/nobody-has-this/trigger", json=body)).json()["id"]
    found = {word: await made(adapter) for word in ("key", "children")}
    for word, run_id in found.items():
        await adapter.database.fetch(
            "UPDATE {s}.worker_jobs_open SET status = 'WAITING', waiting_for = %(word)s WHERE id = %(id)s",
            {"word": word, "id": (await job_of(adapter, run_id)).id},
        )
    for word, run_id in (
        ("PENDING_VERSION", unknown),
        ("QUEUED", found["key"]),
        ("WAITING", found["children"]),
    ):
        assert await listed(client, status=word) == [run_id]
        assert (await client.get(f"/api/v3/runs/{run_id}")).json()["status"] == word
    assert await listed(client, status="QUEUED,WAITING,PENDING_VERSION") == [
        *reversed(found.values()),
        unknown,
    ]


async def test_an_old_run_is_shown_to_who_asks_for_its_time(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    run_id = await made(adapter)
    await adapter.database.fetch("UPDATE {s}.worker_jobs_open SET created_at = now() - interval '8 days'")
    assert await listed(client) == []
    now = int(adapter.clock.now().timestamp() * 1000)
    assert await listed(client, **{"createdAt][to": str(now)}) == [run_id]
    assert await listed(client, **{"createdAt][period": "30d"}) == [run_id]


async def test_a_user_sees_what_is_theirs(adapter: Adapter, client: httpx.AsyncClient) -> None:
    key = await adapter.create_key("of one user", user_id="7")
    theirs = {"authorization": f"Bearer {key.secret}"}
    root = await adapter.schedule_job("echo", 1, user_id=8)
    (child,) = await adapter.schedule_specs([JobSpec("echo", 2, {"user_id": 7}, root.job)])
    (leaf,) = await adapter.schedule_specs([JobSpec("echo", 3, {"user_id": 9}, child.job)])
    mine, others = run_id_of(child.id), [run_id_of(root.id), run_id_of(leaf.id)]
    page = await client.get("/api/v1/runs", params={"filter[taskIdentifier]": "echo"}, headers=theirs)
    assert [run["id"] for run in page.json()["data"]] == [mine]
    run = (await client.get(f"/api/v3/runs/{mine}", headers=theirs)).json()
    assert run["relatedRuns"] == {"children": []}
    trace = (await client.get(f"/api/v1/runs/{mine}/trace", headers=theirs)).json()["trace"]
    assert trace["rootSpan"]["children"] == []
    for other in others:
        for path in (f"/api/v3/runs/{other}", f"/api/v1/runs/{other}/trace"):
            assert (await client.get(path, headers=theirs)).status_code == 404
        reply = await client.post(f"/api/v1/runs/{other}/tags", json={"tags": "x"}, headers=theirs)
        assert reply.status_code == 404
    for path in ("bulk-actions", "idempotencyKeys/k/reset"):
        body = {"action": "cancel", "runIds": [mine], "taskIdentifier": "echo"}
        assert (await client.post(f"/api/v1/{path}", json=body, headers=theirs)).status_code in {403, 404}


async def test_a_batch_s_token_lists_its_batch(adapter: Adapter, client: httpx.AsyncClient) -> None:
    batch = "batch_" + "1" * 26
    token = as_token(adapter, f"read:batch:{batch}")
    reply = await client.get("/api/v1/runs", params={"filter[batch]": batch}, headers=token)
    assert (reply.status_code, reply.json()) == (200, {"data": [], "pagination": {}})
    assert (await client.get("/api/v1/runs", headers=token)).status_code == 403


# ---- change -----------------------------------------------------------------------------------------


async def test_a_replay_takes_along_what_its_original_was_asked_with_and_happens_once_per_call(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    run_id = await made(adapter, data=[1], extra={"machine": "small-2x", "test": True, "version": "1"})
    call = {"x-trigger-request-idempotency-key": "3884146a-cd6e-43a8-a888-7e69b48a9a7d"}
    first = (await client.post(f"/api/v1/runs/{run_id}/replay", headers=call)).json()["id"]
    assert (await client.post(f"/api/v1/runs/{run_id}/replay", headers=call)).json()["id"] == first
    extra = (await job_of(adapter, first)).extra
    assert (extra["machine"], extra["test"], extra.get("version")) == ("small-2x", True, None)
    overrides = {"machine": "micro", "region": "eu", "version": "2", "ttl": 90, "payload": '{"json":7}'}
    body = overrides | {"payloadType": "application/super+json"}
    second = (await client.post(f"/api/v1/runs/{run_id}/replay", json=body)).json()["id"]
    run = (await client.get(f"/api/v3/runs/{second}")).json()
    assert (run["machine"], run["region"], run["version"], run["ttl"]) == ("micro", "eu", "2", "1m30s")
    assert (run["payload"], run["isTest"]) == (7, True)


async def test_a_delayed_run_is_rescheduled_and_answered_whole(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    run_id = await made(adapter, delay=timedelta(hours=1))
    path = f"/api/v1/runs/{run_id}/reschedule"
    run = (await client.post(path, json={"delay": "2h"})).json()
    assert (run["id"], run["status"], "relatedRuns" in run) == (run_id, "DELAYED", True)
    due = datetime.fromisoformat(run["delayedUntil"])
    assert timedelta(0) <= adapter.clock.now() + timedelta(hours=2) - due < timedelta(minutes=1)
    exact = (await client.post(path, json={"delay": "2100-01-02T03:04:05.000Z"})).json()
    assert exact["delayedUntil"] == "2100-01-02T03:04:05.000Z"
    for delay in ("soon", "2001-01-01T00:00:00Z", ""):
        reply = await client.post(path, json={"delay": delay})
        assert (reply.status_code, reply.json()["error"]) == (400, f"Invalid delay: {delay}")
    for body in ({}, {"delay": 5}):
        assert (await client.post(path, json=body)).status_code == 400
    queued = await made(adapter)
    reply = await client.post(f"/api/v1/runs/{queued}/reschedule", json={"delay": "1h"})
    assert (reply.status_code, reply.json()) == (
        400,
        {"error": "Cannot reschedule a run that is not delayed"},
    )


async def test_tags_are_added(adapter: Adapter, client: httpx.AsyncClient) -> None:
    run_id = await made(adapter, tags=["a"])
    path = f"/api/v1/runs/{run_id}/tags"
    for tags, said in (
        (["a", "b", " "], "Successfully set 1 new tags."),
        ("c", "Successfully set 1 new tags."),
        (["c"], "No new tags to add"),
    ):
        assert (await client.post(path, json={"tags": tags})).json() == {"message": said}
    assert (await client.get(f"/api/v3/runs/{run_id}")).json()["tags"] == ["a", "b", "c"]
    reply = await client.post(path, json={"tags": [str(n) for n in range(8)]})
    assert reply.status_code == 422
    assert reply.json()["error"] == "Runs can only have 10 tags, you're trying to set 11."
    for body in ({}, {"tags": 1}, {"tags": ["x" * 129]}, {"tags": None}):
        assert (await client.post(path, json=body)).status_code == 400


async def test_metadata_is_read_replaced_and_changed(adapter: Adapter, client: httpx.AsyncClient) -> None:
    run_id = await made(adapter, metadata={"n": 1})
    path = f"/api/v1/runs/{run_id}/metadata"
    operations = [
        {"type": "set", "key": "$.deep.list[0]", "value": "x"},
        {"type": "increment", "key": "n", "value": 2},
        {"type": "append", "key": "log", "value": None},
        {"type": "delete", "key": "nothing"},
    ]
    call = {"x-trigger-request-idempotency-key": "one call"}
    for _ in range(2):
        reply = await client.put(path, json={"operations": operations}, headers=call)
        assert reply.json() == {"metadata": {"n": 3, "deep": {"list": ["x"]}, "log": [None]}}
    assert (await client.put(path, json={"metadata": {"all": "new"}})).json() == {"metadata": {"all": "new"}}
    assert (await client.get(path)).json()["metadata"] == {"all": "new"}
    for body, status in (
        ({"operations": [{"type": "increment", "key": "n", "value": "1"}]}, 400),
        ({"operations": [{"type": "explode", "key": "n"}]}, 400),
        ({"operations": [{"type": "set", "key": "__proto__", "value": 1}]}, 400),
        ({"operations": [{"type": "set", "key": "$.a[", "value": 1}]}, 400),
        ({"metadata": [1]}, 400),
        ({"metadata": {"a": "x" * 263_000}}, 413),
        ({"metadata": {"a": "x" * 2_200_000}}, 413),
    ):
        assert (await client.put(path, json=body)).status_code == status, str(body)[:100]
    assert (await client.get(path)).json()["metadata"] == {"all": "new"}


async def test_a_key_is_reset(adapter: Adapter, client: httpx.AsyncClient) -> None:
    first = await made(adapter, idempotency_key="a/b")
    path = "/api/v1/idempotencyKeys/a%2Fb/reset"
    assert (await client.post(path, json={"taskIdentifier": "echo"})).json() == {"id": "a/b"}
    assert await made(adapter, idempotency_key="a/b") != first
    reply = await client.post(path, json={"taskIdentifier": "other"})
    assert reply.status_code == 404
    assert reply.json()["error"].startswith("No runs found with idempotency key")
    for body in ({}, {"taskIdentifier": ""}):
        assert (await client.post(path, json=body)).status_code == 400


@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("POST", "reschedule", {"delay": "1h"}),
        ("POST", "tags", {"tags": "a"}),
        ("PUT", "metadata", {"metadata": {}}),
        ("POST", "replay", {}),
    ],
)
async def test_who_may_change_a_run(
    adapter: Adapter, client: httpx.AsyncClient, method: str, what: str, body: dict[str, Any]
) -> None:
    run_id = await made(adapter, delay=timedelta(hours=1))
    path = f"/api/v1/runs/{run_id}/{what}"
    reply = await client.request(method, path, json=body, headers=as_token(adapter, f"read:runs:{run_id}"))
    assert reply.status_code == 403
    reply = await client.request(method, path, json=body, headers=as_token(adapter, f"write:runs:{run_id}"))
    assert reply.status_code == 200, reply.text
    reply = await client.request(method, f"/api/v1/runs/{UNKNOWN}/{what}", json=body)
    assert (reply.status_code, "x-should-retry" in reply.headers) == (404, False)


# ---- bulk -------------------------------------------------------------------------------------------


async def test_a_bulk_action_by_filter_and_by_ids(adapter: Adapter, client: httpx.AsyncClient) -> None:
    runs = [await made(adapter, tags=["mine"]) for _ in range(3)]
    other = await made(adapter)
    call = {"x-trigger-request-idempotency-key": "one call"}
    body = {"action": "cancel", "filter": {"tag": "mine", "status": ["QUEUED"]}, "name": "tidy up"}
    replies = [await client.post("/api/v1/bulk-actions", json=body, headers=call) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [202, 202]
    bulk = replies[0].json()["id"]
    assert replies[1].json()["id"] == bulk
    pending = (await client.get(f"/api/v1/bulk-actions/{bulk}")).json()
    assert (pending["status"], pending["type"], pending["name"]) == ("PENDING", "CANCEL", "tidy up")
    assert "completedAt" not in pending
    while await adapter.bulk.run_once():
        pass
    done = (await client.get(f"/api/v1/bulk-actions/{bulk}")).json()
    assert (done["status"], done["counts"]) == ("COMPLETED", {"total": 3, "success": 3, "failure": 0})
    assert sorted(await listed(client, bulkAction=bulk)) == sorted(runs)
    assert (await client.post(f"/api/v1/bulk-actions/{bulk}/abort")).status_code == 400
    body = {"action": "replay", "runIds": [runs[0], other], "targetRegion": "eu"}
    second = (await client.post("/api/v1/bulk-actions", json=body)).json()["id"]
    while await adapter.bulk.run_once():
        pass
    made_by_it = await listed(client, bulkAction=second)
    assert len(made_by_it) == 2
    assert (await client.get(f"/api/v3/runs/{made_by_it[0]}")).json()["region"] == "eu"
    page = (await client.get("/api/v1/bulk-actions", params={"page[size]": "1"})).json()
    assert [each["id"] for each in page["data"]] == [second]
    rest = await client.get("/api/v1/bulk-actions", params={"page[after]": page["pagination"]["next"]})
    assert [each["id"] for each in rest.json()["data"]] == [bulk]
    third = (await client.post("/api/v1/bulk-actions", json=body)).json()["id"]
    for _ in range(2):
        assert (await client.post(f"/api/v1/bulk-actions/{third}/abort")).json() == {"id": third}
    assert (await client.get(f"/api/v1/bulk-actions/{third}")).json()["status"] == "ABORTED"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"action": "explode", "runIds": [UNKNOWN]}, "action"),
        ({"action": "cancel"}, "Exactly one"),
        ({"action": "cancel", "runIds": [UNKNOWN], "filter": {"tag": "x"}}, "Exactly one"),
        ({"action": "cancel", "runIds": []}, "runIds"),
        ({"action": "cancel", "runIds": ["run_of_others"]}, "runIds.0"),
        ({"action": "cancel", "filter": {}}, "At least one filter"),
        ({"action": "cancel", "filter": {"tag": [" "]}}, "At least one filter"),
        ({"action": "cancel", "runIds": [UNKNOWN], "targetRegion": "eu"}, "targetRegion"),
        ({"action": "cancel", "runIds": [UNKNOWN], "name": "x" * 256}, "name"),
        ({"action": "cancel", "filter": {"status": "done"}}, "Query Error"),
        ({"action": "cancel", "filter": {"machine": "huge"}}, "Query Error"),
        ({"action": "cancel", "filter": {"from": "soon"}}, "Query Error"),
        ({"action": "cancel", "filter": {"queue": {"type": "odd", "name": "x"}}}, "queue"),
    ],
)
async def test_a_bulk_action_that_cannot_be_read(
    client: httpx.AsyncClient, body: dict[str, Any], where: str
) -> None:
    reply = await client.post("/api/v1/bulk-actions", json=body)
    assert reply.status_code == 400
    assert where in reply.json()["error"]


async def test_bulk_actions_are_for_keys_and_unknown_ones_are_not_there(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    token = as_token(adapter, "write:runs", "read:runs")
    assert (await client.get("/api/v1/bulk-actions", headers=token)).status_code == 403
    for unknown in (BULK + "1" * 26, "bulk_1"):
        assert (await client.get(f"/api/v1/bulk-actions/{unknown}")).status_code == 404
        assert (await client.post(f"/api/v1/bulk-actions/{unknown}/abort")).status_code == 404
    nothing = {"action": "cancel", "filter": {"batch": "batch_of_others"}}
    bulk = (await client.post("/api/v1/bulk-actions", json=nothing)).json()["id"]
    while await adapter.bulk.run_once():
        pass
    counts = (await client.get(f"/api/v1/bulk-actions/{bulk}")).json()["counts"]
    assert counts == {"total": 0, "success": 0, "failure": 0}
