"""Leaving an executor over HTTP: reads."""

import httpx
import pytest

from adapter import Adapter
from tests.web.conftest import KEY

BASE = "/api/admin/cutover"


async def test_what_executors_hold_is_answered(client: httpx.AsyncClient, adapter: Adapter) -> None:
    await adapter.schedule_job("echo", 1)
    answer = await client.get(f"{BASE}/drain", params={"executor": "local", "task": "echo", "quiet": "60"})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["drained"], found["tasks"][0]["open"]) == (False, {"QUEUED": 1})
    (way, *_) = (await client.get(f"{BASE}/ways-back", params={"task": "echo"})).json()["ways"]
    assert (way["task"], way["executor"], way["verdict"]) == ("echo", "local", "failed")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("drain?executor=mars", 400),
        ("drain?quiet=0", 400),
        ("drain?nonsense=1", 400),
        ("ways-back?to=mars", 400),
        ("ways-back?task=nope", 422),
    ],
)
async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient, path: str, status: int) -> None:
    assert (await client.get(f"{BASE}/{path}")).status_code == status


@pytest.mark.parametrize("path", ["drain", "ways-back"])
async def test_only_who_may_read(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{BASE}/{path}", headers={"authorization": ""})).status_code == 401
    assert KEY in client.headers["authorization"]
