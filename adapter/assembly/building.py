"""The parts of an adapter: made from settings, opened in order, closed."""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from adapter.core.applying import Applier
from adapter.core.budget import Budgets
from adapter.core.bulk_actions import BulkActions
from adapter.core.canceling import Canceler
from adapter.core.cron.firing import Firing
from adapter.core.cron.handover import HandOvers
from adapter.core.cron.remote_ticks import RemoteTicks
from adapter.core.cutover.canaries import CanaryKeeper
from adapter.core.cutover.draining import Drains
from adapter.core.cutover.drilling import Drills
from adapter.core.cutover.failback import Failback
from adapter.core.cutover.finalizing import Finalizing
from adapter.core.cutover.recall import Recaller
from adapter.core.cutover.rollback import Rollbacks
from adapter.core.cutover.shadowing import Shadows
from adapter.core.cutover.status import Overview
from adapter.core.cutover.steering import Steering
from adapter.core.cutover.tally import Tally
from adapter.core.cutover.way_back import WaysBack
from adapter.core.dead_letters import DeadLetters
from adapter.core.dispatch import Dispatcher
from adapter.core.fence import StartFence
from adapter.core.figures import FigureKeeper
from adapter.core.flags import FlagSource
from adapter.core.group_commit import GroupCommit
from adapter.core.hooks import HookPoints
from adapter.core.inbox import Inbox
from adapter.core.maintenance import Maintenance
from adapter.core.mass_insert import MassInsert
from adapter.core.outcomes import Observers
from adapter.core.parts import Parts
from adapter.core.pass_through import PassThrough
from adapter.core.planning import Planner
from adapter.core.reading import Reader
from adapter.core.reconcile import Reconciler
from adapter.core.registry import Registry
from adapter.core.retention import Retention
from adapter.core.scheduling import Scheduler
from adapter.core.unrouted import Router
from adapter.core.watch import Watch
from adapter.core.watching.hub import Hub
from adapter.core.webhooks.delivering import Deliverer
from adapter.core.worker import Worker
from adapter.domain.clock import Clock, SystemClock
from adapter.domain.errors import (
    NotOpenError,
    SchemaError,
    UnknownExecutorError,
)
from adapter.domain.job import LOCAL
from adapter.domain.routing import EVERY_TASK
from adapter.executors.base import Executor, ExecutorSet
from adapter.executors.webhook_posts import WebhookPoster
from adapter.settings import Settings, variables_set
from adapter.store import revisions
from adapter.store.database import Database, DatabaseConfig
from adapter.store.insights import Insights
from adapter.store.listener import Listener
from adapter.store.packets import PacketStore
from adapter.store.wakeup import Notifier

logger = logging.getLogger("adapter")

_PLACEHOLDERS = ("placeholder", "xxxx", "your-", "your_", "changeme", "<")

_MADE_BY_OPEN = frozenset(
    [
        "applier",
        "budgets",
        "bulk",
        "canceler",
        "database",
        "deliverer",
        "dispatcher",
        "drains",
        "drilling",
        "failback",
        "fence",
        "figure_keeper",
        "finalizing",
        "firing",
        "group_commit",
        "hand_overs",
        "hub",
        "inbox",
        "insights",
        "letters",
        "maintenance",
        "mass_insert",
        "notifier",
        "overview",
        "packets",
        "pass_through",
        "planner",
        "recaller",
        "reconciler",
        "retention",
        "rollbacks",
        "router",
        "scheduler",
        "shadows",
        "steering",
        "watch",
        "ways_back",
    ]
)


class Building(HookPoints[Any, Any], ABC):
    """Everything an adapter is made of, from settings to an open pool."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        executors: Sequence[Executor] = (),
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.clock: Clock = clock or SystemClock()
        self.registry = Registry()
        super().__init__(self.registry.hooks, lambda: self.registry.is_frozen)
        self.observers = Observers()
        #: Executors that are off, which has been said.
        self._told_of = set[str]()
        self.executors = ExecutorSet({each.name: each for each in (*self._configured(), *executors)})
        self._opened = 0
        self._owner = os.getpid()
        self._workers: list[Worker] = []
        self._listener: Listener | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Make an adapter from the environment's settings; see `Settings`.

        Raises:
            ConfigurationError: a variable has a value it cannot have.
        """
        return cls(Settings.from_env(environ), **given)

    def _configured(self) -> list[Executor]:
        key = self.settings.trigger_secret_key
        if key is None:
            return []
        from adapter.executors.trigger_dev import TriggerDev  # noqa: PLC0415 - HTTP, only where it is used

        secret = key.get_secret_value()
        if any(word in secret.lower() for word in _PLACEHOLDERS):
            logger.warning("TRIGGER_SECRET_KEY is a placeholder: the executor 'trigger' is off")
            self._told_of.add("trigger")
            return []
        per_minute = self.settings.trigger_rate_per_minute
        return [
            TriggerDev(
                secret_key=secret,
                api_url=self.settings.trigger_api_url,
                project_ref=self.settings.trigger_project_ref,
                requests_per_minute=per_minute,
                burst=per_minute / 2,
                clock=self.clock,
            )
        ]

    def _build(self, config: DatabaseConfig) -> None:
        self.database = Database(config)
        self.packets = PacketStore(self.database)
        self.insights = Insights(self.database.schema)
        self.notifier = Notifier(self.database, self.clock)
        names = self.executors.names
        self._flags = FlagSource(
            self.registry,
            names,
            self.clock,
            environment=self.settings.kill_switches,
            file=self.settings.kill_switch_file,
        )
        able = {each.name for each in self.executors.by_name.values() if each.capabilities.remote_delay}
        kept = self.settings.keep_failed_for_days
        self.planner = Planner(
            self.registry, names, keep_failed_for=None if kept is None else timedelta(days=kept)
        )
        self.scheduler = Scheduler(self.planner, self.registry, self._flags, delaying=frozenset(able))
        self.group_commit = GroupCommit(self.database, self.scheduler, self.notifier)
        self.mass_insert = MassInsert(self.database, self.planner, self.scheduler)
        self._parts = Parts(
            database=self.database,
            registry=self.registry,
            executors=self.executors,
            notifier=self.notifier,
            observers=self.observers,
            clock=self.clock,
            tally=Tally(),
        )
        self.pass_through = PassThrough(
            self._parts,
            self.packets,
            self.settings.upstream_url,
            self.settings.upstream_keys,
            makes_tokens=self.settings.wait_tokens == "adapter",
        )
        self.deliverer = Deliverer(
            self._parts,
            WebhookPoster(self.clock),
            project=self.settings.trigger_project_ref or "proj_adapter",
            link=self.settings.public_url or "http://localhost",
        )
        self.budgets = Budgets(self.database, self.clock)
        self.applier = Applier(self._parts)
        self.fence = StartFence(self._parts)
        reader = Reader(self._parts, self.applier, self.budgets)
        self.canceler = Canceler(self._parts, reader, self.budgets)
        ticks = RemoteTicks(self._parts, self.applier, self.budgets)
        self.inbox = Inbox(self._parts, self.applier, reader, ticks)
        self.reconciler = Reconciler(self._parts, self.applier, reader, self.budgets)
        self.dispatcher = Dispatcher(
            self._parts,
            self._flags,
            self.applier,
            reader,
            self.budgets,
            canceler=self.canceler,
            lease=timedelta(seconds=self.settings.dispatch_lease_seconds),
        )
        self.steering = Steering(self._parts, self._flags, self.planner, self.scheduler)
        self.recaller = Recaller(self._parts, self.steering, self.dispatcher, reader, self.budgets)
        self.rollbacks = Rollbacks(self._parts, self.steering, self.recaller)
        self.ways_back = WaysBack(self._parts)
        self.overview = Overview(self._parts, self.steering, self.ways_back)
        self.drains = Drains(self._parts, self.budgets)
        self.drilling = Drills(self._parts, self._flags, self.steering)
        self.finalizing = Finalizing(self._parts, self.steering, self.drains, variables_set)
        lease = timedelta(seconds=self.settings.worker_lease_seconds)
        self.maintenance = Maintenance(self._parts, lease, self.canceler)
        self.retention = Retention(self._parts)
        self.bulk = BulkActions(self._parts, self.planner, self.scheduler, self.canceler)
        self.letters = DeadLetters(self._parts, self.planner, self.scheduler)
        self.firing = Firing(self._parts, self.planner, self.scheduler, self.settings.cron_timezone)
        self.hand_overs = HandOvers(self._parts, ticks)
        self.hub = Hub(self.database, self.notifier, self.clock, self._can_hear)
        self.watch = Watch(self.hub, self.clock)
        self.figure_keeper = FigureKeeper(self.database, self.clock)
        self.router = Router(self._parts, self._flags, self.planner, self.scheduler)
        canaries = CanaryKeeper(self._parts, self.planner, self.scheduler)
        self.failback = Failback(self._parts, self._flags, canaries)
        self.shadows = Shadows(self._parts, self._flags, self.planner, self.scheduler, self.canceler)
        self.notifier.subscribe(self._heard)

    @property
    def running_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop this adapter is open on in this process, None while it is not open."""
        return self._loop if self._opened and self._owner == os.getpid() else None

    async def open(self) -> None:
        """Check the registry and the switches, open the pool. May be nested; each needs its `close`.

        Raises:
            ConfigurationError: the registry, a kill switch or the settings cannot be right.
            SchemaError: the database's schema is not the one this version needs.
        """
        if self._owner != os.getpid():
            # Forked: what the parent has opened is the parent's.
            self._opened, self._owner = 0, os.getpid()
        self._opened += 1
        if self._opened > 1:
            return
        try:
            self._check()
            self._build(self.settings.database())
            self._flags.check()
            self._loop = asyncio.get_running_loop()
            await self.database.open()
            await self._check_schema()
            for executor in self.executors.by_name.values():
                await executor.open()
            await self.pass_through.open()
            await self.deliverer.poster.open()
            await self.deliverer.look()
            for finding in self.steering.boot_findings(await self.steering.current()):
                logger.warning("%s", finding)
        except BaseException:
            self._opened -= 1
            if "database" in self.__dict__:
                await self.database.close()
            raise

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Explain a part that is only there once the adapter has been opened."""
            if name in _MADE_BY_OPEN:
                raise NotOpenError
            raise AttributeError(name)

    def _check(self) -> None:
        self.registry.freeze()
        known = [LOCAL, *self.executors.names]
        # A global switch never stops a boot: it may be what takes the place of a missing executor.
        everywhere = self.settings.kill_switches.get(EVERY_TASK)
        for definition in self.registry:
            policy = definition.policy
            named = {policy.executor, policy.fallback, policy.safe_executor, policy.on_rejected}
            for name in sorted(each for each in named if each is not None):
                if name not in known and everywhere is None:
                    raise UnknownExecutorError(name, known, f"Task {definition.id!r}")
        missing = {name for each in self.registry for name in each.policy.remote_ids} - {
            *known,
            *self._told_of,
        }
        for name in sorted(missing):
            tasks = [each.id for each in self.registry if name in each.policy.remote_ids]
            logger.warning(
                "the executor %r is off, since it is not configured; tasks: %s", name, ", ".join(tasks)
            )

    async def _check_schema(self) -> None:
        problem = await revisions.problem(self.database)
        if problem is not None:
            raise SchemaError(problem)

    async def close(self) -> None:
        """Finish what was begun and close every connection."""
        self._opened -= 1
        if self._opened > 0:
            return
        try:
            await self.hub.drain()
            await self.drilling.drain()
            await self.dispatcher.drain()
            await self.group_commit.drain()
            await self.notifier.drain()
            for executor in self.executors.by_name.values():
                await executor.close()
            await self.pass_through.close()
            await self.deliverer.drain()
            await self.deliverer.poster.close()
        finally:
            await self.database.close()

    async def __aenter__(self) -> Self:
        """Open."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def _can_hear(self) -> bool:
        return self._listener is not None and self._listener.is_listening

    @abstractmethod
    def _heard(self, topics: set[str]) -> None:
        """Pass on what happened, here or elsewhere."""
