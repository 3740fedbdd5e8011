"""What the guide says of finished jobs: out of the way at once, kept for a week, longer or shorter where a task says so."""

from datetime import UTC, date, timedelta
from typing import Any

from adapter import Adapter
from adapter.store import retention
from tests.rig import rigged

OLD = date(2020, 1, 1)


def tasks(adapter: Adapter) -> None:
    @adapter.task("usual")
    async def usual(payload: Any) -> Any:
        return payload

    @adapter.task("brief", keep_for=timedelta(hours=24))
    async def brief(payload: Any) -> Any:
        return payload

    @adapter.task("kept", persistent=True)
    async def kept(payload: Any) -> Any:
        return payload

    del usual, brief, kept


async def test_finished_rows_leave_the_hot_heap_at_once_and_go_after_seven_days_or_as_the_task_says(
    database_url: str,
) -> None:
    async with rigged(database_url, tasks) as rig:
        jobs = {name: await rig.adapter.schedule_job(name, 1) for name in ("usual", "brief", "kept")}
        await rig.work()
        assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open") == 0
        rows = {name: await rig.row(job.id) for name, job in jobs.items()}
        kept = {name: row["remove_at"] and row["remove_at"] - row["finished"] for name, row in rows.items()}
        assert kept == {"usual": timedelta(days=7), "brief": timedelta(days=1), "kept": None}
        # A row goes with its partition, on the first day after its time: never before.
        for name in ("usual", "brief"):
            drop_on = await rig.value(
                "SELECT drop_on::text FROM {s}.worker_jobs_finished WHERE id = %(id)s", id=jobs[name].id
            )
            late = date.fromisoformat(drop_on) - rows[name]["remove_at"].astimezone(UTC).date()
            assert late == timedelta(days=1)
        await rig.sql("SELECT {s}.make_finished_partition(%(day)s::date)", day=OLD)
        await rig.sql("UPDATE {s}.worker_jobs_finished SET drop_on = %(day)s WHERE type = 'usual'", day=OLD)
        report = await rig.adapter.retention.run_once()
        assert report.dropped == [str(OLD)]
        assert await rig.adapter.get_job(jobs["usual"].id) is None
        assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 2
        assert retention.partition_name(OLD) == "worker_jobs_finished_20200101"
