"""LISTEN and NOTIFY: a hint that something changed, over a poll that would find it anyway.

NOTIFY is sent after the commit, from a transaction of its own, at most once per 5 ms and process: inside
the scheduling transaction it would make every commit of the server wait for the last (measured: x3 to x9).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import LiteralString
from weakref import WeakSet

import psycopg
from psycopg import Pipeline, sql
from psycopg.pq import PGnotify

from adapter.domain.clock import Clock
from adapter.domain.errors import AdapterError
from adapter.store.database import Database, Schema
from adapter.store.direct import Direct
from adapter.store.parameters import Given

logger = logging.getLogger("adapter.wakeup")

_NOTIFY: LiteralString = "SELECT pg_notify(%(channel)s, %(payload)s)"
#: In a transaction of its own. A NOTIFY holds a lock of the whole server until its commit: that must not wait for the
#: disk, and a hint that a crash loses is found by the poll.
_NOTIFY_ALONE: LiteralString = (
    "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, %(payload)s)"
)
_QUIET_S = 0.005
#: Whether libpq can send a statement behind another.
_CAN_FOLLOW = Pipeline.is_supported()
_MOST_NAMES = 200
#: After so long without a word the listening connection is asked whether it lives.
_SILENCE_S = 30.0

#: Topics beside queue names.
DISPATCH = "!dispatch"
FINISHED = "!finished"
FLAGS = "!flags"
CANCEL = "!cancel"
INBOX = "!inbox"
ROUTE = "!route"
RECALL = "!recall"
CRON = "!cron"
BULK = "!bulk"
#: Jobs moved on in a way that only watchers want to know; said while `WATCHED` was said not long ago.
CHANGED = "!changed"
WATCHED = "!watched"
#: Somebody has just begun to listen, and wants to know whether anybody watches.
WHO_WATCHES = "!who-watches"
#: All of them.
NOT_QUEUES = frozenset(
    {DISPATCH, FINISHED, FLAGS, CANCEL, INBOX, ROUTE, RECALL, CRON, BULK, CHANGED, WATCHED, WHO_WATCHES}
)

#: How long after `WATCHED` watchers are told of changes, in seconds; whoever watches says it more often.
_WATCHED_S = 30.0
#: How long they are told by somebody who has asked and has no answer yet.
_ANSWER_S = 1.0


class Notifier:
    """Collects what happened in this process and tells the others, soon and seldom.

    Over a connection of its own, made with the first poke, or right behind the commit of somebody who takes the turn:
    nobody who schedules or claims waits for it.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._topics: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._conn: Direct | None = None
        #: The connections that have told others.
        self._told_by: WeakSet[Direct] = WeakSet()
        self._local: list[Callable[[set[str]], None]] = []
        self._watched_until = float("-inf")

    def subscribe(self, listener: Callable[[set[str]], None]) -> None:
        """Call ``listener(topics)`` at once for what happens in this very process."""
        self._local.append(listener)

    def poke(self, *topics: str) -> None:
        """Tell everybody about ``topics``; returns at once. Must run on the adapter's event loop."""
        self.tell_here({*topics})
        self._topics.update(topics)
        if self._topics and not self._is_telling:
            self._task = asyncio.get_running_loop().create_task(self._send(), name="adapter-notify")

    def tell_here(self, topics: set[str]) -> None:
        """Tell only this very process."""
        if topics:
            for listener in self._local:
                listener(topics)

    def take_turn(self, conn: Direct, topics: set[str]) -> Given | None:
        """Return what tells others of ``topics``, for ``conn`` to send right behind a commit.

        None: others were told just now, or cannot be told so, and `poke` tells them in time.
        """
        if not topics or self._is_telling or not _CAN_FOLLOW or self._database.config.transaction_pooler:
            return None
        if any(each.is_settling for each in self._told_by):
            # Somebody holds the server's lock: that keeps one of the pool's connections, and not all of them.
            return None
        self._told_by.add(conn)
        self._task = asyncio.get_running_loop().create_task(self._pause(), name="adapter-notify")
        return self._telling(topics)

    def changed(self) -> None:
        """Tell watchers that jobs moved on, if there are any, in whatever process; costs nothing otherwise."""
        if self._clock.monotonic() < self._watched_until:
            self.poke(CHANGED)

    def heard(self, topics: set[str]) -> None:
        """Take note that somebody watches."""
        if WATCHED in topics:
            self._watched_until = self._clock.monotonic() + _WATCHED_S

    def ask_who_watches(self) -> None:
        """Find out: who has just begun to listen may have missed that somebody does."""
        self._watched_until = max(self._watched_until, self._clock.monotonic() + _ANSWER_S)
        self.poke(WHO_WATCHES)

    @property
    def _is_telling(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _send(self) -> None:
        while self._topics:
            topics, self._topics = self._topics, set()
            try:
                conn = await self._connection()
                await conn.run(*self._telling(topics))
            except (psycopg.Error, AdapterError) as error:
                # A hint that was lost is found by the poll.
                logger.debug("a notification was not sent: %s", type(error).__name__)
                await self._hang_up()
                return
            await self._clock.sleep(_QUIET_S)

    async def _pause(self) -> None:
        await self._clock.sleep(_QUIET_S)
        await self._send()

    def _telling(self, topics: set[str]) -> Given:
        return _NOTIFY_ALONE, notification(self._database.schema, topics)[1]

    async def _connection(self) -> Direct:
        if self._conn is None or self._conn.closed:
            self._conn = await self._database.connect(f"{self._database.config.application} notify")
            self._told_by.add(self._conn)
        return self._conn

    def has_told(self, backend: int) -> bool:
        """Whether this process of PostgreSQL tells for us."""
        return any(not conn.closed and conn.pgconn.backend_pid == backend for conn in self._told_by)

    async def _hang_up(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def drain(self) -> None:
        """Wait until what was poked is sent, and close the connection."""
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._hang_up()


def notification(schema: Schema, topics: set[str]) -> tuple[LiteralString, dict[str, str]]:
    """Return the statement that tells everybody about ``topics``, and its parameters."""
    return _NOTIFY, {"channel": schema.channel, "payload": encode_topics(topics)}


def encode_topics(topics: set[str]) -> str:
    """Return the payload for these topics; too many of them become one that means everything."""
    return json.dumps(sorted(topics)) if len(topics) <= _MOST_NAMES else '["*"]'


def decode_topics(payload: str) -> set[str]:
    """Return the topics of a payload; one that cannot be read means everything."""
    try:
        names = json.loads(payload)
    except ValueError:
        return {"*"}
    return {str(name) for name in names} if isinstance(names, list) else {"*"}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


class Listener:
    """Hears what other processes poke. While it cannot listen, ``is_listening`` is False: poll faster."""

    def __init__(
        self, database: Database, clock: Clock, on_topics: Callable[[set[str]], None], notifier: Notifier
    ) -> None:
        """``notifier``: that of this process, whose own words need not be heard."""
        self._database = database
        self._clock = clock
        self._on_topics = on_topics
        self._notifier = notifier
        self.is_listening = False

    async def run(self) -> None:
        """Listen until canceled, reconnecting; a no-op behind a transaction pooler."""
        if self._database.config.transaction_pooler:
            return
        wait = 0.1
        while True:
            try:
                conn = await self._database.connect(f"{self._database.config.application} listen")
            except psycopg.Error as error:
                logger.warning("cannot listen, polling instead: %s", type(error).__name__)
            else:
                wait = 0.1
                try:
                    await self._listen(conn)
                except psycopg.Error as error:
                    logger.warning("the listening connection was lost: %s", type(error).__name__)
                finally:
                    self.is_listening = False
                    await conn.close()
            await self._clock.sleep(wait)
            wait = min(wait * 2, 5.0)

    async def _listen(self, conn: Direct) -> None:
        # A channel is an identifier here and a string in pg_notify; quoting makes them the same.
        quoted = sql.Identifier(self._database.schema.channel)
        await conn.execute(sql.SQL("LISTEN {}").format(quoted))
        self.is_listening = True
        # What happened before we listened is found by looking once.
        self._on_topics({"*"})
        self._notifier.ask_who_watches()
        while True:
            await conn.hear(self._pass_on, _SILENCE_S)
            await conn.run("SELECT 1", {})

    def _pass_on(self, heard: Sequence[PGnotify]) -> None:
        topics = set[str]()
        for each in heard:
            # What this process poked it has told itself at once.
            if not self._notifier.has_told(each.be_pid):
                topics |= decode_topics(each.extra.decode())
        if topics:
            self._on_topics(topics)
