"""What nearly every use case needs, made once per adapter and handed down together."""

from __future__ import annotations

from dataclasses import dataclass

from adapter.core.cutover.tally import Tally
from adapter.core.outcomes import Observers
from adapter.core.registry import Registry
from adapter.domain.clock import Clock
from adapter.executors.base import ExecutorSet
from adapter.store.database import Database
from adapter.store.wakeup import Notifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The shared parts of one adapter."""

    database: Database
    registry: Registry
    executors: ExecutorSet
    notifier: Notifier
    observers: Observers
    clock: Clock
    tally: Tally
