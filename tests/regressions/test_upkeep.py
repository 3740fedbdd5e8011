"""Statements that look twice: what another process commits between the two looks must count."""

import asyncio
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from adapter.store import processes, retention
from adapter.store.outlook import look
from tests.kit import eventually
from tests.rig import Rig


async def _connect(url: str) -> psycopg.AsyncConnection[DictRow]:
    return await psycopg.AsyncConnection[DictRow].connect(url, autocommit=True, row_factory=dict_row)


_RENEWED: list[tuple[str, LiteralString, LiteralString, LiteralString]] = [
    (
        "an idempotency key",
        "INSERT INTO {s}.job_keys (task, key, job_id, expires_at) VALUES ('t', 'key:k', gen_random_uuid(), now() - interval '1 s')",
        "UPDATE {s}.job_keys SET expires_at = now() + interval '30 days'",
        "SELECT count(*) FROM {s}.job_keys",
    ),
    (
        "a webhook that is replayed",
        "INSERT INTO {s}.webhook_inbox (source, delivery_id, body, state, received_at) VALUES ('s', 'd', '1', 'dead', now() - interval '15 days')",
        "UPDATE {s}.webhook_inbox SET state = 'pending', received_at = now()",
        "SELECT count(*) FROM {s}.webhook_inbox",
    ),
    (
        "a packet that is put again",
        "INSERT INTO {s}.packets (path, content_type, body, created_at) VALUES ('p', 't', '', now() - interval '31 days')",
        "UPDATE {s}.packets SET created_at = now()",
        "SELECT count(*) FROM {s}.packets",
    ),
]


@pytest.mark.parametrize(("what", "old", "renew", "count"), _RENEWED, ids=[each[0] for each in _RENEWED])
async def test_what_is_renewed_while_old_rows_are_trimmed_stays(
    rig: Rig, what: str, old: LiteralString, renew: LiteralString, count: LiteralString
) -> None:
    await rig.sql(old)
    other, trimming = await _connect(rig.url), await _connect(rig.url)
    try:
        async with asyncio.TaskGroup() as group, other.transaction():
            await other.execute(rig.schema.sql(renew))
            group.create_task(_trim(trimming, rig))
            await eventually(lambda: _is_blocked(rig))
    finally:
        await other.close()
        await trimming.close()
    assert await rig.value(count) == 1


async def _trim(conn: psycopg.AsyncConnection[DictRow], rig: Rig) -> None:
    await retention.upkeep(conn, rig.schema)


async def _is_blocked(rig: Rig) -> bool:
    return bool(await rig.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_a_job_that_only_its_remote_can_move_does_not_keep_the_upkeep_awake(rig: Rig) -> None:
    job, _ = await rig.sent()
    await rig.set(job, "status = 'DELAYED', due = now() - interval '1 minute'")
    async with rig.adapter.database.connection() as conn:
        assert (await look(conn, rig.schema, timedelta(seconds=60))).due_s is None


async def test_a_budget_survives_a_clock_that_was_set_back(rig: Rig) -> None:
    async with rig.adapter.database.connection() as conn:
        given: dict[str, Any] = {"executor": "trigger", "share": "reads"}
        await processes.declare_budget(conn, rig.schema, **given, capacity=5, per_second=1)
        await rig.sql("UPDATE {s}.remote_budgets SET refilled_at = now() + interval '1 hour', tokens = 0.5")
        wait = await processes.spend(conn, rig.schema, **given)
        assert 0 < wait <= 1
        assert await rig.value("SELECT refilled_at <= now() FROM {s}.remote_budgets")
        await rig.sql("UPDATE {s}.remote_budgets SET tokens = 2")
        assert await processes.spend(conn, rig.schema, **given) == 0
