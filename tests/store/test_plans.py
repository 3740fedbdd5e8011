"""Hot statements use their partial indexes: a plan that reads the whole heap fails here, not at night."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import sql

from adapter import JobFilter, JobStatus
from adapter.store import (
    batches,
    claims,
    dead_letters,
    endings,
    figures,
    inbox,
    limited_claims,
    liveness,
    migrate,
    outbox,
    outlook,
    remote_runs,
    rescuing,
    stranded,
    unrouted,
    upkeep,
    watched,
)
from adapter.store.job_lists import JobLists
from tests.rig import Rig, new_id, rigged

BIG = ("worker_jobs_open", "worker_jobs_finished", "remote_runs", "job_keys", "webhook_inbox")


@pytest.fixture(scope="module")
def big_database(make_database: Any) -> str:
    url = make_database()
    migrate.upgrade(url)
    return url


@pytest.fixture
async def big(big_database: str) -> AsyncGenerator[Rig]:
    """Some tens of thousands of rows in every state, of which each hot statement wants a few."""
    async with rigged(big_database) as rig:
        if not await rig.value("SELECT EXISTS (SELECT FROM {s}.worker_jobs_open)"):
            await _fill(rig)
        yield rig


async def _fill(rig: Rig) -> None:
    await rig.sql("""
        INSERT INTO {s}.worker_jobs_open (id, type, status, executor, queue, concurrency_key, due, submit_state, next_try_at, expires_at,
          worker_id, started, confirm_at, waiting_for, tags, remote_run_id, created_at)
        SELECT gen_random_uuid(), 'task' || n % 20,
          CASE WHEN n % 10 < 4 THEN 'QUEUED' WHEN n % 10 < 7 THEN 'DELAYED' WHEN n % 10 = 7 THEN 'EXECUTING'
            WHEN n % 10 = 8 THEN 'PENDING' ELSE 'WAITING' END,
          CASE WHEN n % 10 IN (0, 8) THEN 'trigger' ELSE 'local' END, 'queue' || n % 7, CASE WHEN n % 2 = 0 THEN 'key' || n % 100 END,
          now() + make_interval(hours => n), CASE WHEN n % 10 = 0 THEN 'accepted' ELSE 'never' END,
          now() + make_interval(mins => n), CASE WHEN n % 50 = 0 THEN now() + make_interval(hours => n) END,
          CASE WHEN n % 10 = 7 THEN gen_random_uuid() END, CASE WHEN n % 10 = 7 THEN now() END,
          CASE WHEN n % 1000 = 0 THEN now() + make_interval(mins => n) END,
          CASE WHEN n % 10 = 9 THEN 'executor' END, CASE WHEN n % 100 = 1 THEN ARRAY['t' || n] END,
          CASE WHEN n % 10 = 0 THEN 'run_' || n END, now() - make_interval(secs => n)
        FROM generate_series(1, 30000) AS n""")
    await rig.sql("""
        INSERT INTO {s}.worker_jobs_finished (id, type, status, success, executor, queue, finished, drop_on, created_at, tags)
        SELECT gen_random_uuid(), 'task' || n % 20, 'COMPLETED', true, 'local', 'queue', now(),
          (SELECT min(day) FROM {s}.finished_partitions), now() - make_interval(mins => n),
          CASE WHEN n % 100 = 1 THEN ARRAY['t' || n] END
        FROM generate_series(1, 30000) AS n""")
    await rig.sql("""
        INSERT INTO {s}.worker_jobs_finished (id, type, status, success, executor, queue, finished, drop_on, schedule_id, extra)
        SELECT gen_random_uuid(), 'task1', 'FAILED', false, 'local', 'rare', now(),
          (SELECT min(day) FROM {s}.finished_partitions), gen_random_uuid(),
          jsonb_build_object('machine', 'large-' || n, 'region', 'r' || n, 'version', n::text, 'test', n % 3 = 0)
        FROM generate_series(1, 30) AS n""")
    await rig.sql("""
        INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, created_at, ended_at)
        SELECT 'trigger', 'run_' || n, gen_random_uuid(), 1, now() - make_interval(mins => n),
          CASE WHEN n % 20 > 0 THEN now() END
        FROM generate_series(1, 30000) AS n""")
    await rig.sql("""
        INSERT INTO {s}.webhook_inbox (source, delivery_id, body, state, next_try_at)
        SELECT 's', n::text, '{}', CASE WHEN n % 1000 = 0 THEN 'pending' ELSE 'applied' END, now()
        FROM generate_series(1, 20000) AS n""")
    await rig.sql("""
        INSERT INTO {s}.job_keys (task, key, job_id, expires_at)
        SELECT 'task', 'key:' || n, gen_random_uuid(), now() + interval '1 day' FROM generate_series(1, 20000) AS n""")
    await rig.sql(
        "INSERT INTO {s}.job_queues (name, declared) SELECT 'queue' || n, CASE WHEN n = 0 THEN '{}'"
        " ELSE jsonb_build_object('concurrency_limit', n) END FROM generate_series(0, 6) AS n"
    )
    for table in BIG:
        await rig.conn.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(rig.schema.name, table)))


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(each for child in plan.get("Plans", ()) for each in _nodes(child))]


async def _plan(rig: Rig, statement: str, parameters: Any) -> tuple[set[str], set[str]]:
    """(indexes used, big tables read from end to end) of a statement as the server would run it."""
    await rig.conn.execute("BEGIN")
    try:
        cursor = await rig.conn.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters)
        ((found,),) = [tuple(row.values()) for row in await cursor.fetchall()]
    finally:
        await rig.conn.execute("ROLLBACK")
    nodes = _nodes(found[0]["Plan"])
    indexes = {str(node["Index Name"]) for node in nodes if "Index Name" in node}
    scanned = {
        str(node["Relation Name"])
        for node in nodes
        if node["Node Type"] == "Seq Scan" and str(node["Relation Name"]).startswith(BIG)
    }
    # A partition holds nothing yet where it is empty; reading nothing is not reading everything.
    return indexes, {
        name for name in scanned if not name.startswith("worker_jobs_finished_") or await _rows(rig, name)
    }


async def _rows(rig: Rig, table: str) -> bool:
    cursor = await rig.conn.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {}) AS found").format(sql.Identifier(rig.schema.name, table))
    )
    return bool((await cursor.fetchall())[0]["found"])


RARE, LONG_AGO = new_id(), datetime(2026, 1, 1, tzinfo=UTC)
HOLDER = {"worker_id": new_id(), "claim_number": 1, "plain": ["task1"]}
DEAD = {
    "workers": [new_id()],
    "seen": [1.0],
    "early": [True],
    "unknown": [new_id()],
    "lease": "30 s",
    "only": None,
    "crowded": [new_id()],
    "limit": 500,
}
LETTERS: dict[str, Any] = dict.fromkeys(
    ("ids", "statuses", "tasks", "queues", "errors", "finished_from", "finished_to", "after_at", "after_id")
) | {"redriven": False}
WATCHED: dict[str, Any] = {
    "tags": ["t101", "t201"],
    "batches": [RARE],
    "batch_id": RARE,
    "within": timedelta(seconds=10),
    "created_from": LONG_AGO,
    "most": 1000,
}
STATEMENTS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "claim": (
        claims._CLAIM,
        HOLDER | {"queues": ["queue0", "queue1"], "room": 20, "after_priority": [0, 0], "after_seq": [0, 0]},
        {"worker_jobs_open_claim"},
    ),
    "claim of limited queues": (
        limited_claims._CLAIM_LIMITED,
        HOLDER | {"queues": ["queue3"], "room": 20},
        {"worker_jobs_open_claim", "worker_jobs_open_executing"},
    ),
    "claim of keys and rates": (
        limited_claims._CLAIM_WALKING,
        HOLDER | {"queue": "queue3", "room": 20},
        {
            "worker_jobs_open_claim",
            "worker_jobs_open_executing",
            "worker_jobs_open_keyed",
            "concurrency_keys_pkey",
        },
    ),
    "look at limited queues": (
        limited_claims._ANY_READY,
        {"queues": ["queue3", "queue4"]},
        {"worker_jobs_open_claim"},
    ),
    "lock of limited queues": (
        limited_claims._LOCK_QUEUES,
        {"queues": ["queue3", "queue4"]},
        {"worker_jobs_open_claim", "worker_jobs_open_keyed"},
    ),
    "completion": (
        endings._COMPLETE,
        {
            "worker_id": new_id(),
            "ids": f"{{{new_id()}}}",
            "epochs": "{1}",
            "claim_numbers": "{1}",
            "results": "{NULL}",
        },
        {"worker_jobs_open_pkey"},
    ),
    "what a worker holds without knowing": (
        endings._RETURN_UNKNOWN,
        {"worker_id": new_id(), "known": "{}"},
        {"worker_jobs_open_executing"},
    ),
    "rescue": (rescuing._RESCUE, DEAD, {"worker_jobs_open_executing"}),
    "who held several": (rescuing._CROWDED, DEAD, {"worker_jobs_open_executing"}),
    "bury": (rescuing._BURY, DEAD, {"worker_jobs_open_executing"}),
    "workers nobody knows": (liveness._UNKNOWN, {}, {"worker_jobs_open_executing"}),
    "page of dead letters": (dead_letters._PAGE, LETTERS | {"limit": 25}, {"_finished_id_idx"}),
    "dead letters to redrive": (dead_letters._IDS, LETTERS | {"limit": 1000}, {"_finished_id_idx"}),
    "ends since the last count": (figures._COUNT, {}, {"_type_finished_idx"}),
    # All of them have ended just now; nothing ends in the time that is not over.
    "ends of late": (figures._RECENT, {"window": timedelta()}, {"_type_finished_idx"}),
    "promote": (upkeep._PROMOTE, {"limit": 1000}, {"worker_jobs_open_due"}),
    "next due": (upkeep.NEXT_DUE, {}, {"worker_jobs_open_due"}),
    "outlook": (
        outlook._LOOK,
        {"margin": timedelta(seconds=60)},
        {"worker_jobs_open_due", "worker_jobs_open_expiry"},
    ),
    "any unrouted": (unrouted._ARE_ANY, {}, {"worker_jobs_open_unrouted"}),
    "expire": (upkeep._EXPIRE, {"limit": 500}, {"worker_jobs_open_expiry"}),
    "admit": (upkeep._ADMIT, {"tasks": ["task1"], "limit": 1000}, {"worker_jobs_open_waiting"}),
    "a batch": (batches._GET, {"id": new_id(), "abandoned": "1 hour"}, {"worker_jobs_open_pkey"}),
    "unsent": (stranded._UNSENT, {}, {"worker_jobs_open_unsent"}),
    "stranded": (stranded._STRANDED, {}, {"worker_jobs_open_stranded"}),
    "dispatch claim": (
        outbox._CLAIM,
        {
            "executor": "trigger",
            "environment": "e",
            "lease": new_id(),
            "lease_for": "1 min",
            "limit": 100,
            "held": [],
            "flags_version": 1,
            "ids": None,
            "types": None,
        },
        {"worker_jobs_open_dispatch"},
    ),
    "unrouted": (
        unrouted._UNROUTED,
        {"known": ["task1"], "elsewhere": ["task2"], "grace": "1 min", "limit": 100},
        {"worker_jobs_open_unrouted"},
    ),
    "confirm": (remote_runs._CONFIRM, {"limit": 20}, {"worker_jobs_open_confirm"}),
    "reconcile page": (
        remote_runs._PAGE,
        {
            "executor": "trigger",
            "after_at": "1970-01-01",
            "after_id": "",
            "until": "2100-01-01",
            "limit": 100,
        },
        {"remote_runs_open"},
    ),
    "pending webhooks": (inbox._PENDING, {"limit": 100}, {"webhook_inbox_pending"}),
    "watched jobs": (
        watched._CHANGED,
        {"ids": [new_id() for _ in range(1000)], "seen": [1] * 1000},
        {"worker_jobs_open_pkey"},
    ),
    "watched jobs that have ended": (watched._ENDED, {"ids": [new_id()]}, {"_pkey"}),
    "open jobs new to tags": (
        watched._OPEN + watched._BY_TAG + watched._JUST_WRITTEN,
        WATCHED,
        {"worker_jobs_open_tags"},
    ),
    "ended jobs new to tags": (watched._FINISHED + watched._BY_TAG + watched._JUST_MADE, WATCHED, set()),
    "open jobs new to batches": (
        watched._OPEN + watched._BY_BATCH + watched._JUST_WRITTEN,
        WATCHED,
        {"worker_jobs_open_batch"},
    ),
    "ended jobs new to batches": (watched._FINISHED + watched._BY_BATCH + watched._JUST_MADE, WATCHED, set()),
    "open jobs of tags": (watched._OPEN + watched._TAGGED, WATCHED, {"worker_jobs_open_tags"}),
    "ended jobs of tags": (watched._FINISHED + watched._TAGGED, WATCHED, {"tags"}),
    "open jobs of a batch": (watched._OPEN + watched._BATCHED, WATCHED, {"worker_jobs_open_batch"}),
    "ended jobs of a batch": (watched._FINISHED + watched._BATCHED, WATCHED, {"batch"}),
    "heartbeat": (liveness.BEAT, {"id": new_id(), "lock_key": 1}, {"worker_jobs_open_executing"}),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_the_plan_of(big: Rig, name: str) -> None:
    template, parameters, indexes = STATEMENTS[name]
    given = {key: value for key, value in parameters.items() if f"%({key})s" in template}
    used, scanned = await _plan(big, big.schema.sql(template), given)
    assert not scanned, f"{name} reads all of {scanned}"
    assert all(any(index in name for name in used) for index in indexes)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JobFilter(), "pkey"),
        (JobFilter(created_from=LONG_AGO), "pkey"),
        (JobFilter(statuses=(JobStatus.FAILED,)), "id_idx"),
        (JobFilter(queues=("rare",)), "queue_id_idx"),
        (JobFilter(task_queues=(("task3", "queue"),)), "queue_id_idx"),
        (JobFilter(schedule_id=RARE), "schedule_id"),
        (JobFilter(user_id="u1"), "user_id"),
        (JobFilter(machines=("large-2x",)), "expr"),
        (JobFilter(regions=("eu",)), "expr"),
        (JobFilter(versions=("1",)), "expr"),
        (JobFilter(is_test=True), "id_idx"),
        (JobFilter(bulk_action_id=RARE), "pkey"),
        (JobFilter(tags=("t101",)), "tags"),
        (JobFilter(statuses=(JobStatus.COMPLETED,)), "pkey"),
    ],
    ids=range(14),
)
async def test_a_list_reads_no_finished_partition_from_end_to_end(
    big: Rig, wanted: JobFilter, index: str
) -> None:
    statement, parameters = JobLists(big.schema).compiled(wanted)
    used, scanned = await _plan(big, statement.decode(), parameters)
    assert not {each for each in scanned if each.startswith("worker_jobs_finished")}
    assert any(index in name for name in used), used
