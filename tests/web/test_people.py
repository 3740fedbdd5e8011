"""REST for people: jobs, how things stand, figures."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from adapter import Adapter
from adapter.core import figures as core_figures
from adapter.store import figures as store
from adapter.store.figures import EndedCount
from adapter.web.people import metrics
from tests import kit


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def ended(adapter: Adapter, url: str) -> None:
    """Run what is ready, and let it have ended long enough ago to be counted."""
    await adapter.worker().run_once()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE adapter.worker_jobs_finished SET finished = finished - interval '20 seconds'")


async def read_anew(adapter: Adapter) -> Any:
    adapter.figure_keeper._read = None
    return await adapter.figures()


async def test_a_job_from_the_call_to_its_second_life(adapter: Adapter, client: httpx.AsyncClient) -> None:
    body = {"task": "echo", "data": {"n": 1}, "tag": "a", "tags": ["x"], "user_id": "7", "delay": "10m"}
    made = await client.post("/api/jobs", json=body)
    job = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/api/jobs/{job['id']}")
    assert (job["status"], job["data"], job["deduplicated"]) == ("DELAYED", {"n": 1}, False)
    again = await client.post("/api/jobs", json=body)
    assert (again.status_code, again.json()["id"], again.json()["deduplicated"]) == (200, job["id"], True)
    shown = (await client.get(f"/api/jobs/{job['run_id']}")).json()
    assert (shown["id"], [each["code"] for each in shown["waits"]]) == (job["id"], ["due"])
    early = await client.post(f"/api/jobs/{job['id']}/retry")
    assert (early.status_code, early.json()["code"]) == (422, "job_state")
    canceled = await client.post(f"/api/jobs/{job['id']}/cancel", json={"reason": "no more"})
    assert canceled.json()["status"] == "CANCELED"
    retried = await client.post(f"/api/jobs/{job['id']}/retry")
    assert (retried.status_code, retried.json()["extra"]["replay_of"]) == (201, job["id"])
    assert (await client.post(f"/api/jobs/{job['id']}/cancel")).json()["status"] == "CANCELED"
    events: list[dict[str, Any]] = (await client.get(f"/api/jobs/{job['id']}/events")).json()["events"]
    assert [(each["kind"], each["detail"]["reason"]) for each in events] == [("canceled", "no more")]


async def test_jobs_are_listed_by_what_they_are(adapter: Adapter, client: httpx.AsyncClient) -> None:
    for n in range(3):
        await adapter.schedule_job("echo", n, tags=["even"] if n % 2 == 0 else ["odd"], user_id=n)
    await adapter.schedule_job("ns/task with space", 1)

    async def listed(**query: Any) -> list[Any]:
        answer = await client.get("/api/jobs", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["jobs"]

    assert len(await listed()) == 4
    assert len(await listed(task="echo,ns/task with space", status="QUEUED,EXECUTING")) == 4
    assert [each["user_id"] for each in await listed(tags="even")] == ["2", "0"]
    assert [each["user_id"] for each in await listed(user_id="1", executor="internal")] == ["1"]
    assert await listed(status="COMPLETED") == []
    assert "data" not in (await listed())[0]
    page = (await client.get("/api/jobs", params={"limit": 3})).json()
    rest = (await client.get("/api/jobs", params={"limit": 3, "after": page["next"]})).json()
    assert (len(page["jobs"]), len(rest["jobs"]), rest["next"]) == (3, 1, None)
    for wrong in (
        {"status": "DONE"},
        {"limit": 0},
        {"colour": "red"},
        {"created_from": "soon"},
        {"after": "x"},
    ):
        refused = await client.get("/api/jobs", params=wrong)
        assert (refused.status_code, "error" in refused.json()) == (400, True), wrong


async def test_what_cannot_be_scheduled_is_said(client: httpx.AsyncClient) -> None:
    for body, status, code in (
        ({"task": "nope"}, 422, "unknown_task"),
        ({"task": "off"}, 422, "task_disabled"),
        ({"task": "echo", "executor": "moon"}, 400, "unknown_executor"),
        ({"task": "echo", "delay": "soon"}, 400, "invalid_body"),
        ({"task": "echo", "due": "2026-11-27T10:00:00"}, 400, "invalid_argument"),
        ({"task": "echo", "actor": "ann"}, 400, "invalid_body"),
        ({"data": 1}, 400, "invalid_body"),
    ):
        refused = await client.post("/api/jobs", json=body)
        assert (refused.status_code, refused.json().get("code")) == (status, code), refused.text
    for path in (f"/api/jobs/{UUID(int=7)}", "/api/jobs/nope", "/api/jobs/run_x"):
        missing = await client.get(path)
        assert (missing.status_code, missing.json()["code"]) == (404, "job_not_found")
        assert (await client.post(f"{path}/cancel")).status_code == 404


async def test_a_user_sees_and_steers_their_own_jobs_and_learns_of_no_others(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    key = bearer((await adapter.create_key("app", user_id="7")).secret)
    mine = await adapter.schedule_job("echo", 1, user_id="7")
    theirs = await adapter.schedule_job("echo", 2, user_id="8")
    assert [each["id"] for each in (await client.get("/api/jobs", headers=key)).json()["jobs"]] == [
        str(mine.id)
    ]
    assert (await client.get("/api/jobs", params={"user_id": "8"}, headers=key)).status_code == 404
    missing = UUID(int=7)
    for method, end in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/retry")):
        replies = [
            await client.request(method, f"/api/jobs/{each}{end}", headers=key)
            for each in (theirs.id, missing)
        ]
        assert [each.status_code for each in replies] == [404, 404]
        texts = [each.text.replace(str(x), "") for each, x in zip(replies, (theirs.id, missing), strict=True)]
        assert texts[0] == texts[1]
    assert (await client.get(f"/api/jobs/{mine.id}", headers=key)).status_code == 200
    made = await client.post("/api/jobs", json={"task": "echo"}, headers=key)
    assert (made.status_code, made.json()["user_id"]) == (201, "7")
    for other in ("8", "0"):
        body = {"task": "echo", "user_id": other}
        assert (await client.post("/api/jobs", json=body, headers=key)).status_code == 404
    triggered = await client.post("/api/v1/tasks/echo/trigger", json={"payload": 1}, headers=key)
    run = await client.get(f"/api/v3/runs/{triggered.json()['id']}", headers=key)
    assert run.status_code == 200
    assert (await client.get(f"/api/v3/runs/{theirs.job.id}", headers=key)).status_code == 404
    assert (await client.get("/api/admin/status", headers=key)).status_code == 404
    system = bearer((await adapter.create_key("system", user_id="0")).secret)
    assert (await client.get(f"/api/jobs/{theirs.id}", headers=system)).status_code == 200


async def test_how_things_stand(adapter: Adapter, client: httpx.AsyncClient, database_url: str) -> None:
    await adapter.figures()
    for n in range(2):
        await adapter.schedule_job("echo", n)
    await ended(adapter, database_url)
    await adapter.schedule_job("echo", 3)
    await adapter.schedule_job("echo", 4, queue="bulk", delay=timedelta(hours=1))
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE adapter.finished_counted SET counted_to = now() - interval '1 minute'")
    found = await read_anew(adapter)
    assert found.ended == [EndedCount("echo", "default", "local", "COMPLETED", 2)]
    # What was counted is not counted again, whoever looks.
    assert (await read_anew(adapter)).ended == found.ended
    standing = (await client.get("/api/admin/status")).json()
    assert standing["tasks"] == {"echo": {"pending": 2, "running": 0, "completed": 2, "failed": 0}}
    assert standing["queues"]["bulk"] == {"pending": 1, "running": 0, "completed": 0, "failed": 0}
    assert standing["executors"]["local"]["pending"] == 2
    limited = bearer((await adapter.create_key("p", scopes=["read:metrics"])).secret)
    assert (await client.get("/api/admin/status", headers=limited)).status_code == 403
    shown = await client.get("/metrics", headers=limited)
    assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (each.name, *sorted(each.labels.values())): each.value
        for family in text_string_to_metric_families(shown.text)
        for each in family.samples
    }
    assert samples["adapter_jobs_finished_total", "COMPLETED", "default", "echo", "local"] == 2
    assert samples["adapter_jobs_open", "DELAYED", "bulk", "echo", "local"] == 1
    assert ("adapter_oldest_ready_age_seconds", "default", "local") in samples
    assert {each.name for each in text_string_to_metric_families(shown.text)} == {
        name.removesuffix("_total") for name in metrics.NAMES
    }


async def test_figures_are_read_once_for_all_who_ask_and_seldom(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = store.look

    async def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look(*arguments)

    monkeypatch.setattr(core_figures.store, "look", counted)
    for _ in range(3):
        await adapter.figures()
        await adapter.job_counts()
    assert looks == 1


async def test_alerts_by_the_thresholds_of_the_rules(
    adapter: Adapter, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_figures, "MOST_WAITING", 2)
    monkeypatch.setattr(core_figures, "FEWEST_ENDED", 3)
    for n in range(3):
        await adapter.schedule_job("echo", n)
    await ended(adapter, database_url)
    assert await adapter.alerts() == []
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "UPDATE adapter.worker_jobs_finished SET status = 'FAILED', success = false"
            " WHERE data = '0'::jsonb"
        )
        conn.execute("UPDATE adapter.workers SET seen_at = now() - interval '1 day'")
    for n in range(3):
        await adapter.schedule_job("echo", n)
    await adapter.receive_webhook("hooks", "d1", "s1", {})
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE adapter.webhook_inbox SET received_at = now() - interval '6 minutes'")
    await read_anew(adapter)
    found = {each.name: each.finding for each in await adapter.alerts()}
    assert found == {
        "AdapterQueueDeep": "3 jobs wait in the queue default, more than 2",
        "AdapterTaskFails": "1 of 3 jobs of echo failed in the last 15 minutes, more than 5 %",
        "AdapterNoWorker": "3 local jobs are ready, and no worker lives",
        "AdapterInboxWaits": "1 webhooks wait, the first for 6 minutes",
    }


def test_the_rules_for_prometheus_know_our_metrics_and_thresholds() -> None:
    text = (kit.ROOT / "examples" / "prometheus" / "alerts.yml").read_text()
    rules = {
        each["alert"]: each["expr"] for group in yaml.safe_load(text)["groups"] for each in group["rules"]
    }
    assert set(rules) == set(core_figures.AlertName.__args__)
    named = {name for expr in rules.values() for name in re.findall(r"adapter_\w+", expr)}
    assert named <= metrics.NAMES
    assert f"> {core_figures.MOST_WAITING}" in rules["AdapterQueueDeep"]
    assert f"> {core_figures.MOST_FAILED}" in rules["AdapterTaskFails"]
    assert f">= {core_figures.FEWEST_ENDED}" in rules["AdapterTaskFails"]
    assert f"> {core_figures.LONGEST_UNSYNCED.total_seconds():.0f}" in rules["AdapterSyncLags"]
    assert f"> {core_figures.LONGEST_IN_INBOX.total_seconds():.0f}" in rules["AdapterInboxWaits"]
