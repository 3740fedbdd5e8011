"""I6: flags steer and never touch; a scheduling call never decides with a stale snapshot."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from adapter import Adapter, JobSpec, JobStatus
from adapter.core import scheduling
from adapter.domain.clock import SystemClock
from adapter.domain.errors import FlagConflictError, InvalidArgumentError, UnknownExecutorError
from adapter.domain.job import NewJob
from adapter.store import flag_changes
from adapter.store.flag_changes import Author
from adapter.store.inserting import Inserted
from adapter.store.rows import Written
from adapter.store.steps import Statement, Steps
from tests.fakes.clock import ManualClock
from tests.rig import Rig, rigged, usual_tasks


async def _turn(rig: Rig, task: str = "both", to: str = "trigger", **over: Any) -> None:
    """Turn a kill switch as another process would: this one is told nothing."""
    given: dict[str, Any] = {"kind": "kill", "task": task, "executor": to, "value": {}}
    async with await psycopg.AsyncConnection[DictRow].connect(
        rig.url, autocommit=True, row_factory=dict_row
    ) as conn:
        await flag_changes.change(conn, rig.schema, Author("INC-1", "ann", "test"), **(given | over))


async def test_a_flag_turned_between_decision_and_insert_is_decided_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserts: list[list[tuple[str, int]]] = []
    real = scheduling.insert

    def insert(jobs: Sequence[NewJob], version: int) -> Steps[Inserted]:
        result = yield from real(jobs, version)
        inserts.append([(job.executor, len(result.jobs)) for job in jobs])
        return result

    at_once = scheduling.insert_plain

    def insert_plain(jobs: Sequence[NewJob], version: int) -> Steps[list[Written]]:
        written = yield from at_once(jobs, version)
        inserts.append([(job.executor, len(written)) for job in jobs])
        return written

    monkeypatch.setattr(scheduling, "insert", insert)
    monkeypatch.setattr(scheduling, "insert_plain", insert_plain)
    await rig.adapter.schedule_job("both")
    await _turn(rig)
    job = await rig.adapter.schedule_job("both")
    assert inserts == [[("local", 1)], [("local", 0)], [("trigger", 1)]]
    assert (job.executor, job.route_reason) == ("trigger", "kill switch: runtime, this task")
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 2


async def test_a_whole_batch_is_decided_again(rig: Rig) -> None:
    echo = rig.adapter.registry.get("both").id
    await rig.adapter.schedule_job("both")
    await _turn(rig)
    specs = [JobSpec(echo, n) for n in range(2500)]
    jobs = await rig.adapter.schedule_specs(specs)
    assert {job.executor for job in jobs} == {"trigger"}
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE executor = 'trigger'") == 2500


async def test_a_batch_of_one_statement_is_in_with_fresh_flags_or_not_at_all(rig: Rig) -> None:
    await rig.adapter.schedule_job("both")
    await _turn(rig)
    jobs = await rig.adapter.schedule_specs([JobSpec("both", n) for n in range(700)])
    assert {job.executor for job in jobs} == {"trigger"}
    assert [job.job.data for job in jobs] == list(range(700))
    rows = await rig.sql("SELECT id, data FROM {s}.worker_jobs_open WHERE executor = 'trigger'")
    assert {row["id"]: row["data"] for row in rows} == {job.id: job.job.data for job in jobs}


async def test_a_snapshot_is_used_for_one_second_at_most(database_url: str) -> None:
    clock = ManualClock(SystemClock().now())
    async with rigged(database_url, clock=clock) as rig:
        flags = rig.adapter._flags
        await rig.adapter.schedule_job("both")
        clock.advance(0.99)
        assert flags.fresh is not None
        clock.advance(0.02)
        assert flags.fresh is None
        await _turn(rig)
        assert (await rig.adapter.schedule_job("both")).executor == "trigger"


async def test_the_age_counts_from_before_the_snapshot_was_read(database_url: str) -> None:
    clock = ManualClock(SystemClock().now())
    async with rigged(database_url, clock=clock) as rig:
        reading = rig.adapter._flags.reading()
        statement = next(reading)
        clock.advance(5)
        assert isinstance(statement, Statement)
        rows = await rig.sql(statement.template)
        with pytest.raises(StopIteration):
            reading.send(rows)
        assert rig.adapter._flags.fresh is None


async def test_in_a_callers_repeatable_read_flags_are_as_of_its_snapshot(rig: Rig) -> None:
    conn = await psycopg.AsyncConnection.connect(rig.url)
    async with conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await conn.execute("SELECT 1")
        await _turn(rig)
        assert (await rig.adapter.schedule_job("both")).executor == "trigger"
        inside = await rig.adapter.schedule_job("both", within=conn)
        assert inside.executor == "local"
        # What this snapshot shows is for this transaction alone.
        assert (await rig.adapter.schedule_job("both")).executor == "trigger"
        flags = rig.adapter._flags.fresh
        assert flags is not None
        assert flags.kill_runtime == {"both": "trigger"}


async def test_a_flag_that_never_stands_still_is_an_error_and_writes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(jobs: Sequence[NewJob], version: int) -> Steps[Inserted]:
        yield from ()
        return Inserted({}, list(jobs))

    def never_at_once(jobs: Sequence[NewJob], version: int) -> Steps[list[Written]]:
        yield from ()
        return []

    monkeypatch.setattr(scheduling, "insert", never)
    monkeypatch.setattr(scheduling, "insert_plain", never_at_once)
    with pytest.raises(FlagConflictError):
        await rig.adapter.schedule_job("both")


async def test_a_kill_switch_turned_elsewhere_holds_the_dispatcher(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", executor="trigger")
    await _turn(rig, to="local")
    assert rig.adapter._flags.fresh is not None, "the dispatcher would go by this snapshot"
    await rig.dispatch()
    assert not rig.fake.runs
    rig.adapter._flags.forget()
    await rig.dispatch()
    row = await rig.row(job.id)
    assert (row["executor"], row["epoch"], row["status"]) == ("local", 2, "QUEUED")
    assert await rig.events(job.id) == ["rerouted"]
    assert row["route_reason"] == "call"


async def test_a_switch_turned_while_a_claimed_job_waits_for_its_turn_keeps_it_here(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await rig.adapter.schedule_job("both", executor="trigger")
    take = rig.adapter.budgets.take

    async def turned_meanwhile(executor: Any, share: str, *, longest: timedelta) -> bool:
        await rig.adapter.kill("both", to="local", reason="INC-7")
        return await take(executor, share, longest=longest)

    with monkeypatch.context() as patch:
        patch.setattr(rig.adapter.budgets, "take", turned_meanwhile)
        await rig.dispatch()
    row = await rig.row(job.id)
    assert (row["submit_state"], row["executor"], len(rig.fake.runs)) == ("never", "trigger", 0)
    await rig.dispatch()
    row = await rig.row(job.id)
    assert (row["executor"], row["epoch"], row["status"]) == ("local", 2, "QUEUED")


async def test_a_flag_moves_no_job_that_runs_or_has_left(rig: Rig) -> None:
    sent, run = await rig.sent("both", executor="trigger")
    local = await rig.adapter.schedule_job("both")
    await rig.claim()
    await rig.adapter.kill("both", to="trigger", reason="x")
    await rig.dispatch()
    await rig.adapter.kill("both", to="local", reason="x")
    await rig.dispatch()
    assert [
        (row["executor"], row["epoch"], row["status"])
        for row in (await rig.row(sent), await rig.row(local.id))
    ] == [
        ("trigger", 1, "QUEUED"),
        ("local", 1, "EXECUTING"),
    ]
    assert run.status == "QUEUED"


async def test_an_open_circuit_keeps_rows_here_and_closing_it_lets_them_go(rig: Rig) -> None:
    await _turn(rig, kind="circuit", task="*", to="trigger")
    rig.adapter._flags.forget()
    job = await rig.adapter.schedule_job("remote")
    assert (job.status, job.route_reason) == (JobStatus.PENDING, "registry; circuit open")
    await rig.dispatch()
    assert (await rig.row(job.id))["submit_state"] == "never"
    await rig.adapter.clear_flag("circuit", "*", executor="trigger", reason="healthy")
    await rig.dispatch()
    assert (await rig.row(job.id))["submit_state"] == "accepted"


async def test_an_open_circuit_goes_to_the_fallback_unless_the_call_is_strict(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("falls", executor="trigger", fallback="local")
        async def falls(payload: Any) -> Any:
            return payload

        del falls

    async with rigged(database_url, declare) as rig:
        await _turn(rig, kind="circuit", task="falls", to="trigger")
        rig.adapter._flags.forget()
        jobs = [
            await rig.adapter.schedule_job("falls"),
            await rig.adapter.schedule_job("falls", executor="trigger"),
            await rig.adapter.schedule_job("falls", executor="trigger", strict=True),
        ]
        assert [job.executor for job in jobs] == ["local", "local", "trigger"]


async def test_every_change_is_audited_and_the_audit_cannot_be_changed(rig: Rig) -> None:
    await rig.adapter.kill("both", reason="INC-7", actor="ann")
    await rig.adapter.clear_flag("kill", "both", reason="over", actor="bob")
    rows = await rig.sql(
        "SELECT kind, task, actor, reason, before ->> 'executor' AS b, after ->> 'executor' AS a"
        " FROM {s}.flag_changes ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("kill", "both", "ann", "INC-7", None, "local"),
        ("kill", "both", "bob", "over", "local", None),
    ]
    for statement in ("UPDATE {s}.flag_changes SET actor = 'eve'", "DELETE FROM {s}.flag_changes"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            await rig.sql(statement)


@pytest.mark.parametrize("reason", ["", "   "])
async def test_a_change_needs_a_reason(rig: Rig, reason: str) -> None:
    before = await rig.value("SELECT version FROM {s}.flags_state")
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.kill("both", reason=reason)
    assert await rig.value("SELECT version FROM {s}.flags_state") == before


async def test_a_change_over_somebody_elses_is_refused(rig: Rig) -> None:
    made = await rig.adapter.kill("both", to="trigger", reason="x", actor="ann", expected_version=0)
    with pytest.raises(FlagConflictError, match="by ann"):
        await rig.adapter.kill("both", to="local", reason="y", actor="bob", expected_version=0)
    with pytest.raises(FlagConflictError):
        await rig.adapter.clear_flag("kill", "both", reason="y", expected_version=made.version - 1)
    assert await rig.adapter.clear_flag("kill", "both", reason="y", expected_version=made.version)


async def test_the_salt_of_a_rollout_is_made_once_and_survives_a_clear(rig: Rig) -> None:
    async def salt() -> Any:
        return (await rig.sql("SELECT salt FROM {s}.executor_flags WHERE kind = 'rollout'"))[0]["salt"]

    await rig.adapter.rollout("both", to="trigger", percent=10, reason="start")
    first = await salt()
    await rig.adapter.rollout("both", to="trigger", percent=20, reason="more")
    assert await salt() == first
    await rig.adapter.clear_flag("rollout", "both", executor="trigger", reason="stop")
    await rig.adapter.rollout("both", to="trigger", percent=5, reason="again")
    assert await salt() == first


async def test_raising_a_percentage_only_adds_and_lowering_it_removes_the_last(rig: Rig) -> None:
    async def chosen(percent: float) -> set[str]:
        await rig.adapter.rollout("both", to="trigger", percent=percent, reason="x")
        found = [await rig.adapter.explain("both", tag=f"t{n}") for n in range(100)]
        return {f"t{n}" for n, each in enumerate(found) if each.route.executor == "trigger"}

    ten, forty, ten_again = await chosen(10), await chosen(40), await chosen(10)
    assert ten < forty
    assert ten_again == ten


async def test_a_switch_of_the_environment_beats_the_call_and_a_runtime_row(database_url: str) -> None:
    async with rigged(database_url, kill_switches={"BOTH": "internal"}) as rig:
        await rig.adapter.kill("both", to="trigger", reason="x")
        job = await rig.adapter.schedule_job("both", executor="trigger")
        assert (job.executor, job.route_reason) == ("local", "kill switch: environment, this task")


async def test_a_mounted_file_is_read_again_when_it_changes(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "switches.toml"
    clock = ManualClock(SystemClock().now())
    async with rigged(database_url, clock=clock, kill_switch_file=file) as rig:
        assert (await rig.adapter.schedule_job("both")).executor == "local"
        file.write_text('"*" = "trigger"')
        clock.advance(2)
        job = await rig.adapter.schedule_job("both")
        assert (job.executor, job.route_reason) == ("trigger", "kill switch: file, all tasks")
        file.write_text("not toml at all [")
        clock.advance(2)
        assert (await rig.adapter.schedule_job("both")).executor == "trigger"
        file.unlink()
        clock.advance(2)
        assert (await rig.adapter.schedule_job("both")).executor == "local"


async def test_a_switch_that_names_an_unknown_executor_refuses_to_start(database_url: str) -> None:
    with pytest.raises(UnknownExecutorError):
        async with rigged(database_url, kill_switches={"*": "nowhere"}):
            pass


async def test_a_killed_task_that_cannot_run_there_waits_or_stays(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)
        adapter.remote_task("keeps", executor="trigger", on_kill="keep")

    async with rigged(database_url, declare, kill_switches={"*": "local"}) as rig:
        waits = await rig.adapter.schedule_job("remote")
        stays = await rig.adapter.schedule_job("keeps")
        assert (waits.status, waits.job.waiting_for) == (JobStatus.WAITING, "executor")
        assert (stays.executor, stays.status) == ("trigger", JobStatus.PENDING)


async def test_what_workers_advertised_counts_though_this_process_cannot_run_it(database_url: str) -> None:
    async with rigged(database_url) as rig:
        await rig.sql(
            "INSERT INTO {s}.advertised_tasks (task, worker_id, seen_at) VALUES"
            " ('remote', gen_random_uuid(), now() - interval '6 days'),"
            " ('idempotent', gen_random_uuid(), now() - interval '8 days')"
        )
        await rig.adapter.kill(reason="x")
        lately = await rig.adapter.schedule_job("remote")
        long_ago = await rig.adapter.schedule_job("idempotent")
        assert (lately.status, long_ago.status) == (JobStatus.QUEUED, JobStatus.WAITING)


async def test_the_decision_holds_for_a_delayed_job_until_it_is_dispatched(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", executor="trigger", delay=timedelta(hours=1))
    await rig.adapter.kill("both", reason="x")
    await rig.dispatch()
    row = await rig.row(job.id)
    assert (row["executor"], row["status"], row["epoch"]) == ("local", "DELAYED", 2)
    await rig.set(job.id, "due = now()")
    await rig.adapter.maintenance.run_once()
    await rig.work()
    assert await rig.status(job.id) == "COMPLETED"
