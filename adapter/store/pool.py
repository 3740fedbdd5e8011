"""A pool of connections that costs a job next to nothing: lent last in, first out, checked without a round trip."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
from collections import deque
from collections.abc import Awaitable, Callable

import psycopg
from psycopg.pq import TransactionStatus

from adapter.domain.clock import Clock, SystemClock
from adapter.store.direct import Direct

#: How long a connection that was alive is taken for alive while its socket is silent: a network that dies
#: in silence is not noticed there.
BELIEVED_S = 5.0
#: An idle connection is closed after this long, any connection after that long.
_IDLE_S, _OLDEST_S = 600.0, 3600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


class PoolClosedError(psycopg.OperationalError):
    """The pool was closed while somebody waited for a connection, or before."""


class PoolTimeoutError(psycopg.OperationalError):
    """Every connection was in use for too long."""


class Pooled(Direct):
    """A connection of the pool, which remembers when it was made and when it last was seen alive."""

    made_at = 0.0
    seen_at = 0.0


class Pool:
    """At most ``size`` connections, made by ``connect`` as they are needed, on one event loop.

    ``check``: whether one that was idle may be asked if it is alive.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Pooled]],
        *,
        size: int,
        timeout: float,
        check: bool,
        clock: Clock | None = None,
    ) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout
        self._check = check
        self._clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        #: The one used last is at the right.
        self._idle: deque[Pooled] = deque()
        #: Those that have been given back while something was still under way.
        self._settling: set[Pooled] = set()
        #: Connections that are lent, idle, or being made.
        self._count = 0
        #: Who waits; gets a connection, or None for the right to make one.
        self._waiting: deque[asyncio.Future[Pooled | None]] = deque()
        self._closed = False
        #: Connections made until then are used no more.
        self._renewed_at = float("-inf")

    async def get(self) -> Pooled:
        """Lend a connection that is alive and in no transaction; give it back with `put`.

        Raises:
            PoolClosedError, PoolTimeoutError: there is none to be had.
            psycopg.OperationalError: PostgreSQL cannot be reached.
        """
        conn = await self._next()
        # From here on a place is ours, whatever becomes of the connection in it.
        try:
            if conn is not None and not await self._is_alive(conn):
                conn.abandon()
                conn = None
            if conn is None:
                conn = await self._made()
        except BaseException:
            if conn is not None:
                conn.abandon()
            self._free_place()
            raise
        return conn

    async def put(self, conn: Pooled) -> None:
        """Take a connection back; one that is in a transaction is rolled back, a broken one closed."""
        if conn.is_settling and not self._closed:
            # Neither who gives it back nor who comes next waits for that.
            self._settling.add(conn)
            conn.when_settled(functools.partial(self._take_settled, conn))
            return
        try:
            if await self._is_reusable(conn):
                conn.seen_at = self._loop.time()
                self._hand_on(conn)
                return
        except BaseException:
            self._abandon(conn)
            raise
        self._abandon(conn)

    def renew(self) -> None:
        """Use no connection again that there is now: what their sessions keep is out of date."""
        self._renewed_at = self._loop.time()
        while self._idle:
            self._abandon(self._idle.pop())

    async def close(self) -> None:
        """Close every connection that is idle now, the others when they come back."""
        self._closed = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(PoolClosedError("the pool is closed"))
        while self._idle:
            await self._idle.pop().close()
        while self._settling:
            self._abandon(self._settling.pop())

    async def _next(self) -> Pooled | None:
        """Return an idle connection, or None for the right to make one."""
        if self._closed:
            raise PoolClosedError("the pool is closed")
        if self._idle:
            return self._idle.pop()
        if self._count < self._size:
            self._count += 1
            return None
        waiter: asyncio.Future[Pooled | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout):
                return await waiter
        except BaseException as error:
            self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                msg = f"no connection was free for {self._timeout:g} s"
                raise PoolTimeoutError(msg) from None
            raise

    def _withdraw(self, waiter: asyncio.Future[Pooled | None]) -> None:
        """Stop waiting; what was handed over meanwhile goes to the next."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            given = waiter.result()
            if given is None:
                self._free_place()
            else:
                self._hand_on(given)
        else:
            waiter.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _hand_on(self, conn: Pooled) -> None:
        if self._closed or conn.made_at <= self._renewed_at or conn.seen_at - conn.made_at > _OLDEST_S:
            self._abandon(conn)
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(conn)
                return
        self._idle.append(conn)
        if conn.seen_at - self._idle[0].seen_at > _IDLE_S:
            self._abandon(self._idle.popleft())

    def _take_settled(self, conn: Pooled) -> None:
        self._settling.discard(conn)
        if conn.pgconn.transaction_status == TransactionStatus.IDLE:
            conn.seen_at = self._loop.time()
            self._hand_on(conn)
        else:
            self._abandon(conn)

    def _free_place(self) -> None:
        """Let somebody else make a connection in the place of one that is gone."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._count -= 1

    def _abandon(self, conn: Pooled) -> None:
        """Close without a farewell that could wait for a dead network."""
        conn.abandon()
        self._free_place()

    async def _is_alive(self, conn: Pooled) -> bool:
        """Whether a connection that was idle still lives.

        A server that goes says so, and an idle connection has nothing else to say: as long as there is
        nothing to read, one that was used just now is believed without a round trip.
        """
        if conn.closed:
            return False
        now = self._loop.time()
        if self._check and (now - conn.seen_at > BELIEVED_S or _has_something_to_say(conn)):
            try:
                await conn.execute("SELECT 1")
            except psycopg.Error:
                return False
            conn.seen_at = now
        return True

    async def _is_reusable(self, conn: Pooled) -> bool:
        status = conn.pgconn.transaction_status
        if status == TransactionStatus.IDLE:
            return True
        if status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
            try:
                await conn.rollback()
            except psycopg.Error:
                return False
            return conn.pgconn.transaction_status == TransactionStatus.IDLE
        return False

    async def _made(self) -> Pooled:
        """Connect, again and again until the time is over: a server that restarts is soon back."""
        deadline = self._loop.time() + self._timeout
        pause = _FIRST_PAUSE_S
        while True:
            try:
                conn = await self._connect()
            except psycopg.OperationalError:
                if self._closed or self._loop.time() + pause > deadline:
                    raise
            else:
                conn.made_at = conn.seen_at = self._loop.time()
                return conn
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)


def _has_something_to_say(conn: Pooled) -> bool:
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return bool(poll.poll(0))
