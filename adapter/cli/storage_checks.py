"""What the doctor makes of the tables, and of those who should work on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from adapter.cli.output import brief
from adapter.cli.verdicts import Check, Verdict
from adapter.store import storage_health
from adapter.store.database import Connection, Schema
from adapter.store.storage_health import Autovacuum, Holding, Silent, TableHealth

#: Dead rows worth a word: so many, and more than twice the living ones.
_MOST_DEAD, _DEAD_PER_LIVE = 50_000, 2
#: Indexes worth a word: so large, and more than so many bytes per row.
_MOST_INDEX_BYTES, _BYTES_PER_ROW = 256 * 1024 * 1024, 4096
#: A prepared transaction of this age, a replication slot or standby that holds so many transactions back.
_OLD, _MOST_XIDS = timedelta(minutes=5), 1_000_000


async def examine(conn: Connection, schema: Schema) -> list[Check]:
    """Return every check of the tables and their keepers."""
    return [
        *bloat(await storage_health.tables(conn, schema)),
        vacuuming(await storage_health.autovacuum(conn, schema)),
        *held_back(await storage_health.holding(conn, schema, older_than=_OLD, xids=_MOST_XIDS)),
        silence(await storage_health.silent(conn, schema)),
        handlers(await storage_health.unrunnable(conn, schema)),
    ]


def bloat(tables: Iterable[TableHealth]) -> list[Check]:
    """Judge dead rows and the size of indexes."""
    checks: list[Check] = []
    for each in tables:
        if each.dead > _MOST_DEAD and each.dead > _DEAD_PER_LIVE * each.live:
            last = "never" if each.vacuumed_ago is None else f"{brief(each.vacuumed_ago)} ago"
            finding = f"{each.name}: {each.dead} dead rows, {each.live} living; last vacuumed {last}"
            advice = f"See `transactions` and `vacuum` here for what is in the way; then VACUUM {each.name}."
            checks.append(Check("bloat", Verdict.WARN, finding, advice))
        if (
            each.index_bytes > _MOST_INDEX_BYTES
            and each.index_bytes > (each.live + each.dead + 1) * _BYTES_PER_ROW
        ):
            finding = f"{each.name}: {each.index_bytes // 2**20} MB of indexes for {each.live} rows"
            advice = f"REINDEX TABLE CONCURRENTLY {each.name}, when nobody holds an old snapshot."
            checks.append(Check("bloat", Verdict.WARN, finding, advice))
    return checks or [Check("bloat", Verdict.PASS, "dead rows and indexes are within bounds")]


def vacuuming(found: Autovacuum) -> Check:
    """Judge whether somebody cleans up."""
    if not found.is_on:
        advice = "Turn autovacuum and track_counts on: a queue without vacuum slows down without end."
        return Check("autovacuum", Verdict.FAIL, "it is off", advice)
    if found.off_for:
        advice = "ALTER TABLE … RESET (autovacuum_enabled)."
        return Check("autovacuum", Verdict.FAIL, f"it is off for {', '.join(found.off_for)}", advice)
    return Check("autovacuum", Verdict.PASS, "it is on")


def held_back(found: Iterable[Holding]) -> list[Check]:
    """Judge what keeps vacuum from its work without being an open transaction."""
    advice = {
        "prepared transaction": "COMMIT PREPARED or ROLLBACK PREPARED it.",
        "replication slot": "Let its consumer catch up, or pg_drop_replication_slot it.",
        "standby": "A long query runs there under hot_standby_feedback: end it.",
    }
    checks = [
        Check(
            "vacuum",
            Verdict.WARN,
            f"the {each.kind} {each.name!r} holds {each.xids} transactions back"
            + (f", for {brief(each.since)}" if each.since is not None else ""),
            advice[each.kind],
        )
        for each in found
    ]
    return checks or [Check("vacuum", Verdict.PASS, "no prepared transaction, slot or standby holds it back")]


def silence(found: Silent) -> Check:
    """Judge workers that fell silent."""
    if found.jobs:
        finding = f"{found.silent} workers are silent and hold {found.jobs} jobs"
        return Check(
            "silent workers", Verdict.FAIL, finding, "Nobody rescues: let a worker or a dispatcher run."
        )
    if found.silent:
        finding = f"{found.silent} ended without a word; they hold nothing any more"
        return Check("silent workers", Verdict.PASS, finding)
    return Check("silent workers", Verdict.PASS, "none")


def handlers(found: Mapping[str, int]) -> Check:
    """Judge jobs that no worker has a handler for."""
    if not found:
        return Check("handlers", Verdict.PASS, "no job waits for one")
    names = ", ".join(f"{task} ({jobs})" for task, jobs in found.items())
    advice = "Start a worker of an application that declares them with a handler, or cancel the jobs."
    return Check("handlers", Verdict.WARN, f"jobs wait for a worker that can run them: {names}", advice)
