"""One for all who watch in this process: it is told of changes, and asks once for everybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from adapter.core.bell import Bell
from adapter.core.watching.feed import Feed, Interest
from adapter.domain.clock import Clock
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import Job
from adapter.store import watched
from adapter.store.database import Connection, Database
from adapter.store.jobs import by_ids
from adapter.store.steps import run
from adapter.store.wakeup import CRON, FLAGS, INBOX, WATCHED, WHO_WATCHES, Notifier
from adapter.store.watched import Sighting, version_of

logger = logging.getLogger("adapter.watching")

T = TypeVar("T")

#: The pause after a look: short while looks find something, twice as long after each that does not, and so many
#: times as long as the look took. However much there is to watch, a process keeps the database busy for a fifth of the
#: time at most, and a busy system makes one who watches something idle look ten times a second.
_SHORTEST_S, _LONGEST_S, _REST = 0.005, 0.1, 4
#: How often it looks without being told: while it can hear of changes, and while it cannot.
_POLL_S, _POLL_DEAF_S = 5.0, 0.25
#: How often others hear that somebody watches; they tell of everything for a while longer than that.
_SAY_S = 10.0
#: How long a feed outlives its last subscriber: a held request is followed by the next.
_LINGER_S = 30.0
#: How far back it looks for jobs that are new to a feed: each time, and now and then, for the sake of transactions
#: that take their time.
_RECENT, _LONG_AGO, _THOROUGH_S = timedelta(seconds=10), timedelta(hours=1), 30.0
#: Rows that are read at once.
_MOST_ROWS = 200

#: When no row was written.
_NEVER = -1
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_OF_JOBS = frozenset({FLAGS, CRON, INBOX, WATCHED, WHO_WATCHES})


class Hub:
    """Keeps the feeds of this process up to date.

    What many watch costs what one does, and what does not change costs nothing: subscribers wait for their feed
    and ask nobody. ``can_hear``: whether this process is told what others do.
    """

    def __init__(
        self, database: Database, notifier: Notifier, clock: Clock, can_hear: Callable[[], bool]
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._clock = clock
        self._can_hear = can_hear
        self._feeds: dict[Interest, Feed] = {}
        self._filling: dict[Interest, asyncio.Task[None]] = {}
        self._asking = asyncio.Lock()
        self._wake = Bell()
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._said_at = self._thorough_at = float("-inf")
        self._pause = _SHORTEST_S
        self._asked: set[UUID] = set()
        self._reading: asyncio.Task[dict[UUID, Job]] | None = None
        #: Nobody is to wait any longer: the process stops.
        self.is_closing = False

    # ---- for subscribers -------------------------------------------------------------------------

    @asynccontextmanager
    async def watch(self, interest: Interest) -> AsyncGenerator[Feed]:
        """Lend the feed of an interest, which is up to date from now on.

        Raises:
            DatabaseUnavailableError: its jobs cannot be read.
        """
        feed = self._feeds.get(interest)
        if feed is None:
            feed = self._feeds[interest] = Feed(interest)
            self._filling[interest] = self._start(self._fill(feed), "adapter-feed")
        feed.holders += 1
        try:
            if (filling := self._filling.get(interest)) is not None:
                await asyncio.shield(filling)
                # What changed while it was read, it may not have seen.
                self._begin()
            yield feed
        finally:
            feed.holders -= 1
            feed.left_at = self._clock.monotonic()

    async def read(self, feed: Feed, ids: Collection[UUID]) -> tuple[str, dict[UUID, Job]]:
        """Return these jobs of a feed as they are now, and the mark that goes with them.

        Raises:
            DatabaseUnavailableError: they cannot be read.
        """
        mark = feed.mark
        found = await self._jobs(ids)
        versions = {job.id: version_of(job) for job in found.values()}
        feed.apply(versions.values(), older=False)
        # Meanwhile others may have changed: the mark may only name what is returned.
        later = feed.since(mark)
        if later is not None and all(feed.knows(versions.get(job_id)) for job_id in later):
            mark = feed.mark
        return mark, found

    async def changes(self, feed: Feed, mark: str) -> dict[UUID, bool]:
        """Return the jobs that have changed since ``mark``, and whether each is new; all when it is unknown.

        Raises:
            DatabaseUnavailableError: it is unknown, and whether we are behind cannot be found out.
        """
        changes = feed.since(mark)
        if changes is None:
            # Another process may have given it, which knew more.
            await self.look()
            changes = feed.since(mark)
        return dict.fromkeys(feed.ids, True) if changes is None else changes

    async def until_moved(self, feed: Feed, mark: str) -> None:
        """Wait until the feed's states are others than ``mark`` says, or the process stops."""
        while feed.mark == mark and not self.is_closing:
            await feed.moved(mark)

    # ---- for the adapter -------------------------------------------------------------------------

    def heard(self, topics: set[str]) -> None:
        """Look, unless what happened is none of a watcher's business."""
        if WHO_WATCHES in topics and self._feeds:
            self._say_so()
        if topics - _NOT_OF_JOBS:
            self._wake.ring()

    def close(self) -> None:
        """Let everybody go who waits, now and from now on."""
        self.is_closing = True
        for feed in self._feeds.values():
            feed.wake()

    async def drain(self) -> None:
        """Close, and end what runs."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(self) -> bool:
        """Bring all feeds up to date: one question for all their open jobs, one for jobs new to them.

        Returns whether anything was new.

        Raises:
            DatabaseUnavailableError: nothing can be read.
        """
        async with self._asking:
            feeds = list(self._feeds.values())
            seen: dict[UUID, int] = {}
            for feed in feeds:
                for job_id, written in feed.open.items():
                    if seen.setdefault(job_id, written) != written:
                        # One of them has read ahead: whatever it is now is news to somebody.
                        seen[job_id] = _NEVER
            wide = [feed for feed in feeds if feed.interest.job_id is None]
            if not seen and not wide:
                return False
            async with self._database.connection() as conn:
                versions, gone = await watched.changed(conn, self._database.schema, seen)
                newcomers = await self._newcomers(conn, wide) if wide else []
            by_id = {version.job_id: version for version in versions}
            left, moved = set(gone), False
            for feed in feeds:
                known = feed.open
                found = [by_id[each] for each in known.keys() & by_id.keys()]
                fresh = [each.version for each in newcomers if feed.interest.covers(each)]
                # What was read beside this look may be newer.
                moved |= feed.apply([each for each in found if known[each.job_id] == seen[each.job_id]])
                moved |= feed.apply([*fresh, *found], known.keys() & left, older=False)
        return moved

    # ---- inside ----------------------------------------------------------------------------------

    async def _newcomers(self, conn: Connection, wide: list[Feed]) -> list[Sighting]:
        now = self._clock.monotonic()
        is_thorough = now - self._thorough_at >= _THOROUGH_S
        if is_thorough:
            self._thorough_at = now
        # Any tag of a feed finds what carries all of them; one that others share finds less.
        tags = {min(feed.interest.tags) for feed in wide if feed.interest.tags}
        batches = {feed.interest.batch_id for feed in wide if feed.interest.batch_id is not None}
        within = _LONG_AGO if is_thorough else _RECENT
        return await watched.newcomers(conn, self._database.schema, tags, batches, within)

    async def _fill(self, feed: Feed) -> None:
        interest, schema = feed.interest, self._database.schema
        try:
            if interest.job_id is not None:
                found = await self._jobs([interest.job_id])
                feed.apply(map(version_of, found.values()), older=False)
                return
            async with self._asking, self._database.connection() as conn:
                if interest.batch_id is not None:
                    sightings = await watched.batched(conn, schema, interest.batch_id)
                else:
                    since = interest.created_from or _EVER
                    sightings = await watched.tagged(conn, schema, interest.tags, since)
                feed.apply([each.version for each in sightings])
        except BaseException:
            # The next who asks begins anew.
            self._feeds.pop(interest, None)
            raise
        finally:
            del self._filling[interest]

    async def _jobs(self, ids: Collection[UUID]) -> dict[UUID, Job]:
        """Read jobs together with all that others ask for at this moment."""
        if not ids:
            return {}
        self._asked.update(ids)
        if self._reading is None:
            self._reading = self._start(self._read_all(), "adapter-feed")
        found = await asyncio.shield(self._reading)
        return {job_id: found[job_id] for job_id in ids if job_id in found}

    async def _read_all(self) -> dict[UUID, Job]:
        asked, self._asked, self._reading = sorted(self._asked), set(), None
        found: dict[UUID, Job] = {}
        async with self._database.connection() as conn:
            for first in range(0, len(asked), _MOST_ROWS):
                some = asked[first : first + _MOST_ROWS]
                found.update(await run(conn, self._database.schema, by_ids(some)))
        return found

    def _start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(self) -> None:
        self._wake.ring()
        self._pause = _SHORTEST_S
        if self._task is None or self._task.done():
            self._task = self._start(self._keep_looking(), "adapter-watching")

    async def _keep_looking(self) -> None:
        while self._feeds:
            self._wake.still()
            began = self._clock.monotonic()
            if began - self._said_at >= _SAY_S:
                self._say_so()
            moved = False
            try:
                moved = await self.look()
            except DatabaseUnavailableError as error:
                logger.warning("watchers have to wait: %s", error)
            except Exception:
                logger.exception("what is watched could not be read")
            self._forget_the_unwatched()
            took = self._clock.monotonic() - began
            await self._clock.sleep(max(self._pause, _REST * took))
            self._pause = _SHORTEST_S if moved else min(2 * self._pause, _LONGEST_S)
            await self._wake.heard(_POLL_S if self._can_hear() else _POLL_DEAF_S)

    def _say_so(self) -> None:
        self._said_at = self._clock.monotonic()
        self._notifier.poke(WATCHED)

    def _forget_the_unwatched(self) -> None:
        now = self._clock.monotonic()
        for interest, feed in list(self._feeds.items()):
            if not feed.holders and now - feed.left_at >= _LINGER_S:
                del self._feeds[interest]
