"""A task: a named kind of work, where it can run, and how it is tried."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from adapter.domain.comparison import EXACTLY, Comparison
from adapter.domain.cron import Cron
from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError
from adapter.domain.limits import Limits, Rate

#: The queue of tasks that name none.
DEFAULT_QUEUE = "default"
#: Where a handler runs instead of in its worker: in a child process.
Isolation: TypeAlias = Literal["process"]
#: Trigger.dev's upper bound of attempts.
MOST_ATTEMPTS = 250
#: Its bounds of tags.
MOST_TAGS, LONGEST_TAG = 10, 128
#: Its bound of idempotency keys.
LONGEST_KEY = 2048
_UNIT = re.compile(r"tag|user_id|(data|context)(\.[^.]+)+")


class RetryPolicy(BaseModel):
    """How often a job is tried and how long it waits in between.

    The defaults and the formula are Trigger.dev's. Both spellings are read: ``min_timeout_in_ms`` and
    the guides' ``minTimeoutInMs``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    max_attempts: int = Field(default=3, ge=1, le=MOST_ATTEMPTS)
    factor: float = Field(default=2.0, ge=1.0, le=100.0)
    min_timeout_in_ms: int = Field(default=1000, ge=0)
    max_timeout_in_ms: int = Field(default=60_000, ge=0)
    randomize: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> RetryPolicy:
        if self.max_timeout_in_ms < self.min_timeout_in_ms:
            msg = "max_timeout_in_ms is smaller than min_timeout_in_ms"
            raise ValueError(msg)
        return self

    def delay_after(self, attempt: int, draw: float | None = None) -> timedelta | None:
        """Return the wait before the next attempt, or None when ``attempt`` was the last.

        Args:
            attempt: the attempt that failed, from 1.
            draw: a number in [0, 1) in place of a random one.
        """
        if attempt >= self.max_attempts:
            return None
        spread = 1.0
        if self.randomize:
            spread += random.random() if draw is None else draw  # noqa: S311 - jitter, not a secret
        try:
            wait = spread * self.min_timeout_in_ms * self.factor ** (attempt - 1)
        except OverflowError:
            wait = self.max_timeout_in_ms
        return timedelta(milliseconds=round(min(wait, self.max_timeout_in_ms)))


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs that share limits, which hold across all processes; None: as many as the workers take.

    ``concurrency_limit``: how many run at once. Each value of ``concurrency_key`` has its own copy of it,
    as at Trigger.dev; with a ``key_limit`` that holds per key, and ``concurrency_limit`` over all keys.
    ``rate`` and ``key_rate``: how many start in any window of a period, in the queue and per key.
    """

    name: str
    concurrency_limit: int | None = None
    key_limit: int | None = None
    rate: Rate | None = None
    key_rate: Rate | None = None

    def __post_init__(self) -> None:
        if not self.name:
            msg = "A queue needs a name."
            raise TaskDefinitionError(msg)
        try:
            _ = self.limits
        except InvalidArgumentError as error:
            msg = f"Queue {self.name!r}: {error}"
            raise TaskDefinitionError(msg) from None

    @property
    def limits(self) -> Limits:
        """The limits without the name."""
        return Limits(
            concurrency_limit=self.concurrency_limit,
            key_limit=self.key_limit,
            rate=self.rate,
            key_rate=self.key_rate,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One call of a handler for up to ``size`` jobs, which gathers for ``wait`` after the first."""

    size: int = 100
    wait: timedelta = timedelta(milliseconds=50)

    def __post_init__(self) -> None:
        if self.size < 1 or self.wait < timedelta(0):
            msg = (
                f"A batch has a size of at least 1 and a wait of at least 0, not {self.size} and {self.wait}."
            )
            raise TaskDefinitionError(msg)


def names_unit(hash_by: str) -> bool:
    """Whether jobs can be dealt by it: ``tag``, ``user_id``, ``data.<path>`` or ``context.<name>``."""
    return _UNIT.fullmatch(hash_by) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPolicy:
    """Everything about a task but its handler: the part that routing and the store look at.

    ``remote_ids`` maps an executor to what it calls the task. ``runs_locally`` is whether this
    process has a handler for it. ``start_fence`` maps an executor to the first version of the task's code
    there that asks before it begins; ``*``: every version that can still start does.
    """

    id: str
    description: str = ""
    executor: str | None = None
    remote_ids: dict[str, str] = field(default_factory=dict[str, str])
    runs_locally: bool = False
    queue: Queue = Queue(DEFAULT_QUEUE)
    retry: RetryPolicy = RetryPolicy()
    priority: int = 0
    max_duration: timedelta | None = None
    ttl: timedelta | None = None
    keep_for: timedelta | None = None
    keep_failed_for: timedelta | None = None
    persistent: bool = False
    idempotent: bool = False
    #: It has no effects: running it again, elsewhere, changes nothing anywhere.
    pure: bool = False
    compare: Comparison = EXACTLY
    enabled: bool = True
    fallback: str | None = None
    safe_executor: str | None = None
    on_kill: str = "move"
    on_rejected: str | None = None
    hash_by: str = "tag"
    remote_delay: bool = False
    max_snoozes: int | None = 1000
    retry_on: tuple[type[BaseException], ...] | None = None
    abort_on: tuple[type[BaseException], ...] = ()
    batch: Batch | None = None
    isolation: Isolation | None = None
    start_fence: dict[str, str] = field(default_factory=dict[str, str])
    cron: Cron | None = None

    def __post_init__(self) -> None:
        if self.isolation is not None and self.batch is not None:
            msg = f"Task {self.id!r}: a batch handler cannot run with isolation={self.isolation!r}."
            raise TaskDefinitionError(msg)
        if self.isolation not in {None, "process"}:
            msg = f"Task {self.id!r}: isolation is 'process' or None, not {self.isolation!r}."
            raise TaskDefinitionError(msg)
        if self.keep_failed_for is not None and self.keep_failed_for < timedelta(0):
            msg = f"Task {self.id!r}: keep_failed_for cannot be negative."
            raise TaskDefinitionError(msg)
        if not names_unit(self.hash_by):
            msg = f"Task {self.id!r}: hash_by is tag, user_id, data.<path> or context.<name>, not {self.hash_by!r}."
            raise TaskDefinitionError(msg)
        if self.max_snoozes is not None and self.max_snoozes < 0:
            msg = f"Task {self.id!r}: max_snoozes cannot be negative."
            raise TaskDefinitionError(msg)

    @property
    def default_executor(self) -> str | None:
        """Where it goes when nothing else decides: what it says, else the one other place that can run it."""
        if self.executor is None and not self.runs_locally and len(self.remote_ids) == 1:
            return next(iter(self.remote_ids))
        return self.executor

    def runs_at(self, executor: str) -> bool:
        """Whether the registry says it can run there."""
        return self.runs_locally if executor == "local" else executor in self.remote_ids
