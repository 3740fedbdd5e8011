"""LISTEN: what other processes say happened, heard where the socket is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql
from psycopg.pq import PGnotify

from adapter.domain.clock import Clock
from adapter.store.database import Database
from adapter.store.direct import Direct
from adapter.store.wakeup import Notifier, decode_topics

logger = logging.getLogger("adapter.wakeup")

#: After so long without a word the listening connection is asked whether it lives.
_SILENCE_S = 30.0


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
                    self._notifier.hears_no_more()
                    await conn.close()
            await self._clock.sleep(wait)
            wait = min(wait * 2, 5.0)

    async def _listen(self, conn: Direct) -> None:
        # A channel is an identifier here and a string in pg_notify; quoting makes them the same.
        quoted = sql.Identifier(self._database.schema.channel)
        await conn.execute(sql.SQL("LISTEN {}").format(quoted))
        self.is_listening = True
        self._notifier.begins_to_hear()
        # What happened before we listened is found by looking once.
        self._on_topics({"*"})
        self._notifier.ask_who_watches()
        while True:
            await conn.hear(self._pass_on, _SILENCE_S)
            await conn.run("SELECT 1", {})

    def _pass_on(self, heard: Sequence[PGnotify]) -> None:
        topics = set[str]()
        for each in heard:
            if not self._notifier.is_own(each):
                topics |= decode_topics(each.extra.decode())
        if topics:
            self._on_topics(topics)
