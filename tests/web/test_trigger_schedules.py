"""Schedules as Trigger.dev's SDK sends them (its API contract, 9)."""

from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import httpx
import pytest

from adapter import Adapter
from adapter.domain.cron import Cron
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.identity import own_id
from adapter.domain.window import check_window, offset_in
from adapter.web.trigger_api.schedule_wire import described
from adapter.web.trigger_api.wire import SCHEDULE
from tests.rig import new_id, rigged
from tests.web.conftest import as_client, settings_for

BASE = "/api/v1/schedules"
DAILY = {"task": "echo", "cron": "0 0 * * *", "deduplicationKey": "dd1"}


async def made(client: httpx.AsyncClient, **over: Any) -> dict[str, Any]:
    reply = await client.post(BASE, json=DAILY | over)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_schedule_as_the_contract_shows_it(adapter: Adapter, client: httpx.AsyncClient) -> None:
    shown = await made(client, timezone="America/New_York", externalId="user_1", window="30m")
    following = Cron("0 0 * * *", "America/New_York").next_after(adapter.clock.now())
    effective = datetime.fromisoformat(shown.pop("nextRunEffectiveAt"))
    assert following <= effective < following + timedelta(minutes=30)
    environment = shown.pop("environments")[0]
    assert environment["type"] == "PRODUCTION"
    assert shown == {
        "id": shown["id"],
        "type": "IMPERATIVE",
        "task": "echo",
        "active": True,
        "deduplicationKey": "dd1",
        "externalId": "user_1",
        "generator": {"type": "CRON", "expression": "0 0 * * *", "description": "At 12:00 AM"},
        "timezone": "America/New_York",
        "window": "30m",
        "nextRun": following.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }


async def test_a_key_that_is_known_changes_its_schedule_and_what_is_paused_stays_so(
    client: httpx.AsyncClient,
) -> None:
    first = await made(client, timezone="Asia/Tokyo", externalId="x")
    one = f"{BASE}/{first['id']}"
    paused = (await client.post(f"{one}/deactivate")).json()
    assert (paused["active"], paused["nextRun"], paused["nextRunEffectiveAt"]) == (False, None, None)
    again = await made(client, task="ns/task with space", cron="0 9 * * 1")
    assert again | {"id": first["id"], "active": False} == again
    # Upstream would leave the task as it was.
    assert (again["task"], again["timezone"], again["externalId"]) == ("ns/task with space", "UTC", None)
    assert again["nextRun"] is None
    resumed = (await client.post(f"{one}/activate")).json()
    assert resumed["nextRun"] == resumed["nextRunEffectiveAt"]
    replaced = (await client.put(one, json={"task": "echo", "cron": "*/5 * * * *", "window": "0m"})).json()
    assert (replaced["deduplicationKey"], replaced["window"]) == ("dd1", "0m")
    assert (replaced["task"], replaced["generator"]["description"]) == ("echo", "Every 5 minutes")
    assert (await client.get(one)).json() == replaced
    assert (await client.delete(one)).json() == {"id": first["id"]}
    for gone in (await client.get(one), await client.delete(one), await client.put(one, json=DAILY)):
        assert (gone.status_code, gone.json()) == (404, {"error": "Schedule not found"})
    assert (await client.get(f"{BASE}/nonsense")).status_code == 404


@pytest.mark.parametrize("key", ["task:42", "key:task:42", "key:"])
async def test_a_key_may_look_like_one_of_ours(client: httpx.AsyncClient, key: str) -> None:
    shown = await made(client, deduplicationKey=key)
    assert (shown["type"], shown["deduplicationKey"]) == ("IMPERATIVE", key)


@pytest.mark.parametrize(
    ("over", "error"),
    [
        ({"cron": "61 * * * *"}, "Invalid cron expression: "),
        ({"cron": "@daily"}, "Invalid cron expression: "),
        (
            {"cron": "0 0 0 * * *"},
            "Invalid cron expression: CRON expressions with seconds are not allowed",
        ),
        ({"timezone": "Mars/Base"}, "Invalid IANA timezone: 'Mars/Base'. "),
        ({"task": "nobody"}, "Task with identifier nobody not found in project."),
        ({"task": "off"}, "Task 'off' is disabled."),
    ],
)
async def test_what_cannot_be_is_said_in_upstreams_words(
    client: httpx.AsyncClient, over: dict[str, Any], error: str
) -> None:
    reply = await client.post(BASE, json=DAILY | over)
    assert reply.status_code == 422
    assert reply.json()["error"].startswith(error)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"cron": "0 0 * * *", "deduplicationKey": "k"}, ["task"]),
        ({**DAILY, "window": "90"}, ["window"]),
        ({**DAILY, "window": "25h"}, ["window"]),
        ({**DAILY, "cron": 5}, ["cron"]),
        ({"task": "echo", "cron": "0 0 * * *"}, ["deduplicationKey"]),
    ],
)
async def test_a_body_that_does_not_fit_is_400_with_the_path(
    client: httpx.AsyncClient, body: dict[str, Any], path: list[str]
) -> None:
    reply = await client.post(BASE, json=body)
    assert (reply.status_code, reply.json()["error"]) == (400, "Invalid request body")
    assert [issue["path"] for issue in reply.json()["issues"]] == [path]


async def test_pages_have_numbers(client: httpx.AsyncClient) -> None:
    ids = [(await made(client, deduplicationKey=f"k{n}"))["id"] for n in range(3)]
    page = (await client.get(BASE, params={"perPage": 2, "page": 2})).json()
    assert page["pagination"] == {"currentPage": 2, "totalPages": 2, "count": 3}
    assert [each["id"] for each in page["data"]] == ids[:1]
    assert (await client.get(BASE, params={"perPage": 101})).status_code == 400
    assert (await client.get(BASE, params={"page": 0})).status_code == 400
    stranger = {"authorization": "Bearer tr_prod_nobody"}
    assert (await client.get(BASE, headers=stranger)).status_code == 401


async def test_a_tick_tells_the_task_what_trigger_dev_would_and_waits_for_its_place_in_the_window(
    database_url: str, adapter: Adapter, client: httpx.AsyncClient
) -> None:
    shown = await made(client, cron="0 0 1 1 *", externalId="user_1", window="24h")
    schedule_id = own_id(SCHEDULE, shown["id"])
    assert schedule_id is not None
    async with rigged(database_url) as rig:
        at = await rig.value(
            "UPDATE {s}.job_schedules SET next_at = date_trunc('minute', now()) WHERE id = %(id)s RETURNING next_at",
            id=schedule_id,
        )
        assert await rig.adapter.firing.run_once() == 1
        [job] = await rig.sql("SELECT * FROM {s}.worker_jobs_open")
        assert job["due"] == at + offset_in("24h", schedule_id, timedelta(days=2))
        told = [at, *islice(Cron("0 0 1 1 *").after(at), 5)]
        iso = [f"{each:%Y-%m-%dT%H:%M}:00.000Z" for each in told]
        assert job["data"] == {
            "scheduleId": shown["id"],
            "type": "IMPERATIVE",
            "timestamp": iso[0],
            "externalId": "user_1",
            "timezone": "UTC",
            "upcoming": iso[1:],
        }


async def test_a_tick_at_trigger_dev_has_dates(database_url: str) -> None:
    async with rigged(database_url) as rig:
        made = await rig.adapter.schedule_cron("remote", "0 * * * *", sends_tick=True)
        await rig.sql("UPDATE {s}.job_schedules SET next_at = date_trunc('minute', now())")
        assert await rig.adapter.firing.run_once() == 1
        [job] = await rig.sql("SELECT * FROM {s}.worker_jobs_open WHERE schedule_id = %(id)s", id=made.id)
        await rig.dispatch(job["id"])
        [run] = rig.fake.runs.values()
        assert run.payload == job["data"]
        assert run.options["payloadType"] == "application/super+json"
        with pytest.raises(InvalidArgumentError):
            await rig.adapter.schedule_cron("remote", "0 * * * *", {"x": 1}, sends_tick=True)


async def test_what_the_registry_declares_is_shown_and_changed_there_only(database_url: str) -> None:
    made = Adapter(settings_for(database_url))

    async def sweep(_payload: Any) -> None: ...

    made.task("sweep", cron=Cron("30 3 * * *", "Europe/Berlin"))(sweep)
    async with made, as_client(made) as client:
        await made.firing.run_once()
        [shown] = (await client.get(BASE)).json()["data"]
        assert (shown["type"], shown["task"], shown["timezone"]) == ("DECLARATIVE", "sweep", "Europe/Berlin")
        assert shown["deduplicationKey"] is None
        one = f"{BASE}/{shown['id']}"
        changed = await client.put(one, json={"task": "sweep", "cron": "0 0 * * *"})
        assert (changed.status_code, changed.json()) == (
            422,
            {"error": "Cannot update a declarative schedule"},
        )
        assert (await client.delete(one)).status_code == 422
        assert (await client.post(f"{one}/deactivate")).json()["nextRun"] is None
        assert (await client.post(f"{one}/activate")).json()["active"] is True


def test_a_window_spreads_schedules_and_each_keeps_its_place() -> None:
    ids = [UUID(int=n) for n in range(200)]
    hour = timedelta(hours=1)
    offsets = [offset_in("30m", each, hour) for each in ids]
    assert offsets == [offset_in("30m", each, hour) for each in ids]
    assert min(offsets) < timedelta(minutes=3)
    assert timedelta(minutes=27) < max(offsets) < timedelta(minutes=30)
    assert [offset_in("50%", each, hour) for each in ids] == offsets
    # The interval bounds it: no tick is overtaken by the next.
    assert max(offset_in("24h", each, hour) for each in ids) < hour
    assert {offset_in("0m", new_id(), hour), offset_in("0%", new_id(), hour)} == {timedelta(0)}


@pytest.mark.parametrize("text", ["", "30", "30s", "-1m", "01m", "1441m", "25h", "101%", "1.5h", "30m "])
def test_a_window_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        check_window(text)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 0 L * *", "At 12:00 AM, on the last day of the month"),
        ("30 9 * * 1#2", "At 09:30 AM, on the second Monday of the month"),
        ("5/10 * * * *", "Every 10 minutes, starting at 5 minutes past the hour"),
        ("no cron at all", "no cron at all"),
    ],
)
def test_an_expression_is_said_in_words(cron: str, words: str) -> None:
    assert described(cron) == words
