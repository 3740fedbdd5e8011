"""Failback: an executor that fails by itself gets no more jobs of a task, until a person says so.

What each process saw is added up in PostgreSQL; whoever adds the outcome that is too much opens the
circuit. It is opened once and never closed by a machine.
"""

from __future__ import annotations

import logging

from adapter.core.cutover.canaries import CanaryKeeper
from adapter.core.flags import FlagSource
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.domain import failback
from adapter.domain.errors import FlagConflictError
from adapter.domain.routing import EVERY_TASK
from adapter.store import executor_health, flag_changes
from adapter.store.executor_health import Canary, Health
from adapter.store.flag_changes import Author
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH, FLAGS

logger = logging.getLogger("adapter.failback")

#: What it turns, and who opens it, in the audit.
CIRCUIT, ACTOR = "circuit", "failback"


class Failback:
    """Writes down what this process saw of executors, sends canaries, and opens circuits."""

    def __init__(self, parts: Parts, flags: FlagSource, canaries: CanaryKeeper) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._clock = parts.clock
        self._tally = parts.tally
        self._flags = flags
        self._canaries = canaries
        #: Runs `run_once` again and again.
        self.loop = Poller("failback", self._work, parts.clock, "*")

    async def _work(self) -> int:
        await self.run_once()
        return 0

    async def run_once(self) -> list[str]:
        """Send the canaries that are due, write down what was seen, and judge; returns what was opened."""
        canaries = await self._canaries.run_once()
        opened = await self.write_down()
        for each in canaries:
            if (why := _why_missing(each)) is not None:
                opened += await self._open(EVERY_TASK, each.executor, why)
        return opened

    async def write_down(self) -> list[str]:
        """Add what this process saw to what all saw; returns the circuits that this opened."""
        seen = self._tally.take()
        if not seen:
            return []
        async with self._database.connection() as conn:
            known = await executor_health.note(conn, self._database.schema, seen)
        opened: list[str] = []
        for each in known:
            if (why := _why_unwell(each)) is not None:
                opened += await self._open(each.task, each.executor, why)
        return opened

    async def _open(self, task: str, executor: str, why: str) -> list[str]:
        author = Author(why, ACTOR, "auto")
        try:
            async with self._database.connection() as conn:
                flags = self._flags.fresh or await run(conn, self._database.schema, self._flags.reading())
                if (task, executor) in flags.open_circuits:
                    # As each second while it is: a change would lock all flags only to find that out.
                    return []
                await flag_changes.change(
                    conn,
                    self._database.schema,
                    author,
                    kind=CIRCUIT,
                    task=task,
                    executor=executor,
                    value={},
                    expected_version=0,
                )
        except FlagConflictError:
            # It is open already: it was opened once, for the first reason.
            return []
        self._observers.counts["circuit_opened"] += 1
        logger.error("%s gets no more jobs of %s: %s", executor, task, why)
        self._flags.forget()
        self._notifier.poke(FLAGS, DISPATCH)
        return [f"{task} at {executor}: {why}"]


def _why_unwell(health: Health) -> str | None:
    if health.in_a_row >= failback.IN_A_ROW:
        return f"{health.in_a_row} submits in a row did not arrive, or may not have"
    if failback.over_budget(health.failures, len(health.outcomes)):
        lower = failback.wilson_lower(health.failures, len(health.outcomes))
        return (
            f"{health.failures} of the last {len(health.outcomes)} runs failed there by the executor's own fault: "
            f"surely more than {lower:.1%}, where {failback.BUDGET:.0%} is the budget"
        )
    return None


def _why_missing(canary: Canary) -> str | None:
    if canary.age <= canary.every * failback.MISSED_BEATS:
        return None
    return f"the canary has not come back for {canary.age.total_seconds():.0f} s, every {canary.every.total_seconds():g} s one is sent"
