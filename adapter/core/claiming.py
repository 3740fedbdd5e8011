"""What one worker takes next: from which queues, how many jobs, and whether it has to look again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from adapter.core.completion import Completer
from adapter.core.look_ahead import LookAhead
from adapter.core.parts import Parts
from adapter.core.surroundings import Surroundings
from adapter.core.tries import Tries
from adapter.core.worker_options import WorkerOptions
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.outcome import Lease
from adapter.store.claims import Claimed, Cursors, claim
from adapter.store.direct import Direct
from adapter.store.limited_claims import are_any_ready, claim_limited
from adapter.store.own_connection import OwnConnection

_POLL_S = 1.0
#: Doubled with each claim in a row that found no room under a limit, as often as that.
_RETRY_S = 0.002
_MOST_MISSES = 9


class Claimer:
    """Claims for a worker. ``begin`` is called with what each statement has brought, as soon as it has.

    Its connection is to be held and closed by the worker.
    """

    def __init__(
        self,
        parts: Parts,
        worker_id: UUID,
        options: WorkerOptions,
        tries: Tries,
        *,
        completer: Completer,
        begin: Callable[[Sequence[Claimed]], None],
    ) -> None:
        self.connection = OwnConnection(parts.database, "claim")
        self._database = parts.database
        self._registry = parts.registry
        self._observers = parts.observers
        self._clock = parts.clock
        self._worker_id = worker_id
        self._concurrency = options.concurrency
        self._tries = tries
        self._completer = completer
        self._begin = begin
        self._cursors = Cursors()
        self._ahead = LookAhead(options.prefetch)
        self._around = Surroundings(parts, worker_id, options.queues)
        #: How many claims there were: with the worker's id the lease of what each has brought.
        self.count = 0
        #: The last claim took jobs under a limit: what ends makes room there.
        self.at_limit = False
        #: How many claims in a row found jobs under a limit and no room, or somebody else who claimed them.
        self.misses = 0
        self._is_told = False
        #: The last claim found less than it had room for, and we are told when there is more.
        self.is_drained = False
        #: The last claim may have left isolated jobs for want of a process.
        self._is_short = False

    @property
    def has_room(self) -> bool:
        """Whether a claim could take anything now."""
        return self._tries.room + self._ahead.most > 0

    @property
    def patience(self) -> float:
        """After so many seconds one should look although nobody told."""
        # Nobody tells of room under a limit that another worker has made.
        return min(_POLL_S, _RETRY_S * 2**self.misses) if self.misses else _POLL_S

    def measure(self) -> int:
        """Return how many jobs to hold ahead of the handlers, as fast as they are now."""
        return self._ahead.measure(self._clock.monotonic(), self._tries.ended)

    def listens(self) -> None:
        """Take note that we are told when something comes."""
        self._is_told = not self._database.config.transaction_pooler

    def heard(self, queues: set[str]) -> None:
        """Take note that something came into these queues."""
        if not queues <= {*self._around.free, *self._around.limited}:
            self._around.forget()
        self._cursors.heard(self._clock.monotonic())
        self.is_drained = False

    def forget(self) -> None:
        """Read the queues anew before the next claim."""
        self._around.forget()

    def wants_more(self) -> bool:
        """Whether to claim, now that a job has ended: before nothing is left, but not for each."""
        if self._is_short and self._tries.spare:
            # What was left for want of a process is behind the cursors.
            self._cursors.reset()
            return True
        if self.is_drained:
            return False
        if waiting := len(self._tries.waiting):
            return waiting * 2 <= self._ahead.most
        return self._tries.room * 2 >= self._concurrency

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be claimed before a `look`."""
        return self._around.are_unknown

    @property
    def is_outdated(self) -> bool:
        """Whether it is time for a `look`."""
        return self._around.are_old

    async def look(self) -> bool:
        """Look which queues there are; whether they are others than before."""
        return await self._around.look([*self._tries.keys, *self._completer.unwritten])

    async def claim(self, ahead: int) -> bool:
        """Take what there is room for, and up to ``ahead`` jobs more; whether there may be more to claim at once.

        Raises:
            DatabaseUnavailableError: it may have been committed all the same, and the next look finds out.
        """
        self.is_drained = False
        room = self._tries.room
        if room + ahead <= 0:
            return False
        try:
            return await self._claim(room, ahead)
        except DatabaseUnavailableError:
            self._around.forget()
            raise

    async def _claim(self, room: int, ahead: int) -> bool:
        self.count += 1
        lease = Lease(self._worker_id, self.count)
        free, limited = self._around.free, self._around.limited
        claimed = 0
        from_head = self._cursors.are_at_head
        async with self.connection.lend() as conn:
            if free:
                # A different queue is first each time, so that a busy one cannot starve the others.
                turn = self.count % len(free)
                claimed = await self._claim_free(conn, lease, free[turn:] + free[:turn], room, ahead)
            limited_wait = bool(limited)
            if limited and claimed < room:
                if claimed:
                    # They begin before another question is asked.
                    await self._clock.sleep(0)
                limited_wait = await are_any_ready(conn, self._database.schema, limited)
            if limited_wait and claimed < room:
                claimed += await self._claim_limited(conn, lease, limited, room - claimed)
            elif not limited_wait:
                self.misses = 0
        self._is_short = bool(self._registry.isolated) and not self._tries.spare
        # A claim that began behind the head has not seen what is more urgent.
        may_be_more = claimed == room + ahead or not from_head
        # Nobody tells of room under a limit.
        self.is_drained = self._is_told and not may_be_more and not limited_wait
        return may_be_more

    async def _claim_free(
        self, conn: Direct, lease: Lease, queues: Sequence[str], room: int, ahead: int
    ) -> int:
        schema, plain, cursors = self._database.schema, self._plain, self._cursors
        scarce, spare = self._registry.isolated, min(self._tries.spare, room)
        isolated: list[Claimed] = []
        if scarce and spare > 0:
            # Never ahead: it would wait for a process here while others have one.
            isolated = await claim(
                conn, schema, lease, queues, spare, plain=plain, cursors=cursors, only=scarce
            )
            self._took(isolated)
        most = room + ahead - len(isolated)
        others = await claim(conn, schema, lease, queues, most, plain=plain, cursors=cursors, without=scarce)
        self._took(others)
        return len(isolated) + len(others)

    async def _claim_limited(self, conn: Direct, lease: Lease, queues: Sequence[str], room: int) -> int:
        claimed = await claim_limited(
            conn,
            self._database.schema,
            lease,
            queues,
            room,
            plain=self._plain,
            scarce=self._registry.isolated,
            spare=self._tries.spare,
        )
        self.at_limit = bool(claimed)
        self.misses = 0 if claimed else min(self.misses + 1, _MOST_MISSES)
        self._took(claimed)
        return len(claimed)

    @property
    def _plain(self) -> Sequence[str]:
        return () if self._observers.watch_starts else self._registry.plain

    def _took(self, claimed: Sequence[Claimed]) -> None:
        self._ahead.saw(claimed)
        self._begin(claimed)
