"""Retention: partitions made ahead, dropped behind, never in the way of a finish; side tables trimmed."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from adapter import Adapter, RetryPolicy
from adapter.domain.errors import InvalidArgumentError
from adapter.store import migrate, packets, retention
from tests.rig import Rig, new_id, rigged

OLD = date(2020, 1, 1)
ONCE = RetryPolicy(max_attempts=1)


async def fails(_payload: Any) -> None:
    raise ValueError("no")


async def works(_payload: Any) -> None:
    """End well."""


async def _upkeep(rig: Rig) -> retention.RetentionReport:
    async with rig.adapter.database.connection() as conn:
        return await retention.upkeep(conn, rig.schema)


async def _partition(rig: Rig, day: date) -> None:
    await rig.sql("SELECT {s}.make_finished_partition(%(day)s::date)", day=day)


async def _partitions(rig: Rig) -> set[str]:
    rows = await rig.sql(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = '{s}.worker_jobs_finished'::regclass"
    )
    return {row["relname"] for row in rows}


async def _drop(rig: Rig, day: date) -> None:
    name = sql.Identifier(rig.schema.name, retention.partition_name(day))
    await rig.conn.execute(sql.SQL("DROP TABLE {}").format(name))


async def _today(rig: Rig) -> date:
    return await rig.value("SELECT (now() AT TIME ZONE 'UTC')::date")


async def _move_to(rig: Rig, job_id: Any, day: date) -> None:
    """Put a finished row into the partition of another day."""
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET drop_on = %(day)s, remove_at = %(day)s::date - interval '1 h' WHERE id = %(id)s",
        day=day,
        id=job_id,
    )


@pytest.fixture
async def ahead(empty_database: str) -> AsyncGenerator[Rig]:
    """A rig whose days have a partition each, as a migration makes them."""
    migrate.upgrade(empty_database)
    async with rigged(empty_database) as made:
        yield made


async def test_partitions_exist_ahead_and_missing_ones_are_made(ahead: Rig) -> None:
    today = await _today(ahead)
    assert (await _upkeep(ahead)).made == []
    gone = today + timedelta(days=3)
    name = retention.partition_name(gone)
    await _drop(ahead, gone)
    await ahead.sql("DELETE FROM {s}.finished_partitions WHERE day = %(day)s", day=gone)
    assert (await _upkeep(ahead)).made == [str(gone)]
    found = await _partitions(ahead)
    assert name in found
    assert "worker_jobs_finished_99991231" in found
    assert {retention.partition_name(today + timedelta(days=n)) for n in range(1, 11)} <= found


async def test_two_that_make_the_same_partition_do_not_fall(ahead: Rig) -> None:
    today = await _today(ahead)
    for day in (today + timedelta(days=4), today + timedelta(days=5)):
        await _drop(ahead, day)
        await ahead.sql("DELETE FROM {s}.finished_partitions WHERE day = %(day)s", day=day)
    reports = await asyncio.gather(_upkeep(ahead), _upkeep(ahead), _upkeep(ahead))
    assert {day for each in reports for day in each.made} == {str(today + timedelta(days=n)) for n in (4, 5)}
    assert (await _upkeep(ahead)).made == []


async def test_a_day_that_has_come_is_dropped_with_its_rows(rig: Rig) -> None:
    await _partition(rig, OLD)
    old = await rig.adapter.schedule_job("echo", 1)
    new = await rig.adapter.schedule_job("echo", 2)
    await rig.work()
    await _move_to(rig, old.id, OLD)
    report = await _upkeep(rig)
    assert report.dropped == [str(OLD)]
    assert await rig.adapter.get_job(old.id) is None
    assert await rig.status(new.id) == "COMPLETED"
    assert retention.partition_name(OLD) not in await _partitions(rig)
    assert (await _upkeep(rig)).dropped == []


@pytest.mark.timeout(60)
async def test_a_reader_in_the_way_of_a_drop_blocks_no_finish(rig: Rig) -> None:
    await _partition(rig, OLD)
    job = await rig.adapter.schedule_job("echo", 1)
    async with await psycopg.AsyncConnection.connect(rig.url) as reader:
        await reader.execute("SELECT count(*) FROM adapter.worker_jobs_finished")
        dropping = asyncio.ensure_future(_upkeep(rig))  # noqa: TID251 - beside the reader
        async with asyncio.timeout(10):
            while not await rig.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
            await rig.work()
            assert await rig.status(job.id) == "COMPLETED"
            # It gives up by itself; tomorrow is another day.
            assert (await dropping).dropped == []
    assert (await _upkeep(rig)).dropped == [str(OLD)]


async def test_a_drop_that_was_cut_off_half_way_is_finished(rig: Rig) -> None:
    await _partition(rig, OLD)
    await rig.sql("ALTER TABLE {s}.worker_jobs_finished DETACH PARTITION {s}.worker_jobs_finished_20200101")
    assert (await _upkeep(rig)).dropped == [str(OLD)]
    assert await rig.value("SELECT to_regclass('{s}.worker_jobs_finished_20200101')") is None


async def test_a_finish_finds_a_partition_though_upkeep_is_months_late(rig: Rig) -> None:
    days = await rig.sql(
        "DELETE FROM {s}.finished_partitions WHERE day <> '9999-12-31' RETURNING day::text AS day"
    )
    try:
        job = await rig.adapter.schedule_job("echo", 1)
        await rig.work()
        assert (
            await rig.value("SELECT drop_on::text FROM {s}.worker_jobs_finished WHERE id = %(id)s", id=job.id)
            == "9999-12-31"
        )
    finally:
        for row in days:
            await rig.sql("INSERT INTO {s}.finished_partitions VALUES (%(day)s)", day=row["day"])


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, timedelta(days=7)),
        ({"keep_for": timedelta(days=2)}, timedelta(days=2)),
        ({"keep_for": timedelta(0)}, timedelta(0)),
        ({"persistent": True}, None),
        ({"persistent": True, "keep_for": timedelta(days=90)}, timedelta(days=90)),
        ({"keep_for": timedelta(days=1), "idempotency_key": "k"}, timedelta(days=30)),
        ({"keep_for": timedelta(days=40), "idempotency_key": "k"}, timedelta(days=40)),
        ({"idempotency_key": "k", "idempotency_ttl": timedelta(hours=1)}, timedelta(days=7)),
        ({"persistent": True, "idempotency_key": "k"}, None),
    ],
)
async def test_how_long_a_finished_job_stays(rig: Rig, options: Any, kept: timedelta | None) -> None:
    job = await rig.adapter.schedule_job("echo", 1, **options)
    await rig.work()
    rows = await rig.sql(
        "SELECT finished, remove_at, drop_on::text AS drop_on FROM {s}.worker_jobs_finished WHERE id = %(id)s",
        id=job.id,
    )
    (row,) = rows
    if kept is None:
        assert (row["remove_at"], row["drop_on"]) == (None, "9999-12-31")
        return
    assert abs(row["remove_at"] - row["finished"] - kept) < timedelta(seconds=10)
    assert date.fromisoformat(row["drop_on"]) > row["remove_at"].astimezone(UTC).date()


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=40), timedelta(days=-1)])
async def test_a_moment_to_go_decides_for_a_persistent_task_and_is_never_before_the_end(
    database_url: str, ahead: timedelta
) -> None:
    def declare(adapter: Adapter) -> None:
        keep_failed_for = timedelta(days=90)
        adapter.task("fails", retry=ONCE, persistent=True, keep_failed_for=keep_failed_for)(fails)

    async with rigged(database_url, declare) as rig:
        moment = await rig.value("SELECT now()") + ahead
        job = await rig.adapter.schedule_job("fails", remove_at=moment)
        assert job.job.remove_at == moment
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["persistent"]) == ("FAILED", False)
        assert row["remove_at"] == max(moment, row["finished"])
        drop_on = await rig.value("SELECT drop_on::text FROM {s}.worker_jobs_finished")
        assert date.fromisoformat(drop_on) > row["remove_at"].astimezone(UTC).date()


async def test_a_moment_to_go_is_not_before_a_key_or_a_slot_is_free(rig: Rig) -> None:
    moment = await rig.value("SELECT now()")
    held: list[dict[str, Any]] = [{"idempotency_key": "k"}, {"tag": "t", "throttle": timedelta(days=30)}]
    for options in held:
        job = await rig.adapter.schedule_job("echo", 1, remove_at=moment, **options)
        await rig.work()
        assert (await rig.row(job.id))["remove_at"] > moment + timedelta(days=29)


async def test_the_newest_call_says_when_a_replaced_job_may_go(rig: Rig) -> None:
    moment = await rig.value("SELECT now() + interval '2 days'")
    first = await rig.adapter.schedule_job("echo", 1, tag="t", keep_for=timedelta(days=60))
    again = await rig.adapter.schedule_job("echo", 2, tag="t", on_conflict="replace", remove_at=moment)
    assert again.id == first.id
    await rig.work()
    assert (await rig.row(first.id))["remove_at"] == moment


@pytest.mark.parametrize(
    "options",
    [
        {"remove_at": datetime(2030, 1, 1)},  # noqa: DTZ001 - it is about what has no zone
        {"remove_at": datetime(2030, 1, 1, tzinfo=UTC), "keep_for": timedelta(days=1)},
        {"remove_at": datetime(2030, 1, 1, tzinfo=UTC), "persistent": True},
    ],
)
async def test_a_moment_to_go_that_cannot_be_meant_is_refused(rig: Rig, options: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="remove_at="):
        await rig.adapter.schedule_job("echo", 1, **options)
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 0


@pytest.mark.parametrize(
    ("said", "by_setting", "kept"),
    [
        ({}, None, 7),
        ({}, 30, 30),
        ({}, 1, 7),
        ({"keep_failed_for": timedelta(days=60)}, 30, 60),
        ({"keep_failed_for": timedelta(0)}, 30, 7),
        ({"keep_for": timedelta(days=90), "keep_failed_for": timedelta(days=60)}, None, 90),
        ({"keep_for": timedelta(days=1), "keep_failed_for": timedelta(days=2)}, None, 2),
        ({"persistent": True, "keep_failed_for": timedelta(days=2)}, None, None),
    ],
)
async def test_what_ended_badly_stays_for_longer_and_all_else_as_it_would(
    database_url: str, said: dict[str, Any], by_setting: float | None, kept: int | None
) -> None:
    def declare(adapter: Adapter) -> None:
        adapter.task("fails", retry=ONCE, **said)(fails)
        adapter.task("works", **said)(works)

    async with rigged(database_url, declare, keep_failed_for_days=by_setting) as rig:
        failed = await rig.adapter.schedule_job("fails")
        by_sql = await rig.value("SELECT {s}.schedule_job('fails')")
        worked, canceled, late = [
            await rig.adapter.schedule_job("works", delay=delay, ttl=ttl)
            for delay, ttl in ((None, None), (timedelta(days=1), None), (None, timedelta(0)))
        ]
        await rig.adapter.cancel_job(canceled.id)
        await rig.adapter.router.run_once()
        await rig.adapter.maintenance.run_once()
        await rig.work()
        usual = None if said.get("persistent") else said.get("keep_for") or timedelta(days=7)
        longer = None if kept is None else timedelta(days=kept)
        for job, expected in (
            (failed.id, longer),
            (by_sql, longer),
            (late.id, longer),
            (worked.id, usual),
            (canceled.id, usual),
        ):
            row = await rig.row(job)
            assert (row["remove_at"] and row["remove_at"] - row["finished"]) == expected, row["status"]


async def test_a_failed_jobs_key_does_not_keep_its_row(rig: Rig) -> None:
    job = await rig.adapter.schedule_job(
        "echo", 1, idempotency_key="k", keep_for=timedelta(hours=1), ttl=timedelta(0)
    )
    await rig.adapter.maintenance.run_once()
    row = await rig.row(job.id)
    assert (row["status"], row["remove_at"] - row["finished"]) == ("EXPIRED", timedelta(hours=1))


async def test_rows_of_far_partitions_go_when_their_own_time_is_over(rig: Rig) -> None:
    far = await rig.adapter.schedule_job("echo", 1, keep_for=timedelta(days=200))
    forever = await rig.adapter.schedule_job("echo", 1, persistent=True)
    await rig.work()
    await _upkeep(rig)
    assert await rig.status(far.id) == "COMPLETED"
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET remove_at = now() - interval '1 s' WHERE id = %(id)s", id=far.id
    )
    assert (await _upkeep(rig)).deleted >= 1
    assert await rig.adapter.get_job(far.id) is None
    assert await rig.status(forever.id) == "COMPLETED"


async def test_side_tables_are_trimmed_and_nothing_that_is_needed_goes(rig: Rig) -> None:
    keeper = await rig.adapter.schedule_job("echo", 1, delay=timedelta(days=100))
    store = packets.PacketStore(rig.adapter.database)
    await store.put("old", "application/json", b"1")
    await store.put("new", "application/json", b"2")
    await rig.sql("UPDATE {s}.packets SET created_at = now() - interval '31 days' WHERE path = 'old'")
    await rig.sql(
        "INSERT INTO {s}.job_events (job_id, epoch, kind, at) VALUES"
        " (%(kept)s, 1, 'kept', now() - interval '90 days'), (%(gone)s, 1, 'gone', now() - interval '8 days'),"
        " (%(gone)s, 1, 'recent', now())",
        kept=keeper.id,
        gone=new_id(),
    )
    await rig.sql(
        "INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, created_at, ended_at) VALUES"
        " ('t', 'open', gen_random_uuid(), 1, now() - interval '90 days', NULL),"
        " ('t', 'ended', gen_random_uuid(), 1, now() - interval '90 days', now() - interval '31 days'),"
        " ('t', 'lately', gen_random_uuid(), 1, now() - interval '90 days', now())"
    )
    await rig.sql(
        "INSERT INTO {s}.webhook_inbox (source, delivery_id, body, state, received_at) VALUES"
        " ('s', 'applied', '1', 'applied', now() - interval '15 days'), ('s', 'dead', '1', 'dead', now() - interval '15 days'),"
        " ('s', 'pending', '1', 'pending', now() - interval '15 days'), ('s', 'lately', '1', 'dead', now())"
    )
    await _upkeep(rig)
    kept = {
        "packets": await rig.sql("SELECT path AS x FROM {s}.packets"),
        "events": await rig.sql("SELECT kind AS x FROM {s}.job_events ORDER BY 1"),
        "runs": await rig.sql("SELECT run_id AS x FROM {s}.remote_runs ORDER BY 1"),
        "inbox": await rig.sql("SELECT delivery_id AS x FROM {s}.webhook_inbox ORDER BY 1"),
    }
    assert {name: [row["x"] for row in rows] for name, rows in kept.items()} == {
        "packets": ["new"],
        "events": ["kept", "recent"],
        "runs": ["lately", "open"],
        "inbox": ["lately", "pending"],
    }


async def test_packets_are_kept_as_they_came_and_replaced(rig: Rig) -> None:
    store = packets.PacketStore(rig.adapter.database)
    assert await store.get("a/b") is None
    await store.put("a/b", "application/super+json", bytes(range(256)))
    assert await store.get("a/b") == ("application/super+json", bytes(range(256)))
    await store.put("a/b", "text/plain", b"")
    assert await store.get("a/b") == ("text/plain", b"")


async def test_the_guides_views_show_open_and_finished_jobs(rig: Rig) -> None:
    done = await rig.adapter.schedule_job("echo", {"n": 1})
    await rig.work()
    waiting = await rig.adapter.schedule_job("echo", 2)
    rows = await rig.sql("SELECT id, status, success, result FROM {s}.worker_jobs ORDER BY created_at")
    assert [tuple(row.values()) for row in rows] == [
        (done.id, "COMPLETED", True, {"n": 1}),
        (waiting.id, "QUEUED", None, None),
    ]
    runs = await rig.sql("SELECT id, status, payload, result FROM {s}.job_runs ORDER BY created_at")
    assert [tuple(row.values()) for row in runs] == [
        (done.id, "completed", {"n": 1}, {"n": 1}),
        (waiting.id, "pending", 2, None),
    ]
    assert isinstance(done.job.created_at, datetime)
