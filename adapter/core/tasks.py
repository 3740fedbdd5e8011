"""`Task`: a declared task as the application uses it, typed from payload to result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

from adapter.core.batching import BatchItem
from adapter.core.context import JobContext
from adapter.core.handle import JobHandle
from adapter.core.hooks import (
    ARGUMENTS,
    CatchError,
    CompleteHook,
    FailureHook,
    HookPoints,
    Hooks,
    Middleware,
    StartHook,
    SuccessHook,
)
from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.core.registry import Registry, TaskDefinition
from adapter.domain.comparison import Comparison
from adapter.domain.cron import Cron
from adapter.domain.errors import TaskDefinitionError
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.task import DEFAULT_QUEUE, Batch, Isolation, Queue, RetryPolicy, TaskPolicy
from adapter.store.steps import AsyncCaller

P = TypeVar("P")
R = TypeVar("R")


class TaskOptions(TypedDict, total=False):
    """What can be said of a task where it is declared.

    ``remote_id``: what other executors call it. ``on_kill="keep"``: a kill switch leaves it where it is
    when it cannot run at the switch's target. ``on_rejected``: where to go when a remote refuses it.
    ``fallback``: where to go while its executor's circuit is open. ``hash_by``: the unit of percentage
    rollouts. ``remote_delay``: let the remote hold it until due. ``idempotent``: running it twice does no
    harm. ``pure``: running it has no effects at all, so a shadow may; ``compare``: how its outcome is compared
    with the job's. ``keep_for``: how long a finished job stays; ``keep_failed_for``: at least so long, when it ended neither
    COMPLETED nor CANCELED. ``retry_on``: only these exceptions are worth another
    attempt; ``abort_on``: these are not. ``max_snoozes``: how often it may be put off without spending an
    attempt (1000); None: without end. ``isolation="process"``: the handler runs in a child process, where it
    may compute or crash. ``start_fence={"trigger": "*"}``: its code there asks the adapter before it begins, in
    every version that can still start; or from which version on. ``cron``: when it is scheduled by itself, with no payload: a `Cron`, or an expression in the zone of
    ``JOBS_CRON_TZ``. ``on_start`` and so on, ``catch_error``, ``middleware``: see
    `HookPoints`, whose decorators `Task` has as well.
    """

    description: str
    executor: str | None
    remote_id: Mapping[str, str]
    queue: Queue | str
    retry: RetryPolicy
    priority: int
    max_duration: timedelta | None
    ttl: timedelta | None
    keep_for: timedelta | None
    keep_failed_for: timedelta | None
    persistent: bool
    idempotent: bool
    pure: bool
    compare: Comparison
    enabled: bool
    fallback: str | None
    safe_executor: str | None
    on_kill: Literal["move", "keep"]
    on_rejected: str | None
    hash_by: str
    remote_delay: bool
    max_snoozes: int | None
    retry_on: tuple[type[BaseException], ...] | None
    abort_on: tuple[type[BaseException], ...]
    isolation: Isolation | None
    start_fence: Mapping[str, str]
    cron: Cron | str | None
    middleware: Middleware
    on_start: StartHook[Any]
    on_success: SuccessHook[Any, Any]
    on_failure: FailureHook[Any]
    on_cancel: StartHook[Any]
    on_complete: CompleteHook[Any]
    catch_error: CatchError[Any]


def policy_of(
    task: str, *, runs_locally: bool, options: TaskOptions, batch: Batch | None = None
) -> TaskPolicy:
    """Return the policy that a declaration means.

    Raises:
        TaskDefinitionError: the declaration contradicts itself.
    """
    if not task:
        msg = "A task needs an id."
        raise TaskDefinitionError(msg)
    values: dict[str, Any] = {name: value for name, value in options.items() if name not in ARGUMENTS}
    if not runs_locally and len(values) < len(options):
        msg = f"Task {task!r} has no handler here, so its hooks would never be called. Declare them where it runs."
        raise TaskDefinitionError(msg)
    queue = values.pop("queue", DEFAULT_QUEUE)
    cron = values.get("cron")
    if isinstance(cron, str):
        values["cron"] = Cron(cron)
    values["queue"] = queue if isinstance(queue, Queue) else Queue(queue)
    values["remote_ids"] = {
        executor_name(name): remote for name, remote in values.pop("remote_id", {}).items()
    }
    if (fences := values.pop("start_fence", None)) is not None:
        values["start_fence"] = {executor_name(name): version for name, version in fences.items()}
    for name in ("executor", "fallback", "safe_executor", "on_rejected"):
        if values.get(name) is not None:
            values[name] = executor_name(values[name])
    executor = values.get("executor")
    if executor is not None and executor != LOCAL:
        values["remote_ids"].setdefault(executor, task)
    elif executor is None and not runs_locally and len(values["remote_ids"]) != 1:
        msg = f"Task {task!r} has no handler here and no one executor to go to. Say executor=."
        raise TaskDefinitionError(msg)
    return TaskPolicy(id=task, runs_locally=runs_locally, batch=batch, **values)


def hooks_of(options: TaskOptions) -> Hooks:
    """Return the hooks that a declaration names.

    Raises:
        TaskDefinitionError: one cannot take its arguments.
    """
    hooks = Hooks()
    points = HookPoints[Any, Any](hooks, lambda: False)
    for name, hook in options.items():
        if name in ARGUMENTS:
            points.add(name, hook)
    return hooks


class Schedules(Protocol):
    """What a task needs of the adapter."""

    @property
    def registry(self) -> Registry:
        """Every task by its id."""
        ...

    async def schedule_specs(
        self, specs: list[JobSpec], within: AsyncCaller | None = None, *, notify: str = "after_commit"
    ) -> list[JobHandle[Any]]:
        """Schedule the specs."""
        ...


class Task(HookPoints[P, R]):
    """A task of the registry. Calling it calls its handler directly, without any job."""

    def __init__(self, adapter: Schedules, definition: TaskDefinition[P, R]) -> None:
        super().__init__(definition.own_hooks, lambda: adapter.registry.is_frozen)
        self._adapter = adapter
        self.definition = definition

    @property
    def id(self) -> str:
        """The task's id."""
        return self.definition.id

    @property
    def registry(self) -> Registry:
        """Where it is declared."""
        return self._adapter.registry

    def __call__(self, *arguments: Any) -> Any:
        """Call the handler as the plain function it is."""
        if self.definition.handler is None:
            msg = f"Task {self.id!r} has no handler here."
            raise TaskDefinitionError(msg)
        return self.definition.handler(*arguments)

    def job(self, payload: P, **options: Unpack[ScheduleOptions]) -> JobSpec:
        """Return what `schedule_many` takes. Options: see `Adapter.schedule_job`."""
        return JobSpec(self.id, payload, options)

    async def schedule(
        self,
        payload: P,
        *,
        within: AsyncCaller | None = None,
        notify: str = "after_commit",
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[R]:
        """Schedule one job. Options and errors: see `Adapter.schedule_job`."""
        return (await self._adapter.schedule_specs([self.job(payload, **options)], within, notify=notify))[0]

    async def schedule_many(
        self, specs: Iterable[JobSpec], *, within: AsyncCaller | None = None, notify: str = "after_commit"
    ) -> list[JobHandle[R]]:
        """Schedule many jobs in one transaction, in as few statements as it takes."""
        return await self._adapter.schedule_specs(list(specs), within, notify=notify)


class TaskDecorator:
    """What ``@adapter.task(...)`` applies to a handler; typed for each form a handler may have."""

    def __init__(self, declare: Callable[[Callable[..., Any]], Task[Any, Any]]) -> None:
        self._declare = declare

    @overload
    def __call__(self, handler: Callable[[P, JobContext], Awaitable[R]]) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[[P], Awaitable[R]]) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[[P, JobContext], R]) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[[P], R]) -> Task[P, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> Task[Any, Any]:
        """Declare the handler's task."""
        return self._declare(handler)


class BatchDecorator:
    """What ``@adapter.task(..., batch=Batch(...))`` applies to a handler, which returns results in order or None."""

    def __init__(self, declare: Callable[[Callable[..., Any]], Task[Any, Any]]) -> None:
        self._declare = declare

    @overload
    def __call__(self, handler: Callable[[list[BatchItem[P]]], Awaitable[None]]) -> Task[P, None]: ...
    @overload
    def __call__(self, handler: Callable[[list[BatchItem[P]]], Awaitable[Sequence[R]]]) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[[list[BatchItem[P]]], None]) -> Task[P, None]: ...
    @overload
    def __call__(self, handler: Callable[[list[BatchItem[P]]], Sequence[R]]) -> Task[P, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> Task[Any, Any]:
        """Declare the handler's task."""
        return self._declare(handler)
