"""Schedules that the registry declares: made and changed with the code, at a boot."""

from __future__ import annotations

import logging

from uuid_utils.compat import uuid7

from adapter.core.registry import Registry
from adapter.domain.cron import zone
from adapter.store import schedules
from adapter.store.database import Database
from adapter.store.remote_runs import database_now
from adapter.store.schedules import DECLARED

logger = logging.getLogger("adapter.cron")

_AUTHOR = {"actor": "registry", "source": "boot"}


async def declare_schedules(database: Database, registry: Registry, timezone: str) -> None:
    """Make the stored schedules what the registry says of its tasks.

    One that was paused stays paused. One that is not declared any more rests and is not removed: a fleet may
    run two versions of the code for a while, and what it fired stays known. One whose clock another executor
    keeps, or that changes hands, is left as it is, with a warning.
    """
    zone(timezone)
    schema = database.schema
    with_cron = {f"{DECLARED}{each.id}": each for each in registry if each.policy.cron is not None}
    without = [f"{DECLARED}{each.id}" for each in registry if each.policy.cron is None]
    async with database.transaction() as conn:
        now = await database_now(conn, schema)
        for key, definition in sorted(with_cron.items()):
            cron = definition.policy.cron
            assert cron is not None
            values = {
                "id": uuid7(),
                "task": definition.id,
                "cron": cron.expression,
                "timezone": cron.tz or timezone,
                "missed": "last",
                "data": None,
                "tag": None,
                "user_id": None,
                "executor": None,
                "description": definition.policy.description or None,
                "persistent": False,
                "key": key,
                "external_id": None,
                "window": None,
                "sends_tick": False,
                "next_at": cron.in_zone(timezone).next_after(now),
            }
            made = await schedules.put(conn, schema, values)
            if made is not None:
                said = {**_AUTHOR, "reason": "the registry says so"}
                shown = {"cron": made.cron, "timezone": made.timezone}
                await schedules.note(conn, schema, made, what="declared", after=shown, author=said)
        for kept in await schedules.kept_elsewhere(conn, schema, [*with_cron, *without]):
            cron = registry.get(kept.task).policy.cron
            if cron is None or (cron.expression, cron.tz or timezone) != (kept.cron, kept.timezone):
                logger.warning(
                    "the schedule of %s is not changed to what the registry says: %s keeps its clock",
                    kept.task,
                    kept.handover_to or kept.owner,
                )
        for resting in await schedules.of_keys(conn, schema, list(with_cron), resting=True):
            next_at = resting.times.next_after(now)
            await schedules.activate(conn, schema, resting.id, active=True, next_at=next_at)
            await schedules.note(
                conn,
                schema,
                resting,
                what="declared",
                author={**_AUTHOR, "reason": "the registry names it again"},
            )
        for fired in await schedules.of_keys(conn, schema, without, resting=False):
            await schedules.activate(conn, schema, fired.id, active=False, next_at=None, undeclared=True)
            await schedules.note(
                conn,
                schema,
                fired,
                what="rests",
                author={**_AUTHOR, "reason": "the registry names it no more"},
            )
            logger.info("the schedule of %s rests: the registry names it no more", fired.task)
