"""Dead letters: found by every filter, redriven once whoever asks, one bad one costing the others nothing."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from adapter import Adapter, DeadLetterFilter, JobStatus, RetryPolicy
from adapter.domain.errors import InvalidArgumentError
from adapter.store import dead_letters
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged


class Mail(BaseModel):
    to: str


def tasks(adapter: Adapter) -> None:
    once = RetryPolicy(max_attempts=1)

    @adapter.task("fails", retry=once, queue="bad")
    async def fails(payload: Any) -> None:
        raise (KeyError if payload == "key" else ValueError)(payload)

    @adapter.task("mails", retry=once)
    async def mails(_: Mail) -> None:
        raise ValueError("no")

    @adapter.task("works")
    async def works(payload: Any) -> Any:
        return payload

    del fails, mails, works


@pytest.fixture
async def yard(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, tasks) as rig:
        yield rig


async def failed(rig: Rig, *payloads: Any, task: str = "fails", **options: Any) -> list[UUID]:
    ids = [(await rig.adapter.schedule_job(task, each, **options)).id for each in payloads]
    await rig.work()
    return ids


async def found(rig: Rig, **wanted: Any) -> list[UUID]:
    page = await rig.adapter.dead_letters(DeadLetterFilter(**wanted))
    return [each.job.id for each in page.letters]


async def test_what_ended_badly_is_a_dead_letter_and_nothing_else(yard: Rig) -> None:
    (bad,) = await failed(yard, 1)
    await failed(yard, 1, task="works")
    canceled = await yard.adapter.schedule_job("works", delay=timedelta(hours=1))
    await yard.adapter.cancel_job(canceled.id)
    late = await yard.adapter.schedule_job("works", delay=timedelta(hours=1), ttl=timedelta(0))
    await yard.set(late.id, "expires_at = now()")
    await yard.adapter.maintenance.run_once()
    await yard.adapter.schedule_job("fails")
    assert await found(yard) == [late.id, bad], "the latest end first"


async def test_every_filter_filters(yard: Rig) -> None:
    first, key = await failed(yard, "value", "key")
    (mail,) = await failed(yard, {"to": "ann"}, task="mails")
    await yard.sql(
        "UPDATE {s}.worker_jobs_finished SET finished = finished - interval '2 days' WHERE id = %(id)s",
        id=first,
    )
    yesterday = await yard.value("SELECT now() - interval '1 day'")
    assert set(await found(yard)) == {first, key, mail}
    assert await found(yard, tasks=("mails",)) == [mail]
    assert set(await found(yard, queues=("bad", "none"))) == {first, key}
    assert await found(yard, errors=("KeyError",)) == [key]
    assert await found(yard, statuses=(JobStatus.CRASHED,)) == []
    assert await found(yard, finished_to=yesterday) == [first]
    assert set(await found(yard, finished_from=yesterday)) == {key, mail}
    await yard.adapter.redrive([key], reason="mended")
    assert await found(yard, redriven=True) == [key]
    assert set(await found(yard, redriven=False)) == {first, mail}


async def test_pages_follow_each_other(yard: Rig) -> None:
    made = await failed(yard, *range(7))
    seen: list[UUID] = []
    after: str | None = None
    for size in (3, 3, 1):
        page = await yard.adapter.dead_letters(DeadLetterFilter(limit=3, after=after))
        assert len(page.letters) == size
        seen += [each.job.id for each in page.letters]
        after = page.next
    assert after is None
    assert sorted(seen) == sorted(made)


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": 0},
        {"limit": 101},
        {"after": "nonsense"},
        {"statuses": (JobStatus.COMPLETED,)},
        {"finished_from": datetime(2026, 1, 1)},  # noqa: DTZ001 - that it is naive is the point
    ],
)
async def test_a_filter_that_cannot_be_meant_is_refused(yard: Rig, wanted: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await yard.adapter.dead_letters(DeadLetterFilter(**wanted))


async def test_a_redriven_job_is_a_new_one_that_names_the_old_and_says_why(yard: Rig) -> None:
    (old,) = await failed(yard, "x", priority=5, tags=["t"], user_id="u", metadata={"m": 1}, tag="held")
    before = await yard.row(old)
    report = await yard.adapter.redrive([old], reason="the cause is mended", actor="ann")
    (new,) = report.redriven.values()
    row = await yard.row(new)
    assert (row["status"], row["attempt"], row["data"], row["priority"]) == ("QUEUED", 0, "x", 5)
    assert (row["tags"], row["user_id"], row["metadata"], row["tag"]) == (["t"], "u", {"m": 1}, None)
    assert row["extra"] == {
        "replay_of": str(old),
        "replayed_by": "ann",
        "redrive_reason": "the cause is mended",
    }
    assert await yard.row(old) == before
    (event,) = [each for each in await yard.adapter.job_events(old) if each.kind == "redriven"]
    assert (event.actor, event.detail) == ("ann", {"as": str(new), "reason": "the cause is mended"})
    (letter,) = (await yard.adapter.dead_letters()).letters
    assert letter.redriven_as == new


async def test_a_job_is_redriven_once_until_somebody_says_again(yard: Rig) -> None:
    (old,) = await failed(yard, 1)
    (first,) = (await yard.adapter.redrive([old], reason="r")).redriven.values()
    twice = await yard.adapter.redrive([old], reason="r")
    assert (twice.redriven, twice.skipped) == ({}, [old])
    assert (await yard.adapter.redrive(DeadLetterFilter(), reason="r")).redriven == {}
    (second,) = (await yard.adapter.redrive([old], reason="r", again=True)).redriven.values()
    assert second != first
    assert await yard.value("SELECT times FROM {s}.redrives") == 2
    assert await yard.value("SELECT count(*) FROM {s}.worker_jobs_open") == 2


@pytest.mark.parametrize("again", [False, True])
async def test_many_that_redrive_at_once_redrive_each_job_once(yard: Rig, again: bool) -> None:
    old = await failed(yard, *range(30))
    if again:
        await yard.adapter.redrive(old, reason="first")
        await yard.sql("DELETE FROM {s}.worker_jobs_open")
    ways = [DeadLetterFilter(tasks=("fails",)), old, list(reversed(old)), old[10:]]
    reports = await asyncio.gather(
        *(yard.adapter.redrive(way, reason="r", again=again, limit=30) for way in ways)
    )
    made = [each for report in reports for each in report.redriven]
    # Who begins after another has ended sees that redrive, and was asked to do it again all the same.
    times = await yard.sql("SELECT job_id, times FROM {s}.redrives")
    assert len(made) == sum(row["times"] - again for row in times)
    assert again or sorted(made) == sorted(old)
    assert await yard.value("SELECT count(*) FROM {s}.worker_jobs_open") == len(made)


async def test_who_redrives_while_another_does_waits_for_it_and_makes_nothing(yard: Rig) -> None:
    old = await failed(yard, 1)
    given: dict[str, Any] = {"seen": {}, "reason": "r", "actor": "a"}
    async with yard.adapter.database.connection() as one, yard.adapter.database.connection() as other:
        async with asyncio.TaskGroup() as group, one.transaction():
            first = await dead_letters.mark(one, yard.schema, {old[0]: new_id()}, **given)
            second = group.create_task(dead_letters.mark(other, yard.schema, {old[0]: new_id()}, **given))
            await eventually(lambda: _waits_for_a_lock(yard))
        assert (first, second.result()) == ({old[0]}, set())
        assert await dead_letters.mark(one, yard.schema, {old[0]: new_id()}, **given) == set()
    assert await yard.value("SELECT times FROM {s}.redrives") == 1


async def _waits_for_a_lock(yard: Rig) -> bool:
    return await yard.value(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def test_a_dry_run_changes_nothing(yard: Rig) -> None:
    old = await failed(yard, 1, 2)
    report = await yard.adapter.redrive(DeadLetterFilter(), reason="r", dry_run=True)
    assert set(report.redriven) == set(old)
    assert await yard.value("SELECT count(*) FROM {s}.worker_jobs_open") == 0
    assert await yard.value("SELECT count(*) FROM {s}.redrives") == 0


async def test_the_oldest_go_first_and_no_more_than_the_limit(yard: Rig) -> None:
    old = await failed(yard, *range(3))
    for n, each in enumerate(old):
        await yard.sql(
            "UPDATE {s}.worker_jobs_finished SET finished = now() - make_interval(mins => %(n)s) WHERE id = %(id)s",
            n=n,
            id=each,
        )
    report = await yard.adapter.redrive(DeadLetterFilter(), reason="r", limit=2)
    assert list(report.redriven) == [old[2], old[1]]


async def test_a_rate_lets_them_become_due_one_after_the_other(yard: Rig) -> None:
    await failed(yard, *range(5))
    report = await yard.adapter.redrive(DeadLetterFilter(), reason="r", per_second=2)
    rows = [await yard.row(each) for each in report.redriven.values()]
    waits = [(row["due"] - row["created_at"]).total_seconds() if row["due"] else 0 for row in rows]
    assert waits == [0, 0.5, 1, 1.5, 2]
    assert [row["status"] for row in rows] == ["QUEUED"] + ["DELAYED"] * 4


async def test_what_cannot_be_scheduled_any_more_is_reported_and_costs_the_others_nothing(yard: Rig) -> None:
    good, other = await failed(yard, 1, 2)
    (mail,) = await failed(yard, {"to": "ann"}, task="mails")
    await yard.sql("UPDATE {s}.worker_jobs_finished SET data = '{\"to\": 1}' WHERE id = %(id)s", id=mail)
    await yard.sql("UPDATE {s}.worker_jobs_finished SET type = 'gone' WHERE id = %(id)s", id=other)
    report = await yard.adapter.redrive([good, mail, other, nobody := new_id()], reason="r")
    assert set(report.redriven) == {good}
    assert set(report.refused) == {mail, other}
    assert "gone" in report.refused[other]
    assert report.skipped == [nobody]
    assert await yard.value("SELECT count(*) FROM {s}.redrives") == 1


async def test_a_redrive_that_fails_in_the_middle_leaves_nothing_marked(
    yard: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = await failed(yard, 1)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(yard.adapter.scheduler, "schedule", broken)
        with pytest.raises(RuntimeError):
            await yard.adapter.redrive([old], reason="r")
    assert await yard.value("SELECT count(*) FROM {s}.redrives") == 0
    assert set((await yard.adapter.redrive([old], reason="r")).redriven) == {old}


@pytest.mark.parametrize("options", [{"reason": " "}, {"limit": 0}, {"per_second": 0}])
async def test_a_redrive_that_cannot_be_meant_is_refused(yard: Rig, options: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await yard.adapter.redrive(DeadLetterFilter(), **({"reason": "r"} | options))


async def test_what_is_known_of_a_redrive_goes_with_the_job(yard: Rig) -> None:
    old, kept = await failed(yard, 1, 2)
    await yard.adapter.redrive([old, kept], reason="r")
    await yard.sql("UPDATE {s}.redrives SET at = now() - interval '8 days'")
    await yard.sql("DELETE FROM {s}.worker_jobs_finished WHERE id = %(id)s", id=old)
    await yard.adapter.retention.run_once()
    assert [row["job_id"] for row in await yard.sql("SELECT job_id FROM {s}.redrives")] == [kept]
