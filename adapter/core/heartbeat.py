"""One heartbeat per worker process, from a thread of its own: a blocked event loop must not look dead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from adapter.domain.clock import Clock
from adapter.store.database import Database
from adapter.store.liveness import BEAT, LOCK, lock_key

logger = logging.getLogger("adapter.worker")

#: A worker fences itself when this share of its lease has passed without a beat.
FENCE_AT = 0.8
#: A worker that judges know by its lock starts nothing new when no beat got through for so long: 6 s after its
#: lock went, its jobs are others'.
HOLD_AFTER_S = 4.0
_BEATS_PER_LEASE = 6
_LONGEST_INTERVAL_S = 2.0


class Heartbeat:
    """Beats until stopped. Callbacks run on the heartbeat's thread.

    ``on_canceled(ids)``: jobs of this worker that somebody wants canceled. ``on_lost()``: no beat got
    through for most of the lease, or the database no longer knows the worker: stop everything.
    """

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        lease: timedelta,
        clock: Clock,
        *,
        on_canceled: Callable[[list[UUID]], object],
        on_lost: Callable[[], object],
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._lease = lease
        self._clock = clock
        self._on_canceled = on_canceled
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._soon = threading.Event()
        self._last = clock.monotonic()
        self._lost = False
        #: None behind a pooler, where a lock of the session would be somebody else's.
        self._key = None if database.config.transaction_pooler else lock_key(database.schema, worker_id)
        self._holds_lock = False
        self._is_known_by_lock = False
        self._interval = min(lease.total_seconds() / _BEATS_PER_LEASE, _LONGEST_INTERVAL_S)
        self._beating = threading.Thread(target=self._run, name="adapter-heartbeat", daemon=True)
        # A beat that hangs in a network that swallows everything cannot notice that it hangs.
        self._watching = threading.Thread(target=self._watch, name="adapter-lease", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._last = self._clock.monotonic()
        self._beating.start()
        self._watching.start()

    def stop(self) -> None:
        """Stop and wait for the threads; a beat that hangs is left behind."""
        self._stop.set()
        self._soon.set()
        for thread in (self._beating, self._watching):
            if thread.is_alive():
                thread.join(timeout=5)

    def hurry(self) -> None:
        """Beat now: somebody said that a job was canceled."""
        self._soon.set()

    @property
    def age(self) -> float:
        """Seconds since the last beat that got through."""
        return self._clock.monotonic() - self._last

    @property
    def may_start(self) -> bool:
        """Whether a new try may begin: not while a judge may be about to take our jobs for a dead worker's."""
        return not self._is_known_by_lock or self.age < HOLD_AFTER_S

    def _run(self) -> None:
        conn: psycopg.Connection[DictRow] | None = None
        while not self._stop.is_set():
            try:
                conn = conn or self._connect()
                self._beat(conn)
            except psycopg.Error as error:
                logger.warning("a heartbeat failed: %s", type(error).__name__)
                if conn is not None:
                    conn.close()
                conn = None
            self._soon.wait(self._interval if conn is not None else min(self._interval, 0.5))
            self._soon.clear()
        if conn is not None:
            conn.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._lease.total_seconds() / _BEATS_PER_LEASE / 4):
            if self.age > self._lease.total_seconds() * FENCE_AT:
                self._lose()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost()

    def _connect(self) -> psycopg.Connection[DictRow]:
        seconds = max(1, int(self._lease.total_seconds() / 3))
        conninfo = make_conninfo(
            self._database.config.conninfo,
            application_name=f"{self._database.config.application} heartbeat",
            connect_timeout=max(2, seconds),
            tcp_user_timeout=seconds * 1000,
        )
        threshold = self._database.config.prepare_threshold
        self._holds_lock = False
        return psycopg.Connection[DictRow].connect(
            conninfo, autocommit=True, row_factory=dict_row, prepare_threshold=threshold
        )

    def _beat(self, conn: psycopg.Connection[DictRow]) -> None:
        began = self._clock.monotonic()
        key = self._key if self._holds(conn) else None
        # From the moment it is sent: that it got through may be what we do not hear.
        self._is_known_by_lock = self._is_known_by_lock or key is not None
        parameters = {"id": self._worker_id, "lock_key": key}
        row = conn.execute(self._database.schema.sql(BEAT), parameters).fetchone()
        self._is_known_by_lock = key is not None
        if row is None or not row["known"]:
            self._lose()
            return
        if began - self._last > self._lease.total_seconds() * FENCE_AT:
            # A process that was paused: others may have taken our jobs before this beat got through.
            self._lose()
        self._last, self._lost = began, False
        if row["canceled"]:
            self._on_canceled(list(row["canceled"]))

    def _holds(self, conn: psycopg.Connection[DictRow]) -> bool:
        """Take the lock unless this connection has it; an earlier one of ours may still be dying with it."""
        if self._key is not None and not self._holds_lock:
            parameters = {"key": self._key, "pid": conn.info.backend_pid}
            row = conn.execute(self._database.schema.sql(LOCK), parameters).fetchone()
            self._holds_lock = row is not None and row["locked"]
        return self._holds_lock
