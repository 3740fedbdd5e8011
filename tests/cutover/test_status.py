"""How a cutover stands, in one look."""

from typing import Any

from adapter import Adapter, Queue
from adapter.core.cutover.status import TaskStatus
from adapter.domain.destinations import Share
from tests.rig import Rig, rigged, usual_tasks


async def tasks(rig: Rig) -> dict[str, TaskStatus]:
    return {each.task: each for each in (await rig.adapter.cutover_status()).tasks}


async def test_where_jobs_go_by_whose_doing_and_what_is_open_where(rig: Rig) -> None:
    await rig.adapter.schedule_job("both")
    await rig.adapter.schedule_job("both", executor="trigger")
    await rig.adapter.schedule_job("remote")
    await rig.adapter.rollout("both", to="trigger", percent=10, reason="week 1", actor="ann")
    made = await rig.adapter.rollout("both", to="trigger", percent=25, reason="week 2", actor="bob")
    found = await tasks(rig)
    both = found["both"]
    assert (both.shares, both.rule) == (
        (Share("trigger", 25), Share("local", 75)),
        "rollout by tag; else default",
    )
    assert both.open == {"local": 1, "trigger": 1}
    assert both.flag is not None
    assert (both.flag.actor, both.flag.reason, both.flag.version) == ("bob", "week 2", made.version)
    assert (found["remote"].shares, found["remote"].rule) == ((Share("trigger", 100),), "registry")
    assert found["remote"].flag is None
    await rig.adapter.kill(reason="INC-7", actor="eve")
    killed = (await tasks(rig))["both"]
    assert (killed.shares, killed.rule) == ((Share("local", 100),), "kill switch: runtime, all tasks")
    assert killed.flag is not None
    assert (killed.flag.actor, killed.flag.reason) == ("eve", "INC-7")


async def test_a_rollout_back_to_local_from_a_remote_default(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("moved", remote_id={"trigger": "moved"}, executor="trigger")
        async def moved(payload: Any) -> None:
            del payload

        del moved

    async with rigged(database_url, declare) as rig:
        await rig.adapter.rollout("moved", to="internal", percent=30, reason="home again")
        jobs = [await rig.adapter.schedule_job("moved", tag=f"t{n}") for n in range(40)]
        here = [job for job in jobs if job.executor == "local"]
        assert 4 <= len(here) <= 20
        assert all((job.job.route_reason or "").startswith("rollout 30% to local") for job in here)
        assert {job.executor for job in jobs} == {"local", "trigger"}
        assert (await tasks(rig))["moved"].shares == (Share("local", 30), Share("trigger", 70))
        await rig.adapter.rollout("moved", to="local", percent=100, reason="all of it")
        assert (await tasks(rig))["moved"].shares == (Share("local", 100),)


async def test_a_partial_rollout_says_that_limits_add_up(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("mail", remote_id={"trigger": "mail"}, queue=Queue("mail", 5))
        async def mail(payload: Any) -> None:
            del payload

        del mail

    async with rigged(database_url, declare) as rig:
        await rig.work()
        assert (await rig.adapter.cutover_status()).warnings == []
        await rig.adapter.rollout("mail", to="trigger", percent=50, reason="half")
        (warning,) = (await rig.adapter.cutover_status()).warnings
        assert warning.startswith(
            "mail: the limits of queue 'mail' (concurrency_limit 5) hold here, those of trigger there"
        )
        assert (await rig.adapter.explain("mail")).notes == [warning]
        await rig.adapter.rollout("mail", to="trigger", percent=100, reason="all")
        assert (await rig.adapter.cutover_status()).warnings == []


async def test_what_a_switch_would_hold_up_is_a_warning(rig: Rig) -> None:
    await rig.adapter.kill(reason="INC-7")
    warnings = (await rig.adapter.cutover_status()).warnings
    assert any("remote cannot run at local; its jobs wait for local" in each for each in warnings)
    assert not any("both cannot run" in each for each in warnings)


async def test_can_we_still_go_back_stands_beside_what_was_moved(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("moved", remote_id={"trigger": "moved"}, executor="trigger")
        async def moved(payload: Any) -> None:
            del payload

        del moved

    async with rigged(database_url, declare) as rig:

        async def back() -> list[tuple[str, str, str]]:
            found = (await rig.adapter.cutover_status()).ways_back
            return [(each.executor, each.task, each.verdict) for each in found]

        assert await back() == [], "nothing was moved"
        await rig.adapter.rollout("moved", to="local", percent=100, reason="home")
        await rig.adapter.rollout("both", to="trigger", percent=25, reason="week 1")
        assert await back() == [("local", "both", "failed"), ("trigger", "moved", "passed")]
        await rig.work()
        assert await back() == [("local", "both", "passed"), ("trigger", "moved", "passed")]
        await rig.adapter.open_circuit("moved", executor="trigger", reason="INC-7")
        assert (await back())[1] == ("trigger", "moved", "failed")
        await rig.sql(
            "INSERT INTO {s}.finalizations (executor, task, actor, source, reason, gates, accepted)"
            " VALUES ('trigger', 'moved', 'ann', 'api', 'done', '[]', '{}')"
        )
        assert await back() == [("local", "both", "passed")]
