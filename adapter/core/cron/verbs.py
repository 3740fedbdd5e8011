"""The verbs by which an application keeps its schedules."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any, Unpack, get_args
from uuid import UUID

from pydantic_core import from_json
from uuid_utils.compat import uuid7

from adapter.core.cron.asked import (
    SAID,
    CronOptions,
    ScheduleChanges,
    SchedulePage,
    as_made,
    changed,
    shown,
)
from adapter.core.cron.firing import Firing
from adapter.core.cron.handover import HandOvers
from adapter.core.cron.ticks import spec_of
from adapter.core.planning import Planner
from adapter.core.registry import Registry
from adapter.domain.cron import Cron, Missed
from adapter.domain.errors import InvalidArgumentError, ScheduleNotFoundError, ScheduleStateError
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.window import check_window
from adapter.store import schedules
from adapter.store.database import Connection, Database
from adapter.store.flag_changes import Author
from adapter.store.remote_runs import database_now
from adapter.store.schedules import DECLARED, Schedule
from adapter.store.wakeup import CRON, Notifier

_MOST_TICKS = 1000


class KeepsSchedules:
    """Mixed into the adapter: schedules whose ticks become jobs, routed like any other."""

    database: Database
    notifier: Notifier
    registry: Registry
    planner: Planner
    firing: Firing
    hand_overs: HandOvers

    async def schedule_cron(
        self,
        task: str,
        cron: str | Cron,
        data: Any = None,
        *,
        reason: str = "scheduled by the application",
        actor: str = "application",
        source: str = "api",
        **options: Unpack[CronOptions],
    ) -> Schedule:
        """Schedule a task by the clock: each tick becomes one job, which goes where jobs go at that moment.

        Options:
            cron: five fields, as Trigger.dev reads them; see `Cron`.
            tz: an IANA zone; without it that of ``cron``, else of ``JOBS_CRON_TZ``.
            tag: of each tick's job. While the one before has not started, a tick makes no second one.
            executor: where the ticks go, whatever rollouts say (a kill switch still wins).
            missed: what becomes of ticks that nobody fired in time: ``last`` (of several the latest), ``all``,
                or ``skip`` (those more than a minute late).
            key: a second call with the same key changes this schedule instead of making another.
            window: let each tick's job become due up to so much later (``30m``, ``2h``, ``50%`` of the interval),
                always as much for one schedule. Without it jobs are due at the very time.
            sends_tick: the payload is what Trigger.dev tells a scheduled task of its tick; excludes ``data``.

        Raises:
            InvalidCronError: the expression or the zone cannot be read.
            UnknownTaskError, TaskDisabledError, InvalidPayloadError, UnknownExecutorError, InvalidArgumentError:
                a tick could not be scheduled; nothing was written.
            ScheduleStateError: the one of this key says something else, and its clock is not ours alone.
        """
        missed, key, tz = options.get("missed", "last"), options.get("key"), options.get("tz")
        if missed not in get_args(Missed):
            msg = f"missed is one of {', '.join(get_args(Missed))}, not {missed!r}."
            raise InvalidArgumentError(msg)
        if key is not None and (not key.strip() or key.startswith(DECLARED)):
            msg = f"A key has a letter at least, and does not begin with {DECLARED!r}: those are the registry's."
            raise InvalidArgumentError(msg)
        window, sends_tick = options.get("window"), options.get("sends_tick", False)
        if window is not None:
            check_window(window)
        if sends_tick and data is not None:
            msg = "With sends_tick the payload is the tick's: data= says another one."
            raise InvalidArgumentError(msg)
        given = Cron(cron) if isinstance(cron, str) else cron
        times = (Cron(given.expression, tz) if tz is not None else given).in_zone(self.firing.timezone)
        author = Author(reason, actor, source)
        schema = self.database.schema
        async with self.database.transaction() as conn:
            now = await database_now(conn, schema)
            user_id, executor = options.get("user_id"), options.get("executor")
            values: dict[str, Any] = {
                "id": UUID(str(uuid7())),
                "task": task,
                "cron": times.expression,
                "timezone": times.tz,
                "missed": missed,
                "data": data,
                "tag": options.get("tag"),
                "user_id": None if user_id is None else str(user_id),
                "executor": None if executor is None else executor_name(executor),
                "description": options.get("description"),
                "persistent": options.get("persistent", False),
                "key": key,
                "external_id": options.get("external_id"),
                "window": window,
                "sends_tick": sends_tick,
                "next_at": times.next_after(now),
            }
            # What every tick will be asked for is asked now, of somebody who can mend it.
            planned = self.planner.plan(spec_of(as_made(values, now), now, None))
            if not sends_tick:
                values["data"] = from_json(planned.job.payload)
            before = await schedules.by_key(conn, schema, key) if key is not None else None
            made = await schedules.put(conn, schema, values)
            if made is None:
                assert key is not None
                # Somebody else may have made it since we looked.
                before = await schedules.by_key(conn, schema, key)
                assert before is not None
                if all(getattr(before, each) == values[each] for each in SAID):
                    return before
                if before.owner != LOCAL:
                    raise ScheduleStateError(
                        before.id, f"its clock is kept by {before.owner}: take it back first"
                    )
                raise ScheduleStateError(before.id, "its clock changes hands: wait until that is done")
            await self._note(conn, made, "changed" if before else "made", author, before=before, after=made)
        self.notifier.poke(CRON)
        return made

    async def change_schedule(
        self,
        schedule_id: UUID,
        *,
        reason: str,
        actor: str = "application",
        source: str = "api",
        **changes: Unpack[ScheduleChanges],
    ) -> Schedule:
        """Change what a schedule fires and when; what is not named stays, and so does its pause.

        Raises:
            ScheduleNotFoundError: there is none of that id.
            ScheduleStateError: another executor keeps its clock, or the registry declares it.
            InvalidCronError, UnknownTaskError, TaskDisabledError, InvalidPayloadError, InvalidArgumentError:
                a tick could not be scheduled; nothing was written.
        """
        schema = self.database.schema
        async with self.database.transaction() as conn:
            before = await self._ours(conn, schedule_id)
            if before.is_declared:
                raise ScheduleStateError(schedule_id, "the registry declares it: change it there")
            asked = changed(before, changes)
            now = await database_now(conn, schema)
            self.planner.plan(spec_of(asked, now, None))
            after = await schedules.change(conn, schema, asked, asked.times.next_after(now))
            author = Author(reason, actor, source)
            await self._note(conn, after, "changed", author, before=before, after=after)
        self.notifier.poke(CRON)
        return after

    async def page_schedules(self, *, limit: int = 20, offset: int = 0) -> SchedulePage:
        """Return ``limit`` schedules of any task, the newest first, after the first ``offset``."""
        async with self.database.connection() as conn:
            found, total = await schedules.page(conn, self.database.schema, limit=limit, offset=offset)
        return SchedulePage(found, total)

    async def list_schedules(self, task: str | None = None) -> list[Schedule]:
        """Return the schedules of a task, or all."""
        async with self.database.connection() as conn:
            return await schedules.listed(conn, self.database.schema, task=task)

    async def get_schedule(self, schedule_id: UUID) -> Schedule:
        """Return a schedule.

        Raises:
            ScheduleNotFoundError: there is none of that id.
        """
        async with self.database.connection() as conn:
            return await self._found(conn, schedule_id)

    async def next_ticks(
        self, schedule: UUID | str | Cron, count: int = 5, *, after: datetime | None = None
    ) -> list[datetime]:
        """Return the next fire times, in UTC: of a schedule, or of an expression nobody has scheduled yet.

        Raises:
            ScheduleNotFoundError, InvalidCronError, InvalidArgumentError: there is no answer.
        """
        if not 1 <= count <= _MOST_TICKS or (after is not None and after.tzinfo is None):
            msg = f"count is from 1 to {_MOST_TICKS}, and after a time with a zone."
            raise InvalidArgumentError(msg)
        async with self.database.connection() as conn:
            if isinstance(schedule, UUID):
                times = (await self._found(conn, schedule)).times
            else:
                times = Cron(schedule) if isinstance(schedule, str) else schedule
            start = after or await database_now(conn, self.database.schema)
        return list(islice(times.in_zone(self.firing.timezone).after(start), count))

    async def pause_schedule(
        self, schedule_id: UUID, *, reason: str, actor: str = "application", source: str = "api"
    ) -> Schedule:
        """Let a schedule fire no more until `resume_schedule`.

        Raises:
            ScheduleNotFoundError, ScheduleStateError: there is none, or another executor keeps its clock.
        """
        return await self._turn(schedule_id, Author(reason, actor, source), active=False)

    async def resume_schedule(
        self, schedule_id: UUID, *, reason: str, actor: str = "application", source: str = "api"
    ) -> Schedule:
        """Let a schedule fire again, from its next tick on: what lay in the pause is not missed.

        Raises: see `pause_schedule`.
        """
        return await self._turn(schedule_id, Author(reason, actor, source), active=True)

    async def cancel_schedule(
        self, schedule_id: UUID, *, reason: str, actor: str = "application", source: str = "api"
    ) -> Schedule:
        """Remove a schedule, here and at the executor that keeps its clock; the jobs it has made go on.

        Returns it as it was.
        One that the registry declares comes back at the next boot: pause it, or take it out of the code.

        Raises:
            ScheduleNotFoundError, ScheduleStateError: there is none, or it changes hands.
            ExecutorError: the executor that keeps its clock could not be asked; nothing was changed here.
        """
        author = Author(reason, actor, source)
        known = await self.get_schedule(schedule_id)
        if known.owner != LOCAL and known.handover_state is None:
            await self.hand_overs.remove_there(known)
        async with self.database.transaction() as conn:
            before = await self._found(conn, schedule_id, lock=True)
            if before.handover_state is not None or before.owner != known.owner:
                raise ScheduleStateError(schedule_id, "it changes hands: wait until that is done")
            await schedules.delete(conn, self.database.schema, schedule_id)
            await self._note(conn, before, "canceled", author, before=before)
        return before

    async def hand_over_schedule(
        self, schedule_id: UUID, *, to: str, reason: str, actor: str = "application", source: str = "api"
    ) -> Schedule:
        """Begin to hand the clock of a schedule to an executor, or back to ``local``; returns it as it then is.

        The rest is done in the background by any process that runs the loops, also when this one dies: see
        ``handover_state``, ``owner`` and, where it did not come about, ``problem``. From then on the executor
        starts its runs by itself: rollouts and kill switches do not reach them. They are adopted as jobs.

        Raises:
            ScheduleNotFoundError: there is none of that id.
            ScheduleStateError: it is there, changes hands already, rests, or a tick lies within two minutes.
            UnsupportedError: the executor keeps no schedules, or the task has no name there.
        """
        author = Author(reason, actor, source)
        before = await self.get_schedule(schedule_id)
        begun = await self.hand_overs.begin(before, executor_name(to))
        async with self.database.connection() as conn:
            await self._note(conn, begun, f"handed over to {begun.handover_to}", author)
        return begun

    async def _turn(self, schedule_id: UUID, author: Author, *, active: bool) -> Schedule:
        schema = self.database.schema
        async with self.database.transaction() as conn:
            before = await self._ours(conn, schedule_id)
            if before.active is active:
                return before
            next_at = before.times.next_after(await database_now(conn, schema)) if active else None
            turned = await schedules.activate(conn, schema, schedule_id, active=active, next_at=next_at)
            assert turned is not None
            await self._note(conn, turned, "resumed" if active else "paused", author)
        self.notifier.poke(CRON)
        return turned

    async def _found(self, conn: Connection, schedule_id: UUID, *, lock: bool = False) -> Schedule:
        found = await schedules.get(conn, self.database.schema, schedule_id, lock=lock)
        if found is None:
            raise ScheduleNotFoundError(schedule_id)
        return found

    async def _ours(self, conn: Connection, schedule_id: UUID) -> Schedule:
        found = await self._found(conn, schedule_id, lock=True)
        if found.owner != LOCAL or found.handover_state is not None:
            raise ScheduleStateError(schedule_id, f"its clock is kept by {found.owner}: take it back first")
        return found

    async def _note(
        self,
        conn: Connection,
        schedule: Schedule,
        what: str,
        author: Author,
        *,
        before: Schedule | None = None,
        after: Schedule | None = None,
    ) -> None:
        said = {"actor": author.actor, "source": author.source, "reason": author.reason}
        audited = [None if each is None else shown(each) for each in (before, after)]
        await schedules.note(
            conn, self.database.schema, schedule, what=what, author=said, before=audited[0], after=audited[1]
        )
