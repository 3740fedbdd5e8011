"""One way to schedule jobs, many places to run them."""

from adapter.app import Adapter
from adapter.core.context import JobContext
from adapter.core.handle import JobHandle
from adapter.core.scheduling import JobSpec
from adapter.core.tasks import Task
from adapter.domain.errors import (
    AbortJobError,
    AdapterError,
    JobCanceledError,
    JobFailedError,
    ResultTimeoutError,
    RetryJobError,
)
from adapter.domain.job import Job, JobStatus
from adapter.domain.task import Queue, RetryPolicy
from adapter.settings import Settings
from adapter.store.insights import JobFilter, JobPage

__all__ = [
    "AbortJobError",
    "Adapter",
    "AdapterError",
    "Job",
    "JobCanceledError",
    "JobContext",
    "JobFailedError",
    "JobFilter",
    "JobHandle",
    "JobPage",
    "JobSpec",
    "JobStatus",
    "Queue",
    "ResultTimeoutError",
    "RetryJobError",
    "RetryPolicy",
    "Settings",
    "Task",
]
