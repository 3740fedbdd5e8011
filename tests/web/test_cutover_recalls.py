"""Rollbacks and migrations over HTTP."""

from datetime import timedelta

import httpx

from adapter import Adapter
from adapter.web.auth import make_public_token
from tests.rig import new_id
from tests.web.conftest import KEY

BASE = "/api/admin/cutover"


async def test_a_rollback_is_made_listed_shown_and_gone_on_with(client: httpx.AsyncClient) -> None:
    body = {"reason": "INC-7", "mode": "recall-unstarted"}
    dry = (await client.post(f"{BASE}/rollbacks/echo", json={**body, "dry_run": True})).json()
    assert (dry["dry_run"], dry["recall_id"]) == (True, None)
    made = await client.post(f"{BASE}/rollbacks/echo", json=body)
    assert (made.status_code, made.json()["state"]) == (200, "done")
    recall = made.json()["recall_id"]
    (listed,) = (await client.get(f"{BASE}/recalls")).json()["recalls"]
    assert (listed["id"], listed["reason"], listed["actor"][:8]) == (recall, "INC-7", "api-key:")
    assert (await client.get(f"{BASE}/recalls/{recall}")).json()["state"] == "done"
    for verb in ("resume", "stop"):
        answer = await client.post(f"{BASE}/recalls/{recall}/{verb}", json={})
        assert (answer.status_code, answer.json()["state"]) == (200, "done")


async def test_a_migration_needs_a_task_that_can_run_there(
    client: httpx.AsyncClient, adapter: Adapter
) -> None:
    unknown = await client.post(f"{BASE}/migrations/echo", json={"reason": "r", "to": "nowhere"})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_executor")
    job = await adapter.schedule_job("echo")
    made = await client.post(f"{BASE}/migrations/*", json={"reason": "r", "to": "local"})
    assert (made.status_code, made.json()["outcomes"]) == (200, {})
    assert job.job.executor == "local"


async def test_who_may_only_read_takes_nothing_back(client: httpx.AsyncClient, adapter: Adapter) -> None:
    made = make_public_token(KEY, ("read:cutover",), timedelta(hours=1), now=adapter.clock.now())
    headers = {"authorization": f"Bearer {made}"}
    assert (await client.get(f"{BASE}/recalls", headers=headers)).status_code == 200
    for path in (
        "rollbacks/echo",
        "migrations/echo",
        f"recalls/{new_id()}/stop",
        f"recalls/{new_id()}/resume",
    ):
        assert (await client.post(f"{BASE}/{path}", json={"reason": "r"}, headers=headers)).status_code == 403


async def test_a_recall_that_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    for recall in (str(new_id()), "nonsense"):
        answer = await client.get(f"{BASE}/recalls/{recall}")
        assert (answer.status_code, answer.json()["code"]) == (404, "recall_not_found")
