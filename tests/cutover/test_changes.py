"""The audit: one history of all that people changed, and back again, step by step."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from adapter.domain.errors import ChangeNotFoundError, FlagConflictError, InvalidArgumentError
from adapter.store.flag_entries import FlagEntry
from tests.rig import Rig


async def flag(rig: Rig) -> FlagEntry | None:
    return next(iter(await rig.adapter.steering.entries()), None)


async def test_a_change_is_taken_back_and_so_is_taking_it_back(rig: Rig) -> None:
    first = await rig.adapter.rollout(
        "both", to="trigger", percent=5, by="user_id", allow=["vip"], reason="1"
    )
    before = await flag(rig)
    second = await rig.adapter.rollout("both", to="trigger", percent=50, when={"plan": "pro"}, reason="2")
    back = await rig.adapter.revert_change(second.id, reason="too much", actor="ann", source="test")
    now = await flag(rig)
    assert before is not None
    assert now is not None
    assert (now.percent, now.hash_by, now.detail) == (5, "user_id", {"allow": ["vip"]})
    assert (now.reason, now.actor, now.version) == ("too much", "ann", back.version)
    again = await rig.adapter.revert_change(back.id, reason="not too much")
    assert again.after is not None
    assert (again.after["percent"], again.after["detail"]) == (50, {"when": {"plan": "pro"}})
    # Back to where it began: the flag is again what each of these changes made of it.
    await rig.adapter.revert_change(again.id, reason="x")
    gone = await rig.adapter.revert_change(first.id, reason="x")
    assert (gone.after, await flag(rig)) == (None, None)


async def test_a_change_that_was_changed_since_is_not_taken_back(rig: Rig) -> None:
    first = await rig.adapter.kill("both", to="trigger", reason="1")
    await rig.adapter.kill("both", to="local", reason="2", actor="bob")
    with pytest.raises(FlagConflictError, match=r"flag-\d+, by bob"):
        await rig.adapter.revert_change(first.id, reason="x")
    entry = await flag(rig)
    assert entry is not None
    assert (entry.executor, entry.reason) == ("local", "2")


async def test_a_kill_switch_is_taken_back_to_the_executor_it_named(rig: Rig) -> None:
    await rig.adapter.kill("both", to="trigger", reason="1")
    second = await rig.adapter.kill("both", to="local", reason="2")
    back = await rig.adapter.revert_change(second.id, reason="x")
    assert back.executor == "trigger"
    third = await rig.adapter.clear_flag("kill", "both", reason="3")
    assert third is not None
    assert (await rig.adapter.revert_change(third.id, reason="x")).executor == "trigger"


async def test_dealing_anew_is_audited_keeps_the_rest_and_can_be_taken_back(rig: Rig) -> None:
    async def chosen() -> set[int]:
        found = [await rig.adapter.explain("both", tag=f"t{n}") for n in range(60)]
        return {n for n, each in enumerate(found) if each.route.executor == "trigger"}

    await rig.adapter.rollout("both", to="trigger", percent=30, deny=["t1"], reason="1")
    before = await chosen()
    made = await rig.adapter.resalt("both", to="trigger", reason="again", actor="ann")
    after = await chosen()
    assert after != before
    assert made.before is not None
    assert made.after is not None
    said = ("percent", "hash_by", "detail")
    assert [made.before[name] for name in said] == [made.after[name] for name in said]
    assert made.before["salt"] != made.after["salt"]
    # The new salt is the rollout's own from now on, until the change is taken back.
    await rig.adapter.clear_flag("rollout", "both", reason="x")
    await rig.adapter.rollout("both", to="trigger", percent=30, deny=["t1"], reason="1")
    assert await chosen() == after
    await rig.adapter.revert_change(made.id, reason="x")
    assert await chosen() == before
    with pytest.raises(InvalidArgumentError, match="no rollout"):
        await rig.adapter.resalt("remote", to="trigger", reason="x")


async def test_one_history_shows_flags_and_queues(rig: Rig) -> None:
    await rig.adapter.schedule_job("both", queue="mail")
    await rig.adapter.rollout("both", to="trigger", percent=5, reason="week 1", actor="ann")
    await rig.adapter.rollout("both", to="trigger", percent=25, reason="week 2", source="cli")
    await rig.adapter.resalt("both", to="trigger", reason="again")
    await rig.adapter.clear_flag("rollout", "both", reason="done")
    await rig.adapter.kill(to="trigger", reason="INC-7")
    await rig.adapter.kill(to="local", reason="INC-7")
    await rig.adapter.pause_queue("mail", reason="INC-8")
    found = await rig.adapter.cutover_history()
    assert [(each.subject, each.said, each.reason) for each in found] == [
        ("mail", "queue pause", "INC-8"),
        ("*", "kill switch trigger -> local", "INC-7"),
        ("*", "kill switch to trigger", "INC-7"),
        ("both", "rollout to trigger taken away", "done"),
        ("both", "rollout to trigger 25%, dealt anew", "again"),
        ("both", "rollout to trigger 5% -> 25%", "week 2"),
        ("both", "rollout to trigger 5%", "week 1"),
    ]
    assert (found[-1].actor, found[-1].source, found[-2].source) == ("ann", "api", "cli")
    assert [each.subject for each in await rig.adapter.cutover_history("both", limit=3)] == ["*", "*", "both"]
    older = await rig.adapter.cutover_history(before=found[2].at)
    assert [each.id for each in older] == [each.id for each in found[3:]]


async def test_the_history_shows_recalls(rig: Rig) -> None:
    await rig.sent("both", executor="trigger")
    report = await rig.adapter.rollback("both", mode="recall-unstarted", reason="INC-7", actor="ann")
    kill, recall = await rig.adapter.cutover_history("both")
    assert (recall.id, recall.said, recall.actor) == (
        f"recall-{report.recall_id}",
        "recall-unstarted to local",
        "ann",
    )
    assert (kill.said, kill.reason) == ("kill switch to local", "INC-7")


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1001}])
async def test_a_history_is_bounded(rig: Rig, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.cutover_history(**wrong)


async def test_a_change_that_is_not_there_cannot_be_taken_back(rig: Rig) -> None:
    with pytest.raises(ChangeNotFoundError, match="no change 404"):
        await rig.adapter.revert_change(404, reason="x")
    made = await rig.adapter.kill(reason="x")
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.revert_change(made.id, reason=" ")


@pytest.mark.parametrize("table", ["flag_changes", "queue_changes"])
async def test_nobody_edits_or_empties_an_audit(rig: Rig, table: str) -> None:
    await rig.adapter.schedule_job("both", queue="mail")
    await rig.adapter.kill(reason="x")
    await rig.adapter.pause_queue("mail", reason="x")
    for verb in ("UPDATE {} SET actor = 'eve'", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            await rig.conn.execute(verb.format(f'"adapter".{table}').encode())


async def test_why_a_job_went_where_it_went(rig: Rig) -> None:
    old = await rig.adapter.rollout("both", to="trigger", percent=1, allow=["vip"], reason="old")
    made = await rig.adapter.rollout(
        "both", to="trigger", percent=2, allow=["vip"], reason="2 %", actor="ann"
    )
    job = await rig.adapter.schedule_job("both", tag="vip", delay=timedelta(hours=1))
    await rig.adapter.rollout("both", to="trigger", percent=3, reason="later")
    await rig.adapter.kill("both", to="local", reason="INC-7")
    await rig.dispatch()
    found = await rig.adapter.explain_job(job.id)
    assert (found.job.route_reason, found.job.executor) == ("rollout 2% to trigger: allow list", "local")
    assert [(each.id, each.actor, each.reason) for each in found.changes] == [
        (f"flag-{made.id}", "ann", "2 %")
    ]
    assert [(each.kind, (each.detail or {})["to"]) for each in found.moves] == [("rerouted", "local")]
    assert old.version < made.version
    killed = await rig.adapter.schedule_job("both")
    (change,) = (await rig.adapter.explain_job(killed.id)).changes
    assert change.reason == "INC-7"
    assert (await rig.adapter.explain_job((await rig.adapter.schedule_job("echo")).id)).changes == []
