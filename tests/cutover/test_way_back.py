"""Can we still go back? By what workers say, what queues let through, and what the registry names."""

from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, Queue, Rate
from adapter.domain.errors import UnknownExecutorError, UnknownTaskError
from adapter.domain.gates import Verdict
from tests.rig import Rig, rigged, usual_tasks


async def back(rig: Rig, task: str = "both", to: str = "local") -> dict[str, str]:
    (found,) = await rig.adapter.can_go_back(task, to=to)
    return {each.name: each.says for each in found.checks if each.verdict is not Verdict.PASSED}


async def test_without_a_living_worker_there_is_no_way_back_to_here(rig: Rig) -> None:
    assert (await back(rig))["worker"] == "no worker is alive"
    await rig.work()
    assert await back(rig) == {}
    (found,) = await rig.adapter.can_go_back("both")
    assert found.verdict is Verdict.PASSED
    await rig.sql("UPDATE {s}.workers SET seen_at = now() - interval '1 hour'")
    assert (await back(rig))["worker"] == "no worker is alive"


async def test_living_workers_that_lost_the_handler_are_no_way_back(rig: Rig) -> None:
    await rig.work()
    await rig.sql("UPDATE {s}.advertised_tasks SET seen_at = now() - interval '1 hour' WHERE task = 'both'")
    assert "a worker had, and none has now" in (await back(rig))["worker"]
    assert await back(rig, "echo") == {}
    assert "none ever had" in (await back(rig, "remote"))["worker"]


async def test_workers_that_take_another_payload_are_no_way_back(rig: Rig) -> None:
    await rig.work()
    await rig.sql("UPDATE {s}.advertised_tasks SET schema_hash = 'another' WHERE task = 'both'")
    assert await back(rig) == {"schema": "the workers take another payload than this application sends"}


def mail(adapter: Adapter, queue: Queue) -> None:
    @adapter.task("mail", remote_id={"trigger": "mail"}, queue=queue)
    async def send(payload: Any) -> None:
        del payload

    del send


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        (Queue("mail", 3), ""),
        (Queue("mail", 1), "lets 1 run"),
        (Queue("mail", rate=Rate(1, per=timedelta(minutes=10))), "starts at most 1 per 600 s"),
        (Queue("mail", rate=Rate(100, per=timedelta(minutes=10))), ""),
        (Queue("mail"), ""),
    ],
)
async def test_what_comes_in_is_held_against_the_queue(database_url: str, queue: Queue, says: str) -> None:
    async with rigged(database_url, lambda adapter: mail(adapter, queue)) as rig:
        for _ in range(3):
            await rig.adapter.schedule_job("mail")
        await rig.work()
        assert await back(rig, "mail") == {} or queue.rate is not None
        # Three in a quarter of an hour, of ten minutes each: two at once.
        await rig.work(3)
        await rig.sql("UPDATE {s}.worker_jobs_finished SET started = finished - interval '10 minutes'")
        assert says in (await back(rig, "mail")).get("capacity", "")
        assert (await back(rig, "mail") == {}) == (says == "")
        await rig.adapter.pause_queue("mail", reason="x", actor="ann")
        assert (await back(rig, "mail"))["capacity"] == "queue 'mail' is paused"


async def test_how_long_jobs_run_is_not_known_before_one_has_ended(database_url: str) -> None:
    async with rigged(database_url, lambda adapter: mail(adapter, Queue("mail", 3))) as rig:
        await rig.work()
        await rig.adapter.schedule_job("mail", executor="trigger")
        (found,) = await rig.adapter.can_go_back("mail")
        assert found.verdict is Verdict.UNKNOWN
        assert "nobody knows how long" in (await back(rig, "mail"))["capacity"]


async def test_a_remote_needs_a_name_and_a_closed_circuit(rig: Rig) -> None:
    assert await back(rig, to="trigger") == {}
    assert "no name of it" in (await back(rig, "echo", to="trigger"))["name"]
    await rig.adapter.open_circuit("*", executor="trigger", reason="x")
    assert "is open" in (await back(rig, to="trigger"))["circuit"]


async def test_every_enabled_task_is_asked_for_at_once(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)
        adapter.remote_task("off", executor="trigger", enabled=False)

    async with rigged(database_url, declare) as rig:
        found = await rig.adapter.can_go_back(to="trigger")
        assert [each.task for each in found] == ["both", "echo", "idempotent", "remote"]
        with pytest.raises(UnknownExecutorError):
            await rig.adapter.can_go_back(to="mars")
        with pytest.raises(UnknownTaskError):
            await rig.adapter.can_go_back("nope")
