"""The rollback drill: new jobs go back for a while, it is measured, and the flag is put back, whoever is killed.

The drill is stored in the transaction that turns the flag. Whoever finds one that nobody holds puts the flag
back; where the flag was changed meanwhile, that change stands.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.cutover.steering import Steering
from adapter.core.flags import FlagSource
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.domain.drill import Drill, DrillState, Measured, judged
from adapter.domain.errors import (
    FlagConflictError,
    InvalidArgumentError,
    UnknownExecutorError,
)
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.routing import EVERY_TASK, Flags, can_run, kill_switch
from adapter.store import drills, flag_changes
from adapter.store.drills import NewDrill
from adapter.store.flag_changes import Author
from adapter.store.wakeup import DISPATCH, FLAGS

logger = logging.getLogger("adapter.drill")

#: How long a drill is left alone whose holder says nothing.
LEASE = timedelta(seconds=15)
LONGEST = timedelta(days=1)
_TICK_S = 1.0
_LOOKS_EVERY_S = 5.0
#: Jobs of which it is watched whether they stay.
_MOST_SEEN = 10_000
#: What is turned; and who turns it back, in the audit.
_KILL, SOURCE = "kill", "drill"


class Drills:
    """Carries drills out, and puts back the flags of those whose process has died."""

    def __init__(self, parts: Parts, flags: FlagSource, steering: Steering) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors
        self._notifier = parts.notifier
        self._clock = parts.clock
        self._flags = flags
        self._steering = steering
        self._held = set[asyncio.Task[None]]()
        #: Runs `settle` again and again.
        self.loop = Poller("drills", self._work, parts.clock, "*", patience=lambda: _LOOKS_EVERY_S)

    async def _work(self) -> int:
        await self.settle()
        return 0

    async def run(self, task: str, *, to: str, hold: timedelta, author: Author) -> Drill:
        """See `FinishesCutovers.drill`."""
        await self.settle()
        drill = await self._begin(task, to, hold, author)
        await self._hold(drill)
        return await self.get(drill.id)

    async def start(self, task: str, *, to: str, hold: timedelta, author: Author) -> Drill:
        """Begin a drill that this process goes on with; see `FinishesCutovers.start_drill`."""
        await self.settle()
        drill = await self._begin(task, to, hold, author)
        loop = asyncio.get_running_loop()
        held = loop.create_task(self._hold(drill), name=f"adapter-drill-{drill.id}")
        self._held.add(held)
        held.add_done_callback(self._let_go)
        return drill

    def _let_go(self, held: asyncio.Task[None]) -> None:
        self._held.discard(held)
        if not held.cancelled() and (error := held.exception()) is not None:
            logger.error("a drill broke off, its flag is put back: %s", error, exc_info=error)

    async def drain(self) -> None:
        """End the drills that this process goes on with; their flags are put back."""
        for held in self._held:
            held.cancel()
        await asyncio.gather(*self._held, return_exceptions=True)

    async def _hold(self, drill: Drill) -> None:
        seen = set[UUID]()
        try:
            while (rest := await self._tick(drill, seen)) is not None and rest > 0:
                await self._clock.sleep(min(_TICK_S, rest))
            if rest is not None:
                await self._conclude(drill, await self._measure(drill, seen))
        except BaseException:
            # Also when it is told to stop: the flag goes back first.
            await asyncio.shield(self._put_back(drill, DrillState.INTERRUPTED))
            raise

    async def settle(self) -> list[Drill]:
        """Put back the flags of drills that nobody holds any more; returns these drills."""
        async with self._database.connection() as conn:
            left = await drills.abandoned(conn, self._database.schema)
        for each in left:
            logger.warning("the drill of %s was abandoned: its flag is put back", each.task)
            await self._put_back(each, DrillState.INTERRUPTED)
        return [await self.get(each.id) for each in left]

    async def get(self, drill_id: UUID) -> Drill:
        """Return a drill that is known to be there."""
        async with self._database.connection() as conn:
            found = await drills.get(conn, self._database.schema, drill_id)
        assert found is not None
        return found

    async def latest(self, task: str | None, limit: int) -> list[Drill]:
        """Return drills, the newest first."""
        async with self._database.connection() as conn:
            return await drills.latest(conn, self._database.schema, task, limit)

    async def _begin(self, task: str, to: str, hold: timedelta, author: Author) -> Drill:
        target = executor_name(to)
        self._check(task, target, hold, await self._steering.current())
        schema = self._database.schema
        async with self._database.transaction() as conn:
            made = await flag_changes.change(
                conn, schema, author, kind=_KILL, task=task, executor=target, value={}
            )
            new = NewDrill(
                id=UUID(str(uuid7())),
                task=task,
                target=target,
                reason=author.reason,
                actor=author.actor,
                source=author.source,
                hold=hold,
                flag_before=made.before,
                flag_version=made.version,
            )
            drill = await drills.begin(conn, schema, new, LEASE)
        self._turned()
        logger.info("the drill of %s has begun: new jobs go to %s for %s", task, target, hold)
        return drill

    def _check(self, task: str, target: str, hold: timedelta, flags: Flags) -> None:
        if target != LOCAL and target not in self._executors:
            raise UnknownExecutorError(target, [LOCAL, *self._executors.names], "The drill")
        if task == EVERY_TASK:
            msg = "A drill is of one task: name it."
            raise InvalidArgumentError(msg)
        policy = self._registry.get(task).policy
        if not timedelta(0) < hold <= LONGEST:
            msg = f"A drill takes at most {LONGEST}, and some time."
            raise InvalidArgumentError(msg)
        if not can_run(policy, target, flags):
            msg = f"Task {task!r} cannot run at {target!r}: nothing in the registry or among the workers says so."
            raise InvalidArgumentError(msg)
        fixed = kill_switch(Flags(kill_environment=flags.kill_environment, kill_file=flags.kill_file), task)
        if fixed is not None:
            msg = (
                f"The {fixed[1]} sends {task!r} to {fixed[0]!r}, whatever a drill turns. Take it away first."
            )
            raise InvalidArgumentError(msg)

    async def _tick(self, drill: Drill, seen: set[UUID]) -> float | None:
        """Keep hold of the drill and note what came; returns the seconds left, None when it is over."""
        async with self._database.connection() as conn:
            schema = self._database.schema
            rest = await drills.renew(conn, schema, drill, LEASE)
            if rest is None:
                return None
            if not await drills.is_turned(conn, schema, drill):
                await drills.finish(conn, schema, drill.id, DrillState.OVERTAKEN, None)
                return None
            room = _MOST_SEEN - len(seen)
            seen.update(await drills.seen(conn, schema, drill, room) if room > 0 else ())
        return rest

    async def _measure(self, drill: Drill, seen: set[UUID]) -> Measured:
        async with self._database.connection() as conn:
            schema = self._database.schema
            found = await drills.measure(conn, schema, drill)
            lost = await drills.lost(conn, schema, sorted(seen))
        return judged(found, len(lost), idempotent=self._registry.get(drill.task).policy.idempotent)

    async def _conclude(self, drill: Drill, measured: Measured) -> None:
        await self._put_back(drill, measured.state, measured)

    async def _put_back(self, drill: Drill, state: DrillState, measured: Measured | None = None) -> None:
        """Make the flag what it was and end the drill, in one transaction; a flag that was changed since stays."""
        schema, before = self._database.schema, drill.flag_before
        if before is None:
            author = Author(f"the drill is over: {drill.reason}", drill.actor, SOURCE)
        else:
            author = Author(before["reason"], before["actor"], SOURCE)
        try:
            async with self._database.transaction() as conn:
                await flag_changes.change(
                    conn,
                    schema,
                    author,
                    kind=_KILL,
                    task=drill.task,
                    executor=drill.target if before is None else before["executor"],
                    value=None if before is None else {},
                    expected_version=drill.flag_version,
                )
                await drills.finish(conn, schema, drill.id, state, measured)
        except FlagConflictError:
            async with self._database.connection() as conn:
                if await drills.finish(conn, schema, drill.id, DrillState.OVERTAKEN, measured):
                    logger.warning("the flag of %s was turned during its drill and stays so", drill.task)
        self._turned()

    def _turned(self) -> None:
        self._flags.forget()
        self._notifier.poke(FLAGS, DISPATCH)
