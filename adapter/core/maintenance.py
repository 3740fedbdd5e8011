"""What has to happen now and then whoever does it: promote, expire, time out, rescue."""

from __future__ import annotations

import logging
from datetime import timedelta

from adapter.core.canceling import Canceler
from adapter.core.judge import Judge
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.store import families, liveness, rescuing, upkeep, wait_tokens
from adapter.store.database import Connection
from adapter.store.outlook import look
from adapter.store.overruns import end_overruns
from adapter.store.wakeup import DISPATCH, FINISHED

logger = logging.getLogger("adapter.maintenance")

_TICK_S = 1.0
_SHORTEST_SLEEP_S = 0.005
#: How often the workers are looked at, and how often the jobs of those that nobody knows.
_LOOK_S, _LOOK_FOR_UNKNOWN_S = 0.9, 5.0
#: So many leases past its max_duration a try is ended by whoever does the upkeep.
_MARGIN_LEASES = 2


class Maintenance:
    """Any number of processes may run it; each statement takes only what nobody else has."""

    def __init__(self, parts: Parts, lease: timedelta, canceler: Canceler) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._clock = parts.clock
        self._lease = lease
        self._canceler = canceler
        self._judge = Judge(parts.clock)
        self._looked_at = self._looked_for_unknown_at = -_LOOK_FOR_UNKNOWN_S
        self._sleep_s = _TICK_S
        self.loop = Poller("upkeep", self._work, parts.clock, "*", lambda: self._sleep_s)

    async def run_once(self) -> int:
        """Do everything that is due; returns how many jobs were moved."""
        self._looked_at = self._looked_for_unknown_at = -_LOOK_FOR_UNKNOWN_S
        return await self._work()

    async def _work(self) -> int:
        """Do what is due, and find out how long one may sleep: until the next job is due, at most a second."""
        schema, margin = self._database.schema, self._lease * _MARGIN_LEASES
        async with self._database.connection() as conn:
            outlook = await look(conn, schema, margin)
            promoted = await upkeep.promote(conn, schema) if outlook.are_due else upkeep.Promoted()
            expired = await upkeep.expire(conn, schema) if outlook.have_expired else []
            rescued = await self._rescue(conn)
            overrun = await end_overruns(conn, schema, margin) if outlook.are_overrun else []
            timed_out = await wait_tokens.time_out(conn, schema) if outlook.are_timed_out else 0
            # What has ended just now may be what somebody waited for.
            is_free = outlook.are_done_waiting or expired or rescued.ended or overrun
            woken = await families.wake(conn, schema) if is_free else frozenset[str]()
        next_s = _TICK_S if outlook.next_s is None else outlook.next_s
        self._sleep_s = min(_TICK_S, max(_SHORTEST_SLEEP_S, next_s))
        topics = set(promoted.queues | rescued.queues | woken)
        if promoted.remote:
            topics.add(DISPATCH)
        if ended := expired + rescued.ended + overrun:
            topics.add(FINISHED)
            self._observers.finished(ended)
        if timed_out:
            # Who waits for them looks.
            topics.add(FINISHED)
        if overrun:
            logger.error("ended %d jobs past their max_duration: their workers did not", len(overrun))
            self._observers.counts["overrun"] += len(overrun)
        if topics:
            self._notifier.poke(*topics)
        below = await self._canceler.go_down() if outlook.were_canceled else 0
        return promoted.count + len(ended) + rescued.count + len(woken) + below

    async def _rescue(self, conn: Connection) -> rescuing.Rescued:
        nothing = rescuing.Rescued(frozenset(), 0, [])
        schema, began = self._database.schema, self._clock.monotonic()
        if began - self._looked_at < _LOOK_S:
            return nothing
        self._looked_at = began
        verdicts = self._judge.judge(await liveness.look(conn, schema), began)
        unknown = []
        if began - self._looked_for_unknown_at >= _LOOK_FOR_UNKNOWN_S:
            self._looked_for_unknown_at = began
            unknown = await liveness.unknown(conn, schema)
        if not verdicts and not unknown:
            return nothing
        rescued = await rescuing.rescue(conn, schema, verdicts, unknown=unknown, lease=self._lease)
        if rescued.count or rescued.ended:
            logger.warning("rescued %d jobs of dead workers, buried %d", rescued.count, len(rescued.ended))
            self._observers.counts["rescued"] += rescued.count
        return rescued
