"""The rollback drill: what it measures, and that the flag is put back whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, LiteralString

import pytest

from adapter.core.cutover import drilling
from adapter.domain.drill import Drill, DrillState
from adapter.domain.errors import AdapterError, DrillConflictError, InvalidArgumentError
from adapter.domain.gates import Verdict
from tests.kit import eventually
from tests.rig import Rig, rigged

SHORT = timedelta(milliseconds=400)
LONG = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drilling, "_TICK_S", 0.05)


async def running(rig: Rig) -> bool:
    return bool(await rig.sql("SELECT id FROM {s}.drills WHERE state = 'running'"))


async def drill(
    rig: Rig, during: Callable[[], Awaitable[Any]] | None = None, task: str = "both", **options: Any
) -> Drill:
    given: dict[str, Any] = {"hold": SHORT, "reason": "monthly", "actor": "ann"} | options
    begun = asyncio.get_running_loop().create_task(rig.adapter.drill(task, **given))
    await eventually(lambda: running(rig))
    if during is not None:
        await during()
    return await begun


async def kills(rig: Rig) -> list[tuple[str, str, str, str]]:
    found = await rig.adapter.steering.entries()
    return [(each.task, each.executor, each.reason, each.actor) for each in found if each.kind == "kill"]


def failed(made: Drill) -> dict[str, str]:
    assert made.measured is not None
    return {each.name: each.says for each in made.measured.checks if each.verdict is not Verdict.PASSED}


async def test_new_jobs_go_back_for_a_while_and_the_flags_are_as_they_were(rig: Rig) -> None:
    await rig.adapter.rollout("both", to="trigger", percent=100, reason="all")
    before = await rig.adapter.steering.entries()
    went = list[str | None]()

    async def during() -> None:
        went.extend([(await rig.adapter.schedule_job("both")).job.executor for _ in range(3)])

    made = await drill(rig, during)
    assert (made.state, made.task, made.target) == (DrillState.PASSED, "both", "local")
    assert made.measured is not None
    assert (made.measured.jobs, made.measured.stopped_after) == (3, None)
    assert made.finished_at is not None
    assert SHORT <= made.finished_at - made.started_at < timedelta(seconds=30)
    assert went == ["local"] * 3
    assert await rig.adapter.steering.entries() == before
    assert (await rig.adapter.schedule_job("both")).job.executor == "trigger"
    assert [each.source for each in await rig.adapter.cutover_history("both")][:2] == ["drill", "api"]
    assert await rig.adapter.drills("both") == [made]


async def test_a_switch_that_was_set_is_put_back_with_its_reason_and_who_set_it(rig: Rig) -> None:
    await rig.adapter.kill("both", to="trigger", reason="INC-7", actor="bob")
    await drill(rig)
    assert await kills(rig) == [("both", "trigger", "INC-7", "bob")]


async def test_without_a_job_nothing_was_measured(rig: Rig) -> None:
    made = await drill(rig)
    assert made.state is DrillState.INCONCLUSIVE
    assert list(failed(made)) == ["stopped"]


@pytest.mark.parametrize(("after", "state"), [(0.2, DrillState.PASSED), (1.5, DrillState.FAILED)])
async def test_the_last_job_elsewhere_is_timed_by_the_database(
    rig: Rig, after: float, state: DrillState
) -> None:
    async def during() -> None:
        job = await rig.adapter.schedule_job("both")
        await rig.sql(
            "UPDATE {s}.worker_jobs_open j SET executor = 'trigger', created_at = d.started_at + %(after)s * interval '1 second'"
            " FROM {s}.drills d WHERE j.id = %(id)s",
            id=job.id,
            after=after,
        )

    made = await drill(rig, during)
    assert made.state is state
    assert made.measured is not None
    assert made.measured.stopped_after == pytest.approx(after)


async def test_a_job_that_was_moved_here_afterwards_was_assigned_elsewhere_all_the_same(rig: Rig) -> None:
    async def during() -> None:
        job = await rig.adapter.schedule_job("both")
        await rig.set(job.id, "created_at = created_at + interval '20 seconds'")
        await rig.sql(
            "INSERT INTO {s}.job_events (job_id, epoch, kind, detail) VALUES (%(id)s, 1, 'rerouted',"
            """ '{"from": "trigger", "to": "local"}')""",
            id=job.id,
        )

    assert list(failed(await drill(rig, during))) == ["stopped"]


DOUBLED: LiteralString = """
INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, started_at)
SELECT 'trigger', 'run_x', id, 1, now() FROM {s}.worker_jobs_open
"""


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("DELETE FROM {s}.worker_jobs_open", "not lost"),
        ("UPDATE {s}.worker_jobs_open SET status = 'WAITING', waiting_for = 'executor'", "runs there"),
        (DOUBLED, "one executor"),
    ],
)
async def test_what_must_not_happen_fails_a_drill(rig: Rig, damage: LiteralString, check: str) -> None:
    noted = list[Any]()
    real = drilling.drills.seen

    async def during() -> None:
        job = await rig.adapter.schedule_job("both")
        await rig.set(job.id, "started = now()")
        await eventually(lambda: noted)
        await rig.sql(damage)

    async def seen(*arguments: Any) -> Any:
        noted.extend(found := await real(*arguments))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drilling.drills, "seen", seen)
        made = await drill(rig, during)
    assert made.state is DrillState.FAILED
    assert check in failed(made)


@pytest.mark.parametrize("to", ["trigger", "local"])
async def test_a_flag_that_somebody_turns_meanwhile_stays(rig: Rig, to: str) -> None:
    made = await drill(rig, lambda: rig.adapter.kill("both", to=to, reason="INC-7", actor="eve"), hold=LONG)
    assert made.state is DrillState.OVERTAKEN
    assert await kills(rig) == [("both", to, "INC-7", "eve")]


async def test_a_second_drill_of_a_task_waits_for_nothing_and_changes_nothing(rig: Rig) -> None:
    async def during() -> None:
        before = await rig.adapter.cutover_history()
        with pytest.raises(DrillConflictError):
            await rig.adapter.drill("both", hold=SHORT, to="trigger", reason="again")
        assert await rig.adapter.cutover_history() == before

    assert (await drill(rig, during)).state is DrillState.INCONCLUSIVE


async def test_told_to_stop_it_puts_the_flag_back_first(rig: Rig) -> None:
    begun = asyncio.get_running_loop().create_task(rig.adapter.drill("both", hold=LONG, reason="monthly"))
    await eventually(lambda: running(rig))
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    assert await kills(rig) == []
    assert [each.state for each in await rig.adapter.drills()] == [DrillState.INTERRUPTED]


async def test_what_nobody_holds_is_put_back_once_by_whoever_comes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, real = asyncio.Event(), drilling.drills.renew

    async def stands_still(*arguments: Any) -> float | None:
        await goes_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(drilling.drills, "renew", stands_still)
    async with asyncio.TaskGroup() as group:
        begun = group.create_task(rig.adapter.drill("both", hold=LONG, reason="monthly"))
        await eventually(lambda: running(rig))
        assert await rig.adapter.drilling.settle() == []
        await rig.sql("UPDATE {s}.drills SET held_until = now() - interval '1 second'")
        async with rigged(rig.url) as other:
            settled = await asyncio.gather(
                *(each.adapter.drilling.settle() for each in (rig, other, rig, other))
            )
        assert any(settled)
        goes_on.set()
    assert begun.result().state is DrillState.INTERRUPTED
    assert await kills(rig) == []
    changes = await rig.adapter.cutover_history("both")
    assert [each.source for each in changes] == ["drill", "api"]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("*", {}),
        ("nope", {}),
        ("remote", {}),
        ("both", {"to": "mars"}),
        ("both", {"hold": timedelta(0)}),
        ("both", {"hold": timedelta(days=2)}),
        ("both", {"reason": " "}),
    ],
)
async def test_what_makes_no_sense_changes_nothing(rig: Rig, task: str, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"hold": SHORT, "reason": "monthly"} | options
    with pytest.raises(AdapterError):
        await rig.adapter.drill(task, **given)
    assert await rig.adapter.cutover_history() == []
    assert await rig.adapter.drills() == []


async def test_a_switch_of_the_environment_leaves_nothing_to_drill(database_url: str) -> None:
    async with rigged(database_url, kill_switches={"both": "trigger"}) as rig:
        with pytest.raises(InvalidArgumentError, match="kill switch: environment"):
            await rig.adapter.drill("both", hold=SHORT, reason="monthly")
