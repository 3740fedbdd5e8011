"""From a call to a row: validate, route, insert; once per key, and never with stale flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.flags import FlagSource
from adapter.core.registry import Registry, TaskDefinition
from adapter.domain.errors import (
    FlagConflictError,
    InvalidArgumentError,
    TaskDisabledError,
    UnknownExecutorError,
)
from adapter.domain.job import LOCAL, Job, JobStatus, NewJob, executor_name
from adapter.domain.routing import Flags, Request, Route, Step, can_run, decide, explain
from adapter.domain.task import RetryPolicy
from adapter.store.jobs import find_held, insert
from adapter.store.processes import MAKE_QUEUES
from adapter.store.steps import Statement, Steps
from adapter.store.wakeup import DISPATCH

_MOST_TAGS, _LONGEST_TAG, _LONGEST_KEY = 10, 128, 2048
_MOST_TRIES = 20


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
    metadata: Mapping[str, Any] | None
    tags: Sequence[str]
    persistent: bool | None
    keep_for: timedelta | None
    context: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None
    detached: bool


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job to be scheduled: a task, a validated payload, and options."""

    task: str
    data: Any
    options: ScheduleOptions = field(default_factory=ScheduleOptions)
    #: The job whose handler schedules it.
    parent: Job | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A job before it has a route."""

    job: NewJob
    definition: TaskDefinition[Any, Any]
    request: Request


class Scheduler:
    """Plans jobs and carries them into the store."""

    def __init__(
        self, registry: Registry, flags: FlagSource, executors: list[str], *, delaying: frozenset[str]
    ) -> None:
        self._registry = registry
        self._flags = flags
        self._executors = executors
        #: Executors that can hold a job until it is due.
        self._delaying = delaying

    def plan(self, spec: JobSpec) -> Planned:
        """Return the job a spec asks for, complete but for its route.

        Raises:
            UnknownTaskError, TaskDisabledError, InvalidPayloadError, InvalidArgumentError,
            UnknownExecutorError: nothing is written.
        """
        definition = self._registry.get(spec.task)
        if not definition.policy.enabled:
            raise TaskDisabledError(spec.task)
        _check(spec.options)
        return self.plan_unchecked(replace(spec, data=definition.dump_payload(spec.data)), definition)

    def plan_unchecked(self, spec: JobSpec, definition: TaskDefinition[Any, Any]) -> Planned:
        """Return what `plan` does, of a payload that is known to be good or does not matter."""
        policy, options = definition.policy, spec.options
        retry = _retry_of(options, policy.retry)
        job_id = UUID(str(uuid7()))
        extra = dict(options.get("extra") or {})
        if policy.remote_delay:
            extra["remote_delay"] = True
        if options.get("detached"):
            extra["detached"] = True
        user_id, parent = options.get("user_id"), spec.parent
        job = NewJob(
            id=job_id,
            type=policy.id,
            data=spec.data,
            executor=LOCAL,
            route_reason="",
            status=JobStatus.QUEUED,
            queue=options.get("queue") or policy.queue.name,
            due=options.get("due"),
            delay=options.get("delay"),
            tag=options.get("tag"),
            user_id=None if user_id is None else str(user_id),
            concurrency_key=options.get("concurrency_key"),
            priority=_or(options.get("priority"), policy.priority),
            ttl=_or(options.get("ttl"), policy.ttl),
            max_duration=_or(options.get("max_duration"), policy.max_duration),
            max_attempts=retry.max_attempts,
            retry=None if retry == policy.retry else retry.model_dump(mode="json"),
            metadata=dict(options.get("metadata") or {}) or None,
            tags=tuple(options.get("tags") or ()),
            idempotency_key=options.get("idempotency_key"),
            idempotency_ttl=_or(options.get("idempotency_ttl"), timedelta(days=30)),
            request_key=options.get("request_key"),
            persistent=_or(options.get("persistent"), policy.persistent),
            keep_for=_or(options.get("keep_for"), policy.keep_for),
            parent_id=parent.id if parent else None,
            root_id=parent.root_id or parent.id if parent else None,
            extra=extra,
        )
        return Planned(job, definition, self._request(job, options, definition))

    def _request(
        self, job: NewJob, options: ScheduleOptions, definition: TaskDefinition[Any, Any]
    ) -> Request:
        executor = options.get("executor")
        if executor is not None:
            executor = executor_name(executor)
            if executor != LOCAL and executor not in self._executors:
                raise UnknownExecutorError(executor, [LOCAL, *self._executors], f"This call for {job.type!r}")
            if executor != LOCAL and executor not in definition.policy.remote_ids:
                msg = f"Task {job.type!r} has no id at {executor!r}. Declare remote_id={{{executor!r}: ...}} on the task."
                raise InvalidArgumentError(msg)
        return Request(
            job_id=str(job.id),
            tag=job.tag,
            user_id=job.user_id,
            data=job.data,
            context=options.get("context") or {},
            executor=executor,
            strict=options.get("strict", False),
        )

    def explain(self, planned: Planned, flags: Flags) -> tuple[Route, list[Step]]:
        """Return the route the job would take, and why."""
        return explain(planned.definition.policy, planned.request, flags)

    def schedule(self, planned: Sequence[Planned], *, own: bool = True) -> Steps[list[Job]]:
        """Insert the jobs, or find those that hold their keys and tags; one result per plan, in order.

        Needs an open transaction when a job has a key. ``own=False``: it is a caller's.

        Raises:
            FlagConflictError: the flags changed faster than we could decide, many times over.
        """
        left = {each.job.id: each for each in planned}
        done: dict[UUID, Job] = {}
        flags = self._flags.fresh
        for _ in range(_MOST_TRIES):
            held = yield from find_held([each.job for each in left.values()])
            done.update(held)
            left = {job_id: each for job_id, each in left.items() if job_id not in held}
            if not left:
                break
            if flags is None:
                flags = yield from self._flags.reading(keep=own)
            first = _first_of_each_name(left.values())
            yield from self._declare_queues(each.job.queue for each in first)
            # Keys are taken in sorted order, so that two calls cannot wait for each other.
            jobs = sorted((self._routed(each, flags) for each in first), key=_lock_order)
            result = yield from insert(jobs, flags.version)
            done.update(result.jobs)
            # Those that share a name with one that is in now are found in the next round.
            left = {job_id: each for job_id, each in left.items() if job_id not in result.jobs}
            if not left:
                break
            if result.missing:
                # Read where we write: what others read meanwhile may be newer than a caller's snapshot.
                self._flags.forget()
                flags = None
        if left:
            msg = "The flags kept changing while jobs were routed. Nothing is lost: schedule them again."
            raise FlagConflictError(msg)
        return [done[each.job.id] for each in planned]

    def _declare_queues(self, queues: Iterable[str]) -> Steps[None]:
        """Make queues known that no task names: a worker serves the queues it knows."""
        strange = sorted(set(queues) - set(self._registry.queue_limits))
        if strange:
            yield Statement(MAKE_QUEUES, {"names": strange})

    def _routed(self, planned: Planned, flags: Flags) -> NewJob:
        policy = planned.definition.policy
        route = decide(policy, planned.request, flags)
        if not can_run(policy, route.executor, flags) and route.executor == LOCAL:
            status = JobStatus.WAITING
        elif route.executor == LOCAL:
            status = JobStatus.QUEUED
        else:
            status = JobStatus.PENDING
        extra = planned.job.extra
        if "remote_delay" in extra and route.executor not in self._delaying:
            extra = {name: value for name, value in extra.items() if name != "remote_delay"}
        return replace(
            planned.job, executor=route.executor, route_reason=route.reason, status=status, extra=extra
        )


def topics_of(jobs: Sequence[Job]) -> set[str]:
    """Return who is to look at once jobs are committed: their queues, and the dispatcher."""
    fresh = [job for job in jobs if not job.deduplicated]
    topics = {job.queue for job in fresh if job.executor == LOCAL and job.status is JobStatus.QUEUED}
    return topics | ({DISPATCH} if any(job.status is JobStatus.PENDING for job in fresh) else set())


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _names(job: NewJob) -> list[tuple[str, str, str]]:
    names = (("key", job.idempotency_key), ("request", job.request_key), ("tag", job.tag))
    return [(kind, job.type, name) for kind, name in names if name is not None]


def _first_of_each_name(planned: Iterable[Planned]) -> list[Planned]:
    """Leave out every plan that shares a key or tag with one before it."""
    taken: set[tuple[str, str, str]] = set()
    first: list[Planned] = []
    for each in planned:
        names = _names(each.job)
        if taken.isdisjoint(names):
            first.append(each)
            taken.update(names)
    return first


def _lock_order(job: NewJob) -> tuple[str, str, str, UUID]:
    return (job.type, job.idempotency_key or "", job.request_key or "", job.id)


def _retry_of(options: ScheduleOptions, default: RetryPolicy) -> RetryPolicy:
    given = options.get("retry")
    retry = default if given is None else RetryPolicy.model_validate(given)
    attempts = options.get("max_attempts")
    return (
        retry
        if attempts is None
        else RetryPolicy.model_validate(retry.model_dump() | {"max_attempts": attempts})
    )


def _check(options: ScheduleOptions) -> None:
    """Refuse what cannot be meant, before anything is written."""
    due, delay = options.get("due"), options.get("delay")
    if due is not None and delay is not None:
        msg = "due= and delay= exclude each other."
        raise InvalidArgumentError(msg)
    if due is not None and due.tzinfo is None:
        msg = "due= needs a time zone: a naive datetime does not say when."
        raise InvalidArgumentError(msg)
    for name in ("delay", "ttl", "max_duration", "keep_for", "idempotency_ttl"):
        value: timedelta | None = options.get(name)
        if value is not None and (
            value < timedelta(0) or (value == timedelta(0) and name in {"max_duration", "idempotency_ttl"})
        ):
            msg = f"{name}= must be positive."
            raise InvalidArgumentError(msg)
    tags = options.get("tags") or ()
    if isinstance(tags, str):
        msg = "tags= is a list of labels; the label that deduplicates is tag=."
        raise InvalidArgumentError(msg)
    if len(tags) > _MOST_TAGS:
        msg = f"Runs can only have {_MOST_TAGS} tags, you're trying to set {len(tags)}."
        raise InvalidArgumentError(msg)
    texts = {"tag": options.get("tag"), **{f"tags[{n}]": tag for n, tag in enumerate(tags)}}
    for name, text in texts.items():
        if text is not None and not 0 < len(text) <= _LONGEST_TAG:
            msg = f"{name} must have 1 to {_LONGEST_TAG} characters."
            raise InvalidArgumentError(msg)
    for name in ("idempotency_key", "request_key"):
        key: str | None = options.get(name)
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            msg = f"{name} must have 1 to {_LONGEST_KEY} characters."
            raise InvalidArgumentError(msg)
