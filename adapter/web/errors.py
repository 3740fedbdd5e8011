"""From errors to answers: one table, and bodies that are always ``{"error": "…"}``.

Trigger.dev's SDK shows ``error`` to people and retries 408, 409, 429 and 5xx (its API contract, 2), so
what the caller has to mend is never one of these. A 5xx says nothing of our insides.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from adapter.domain import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

_log = logging.getLogger("adapter.web")

#: The most specific class counts. A class that is not here answers as its base does.
STATUS: dict[type[errors.AdapterError], int] = {
    errors.AdapterError: 500,
    errors.ConfigurationError: 500,
    errors.NotOpenError: 503,
    errors.RequestError: 400,
    errors.InvalidArgumentError: 400,
    errors.MetadataTooLargeError: 413,
    errors.TooManyTagsError: 422,
    errors.InvalidPayloadError: 422,
    errors.UnknownTaskError: 422,
    errors.TaskDisabledError: 422,
    errors.DuplicateJobError: 422,
    errors.NameTakenError: 422,
    errors.JobNotFoundError: 404,
    errors.JobStateError: 422,
    errors.BulkActionNotFoundError: 404,
    errors.BatchNotFoundError: 404,
    errors.BatchAbortedError: 422,
    errors.FlagConflictError: 409,
    errors.DrillConflictError: 409,
    errors.FinalizationError: 409,
    errors.ExecutorFinalizedError: 409,
    errors.ChangeNotFoundError: 404,
    errors.QueueNotFoundError: 404,
    errors.TokenNotFoundError: 404,
    errors.RecallNotFoundError: 404,
    errors.RecallConflictError: 409,
    errors.KeyNotFoundError: 404,
    errors.TokenSpentError: 422,
    errors.ScheduleNotFoundError: 404,
    errors.ScheduleStateError: 409,
    errors.SubscriptionNotFoundError: 404,
    errors.JobEndedError: 422,
    errors.ResultTimeoutError: 504,
    errors.StoreError: 503,
    errors.ExecutorError: 502,
    errors.NotSentError: 503,
    errors.ThrottledError: 429,
    errors.RejectedError: 502,
    errors.UnsupportedError: 422,
    errors.WebhookError: 400,
    errors.SignatureError: 401,
    errors.BodyTooLargeError: 413,
    errors.JobControl: 500,
}
_FIXED = {
    429: "The remote executor is throttled. Try again later.",
    500: "Internal Server Error",
    502: "The remote executor did not accept this.",
    503: "Service Unavailable",
    504: "The job goes on; its result is not there yet.",
}


class ApiError(Exception):
    """An answer other than success, raised by a route. ``body`` is sent as it is."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.body: dict[str, Any] = {"error": error} | fields
        self.headers = dict(headers or {})


def bad_query(why: str) -> ApiError:
    """Return upstream's answer to a query that cannot be read."""
    return ApiError(400, "Query Error", details=[{"message": why}])


def status_of(error: errors.AdapterError) -> int:
    """Return the HTTP status for an error of ours."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def answer(error: Exception) -> JSONResponse:
    """Return the response for whatever a route raised; what nobody foresaw is logged here."""
    if isinstance(error, ApiError):
        return JSONResponse(error.body, error.status, error.headers)
    if isinstance(error, HTTPException):
        return _starlette(error)
    if not isinstance(error, errors.AdapterError):
        _log.error("request failed", exc_info=error)
        return JSONResponse({"error": _FIXED[500]}, 500)
    status = status_of(error)
    if status >= 500:
        _log.error("request failed: %s", error, exc_info=error, extra={"code": error.code})
    headers: dict[str, str] = {}
    if isinstance(error, errors.ThrottledError) and error.retry_at is not None:
        # Milliseconds: the SDK waits until then.
        headers["x-ratelimit-reset"] = str(int(error.retry_at.timestamp() * 1000))
    return JSONResponse({"error": _FIXED.get(status, str(error)), "code": error.code}, status, headers)


def _starlette(error: HTTPException) -> JSONResponse:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    text = "Not found" if error.status_code == 404 else error.detail
    return JSONResponse({"error": text}, error.status_code, headers)


async def _handle(_request: Request, error: Exception) -> Response:
    return answer(error)


#: For ``Starlette(exception_handlers=…)``. What is in none of these is caught by the outer middleware.
HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    ApiError: _handle,
    HTTPException: _handle,
    errors.AdapterError: _handle,
}
