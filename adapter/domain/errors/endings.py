"""How jobs that somebody waited for have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter.domain.errors.base import AdapterError

if TYPE_CHECKING:
    from datetime import timedelta


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


class TokenTimedOutError(AdapterError, TimeoutError):
    """The wait token that a handler waited for was not completed in time. Another try finds it so again."""

    code = "token_timed_out"

    def __init__(self, token_id: object) -> None:
        super().__init__(f"Wait token {token_id} was not completed in time.")
        self.token_id = token_id


class ProcessDiedError(AdapterError):
    """The child process of an isolated handler died while it ran: a crash, an exit, a kill."""

    code = "process_died"


class ResultTimeoutError(AdapterError, TimeoutError):
    """The job was still open when the time was over; it goes on."""

    code = "result_timeout"

    def __init__(self, job_id: object, status: str, timeout: timedelta) -> None:
        super().__init__(f"Job {job_id} is still {status} after {timeout.total_seconds():g} s; it goes on.")
