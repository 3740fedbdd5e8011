"""``python -m bench.recalling``: what it takes to take many unstarted jobs back from a Trigger.dev in memory.

The remote answers at once, so this is what the adapter and PostgreSQL need; what a real rate limit makes of the
calls is said beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import timedelta

from adapter import Adapter, JobSpec, Settings
from adapter.domain.clock import SystemClock
from adapter.domain.identity import epoch_tag
from bench.ground import Ground
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import FakeTriggerDev
from tests.rig import trigger_executor

#: What Trigger.dev's cloud allows one key.
_LIMIT_PER_S, _OUR_PART, _CALLS = 25.0, 0.75, 3
_ACCEPTED = (
    "WITH there AS (UPDATE adapter.worker_jobs_open SET status = 'QUEUED', submit_state = 'accepted',"
    " remote_status = 'QUEUED', remote_environment = %(environment)s, next_try_at = NULL, first_try_at = now(),"
    " submit_tries = 1, remote_run_id = 'run_' || replace(id::text, '-', '') RETURNING *)"
    " INSERT INTO adapter.remote_runs (executor, run_id, job_id, epoch, environment)"
    " SELECT executor, remote_run_id, id, epoch, remote_environment FROM there"
)


async def measure(ground: Ground, jobs: int, *, fenced: bool) -> None:
    fake = FakeTriggerDev(ManualClock(SystemClock().now()))
    # Nothing becomes due in it, and looking for that at each request would cost more than all the rest.
    fake.settle = lambda: None
    with ground.database() as url:
        executor = trigger_executor(fake)
        adapter = Adapter(Settings.from_env({"DATABASE_URL": url}), executors=[executor])

        async def handle(payload: dict[str, int]) -> None:
            del payload

        fence = {"trigger": "*"} if fenced else {}
        adapter.task("moved", remote_id={"trigger": "there"}, start_fence=fence)(handle)
        async with adapter:
            for start in range(0, jobs, 1000):
                specs = [
                    JobSpec("moved", {"n": n}, {"executor": "trigger"}) for n in range(start, start + 1000)
                ]
                for job in await adapter.schedule_specs(specs[: jobs - start]):
                    run = fake.make("there", {}, {}, [epoch_tag(job.id, 1)])
                    del fake.runs[run.id]
                    run.id = f"run_{job.id.hex}"
                    fake.runs[run.id] = run
            async with adapter.database.connection() as conn:
                await conn.execute(_ACCEPTED, {"environment": executor.environment})
                await conn.execute("ANALYZE")
            began = time.perf_counter()
            report = await adapter.rollback(
                "moved", mode="recall-unstarted", reason="bench", timeout=timedelta(hours=1)
            )
            took = time.perf_counter() - began
    assert report.outcomes == {"moved": jobs}, report.outcomes
    asked = f"{report.calls} calls, {len(fake.requests)} requests"
    print(f"{jobs} jobs {'behind a start fence' if fenced else 'by asking'}: {took:.1f} s, {asked}")
    if not fenced:
        limited = jobs * _CALLS / (_LIMIT_PER_S * _OUR_PART)
        print(f"  at 1500 requests a minute: {limited:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs: int = parser.parse_args().jobs
    with Ground(None) as ground:
        for fenced in (False, True):
            asyncio.run(measure(ground, jobs, fenced=fenced))


if __name__ == "__main__":
    main()
