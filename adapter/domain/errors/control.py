"""What handlers raise on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.domain.errors.base import AdapterError
from adapter.domain.errors.requests import InvalidArgumentError

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class JobControl(AdapterError):  # noqa: N818 - a signal of the handler, not a fault
    """Raised inside a handler to steer what happens to its job."""

    code = "job_control"


class AbortJobError(JobControl):
    """Fail the job now, whatever attempts remain (Trigger.dev: ``AbortTaskRunError``)."""

    code = "abort"


class RetryJobError(JobControl):
    """Retry after ``delay`` or ``at`` a time, instead of the policy's backoff. The attempt is spent.

    Raises:
        InvalidArgumentError: not exactly one of the two is given, or ``at`` has no time zone.
    """

    code = "retry"

    def __init__(self, message: str, *, delay: timedelta | None = None, at: datetime | None = None) -> None:
        super().__init__(message)
        if (delay is None) == (at is None):
            msg = "Say when to retry: either delay= or at=."
            raise InvalidArgumentError(msg)
        if at is not None and at.tzinfo is None:
            msg = "The time to retry at must have a time zone."
            raise InvalidArgumentError(msg)
        self.delay = delay
        self.at = at


class SnoozeJobError(JobControl):
    """Give the job back until ``delay`` is over. No attempt is spent; the task's ``max_snoozes`` bounds it.

    Raises:
        InvalidArgumentError: ``delay`` is negative.
    """

    code = "snooze"

    def __init__(self, message: str = "", *, delay: timedelta) -> None:
        super().__init__(message)
        if delay.total_seconds() < 0:
            msg = "A job cannot be snoozed into the past."
            raise InvalidArgumentError(msg)
        self.delay = delay


class JobInterruptedError(JobControl):
    """The job is to stop: canceled, out of time, or its worker stops. Raised by ``ctx.raise_if_canceled()``."""

    code = "interrupted"

    def __init__(self, job_id: object) -> None:
        super().__init__(f"Job {job_id} is to stop.")
