"""A recall is killed at every step, and whoever goes on with it ends right."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from adapter.core.cutover import recall as recall_module
from adapter.domain.recall import RecallState
from adapter.store import recalls, settling, taking_back
from tests import kit
from tests.cutover.recalled import back, recalling, sent, where
from tests.fakes.trigger_engine import FakeRun
from tests.rig import Rig, new_id


class KilledError(BaseException):
    """The process is gone."""


class Story(NamedTuple):
    """One job of each kind that a recall meets."""

    unsent: UUID
    queued: UUID
    uncertain: UUID
    started: UUID
    run: FakeRun


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with recalling(database_url) as made:
        yield made


async def story(rig: Rig) -> Story:
    queued, _ = await sent(rig)
    started, run = await sent(rig)
    rig.fake.start(run.id)
    uncertain = await rig.adapter.schedule_job("fragile", 1, executor="trigger")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(uncertain.id)
    unsent = await rig.adapter.schedule_job("fragile", 1, executor="trigger", delay=timedelta(hours=1))
    return Story(unsent.id, queued, uncertain.id, started, run)


#: What a recall commits, and what it asks of others, in the order in which it does.
STEPS = [
    (recalls, "begin"),
    ("steering", "kill"),
    (recalls, "turn"),
    (taking_back, "move_unsent"),
    (taking_back, "mark"),
    ("trigger", "retrieve"),
    (recalls, "ask"),
    ("trigger", "cancel"),
    (settling, "settled"),
    (recalls, "leave"),
    ("trigger", "submit_tombstone"),
    (settling, "proven_absent"),
    (recalls, "release"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
async def test_killed_at_every_step_it_ends_right(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
) -> None:
    jobs = await story(rig)
    target: Any = owner
    if owner == "steering":
        target = rig.adapter.steering
    elif owner == "trigger":
        target = rig.adapter.executors.by_name["trigger"]
    real = getattr(target, step)

    async def dies(*arguments: Any, **named: Any) -> Any:
        if after:
            await real(*arguments, **named)
        raise KilledError

    async def lost(*_: Any, **__: Any) -> None:
        """A process that is killed gives nothing back."""

    with monkeypatch.context() as patched:
        patched.setattr(recalls, "release", lost)
        patched.setattr(target, step, dies)
        with pytest.raises((KilledError, BaseExceptionGroup)):
            await back(rig)
    # The lease is over; another process takes it up, or the command is given again.
    await rig.sql(
        "UPDATE {s}.recalls SET held_until = now() - interval '1 second' WHERE held_until IS NOT NULL"
    )
    await rig.sql("UPDATE {s}.recall_jobs SET next_at = now()")
    await rig.sql("UPDATE {s}.worker_jobs_open SET dispatch_lease_until = now() - interval '1 second'")
    rig.adapter.recaller._holder = new_id()
    await rig.adapter.recaller.run_once()
    report = await back(rig)
    await rig.adapter.reconcile()
    assert report.is_done
    assert await where(rig, jobs.unsent) == ("DELAYED", "local", 2)
    assert await where(rig, jobs.queued) == ("QUEUED", "local", 2)
    assert await where(rig, jobs.uncertain) == ("QUEUED", "local", 2)
    assert await where(rig, jobs.started) == ("EXECUTING", "trigger", 1)
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE recall_id IS NOT NULL") == 0
    assert (await rig.adapter.flags()).kill_runtime == {"fragile": "local"}
    assert {run.status for run in rig.fake.runs.values()} == {"CANCELED", "EXECUTING"}


async def test_a_stopped_recall_leaves_what_it_has_not_asked_for_and_goes_on_when_told(rig: Rig) -> None:
    first, _ = await sent(rig)
    second, run = await sent(rig)
    deaf: Any = rig.adapter.executors.by_name["trigger"]
    real = deaf.retrieve

    async def hears_only_the_first(run_id: str) -> Any:
        if run_id == run.id:
            raise recall_module.ExecutorError("not now")
        return await real(run_id)

    deaf.retrieve = hears_only_the_first
    report = await back(rig, timeout=timedelta(0))
    assert (report.state, report.outcomes) == (RecallState.RUNNING, {"moved": 1, "open": 1})
    assert report.recall_id is not None
    stopped = await rig.adapter.stop_recall(report.recall_id)
    assert (stopped.state, stopped.left, run.status) == (RecallState.STOPPED, [second], "QUEUED")
    deaf.retrieve = real
    assert (await rig.adapter.claim_start(second, 1, run.id, 1)).claimed is True
    third, _ = await sent_behind_the_switch(rig)
    again = await rig.adapter.resume_recall(report.recall_id)
    assert (again.state, again.outcomes) == (RecallState.DONE, {"moved": 2})
    assert (await where(rig, first))[1] == (await where(rig, third))[1] == "local"
    assert await where(rig, second) == ("EXECUTING", "trigger", 1)


async def sent_behind_the_switch(rig: Rig) -> tuple[UUID, FakeRun]:
    await rig.adapter.clear_flag("kill", "fragile", reason="test")
    return await sent(rig)


async def test_a_stopped_recall_sees_its_own_cancels_through(rig: Rig) -> None:
    job_id, run = await sent(rig)
    remote: Any = rig.adapter.executors.by_name["trigger"]
    real = remote.cancel

    async def is_slow(_: str) -> None:
        """Taken, and not done yet."""

    remote.cancel = is_slow
    report = await back(rig, timeout=timedelta(0))
    assert report.recall_id is not None
    stopping = await rig.adapter.stop_recall(report.recall_id, timeout=timedelta(0))
    assert (stopping.state, await rig.status(job_id)) == (RecallState.STOPPING, "QUEUED")
    remote.cancel = real
    await rig.sql("UPDATE {s}.recall_jobs SET next_at = now()")
    stopped = await rig.adapter.stop_recall(report.recall_id)
    assert (stopped.state, run.status) == (RecallState.STOPPED, "CANCELED")
    # What we canceled must not pass for somebody's wish.
    assert await where(rig, job_id) == ("QUEUED", "local", 2)


_DIES = """
import asyncio, os, signal, sys
from pydantic import SecretStr
from adapter import Adapter, Settings
from adapter.executors.trigger_dev import TriggerDev
from tests.cutover.recalled import tasks

class Dies(TriggerDev):
    async def retrieve(self, run_id):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    remote = Dies(secret_key=sys.argv[2], api_url="http://127.0.0.1:9", requests_per_minute=0, environment=sys.argv[3])
    adapter = Adapter(Settings(database_url=SecretStr(sys.argv[1])), executors=[remote])
    tasks(adapter)
    async with adapter:
        await adapter.rollback("fragile", mode="recall-unstarted", reason="INC-7")

asyncio.run(main())
"""


async def test_what_a_killed_process_has_begun_is_taken_up_by_one_with_sync_loops(rig: Rig) -> None:
    job_id, run = await sent(rig)
    environment = rig.adapter.executors.by_name["trigger"].environment
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _DIES,
        rig.url,
        "tr_prod_0123456789",
        environment,
        cwd=kit.ROOT,
    )
    assert await process.wait() == -signal.SIGKILL
    row = await rig.row(job_id)
    assert (row["recall_to"], row["epoch"], run.status) == ("local", 1, "QUEUED")
    async with rig.adapter.running(dispatch=False):
        # Its lease is not over yet.
        assert await rig.adapter.recaller.run_once() == 0
        await rig.sql("UPDATE {s}.recalls SET held_until = now()")
        await kit.eventually(lambda: came_back(rig, job_id))
    assert (await rig.adapter.recalls())[0].state is RecallState.DONE


async def came_back(rig: Rig, job_id: UUID) -> bool:
    done = (await rig.adapter.recalls())[0].state is RecallState.DONE
    return done and await where(rig, job_id) == ("QUEUED", "local", 2)
