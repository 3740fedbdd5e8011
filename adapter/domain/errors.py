"""Every error this library raises, in one tree.

::

    AdapterError                       code: adapter
    ├── ConfigurationError             configuration        stops a boot
    │   ├── UnknownExecutorError       unknown_executor
    │   ├── TaskDefinitionError        task_definition
    │   └── NotOpenError               not_open
    ├── RequestError                   request              the caller can mend it
    │   ├── InvalidArgumentError       invalid_argument     also a ValueError
    │   ├── InvalidPayloadError        invalid_payload
    │   ├── UnknownTaskError           unknown_task
    │   ├── TaskDisabledError          task_disabled
    │   ├── DuplicateJobError          duplicate_job
    │   ├── JobNotFoundError           job_not_found
    │   ├── JobStateError              job_state
    │   ├── ReplayMismatchError        replay_mismatch
    │   └── FlagConflictError          flag_conflict
    ├── JobEndedError                  job_ended            raised by ``job.result()``
    │   ├── JobFailedError             job_failed
    │   └── JobCanceledError           job_canceled
    ├── ProcessDiedError               process_died         of a handler with isolation="process"
    ├── ResultTimeoutError             result_timeout       also a TimeoutError
    ├── StoreError                     store
    │   ├── DatabaseUnavailableError   database_unavailable   worth trying again
    │   ├── SchemaError                schema
    │   └── EmbeddedPostgresError      embedded_postgres
    ├── ExecutorError                  executor             how a call to a remote ended
    │   ├── NotSentError               not_sent             surely not there, this time
    │   ├── ThrottledError             throttled            a known no for now
    │   ├── RejectedError              rejected             a known no for good
    │   ├── UnknownOutcomeError        unknown_outcome      it may have been taken
    │   └── UnsupportedError           unsupported          this executor cannot do that
    ├── WebhookError                   webhook
    │   ├── SignatureError             invalid_signature
    │   ├── BodyTooLargeError          body_too_large
    │   └── MalformedEventError        malformed_event
    └── JobControl                     job_control          raised by handlers, on purpose
        ├── AbortJobError              abort                do not retry
        ├── RetryJobError              retry                retry at a given time
        ├── SnoozeJobError             snooze               later, and no attempt is spent
        └── JobInterruptedError        interrupted          it is to stop, and stops
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class AdapterError(Exception):
    """The base of every error here.

    ``code`` is stable and meant for programs; the message is for people and says what to do.
    """

    code: ClassVar[str] = "adapter"


class ConfigurationError(AdapterError):
    """The settings or the registry contradict themselves; the process must not start."""

    code = "configuration"


class UnknownExecutorError(ConfigurationError):
    """An executor was named that this adapter does not have."""

    code = "unknown_executor"

    def __init__(self, name: str, known: list[str], where: str) -> None:
        super().__init__(
            f"{where} names executor {name!r}, which is not configured. Known: {', '.join(known)}."
        )
        self.name = name


class TaskDefinitionError(ConfigurationError):
    """A task is declared wrongly, or twice."""

    code = "task_definition"


class NotOpenError(ConfigurationError):
    """The adapter was used before it was opened, or after it was closed."""

    code = "not_open"

    def __init__(self) -> None:
        super().__init__(
            "The adapter is not open. Use `async with adapter:` or `await adapter.open()` first."
        )


class RequestError(AdapterError):
    """The call cannot be carried out as asked; nothing was written."""

    code = "request"


class InvalidArgumentError(RequestError, ValueError):
    """An argument is out of range, or two arguments exclude each other."""

    code = "invalid_argument"


class InvalidPayloadError(RequestError):
    """The payload does not fit the task's schema, or is no JSON PostgreSQL can keep.

    ``problems`` lists the paths and what is wrong there, never the values.
    """

    code = "invalid_payload"

    def __init__(self, task: str, problems: list[str]) -> None:
        super().__init__(f"The payload of {task!r} is not valid: {'; '.join(problems)}.")
        self.problems = problems


class UnknownTaskError(RequestError):
    """No task of that name is registered."""

    code = "unknown_task"

    def __init__(self, task: str, near: list[str]) -> None:
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        super().__init__(f"No task {task!r} is registered.{hint}")
        self.task = task


class TaskDisabledError(RequestError):
    """The task is declared with ``enabled=False``."""

    code = "task_disabled"

    def __init__(self, task: str) -> None:
        super().__init__(f"Task {task!r} is disabled. Enable it in the registry to schedule it.")


class DuplicateJobError(RequestError):
    """A job holds the key or tag, and the call said ``on_conflict="reject"``. ``job_id`` is the holder."""

    code = "duplicate_job"

    def __init__(self, task: str, held_by: str, job_id: object) -> None:
        super().__init__(
            f"Job {job_id} of {task!r} already holds this {held_by}. Nothing was written; look at that job, "
            "or schedule with on_conflict='keep' or 'replace'."
        )
        self.task = task
        self.job_id = job_id


class JobNotFoundError(RequestError):
    """No job has that id, or it is past its retention."""

    code = "job_not_found"

    def __init__(self, job_id: object) -> None:
        super().__init__(f"There is no job {job_id}.")


class JobStateError(RequestError):
    """The job is in a state in which this cannot be done."""

    code = "job_state"


class ReplayMismatchError(RequestError):
    """A handler that runs again has asked for other children than the first time."""

    code = "replay_mismatch"

    def __init__(self, job_id: object, call: str, before: str, now: str) -> None:
        super().__init__(
            f"Job {job_id} runs again, and its waiting call {call} asks for {now!r} where it asked for {before!r}. "
            "Make waiting calls in the same order in every try, or name them with key=."
        )
        self.job_id = job_id


class FlagConflictError(RequestError):
    """Somebody else changed the flag since it was read. Read it again and decide again."""

    code = "flag_conflict"


class JobEndedError(AdapterError):
    """The job ended otherwise than by completing. ``status`` and ``error`` say how."""

    code = "job_ended"

    def __init__(self, job_id: object, status: str, error: dict[str, Any] | None) -> None:
        message = (error or {}).get("message") or "no message was kept"
        super().__init__(f"Job {job_id} ended as {status}: {message}")
        self.job_id = job_id
        self.status = status
        self.error = error


class JobFailedError(JobEndedError):
    """FAILED, CRASHED, SYSTEM_FAILURE, TIMED_OUT or EXPIRED."""

    code = "job_failed"


class JobCanceledError(JobEndedError):
    """CANCELED."""

    code = "job_canceled"


class ProcessDiedError(AdapterError):
    """The child process of an isolated handler died while it ran: a crash, an exit, a kill."""

    code = "process_died"


class ResultTimeoutError(AdapterError, TimeoutError):
    """The job was still open when the time was over; it goes on."""

    code = "result_timeout"

    def __init__(self, job_id: object, status: str, timeout: timedelta) -> None:
        super().__init__(f"Job {job_id} is still {status} after {timeout.total_seconds():g} s; it goes on.")


class StoreError(AdapterError):
    """PostgreSQL refused or could not be used."""

    code = "store"


class DatabaseUnavailableError(StoreError):
    """PostgreSQL cannot be reached, went away, or had to undo a transaction. Trying again may help."""

    code = "database_unavailable"


class SchemaError(StoreError):
    """The database's schema is not the one this version needs."""

    code = "schema"


class EmbeddedPostgresError(StoreError):
    """A local PostgreSQL could not be found, started or joined."""

    code = "embedded_postgres"


class ExecutorError(AdapterError):
    """A call to a remote executor did not succeed. The subclass says what is known."""

    code = "executor"


class NotSentError(ExecutorError):
    """DNS, connect failure, no pool slot, circuit open: nothing has left, this time."""

    code = "not_sent"


class ThrottledError(ExecutorError):
    """HTTP 429: a known no for now. ``retry_at`` is when the remote says to come back."""

    code = "throttled"

    def __init__(self, message: str, retry_at: datetime | None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class RejectedError(ExecutorError):
    """The remote understood and refused. ``status`` is its HTTP status, the message its words."""

    code = "rejected"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnknownOutcomeError(ExecutorError):
    """Read timeout, reset, 5xx, 408: the remote may have done it."""

    code = "unknown_outcome"


class UnsupportedError(ExecutorError):
    """This executor cannot do what was asked."""

    code = "unsupported"


class WebhookError(AdapterError):
    """A webhook was not taken in."""

    code = "webhook"


class SignatureError(WebhookError):
    """No active secret made this signature. ``reason`` is for the log, not for the sender."""

    code = "invalid_signature"

    def __init__(self, reason: str) -> None:
        super().__init__("Invalid signature")
        self.reason = reason


class BodyTooLargeError(WebhookError):
    """The body is over the cap."""

    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes.")


class MalformedEventError(WebhookError):
    """Signed, but not an event that can be read."""

    code = "malformed_event"


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
