"""What the database itself saw: who had a place in a queue, and statements that are held up at a row.

Both are triggers beside the adapter's schema, gone with the block that made them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from tests import kit
from tests.fault.site import Site

_LOCK = 20261127

_WATCH: LiteralString = """
CREATE SCHEMA witness;
CREATE TABLE witness.places (
  n bigint GENERATED ALWAYS AS IDENTITY, job_id uuid, queue text, key text, change int, is_start boolean,
  began timestamptz DEFAULT now(), at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION witness.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE had boolean := OLD.status = 'EXECUTING';
DECLARE has boolean := TG_OP = 'UPDATE' AND NEW.status = 'EXECUTING';
BEGIN
  IF had <> has THEN
    INSERT INTO witness.places (job_id, queue, key, change, is_start)
    VALUES (OLD.id, OLD.queue, OLD.concurrency_key, CASE WHEN has THEN 1 ELSE -1 END, OLD.status = 'QUEUED');
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER UPDATE OR DELETE ON {schema}.worker_jobs_open
  FOR EACH ROW EXECUTE FUNCTION witness.note();
"""

_HOLD_UP: LiteralString = """
CREATE SCHEMA witness;
CREATE FUNCTION witness.wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock({lock}); RETURN NEW; END $$;
CREATE TRIGGER witness BEFORE {event} ON {schema}.worker_jobs_open
  FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION witness.wait();
SELECT pg_advisory_lock({lock});
"""

_HELD_UP: LiteralString = """
SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE locktype = 'advisory' AND objid = %s AND NOT granted AND d.datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a queue that was taken (``change`` 1) or given up (-1), in a transaction that ``began`` before."""

    job_id: UUID
    queue: str
    key: str | None
    change: int
    is_start: bool
    began: datetime
    at: datetime


class Witness:
    """Who ran at which time by the database's clock. A place counts until its row gives it up."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def places(self, queue: str) -> list[Place]:
        columns = "job_id, queue, key, change, is_start, began, at"
        found = self._site.rows(
            f"SELECT {columns} FROM witness.places WHERE queue = %s ORDER BY at, change, n", [queue]
        )
        return [Place(**row) for row in found]


def most_at_once(places: Iterable[Place]) -> int:
    """How many had a place at the same time."""
    now = most = 0
    for place in places:
        now += place.change
        most = max(most, now)
    return most


def most_started_within(places: Iterable[Place], period: timedelta) -> int:
    """How many starts some window surely had: a start was counted at some time of its transaction."""
    starts = [each for each in places if each.change == 1 and each.is_start]
    return max(
        sum(other.at - first.began < period for other in starts[index:]) for index, first in enumerate(starts)
    )


@contextmanager
def watching(site: Site) -> Generator[Witness]:
    """Write down every place that is taken or given up."""
    with _made(site, _WATCH.format(schema=kit.SCHEMA)):
        yield Witness(site)


class Gate:
    """Statements that wait at a row until the gate opens, or for ever when their backend ends before."""

    def __init__(self, conn: psycopg.Connection[Any], site: Site) -> None:
        self._conn, self._site = conn, site

    def backends(self) -> Sequence[int]:
        """Who waits."""
        return [row["pid"] for row in self._site.rows(_HELD_UP, [_LOCK])]

    def open(self) -> None:
        """Let everybody through from now on."""
        self._conn.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def held_up(site: Site, event: LiteralString, when: LiteralString) -> Generator[Gate]:
    """Hold up each INSERT or UPDATE of an open job for which ``when`` (of OLD and NEW) is true."""
    script = _HOLD_UP.format(schema=kit.SCHEMA, event=event, when=when, lock=_LOCK)
    with _made(site, script) as conn:
        gate = Gate(conn, site)
        try:
            yield gate
        finally:
            gate.open()


@contextmanager
def _made(site: Site, script: str) -> Generator[psycopg.Connection[Any]]:
    with psycopg.connect(site.url, autocommit=True) as conn:
        conn.execute(script.encode())
        try:
            yield conn
        finally:
            conn.execute("SELECT pg_advisory_unlock_all()")
            conn.execute("DROP SCHEMA witness CASCADE")
