"""NOTIFY: a hint that something changed, over a poll that would find it anyway.

It is sent after the commit, from a transaction of its own, at most once per 5 ms and process: inside
the scheduling transaction it would make every commit of the server wait for the last (measured: x3 to x9).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import LiteralString
from weakref import WeakKeyDictionary

import psycopg
from psycopg import Pipeline
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
        #: What the connections have told others and this process has not heard yet, how often; while it listens.
        self._told: WeakKeyDictionary[Direct, Counter[str]] = WeakKeyDictionary()
        self._hears = False
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
        if any(each.is_settling for each in self._told):
            # Somebody holds the server's lock: that keeps one of the pool's connections, and not all of them.
            return None
        self._task = asyncio.get_running_loop().create_task(self._pause(), name="adapter-notify")
        return self._telling(conn, topics)

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
                await conn.run(*self._telling(conn, topics))
            except (psycopg.Error, AdapterError) as error:
                # A hint that was lost is found by the poll.
                logger.debug("a notification was not sent: %s", type(error).__name__)
                await self._hang_up()
                return
            await self._clock.sleep(_QUIET_S)

    async def _pause(self) -> None:
        await self._clock.sleep(_QUIET_S)
        await self._send()

    def _telling(self, conn: Direct, topics: set[str]) -> Given:
        said = notification(self._database.schema, topics)[1]
        told = self._told.setdefault(conn, Counter())
        if self._hears:
            told[said["payload"]] += 1
        return _NOTIFY_ALONE, said

    async def _connection(self) -> Direct:
        if self._conn is None or self._conn.closed:
            self._conn = await self._database.connect(f"{self._database.config.application} notify")
        return self._conn

    def begins_to_hear(self) -> None:
        """From now on this process hears what it tells others."""
        for told in self._told.values():
            told.clear()
        self._hears = True

    def hears_no_more(self) -> None:
        """The listening connection is gone."""
        self._hears = False

    def is_own(self, heard: PGnotify) -> bool:
        """Whether these are the very words of this process, which it has told itself. Each is heard once.

        What a caller's transaction says over the same connection is news.
        """
        payload = heard.extra.decode()
        for conn, told in self._told.items():
            if told[payload] and not conn.closed and conn.pgconn.backend_pid == heard.be_pid:
                told[payload] -= 1
                return True
        return False

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


def encode_topics(topics: Collection[str]) -> str:
    """Return the payload for these topics; too many of them become one that means everything."""
    return _encoded(frozenset(topics)) if len(topics) <= _MOST_NAMES else '["*"]'


# A process says and hears the same few things all day, each time from sleep.
@functools.lru_cache(maxsize=256)
def _encoded(topics: frozenset[str]) -> str:
    return json.dumps(sorted(topics))


@functools.lru_cache(maxsize=256)
def decode_topics(payload: str) -> frozenset[str]:
    """Return the topics of a payload; one that cannot be read means everything."""
    try:
        names = json.loads(payload)
    except ValueError:
        return frozenset({"*"})
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset({"*"})  # pyright: ignore[reportUnknownArgumentType]
