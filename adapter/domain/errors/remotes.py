"""How calls to remotes end, and what is wrong with what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.domain.errors.base import AdapterError

if TYPE_CHECKING:
    from datetime import datetime


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
