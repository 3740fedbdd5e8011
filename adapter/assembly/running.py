"""What runs in the background of an adapter, and who is told what."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from adapter.assembly.building import Building
from adapter.core.loops import Loop, Loops
from adapter.core.reconcile import BUSY
from adapter.core.webhooks.verbs import TellsOthers
from adapter.core.worker import Worker
from adapter.domain.errors import ConfigurationError, StoreError
from adapter.domain.job import Job
from adapter.store import revisions
from adapter.store.listener import Listener
from adapter.store.wakeup import FLAGS, NOT_QUEUES

logger = logging.getLogger("adapter")

_LEASE_CHECK_S = 15.0


class Assembly(TellsOthers, Building):
    """Everything an adapter is made of, and its background. The verbs are in `adapter.app`."""

    @asynccontextmanager
    async def running(
        self, *, work: bool = False, dispatch: bool = True, sync: bool = True, **worker_options: Any
    ) -> AsyncGenerator[Worker | None]:
        """Run background loops while the block runs; the adapter is opened for it.

        ``work``: run jobs of the local executor here. ``dispatch``: hand remote jobs out. ``sync``: apply
        webhooks, reconcile on entry and on a timer, and do the upkeep.
        """
        async with self:
            loops = Loops(self.clock)
            worker: Worker | None = None
            listener = self._listener = Listener(self.database, self.clock, self._heard, self.notifier)
            if work or sync:
                await self._subscribe_settings()
            upkeep = {
                "maintenance": self.maintenance.loop,
                "retention": self.retention.loop,
                "failback": self.failback.loop,
                "drills": self.drilling.loop,
                "shadows": self.shadows.loop,
                "cron": self.firing.loop,
                "hand-over": self.hand_overs.loop,
                "bulk actions": self.bulk.loop,
            }
            self.recaller.loop.resume()
            counting, telling = self.pass_through.loop, self.deliverer.loop
            work_of_all = (self.dispatcher.loop, self.inbox.loop, self.router.loop, counting, telling)
            for each in (*work_of_all, *upkeep.values()):
                each.resume()
            loops.start(Loop("listen", listener.run))
            if dispatch or sync or work:
                loops.start(Loop("routing", self.router.loop.run, self.router.loop.stop))
                # Who ends jobs has to know who is told of it, and a dispatcher ends those that are refused.
                loops.start(Loop("outgoing webhooks", telling.run, telling.stop))
            if self.pass_through.is_on:
                loops.start(Loop("pass-through", counting.run, counting.stop))
            if dispatch:
                loops.start(Loop("dispatch", self.dispatcher.loop.run, self.dispatcher.loop.stop))
            if sync:
                loops.start(Loop("inbox", self.inbox.loop.run, self.inbox.loop.stop))
                loops.start(Loop("reconcile", self._reconcile_forever))
                # Safe to cut off anywhere, so it is not waited for.
                loops.start(Loop("recall", self.recaller.loop.run))
            if sync or work:
                for name, poller in upkeep.items():
                    loops.start(Loop(name, poller.run, poller.stop))
            if work:
                worker = self.worker(**worker_options)
                self._workers.append(worker)
                loops.start(Loop("worker", worker.run, worker.stop))
            try:
                yield worker
            finally:
                await loops.stop()
                if worker is not None:
                    self._workers.remove(worker)
                await self.deliverer.drain()

    def lifespan(
        self, *, work: bool = False, dispatch: bool = True, sync: bool = True
    ) -> Callable[[Any], Any]:
        """Return a lifespan for Starlette or FastAPI: ``FastAPI(lifespan=adapter.lifespan())``."""

        @asynccontextmanager
        async def lifespan(_app: Any) -> AsyncGenerator[None]:
            async with self.running(work=work, dispatch=dispatch, sync=sync):
                yield

        return lifespan

    async def _subscribe_settings(self) -> None:
        """Let the receiver of the settings be one like any other; it may be inside the own network."""
        url, secret = self.settings.lifecycle_url, self.settings.lifecycle_secret
        if url is None:
            return
        if secret is None:
            msg = "ADAPTER_LIFECYCLE_URL is set without ADAPTER_LIFECYCLE_SECRET: nobody could believe the events."
            raise ConfigurationError(msg)
        await self.subscribe_webhook(
            url, name="settings", secret=secret.get_secret_value(), allow_private=True
        )

    def worker(self, **options: Any) -> Worker:
        """Return a worker of this process; `running(work=True)` runs one for you."""
        return Worker(self._parts, self.settings.worker(**options), self._schedule_child, self.scheduler)

    @abstractmethod
    async def _schedule_child(self, parent: Job, task: str, data: Any, **options: Any) -> Any:
        """Schedule a job for the handler of ``parent``."""

    def _heard(self, topics: set[str]) -> None:
        """Pass on what happened, here or elsewhere."""
        for worker in self._workers:
            worker.heard(topics)
        self.hub.heard(topics)
        if topics.isdisjoint(NOT_QUEUES) and "*" not in topics:
            # Nobody else waits for jobs of a queue, and the worker's claim waits for this to return.
            return
        if FLAGS in topics or "*" in topics:
            self._flags.forget()
        self.notifier.heard(topics)
        for each in (
            self.dispatcher,
            self.inbox,
            self.router,
            self.recaller,
            self.firing,
            self.hand_overs,
            self.bulk,
            self.deliverer,
        ):
            each.loop.heard(topics)

    async def _reconcile_forever(self) -> None:
        interval = self.settings.reconcile_seconds
        recent = 0.0
        while True:
            wait = interval
            try:
                report = await self.reconciler.run_once(unless_done_within=recent)
                if report.stopped == BUSY:
                    # Whoever holds the lease may be dead: a boot must not leave the first pass to the timer.
                    wait = min(wait, _LEASE_CHECK_S)
                else:
                    # From then on one pass per interval is enough for all processes together.
                    recent = interval * 0.9
            except StoreError as error:
                logger.warning("reconciliation has to wait: %s", type(error).__name__)
            await self.clock.sleep(wait)

    async def probe(self) -> dict[str, str]:
        """Return what keeps this process from serving, by name; empty means nothing does."""
        try:
            problem = await revisions.problem(self.database)
        except StoreError as error:
            return {"database": f"cannot be reached: {type(error).__name__}"}
        problems = {"schema": problem} if problem is not None else dict[str, str]()
        for worker in self._workers:
            if worker.problem is not None:
                problems["worker"] = worker.problem
        return problems
