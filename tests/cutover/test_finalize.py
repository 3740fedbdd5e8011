"""The point of no return: every gate, what it means once it is passed, and the way back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from adapter import Adapter
from adapter.core.cutover import finish_gates
from adapter.core.cutover.finalizing import FinalizeReport
from adapter.domain.comparison import Comparison
from adapter.domain.errors import (
    ExecutorFinalizedError,
    FinalizationError,
    InvalidArgumentError,
)
from adapter.domain.gates import Verdict
from adapter.domain.parity import ParityVerdict
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged, usual_tasks

Act = Callable[[Rig], Awaitable[Any]]


async def later(rig: Rig, days: int) -> None:
    """Let days pass since everything that has happened."""
    # The audit refuses to be changed.
    await rig.sql("SET session_replication_role = replica")
    for statement in (
        "UPDATE {s}.flag_changes SET at = at - %(days)s * interval '1 day'",
        "UPDATE {s}.drills SET started_at = started_at - %(days)s * interval '1 day'",
        "UPDATE {s}.worker_jobs_open SET created_at = created_at - %(days)s * interval '1 day'",
        "UPDATE {s}.worker_jobs_finished SET created_at = created_at - %(days)s * interval '1 day'",
        "UPDATE {s}.remote_runs SET created_at = created_at - %(days)s * interval '1 day'",
    ):
        await rig.sql(statement, days=days)
    await rig.sql("SET session_replication_role = DEFAULT")


async def a_drill_passed(rig: Rig, task: str = "both") -> None:
    await rig.sql(
        "INSERT INTO {s}.drills (id, task, target, state, reason, actor, source, hold, flag_version)"
        " VALUES (%(id)s, %(task)s, 'trigger', 'passed', 'monthly', 'ann', 'api', '10 minutes', 1)",
        id=new_id(),
        task=task,
    )


async def left(rig: Rig) -> None:
    """Everything that leaving `trigger` needs: all jobs here for more than a week, and a drill before that."""
    await rig.adapter.rollout("both", to="trigger", percent=100, reason="as it was")
    await a_drill_passed(rig)
    await rig.adapter.clear_flag("rollout", "both", reason="home")
    await later(rig, 8)


async def check(rig: Rig, task: str = "both", executor: str = "trigger") -> FinalizeReport:
    return await rig.adapter.finalize_check(executor, task=task)


def shut(report: FinalizeReport) -> dict[str, str]:
    return {
        each.name: each.says
        for each in report.gates
        if each.verdict is not Verdict.PASSED and each.name not in ALWAYS
    }


#: What most tests here do not look at.
ALWAYS = {"parity"}
ACCEPT = {"parity": "compared by hand"}


async def test_when_all_is_done_every_gate_is_open(rig: Rig) -> None:
    await left(rig)
    assert shut(await check(rig)) == {}


async def turned_lately(rig: Rig) -> None:
    await rig.adapter.rollout("both", to="trigger", percent=1, reason="once more")
    await rig.adapter.clear_flag("rollout", "both", reason="no")


async def turned_for_all(rig: Rig) -> None:
    await rig.adapter.rollout("*", to="trigger", percent=0, allow=["vip"], reason="one of them")


async def sent_there(rig: Rig) -> None:
    await rig.sent("both", executor="trigger")


async def failed_back(rig: Rig) -> None:
    await rig.sql(
        "INSERT INTO {s}.flag_changes (actor, source, kind, task, executor, after, reason, version)"
        " VALUES ('failback', 'auto', 'circuit', '*', 'elsewhere', '{}', 'unwell', 1)"
    )


async def not_drilled(rig: Rig) -> None:
    await rig.sql("UPDATE {s}.drills SET started_at = started_at - interval '30 days'")


@pytest.mark.parametrize(
    ("act", "gates"),
    [
        (turned_lately, {"elsewhere"}),
        (turned_for_all, {"elsewhere"}),
        (sent_there, {"traffic", "drained"}),
        (failed_back, {"no failback"}),
        (not_drilled, {"drill"}),
    ],
)
async def test_each_gate_says_what_is_missing(rig: Rig, act: Act, gates: set[str]) -> None:
    await left(rig)
    await act(rig)
    report = await check(rig)
    assert set(shut(report)) == gates
    assert not report.ready
    with pytest.raises(FinalizationError, match=min(gates)):
        await rig.adapter.finalize("trigger", task="both", reason="done", accept=ACCEPT)
    assert await rig.adapter.finalizations() == []


async def test_a_week_has_to_pass(rig: Rig) -> None:
    await rig.adapter.rollout("both", to="trigger", percent=100, reason="as it was")
    await later(rig, 8)
    await rig.adapter.clear_flag("rollout", "both", reason="home")
    await a_drill_passed(rig)
    await later(rig, 6)
    assert set(shut(await check(rig))) == {"elsewhere"}
    await later(rig, 2)
    assert shut(await check(rig)) == {}


async def test_differences_that_are_still_ignored_keep_it_open(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("both", remote_id={"trigger": "both"}, compare=Comparison(ignore=["/at"]))
        async def both(payload: Any) -> None:
            del payload

        del both

    async with rigged(database_url, declare) as rig:
        await left(rig)
        assert shut(await check(rig)) == {"ignore rules": "differences are still ignored: both: /at"}


async def test_what_the_environment_decides_is_not_known_to_have_held_for_a_week(database_url: str) -> None:
    async with rigged(database_url, kill_switches={"*": "local"}) as rig:
        await left(rig)
        report = await check(rig)
        assert set(shut(report)) == {"elsewhere"}
        assert next(each for each in report.gates if each.name == "elsewhere").verdict is Verdict.UNKNOWN


async def test_too_little_that_was_compared_is_not_equal(rig: Rig) -> None:
    gates = {each.name: each for each in (await check(rig)).gates}
    assert gates["parity"].verdict is Verdict.UNKNOWN
    assert gates["parity"].says == "too little was compared in 30 days: both"


@pytest.mark.parametrize(
    ("parity", "verdict"), [(ParityVerdict.PASS, Verdict.PASSED), (ParityVerdict.FAIL, Verdict.FAILED)]
)
async def test_the_parity_report_decides(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, parity: ParityVerdict, verdict: Verdict
) -> None:
    asked = list[Any]()

    async def report(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments[2], options["reference"]))
        return SimpleNamespace(verdict=parity)

    monkeypatch.setattr(finish_gates, "parity_report", report)
    gates = {each.name: each for each in (await check(rig)).gates}
    assert (gates["parity"].verdict, asked) == (verdict, [("both", "trigger")])


async def finalized(rig: Rig, **options: Any) -> None:
    await left(rig)
    given: dict[str, Any] = {"task": "both", "reason": "done", "accept": ACCEPT} | options
    await rig.adapter.finalize("trigger", **given)


@pytest.mark.parametrize("task", ["both", "*"])
async def test_from_then_on_no_flag_sends_jobs_there(rig: Rig, task: str) -> None:
    await finalized(rig)
    before = await rig.adapter.steering.entries()
    verbs: list[Callable[[], Awaitable[Any]]] = [
        lambda: rig.adapter.kill(task, to="trigger", reason="x"),
        lambda: rig.adapter.rollout(task, to="trigger", percent=1, reason="x"),
        lambda: rig.adapter.drill("both", to="trigger", hold=timedelta(seconds=1), reason="x"),
        lambda: rig.adapter.rollback("both", to="trigger", reason="x"),
    ]
    for verb in verbs:
        with pytest.raises(ExecutorFinalizedError, match="left for good by 'both'"):
            await verb()
    (withdrawn,) = [e for e in await rig.adapter.cutover_history("both") if e.said.endswith("taken away")]
    with pytest.raises(ExecutorFinalizedError):
        await rig.adapter.revert_change(int(withdrawn.id.removeprefix("flag-")), reason="x")
    assert await rig.adapter.steering.entries() == before
    await rig.adapter.kill("idempotent", to="trigger", reason="another task")
    await rig.adapter.kill("both", to="local", reason="another executor")


async def test_it_is_written_down_and_can_be_taken_back(rig: Rig) -> None:
    await finalized(rig, actor="ann")
    (made,) = await rig.adapter.finalizations()
    assert (made.executor, made.task, made.actor, made.reason) == ("trigger", "both", "ann", "done")
    assert {each["name"] for each in made.gates} >= {"elsewhere", "traffic", "drained", "drill"}
    with pytest.raises(FinalizationError, match="finalized already"):
        await rig.adapter.finalize("trigger", task="both", reason="again", accept=ACCEPT)
    assert await rig.adapter.reopen("trigger", task="*", reason="x") is None
    assert await rig.adapter.reopen("trigger", task="both", reason="too early", actor="bob") is not None
    await rig.adapter.kill("both", to="trigger", reason="back")
    said = [
        (each.said, each.actor, each.reason) for each in await rig.adapter.cutover_history("both", limit=3)
    ]
    assert said[1:] == [("trigger reopened", "bob", "too early"), ("trigger finalized", "ann", "done")]


async def test_a_gate_may_stay_open_on_a_persons_word(rig: Rig) -> None:
    accept = {**ACCEPT, "drill": "there is nothing to go back to"}
    with pytest.raises(FinalizationError):
        await rig.adapter.finalize("trigger", task="both", reason="done", accept=ACCEPT)
    for wrong in ({"luck": "x"}, {"drill": " "}):
        with pytest.raises(InvalidArgumentError):
            await rig.adapter.finalize("trigger", task="both", reason="done", accept=wrong)
    made = await rig.adapter.finalize("trigger", task="both", reason="done", accept=accept)
    assert made.accepted["drill"] == "there is nothing to go back to"
    assert "traffic" not in made.accepted


async def test_not_while_a_drill_is_running(rig: Rig) -> None:
    await left(rig)
    accept = {**ACCEPT, "elsewhere": "the drill"}
    begun = asyncio.get_running_loop().create_task(
        rig.adapter.drill("both", hold=timedelta(minutes=5), reason="monthly")
    )
    await eventually(lambda: rig.sql("SELECT id FROM {s}.drills WHERE state = 'running'"))
    with pytest.raises(FinalizationError, match="a drill of 'both' is running"):
        await rig.adapter.finalize("trigger", task="both", reason="done", accept=accept)
    begun.cancel()
    await asyncio.gather(begun, return_exceptions=True)


async def test_a_switch_and_a_finalization_at_once_are_never_both_true(rig: Rig) -> None:
    for _ in range(3):
        await left(rig)
        turned, done = await asyncio.gather(
            rig.adapter.kill("both", to="trigger", reason="x"),
            rig.adapter.finalize("trigger", task="both", reason="done", accept=ACCEPT),
            return_exceptions=True,
        )
        kinds = {type(each) for each in (turned, done)}
        assert kinds & {ExecutorFinalizedError, FinalizationError}, (turned, done)
        flags = [each for each in await rig.adapter.steering.entries() if each.executor == "trigger"]
        assert len(flags) + len(await rig.adapter.finalizations()) == 1
        await rig.adapter.reopen("trigger", task="both", reason="again")
        await rig.adapter.clear_flag("kill", "both", reason="again")


async def test_what_was_turned_while_the_gates_were_asked_has_them_asked_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left(rig)
    real = rig.adapter.finalizing.check

    async def turned_afterwards(*arguments: Any) -> FinalizeReport:
        report = await real(*arguments)
        await rig.adapter.kill("both", to="trigger", reason="x")
        return report

    monkeypatch.setattr(rig.adapter.finalizing, "check", turned_afterwards)
    with pytest.raises(FinalizationError, match="turned meanwhile"):
        await rig.adapter.finalize("trigger", task="both", reason="done", accept=ACCEPT)


async def test_every_task_that_can_run_there_is_asked_for(rig: Rig) -> None:
    report = await check(rig, "*")
    says = shut(report)
    assert says["elsewhere"].startswith("went there in the last 7 days: idempotent: 100 %")
    assert "remote" in says["drill"]
    assert says["drill"].count("both") == 1
    assert (await check(rig, "*", "local")).executor == "local"


async def test_what_still_ties_one_there(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)
        adapter.canary("trigger")

    async with rigged(database_url, declare) as rig:
        await rig.sent("remote")
        await rig.adapter.rollout("both", to="trigger", percent=0, reason="x")
        await rig.sql(
            "INSERT INTO {s}.job_schedules (id, task, cron, owner, executor, remote_schedule_id) VALUES"
            " (%(a)s, 'remote', '0 * * * *', 'trigger', NULL, 'sched_1'), (%(b)s, 'both', '0 * * * *', 'local', 'trigger', NULL)",
            a=new_id(),
            b=new_id(),
        )
        await rig.adapter.receive_webhook("hooks", "msg_1", "s1", {"type": "x"})
        found = {each.name: each.found for each in (await check(rig, "*")).ties}
        assert found["open runs"] == ["remote: 1"]
        assert "remote: sched_1 lives there" in found["schedules"]
        assert any(
            each.startswith("both: ") and each.endswith("sends its jobs there") for each in found["schedules"]
        )
        assert found["traffic of 7 days"][0].startswith("remote: 1 jobs")
        assert found["flags"] == ["rollout of both"]
        assert found["webhook secrets used in 7 days"][0].startswith("s1: 1 webhooks")
        assert "a canary is sent there" in found["registry"]
        assert "both: its name there is 'both-there'" in found["registry"]
        assert "remote: its default" in found["registry"]
        only = {each.name: each.found for each in (await check(rig, "both")).ties}
        assert "traffic of 7 days" not in only
        assert len(only["schedules"]) == 1
