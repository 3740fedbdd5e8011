"""How the clock of a schedule changes hands between us and an executor: no tick doubled, none missed.

Every step is written down before it is taken, and can be taken again: whoever finds a hand-over that its
process has left goes on with it. The cut is the first tick of the new owner. To an executor: our ticks
stop, the schedule is made there, and only if its next run is the cut has it arrived; else it is taken back.
To us: it rests there, then what it has fired is adopted, and what it has not we fire from the cut on.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.cron.remote_ticks import BACK, RemoteTicks, fields_of
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.domain.errors import (
    AdapterError,
    DatabaseUnavailableError,
    RejectedError,
    ScheduleStateError,
    UnsupportedError,
)
from adapter.domain.job import LOCAL
from adapter.executors.base import RemoteSchedule
from adapter.store import hand_overs, processes, schedules
from adapter.store.remote_runs import database_now
from adapter.store.schedules import Schedule
from adapter.store.wakeup import CRON

logger = logging.getLogger("adapter.cron")

#: No tick may be so near to a hand-over.
QUIET = timedelta(minutes=2)
#: How long after a schedule rests there its last runs may not show in a list.
LAG = timedelta(seconds=30)
#: The same where it may have fired its last tick just before: then a list that lags would have us fire it too.
LONG_LAG = timedelta(minutes=5)
#: How often the ticks of schedules that others keep are looked for.
_LOOK_S = 30.0
#: Longer than any call can last, its repetitions among it.
_HELD, _LEASE = "schedules", timedelta(minutes=3)
#: HTTP statuses that speak of our key or address, not of the schedule.
_OUR_FAULT = frozenset({401, 403, 405})

CREATING, ACTIVATING, DEACTIVATING, WAITING = "creating", "activating", "deactivating", "waiting"


class HandOvers:
    """Hands clocks over, and adopts what other clocks have fired. Any number of processes may run it."""

    def __init__(self, parts: Parts, ticks: RemoteTicks, *, lag: timedelta = LAG) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._notifier = parts.notifier
        self._ticks = ticks
        self._clock = parts.clock
        self._lag = lag
        self._holder = UUID(str(uuid7()))
        self._looked_at = -_LOOK_S
        #: Runs `run_once` again and again.
        self.loop = Poller("hand-over", self._work, parts.clock, CRON)

    async def begin(self, schedule: Schedule, to: str) -> Schedule:
        """Begin to hand a schedule over.

        Raises:
            ScheduleStateError: it is there, changes hands already, rests, or a tick is too near.
            UnsupportedError: the executor keeps no clocks, or the task has no name there.
        """
        if schedule.owner == to:
            raise ScheduleStateError(schedule.id, f"its clock is kept by {to} already")
        if LOCAL not in {schedule.owner, to}:
            raise ScheduleStateError(schedule.id, f"take it back from {schedule.owner} first")
        if not schedule.active:
            raise ScheduleStateError(schedule.id, "it rests: resume it first")
        if schedule.window is not None and to != LOCAL:
            raise ScheduleStateError(
                schedule.id, f"it has a window ({schedule.window}): take that away first"
            )
        other = schedule.owner if to == LOCAL else to
        self._ticks.clock_of(other)
        if to != LOCAL:
            self._remote_name(schedule, to)
        async with self._database.connection() as conn:
            now = await database_now(conn, self._database.schema)
            following = schedule.times.next_after(now)
            before = schedule.times.next_after(now - QUIET)
            if before <= now or following - now < QUIET:
                near = before if before <= now else following
                why = f"a tick ({near:%H:%M:%S} UTC) lies within two minutes; ask again after it"
                raise ScheduleStateError(schedule.id, why)
            state = DEACTIVATING if to == LOCAL else CREATING
            begun = await hand_overs.begin(
                conn, self._database.schema, schedule, state=state, to=to, cut=following
            )
        if begun is None:
            why = "it changes hands already, was changed, or has ticks still to be fired here: look and ask again"
            raise ScheduleStateError(schedule.id, why)
        self._notifier.poke(CRON)
        return begun

    async def run_once(self) -> int:
        """Take one step of each hand-over, and adopt what others have fired; returns how much there was to do."""
        self._looked_at = -_LOOK_S
        return await self._work()

    async def _work(self) -> int:
        schema = self._database.schema
        looking = self._clock.monotonic() - self._looked_at >= _LOOK_S
        async with self._database.connection() as conn:
            moving = await hand_overs.under_way(conn, schema)
            kept = await schedules.listed(conn, schema, elsewhere=True) if looking else []
            if looking:
                self._looked_at = self._clock.monotonic()
            # One process at a time: a call of a second one could turn a clock on that has come back.
            if not (moving or kept) or not await processes.take_lease(
                conn, schema, _HELD, self._holder, _LEASE
            ):
                return 0
        try:
            return await self._go_on_all(moving) + await self._ticks.adopt_all(kept)
        finally:
            async with self._database.connection() as conn:
                await processes.release_lease(conn, schema, _HELD, self._holder, done=True)

    async def _go_on_all(self, moving: list[Schedule]) -> int:
        done = 0
        for each in moving:
            try:
                done += await self.go_on(each)
            except DatabaseUnavailableError:
                raise
            except AdapterError as error:
                # A remote that does not answer, or a process that knows neither it nor the task.
                logger.warning("the hand-over of %s has to wait: %s", each.task, error, extra=fields_of(each))
                await self._step(each, each.handover_state or "", wait=timedelta(seconds=5))
        return done

    async def go_on(self, schedule: Schedule) -> int:
        """Take the next step of one hand-over; returns 0 when somebody else took it.

        Raises:
            ExecutorError: the other side could not be asked; the step is taken again.
        """
        match schedule.handover_state:
            case "creating":
                moved = await self._create(schedule)
            case "activating":
                moved = await self._activate(schedule)
            case "deactivating":
                moved = await self._deactivate(schedule)
            case _:
                moved = await self._take(schedule)
        return int(moved is not None)

    async def _create(self, schedule: Schedule) -> Schedule | None:
        to = str(schedule.handover_to)
        try:
            made = await self._make(schedule, to)
            if made.task != self._remote_name(schedule, to):
                # Trigger.dev leaves the task of a known key as it was: that one is of an earlier hand-over.
                await self._ticks.clock_of(to).delete(made.schedule_id)
                made = await self._make(schedule, to)
        except RejectedError as error:
            if error.status in _OUR_FAULT:
                raise
            return await self._refused(schedule, error)
        return await self._step(schedule, ACTIVATING, remote=made.schedule_id)

    async def _make(self, schedule: Schedule, to: str) -> RemoteSchedule:
        return await self._ticks.clock_of(to).create(
            task=self._remote_name(schedule, to),
            cron=schedule.cron,
            timezone=schedule.timezone,
            key=self._key(schedule, to),
            external_id=str(schedule.id),
        )

    async def _refused(self, schedule: Schedule, error: RejectedError) -> Schedule | None:
        """Go on with our ticks, unless an earlier call has made it there after all."""
        to = str(schedule.handover_to)
        made = await self._ticks.clock_of(to).find(self._key(schedule, to))
        if made is not None:
            return await self._step(schedule, DEACTIVATING, remote=made.schedule_id)
        return await self._end(schedule, LOCAL, schedule.handover_cut, problem=f"{to} refuses it: {error}")

    def _key(self, schedule: Schedule, to: str) -> str:
        # Keys are one per project at Trigger.dev: without the environment a second one would move it.
        return f"adapter:{self._ticks.executor(to).environment}:{schedule.id}"

    async def _activate(self, schedule: Schedule) -> Schedule | None:
        to, remote = str(schedule.handover_to), str(schedule.remote_schedule_id)
        seen = await self._ticks.clock_of(to).turn(remote, active=True)
        exact = seen is not None and seen.active and not seen.window
        if seen is not None and exact and seen.next_run == schedule.handover_cut:
            logger.info("%s keeps the clock of %s from %s on", to, schedule.task, seen.next_run)
            return await self._end(schedule, to, None)
        # The cut lies behind it, or it fires at other times: whatever it has fired, we take it back.
        logger.warning("%s would not fire %s at the cut: it is taken back", to, schedule.task)
        return await self._step(schedule, DEACTIVATING)

    async def _deactivate(self, schedule: Schedule) -> Schedule | None:
        await self._ticks.clock_of(_other(schedule)).turn(str(schedule.remote_schedule_id), active=False)
        async with self._database.connection() as conn:
            now = await database_now(conn, self._database.schema)
        assert schedule.handover_cut is not None
        # Its ticks before the cut are minutes old: they show. The cut itself it may have fired this second.
        return await self._step(
            schedule, WAITING, wait=LONG_LAG if now >= schedule.handover_cut else self._lag
        )

    async def _take(self, schedule: Schedule) -> Schedule | None:
        other = _other(schedule)
        cut = schedule.handover_cut
        assert cut is not None
        await self._ticks.adopt(schedule, other, cut - BACK)
        # Ticks from the cut on that it has fired are taken: ours find them so, the others are fired.
        problem = None
        if schedule.owner == LOCAL:
            problem = f"{other} would not have fired at the cut, so it was taken back: hand it over again"
        return await self._end(schedule, LOCAL, cut, problem=problem)

    async def remove_there(self, schedule: Schedule) -> None:
        """Remove the schedule at the executor that keeps its clock."""
        await self._ticks.clock_of(schedule.owner).delete(str(schedule.remote_schedule_id))

    # ---- parts -----------------------------------------------------------------------------------

    def _remote_name(self, schedule: Schedule, to: str) -> str:
        known = self._registry.get(schedule.task).policy.remote_ids.get(to)
        if known is None:
            raise UnsupportedError(
                f"Task {schedule.task!r} has no id at {to!r}. Declare remote_id={{{to!r}: ...}} on the task."
            )
        return known

    async def _step(
        self,
        schedule: Schedule,
        state: str,
        *,
        remote: str | None = None,
        wait: timedelta = timedelta(0),
    ) -> Schedule | None:
        async with self._database.connection() as conn:
            return await hand_overs.step(
                conn, self._database.schema, schedule, state, remote=remote, wait=wait
            )

    async def _end(
        self, schedule: Schedule, owner: str, next_at: datetime | None, *, problem: str | None = None
    ) -> Schedule | None:
        async with self._database.connection() as conn:
            ended = await hand_overs.end(
                conn, self._database.schema, schedule, owner=owner, next_at=next_at, problem=problem
            )
        self._notifier.poke(CRON)
        return ended


def _other(schedule: Schedule) -> str:
    """Return the executor that a schedule comes back from: its owner, or the one it did not arrive at."""
    return schedule.owner if schedule.owner != LOCAL else str(schedule.handover_to)
