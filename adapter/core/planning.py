"""From a call to a plan: checked, its payload validated and written down, its terms complete but for the route."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import from_json
from uuid_utils.compat import uuid7

from adapter.core.alike import are_alike
from adapter.core.option_checks import check
from adapter.core.registry import Registry, TaskDefinition
from adapter.domain.debounce import Debounce
from adapter.domain.errors import (
    InvalidArgumentError,
    TaskDisabledError,
    UnknownExecutorError,
)
from adapter.domain.job import LOCAL, Job, NewJob, OnConflict, Terms, depth_of, executor_name
from adapter.domain.routing import Request
from adapter.domain.task import RetryPolicy, TaskPolicy

_KEPT = timedelta(days=7)
#: How many kinds of jobs in one call are looked through for one that is alike.
_MOST_KINDS = 4


class ScheduleOptions(TypedDict, total=False):
    """What a scheduling call may say beside the payload. See `Adapter.schedule_job`."""

    executor: str | None
    strict: bool
    tag: str | None
    user_id: str | int | None
    due: datetime | None
    delay: timedelta | None
    ttl: timedelta | None
    max_duration: timedelta | None
    retry: RetryPolicy | Mapping[str, Any] | None
    max_attempts: int | None
    priority: int | None
    queue: str | None
    concurrency_key: str | None
    idempotency_key: str | None
    idempotency_ttl: timedelta | None
    request_key: str | None
    on_conflict: OnConflict
    debounce_max: timedelta | None
    throttle: timedelta | None
    metadata: Mapping[str, Any] | None
    tags: Sequence[str]
    persistent: bool | None
    keep_for: timedelta | None
    remove_at: datetime | None
    context: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None
    detached: bool
    schedule_id: UUID
    batch_id: UUID
    debounce: Debounce | None
    own_names: bool


# Not frozen: a caller makes thousands of them, and that would double what each costs.
@dataclass(slots=True)
class JobSpec:
    """One job to be scheduled: a task, a validated payload, and options."""

    task: str
    data: Any
    options: ScheduleOptions = field(default_factory=ScheduleOptions)
    #: The job whose handler schedules it.
    parent: Job | None = None
    #: Whether it may be of a task that is not declared here: it waits until a worker has it.
    undeclared: bool = False


@dataclass(slots=True)
class Planned:
    """A job before it has a route. ``executor``: where the call says it shall go."""

    job: NewJob
    definition: TaskDefinition[Any, Any]
    options: ScheduleOptions
    executor: str | None

    def request(self) -> Request:
        """Return what the routing rules may look at."""
        return self._request(from_json(self.job.payload))

    def request_with(self, data: Any) -> Request:
        """Return the same with a payload that was not checked."""
        return self._request(data)

    def _request(self, data: Any) -> Request:
        return Request(
            job_id=str(self.job.id),
            tag=self.job.terms.tag,
            user_id=self.job.terms.user_id,
            data=data,
            context=self.options.get("context") or {},
            executor=self.executor,
            strict=self.options.get("strict", False),
        )


class Planner:
    """Plans jobs of the tasks it knows. Does no I/O."""

    def __init__(
        self, registry: Registry, executors: list[str], *, keep_failed_for: timedelta | None = None
    ) -> None:
        """``keep_failed_for``: that of tasks that say none."""
        self._registry = registry
        self._executors = executors
        self._keep_failed_for = keep_failed_for
        #: The terms of calls without options, which are most.
        self._plain: dict[str, Terms] = {}

    def plan(self, spec: JobSpec) -> Planned:
        """Return the job a spec asks for, complete but for its route.

        Raises:
            UnknownTaskError, TaskDisabledError, InvalidPayloadError, InvalidArgumentError,
            UnknownExecutorError: nothing is written.
        """
        definition = self._definition(spec)
        if not definition.policy.enabled:
            raise TaskDisabledError(spec.task)
        if not spec.options and spec.parent is None and not spec.undeclared:
            terms = self._plain.get(spec.task)
            if terms is None:
                terms = self._plain[spec.task] = self._terms(definition, spec)
            job = NewJob(uuid7(), definition.dump_payload_text(spec.data), terms)
            return Planned(job, definition, spec.options, None)
        check(spec.options)
        return self._planned(spec, definition, definition.dump_payload_text(spec.data))

    def plan_unchecked(self, spec: JobSpec) -> Planned:
        """Return what `plan` does, whatever the payload is, which is left out."""
        return self._planned(spec, self._definition(spec), "null")

    def plan_like(self, spec: JobSpec, before: Planned) -> Planned:
        """Return what `plan` does, of a spec that differs in its payload at most; both share their terms."""
        definition = before.definition
        job = NewJob(uuid7(), definition.dump_payload_text(spec.data), before.job.terms)
        return Planned(job, definition, before.options, before.executor)

    def plan_all(self, specs: Iterable[JobSpec]) -> list[Planned]:
        """Return what `plan` does of each; those that ask for the same mostly share their terms."""
        plans: list[Planned] = []
        kinds: deque[tuple[JobSpec, Planned]] = deque(maxlen=_MOST_KINDS)
        for spec in specs:
            if not spec.options:
                # Its terms are known.
                plans.append(self.plan(spec))
                continue
            like = next((planned for kind, planned in kinds if are_alike(kind, spec)), None)
            plans.append(self.plan(spec) if like is None else self.plan_like(spec, like))
            if like is None:
                kinds.append((spec, plans[-1]))
        return plans

    def _definition(self, spec: JobSpec) -> TaskDefinition[Any, Any]:
        declared = self._registry.find(spec.task)
        if declared is None and spec.undeclared:
            return _undeclared(spec.task)
        return declared or self._registry.get(spec.task)

    def _planned(self, spec: JobSpec, definition: TaskDefinition[Any, Any], payload: str) -> Planned:
        executor = self._executor(spec.options, definition)
        return Planned(
            NewJob(uuid7(), payload, self._terms(definition, spec)), definition, spec.options, executor
        )

    def _terms(self, definition: TaskDefinition[Any, Any], spec: JobSpec) -> Terms:
        return _terms(definition, spec, keep_failed_for=self._keep_failed_for)

    def _executor(self, options: ScheduleOptions, definition: TaskDefinition[Any, Any]) -> str | None:
        executor = options.get("executor")
        if executor is None:
            return None
        executor, task = executor_name(executor), definition.id
        if executor != LOCAL and executor not in self._executors:
            raise UnknownExecutorError(executor, [LOCAL, *self._executors], f"This call for {task!r}")
        if executor != LOCAL and executor not in definition.policy.remote_ids:
            msg = f"Task {task!r} has no id at {executor!r}. Declare remote_id={{{executor!r}: ...}} on the task."
            raise InvalidArgumentError(msg)
        return executor


@functools.lru_cache(maxsize=256)
def _undeclared(task: str) -> TaskDefinition[Any, Any]:
    """Return what can be said of a task that is not declared here: any payload, and all as by default."""
    return TaskDefinition(TaskPolicy(id=task), None)


def _terms(
    definition: TaskDefinition[Any, Any], spec: JobSpec, *, keep_failed_for: timedelta | None
) -> Terms:
    policy, options, parent = definition.policy, spec.options, spec.parent
    retry = _retry_of(options, policy.retry)
    extra = dict(options.get("extra") or {})
    if policy.remote_delay:
        extra["remote_delay"] = True
    if options.get("detached"):
        extra["detached"] = True
    if parent is not None and parent.parent_id is not None:
        extra["depth"] = depth_of(parent) + 1
    if options.get("strict") and options.get("executor") is not None:
        extra["strict"] = True
    on_conflict, longest = options.get("on_conflict") or "keep", options.get("debounce_max")
    if on_conflict == "replace":
        extra["on_conflict"] = "replace_own" if options.get("own_names") else "replace"
    if longest is not None:
        extra["debounce_max"] = longest.total_seconds()
    user_id, tag, key = options.get("user_id"), options.get("tag"), options.get("idempotency_key")
    delay, debounce = options.get("delay"), options.get("debounce")
    if debounce is not None:
        tag, delay = debounce.tag, debounce.delay
    remove_at = options.get("remove_at")
    keep_for = None if remove_at else _or(options.get("keep_for"), policy.keep_for)
    throttle, slot = options.get("throttle"), None
    if throttle is not None:
        slot = f"tag:{tag}" if tag is not None else f"key:{key}"
        # The slot takes the key's place: a failed job frees a key, and never a slot.
        key = None
        # Its job is kept as long as it holds the slot.
        if remove_at or throttle >= (keep_for or _KEPT):
            keep_for = throttle + _KEPT
    return Terms(
        type=policy.id,
        queue=options.get("queue") or policy.queue.name,
        due=options.get("due"),
        delay=delay,
        tag=tag,
        user_id=None if user_id is None else str(user_id),
        concurrency_key=options.get("concurrency_key"),
        priority=_or(options.get("priority"), policy.priority),
        ttl=_or(options.get("ttl"), policy.ttl),
        max_duration=_or(options.get("max_duration"), policy.max_duration),
        max_attempts=retry.max_attempts,
        retry=None if retry == policy.retry else retry.model_dump(mode="json"),
        metadata=dict(options.get("metadata") or {}) or None,
        tags=tuple(options.get("tags") or ()),
        idempotency_key=key,
        idempotency_ttl=_or(options.get("idempotency_ttl"), timedelta(days=30)),
        request_key=options.get("request_key"),
        throttle_key=slot,
        throttle=throttle,
        on_conflict=on_conflict,
        persistent=not remove_at and _or(options.get("persistent"), policy.persistent),
        keep_for=keep_for,
        keep_failed_for=None if remove_at else _or(policy.keep_failed_for, keep_failed_for),
        remove_at=remove_at,
        parent_id=parent.id if parent else None,
        root_id=parent.root_id or parent.id if parent else None,
        batch_id=options.get("batch_id"),
        schedule_id=options.get("schedule_id"),
        extra=extra,
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _retry_of(options: ScheduleOptions, default: RetryPolicy) -> RetryPolicy:
    given, attempts = options.get("retry"), options.get("max_attempts")
    try:
        retry = default if given is None else RetryPolicy.model_validate(given)
        if attempts is None:
            return retry
        return RetryPolicy.model_validate(retry.model_dump() | {"max_attempts": attempts})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidArgumentError(f"retry= or max_attempts= is not valid: {wrong}.") from None
