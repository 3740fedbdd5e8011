"""How a worker works."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works.

    ``queues`` empty: all there are. ``grace``: how long a stop waits for tries. ``hook_timeout``: how long
    one call of a hook may take. ``cancel_grace``: how long a handler that was told to stop has to end before
    it is left behind. ``prefetch``: how many jobs beyond ``concurrency`` it holds at most while its handlers are
    quick (a fifth of a second's work) and payloads small (16 MB in all); what it has held for ``prefetch_age`` goes back. Queues with limits are
    not prefetched. ``processes``: child processes for isolated handlers, 0: one per core; ``app``: where they
    find the application, ``pkg.mod:adapter``.
    """

    concurrency: int = 50
    prefetch: int = 2000
    prefetch_age: timedelta = timedelta(seconds=2)
    threads: int = 32
    processes: int = 0
    app: str | None = None
    lease: timedelta = timedelta(seconds=30)
    grace: timedelta = timedelta(seconds=25)
    cancel_grace: timedelta = timedelta(seconds=5)
    hook_timeout: timedelta = timedelta(seconds=30)
    queues: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
