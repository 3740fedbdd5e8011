"""The verbs by which people see whether a task does at one executor what it does at another."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from adapter.core.cutover.parity import parity_report
from adapter.core.cutover.steering import Steering
from adapter.core.registry import Registry
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import executor_name
from adapter.domain.parity import AT_LEAST, MARGIN, ParityReport, ParityTerms, Price
from adapter.domain.shadow import ShadowMode, ShadowTerms
from adapter.store.database import Database
from adapter.store.flag_changes import Author, FlagChange

_A_DAY = timedelta(days=1)


class ComparesExecutors:
    """Mixed into the adapter: shadows, and the parity report."""

    database: Database
    registry: Registry
    steering: Steering

    def price(self, executor: str, *, per_run: float = 0.0, per_second: float = 0.0) -> None:
        """Say what an executor costs per job and per second that one runs, for the parity report.

        Raises:
            TaskDefinitionError: it is negative, or the adapter is open.
        """
        self.registry.add_price(executor_name(executor), Price(per_run=per_run, per_second=per_second))

    async def shadow(
        self,
        task: str,
        *,
        mode: Literal["off", "enqueue", "execute"],
        at: str,
        percent: float = 100.0,
        most_open: int = 10,
        reason: str,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange | None:
        """Copy a share of a task's jobs to another executor once they have ended; ``off``: no more.

        ``enqueue``: a copy goes the whole way there, and no handler of the task is called. ``execute``: the
        handler runs, and what it comes to is compared with what its job came to; only for a task declared
        ``pure=True``. Copies beyond ``most_open`` at once are dropped and counted. Returns None when it was off.

        Raises:
            UnknownTaskError, UnknownExecutorError, InvalidArgumentError: nothing was changed.
            FlagConflictError: it does not have the expected version.
        """
        author = Author(reason, actor, source)
        if mode == "off":
            return await self.steering.clear("shadow", task, at, author, expected_version)
        if mode not in {each.value for each in ShadowMode}:
            msg = f"mode= is off, enqueue or execute, not {mode!r}."
            raise InvalidArgumentError(msg)
        terms = ShadowTerms(mode=ShadowMode(mode), percent=percent, most_open=most_open)
        return await self.steering.shadow(task, at, terms, author, expected_version)

    async def parity(
        self,
        task: str | None = None,
        *,
        since: timedelta | datetime = _A_DAY,
        reference: str | None = None,
        margin: float = MARGIN,
        at_least: int = AT_LEAST,
    ) -> ParityReport:
        """Return how a task did at each executor, and whether one may take the place of another.

        Without ``task``: every task that had jobs or copies at more than one executor. Both executors having
        run jobs, as in a rollout, is enough; shadows add to it. ``reference``: the executor the others are held
        against, else the one most jobs ended at. ``margin``: how much larger the share of failures, or of
        copies that differ, may be. ``at_least``: with fewer jobs or copies nothing is said of them.

        Raises:
            UnknownTaskError, InvalidArgumentError: there is no such task, or no such window.
        """
        terms = ParityTerms(margin=margin, at_least=at_least)
        return await parity_report(
            self.database, self.registry, task, since=since, reference=reference, terms=terms
        )
