"""One way to schedule jobs, many places to run them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.core.batching import BatchItem
    from adapter.core.context import JobContext
    from adapter.core.handle import JobHandle
    from adapter.core.hooks import JobEnd
    from adapter.core.planning import JobSpec
    from adapter.core.tasks import Task
    from adapter.domain.comparison import Comparison, Ignore
    from adapter.domain.cron import Cron
    from adapter.domain.debounce import Debounce
    from adapter.domain.errors import (
        AbortJobError,
        AdapterError,
        JobCanceledError,
        JobFailedError,
        ResultTimeoutError,
        RetryJobError,
        SnoozeJobError,
        TokenTimedOutError,
    )
    from adapter.domain.job import Job, JobStatus
    from adapter.domain.limits import Limits, Rate
    from adapter.domain.task import Batch, Queue, RetryPolicy
    from adapter.domain.wait_token import TokenFilter, TokenPage, WaitToken
    from adapter.domain.waiting import WaitReason
    from adapter.settings import Settings
    from adapter.store.dead_letters import DeadLetterFilter
    from adapter.store.insights import JobFilter, JobPage
    from adapter.web.auth import Principal
    from adapter.web.authorization import allowed_by_default

__all__ = [
    "AbortJobError",
    "Adapter",
    "AdapterError",
    "Batch",
    "BatchItem",
    "Comparison",
    "Cron",
    "DeadLetterFilter",
    "Debounce",
    "Ignore",
    "Job",
    "JobCanceledError",
    "JobContext",
    "JobEnd",
    "JobFailedError",
    "JobFilter",
    "JobHandle",
    "JobPage",
    "JobSpec",
    "JobStatus",
    "Limits",
    "Principal",
    "Queue",
    "Rate",
    "ResultTimeoutError",
    "RetryJobError",
    "RetryPolicy",
    "Settings",
    "SnoozeJobError",
    "Task",
    "TokenFilter",
    "TokenPage",
    "TokenTimedOutError",
    "WaitReason",
    "WaitToken",
    "allowed_by_default",
]

# Imported when first used: the command's `--help` must not wait for SQLAlchemy and httpx.
_HOMES = {
    "AbortJobError": "adapter.domain.errors",
    "Adapter": "adapter.app",
    "AdapterError": "adapter.domain.errors",
    "Batch": "adapter.domain.task",
    "BatchItem": "adapter.core.batching",
    "Comparison": "adapter.domain.comparison",
    "Cron": "adapter.domain.cron",
    "DeadLetterFilter": "adapter.store.dead_letters",
    "Debounce": "adapter.domain.debounce",
    "Ignore": "adapter.domain.comparison",
    "Job": "adapter.domain.job",
    "JobCanceledError": "adapter.domain.errors",
    "JobContext": "adapter.core.context",
    "JobEnd": "adapter.core.hooks",
    "JobFailedError": "adapter.domain.errors",
    "JobFilter": "adapter.store.insights",
    "JobHandle": "adapter.core.handle",
    "JobPage": "adapter.store.insights",
    "JobSpec": "adapter.core.planning",
    "JobStatus": "adapter.domain.job",
    "Limits": "adapter.domain.limits",
    "Principal": "adapter.web.auth",
    "Queue": "adapter.domain.task",
    "Rate": "adapter.domain.limits",
    "ResultTimeoutError": "adapter.domain.errors",
    "RetryJobError": "adapter.domain.errors",
    "RetryPolicy": "adapter.domain.task",
    "Settings": "adapter.settings",
    "SnoozeJobError": "adapter.domain.errors",
    "Task": "adapter.core.tasks",
    "TokenFilter": "adapter.domain.wait_token",
    "TokenPage": "adapter.domain.wait_token",
    "TokenTimedOutError": "adapter.domain.errors",
    "WaitReason": "adapter.domain.waiting",
    "WaitToken": "adapter.domain.wait_token",
    "allowed_by_default": "adapter.web.authorization",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
