"""What a worker and its child processes say to each other: JSON, each message behind its length.

Nothing is pickled: a child may run what is not trusted.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias, cast, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain import errors
from adapter.domain.errors import AdapterError
from adapter.domain.job import Job
from adapter.domain.outcome import Errored, Returned, Snoozed, Stopped, Succeeded, TimedOut, TryOutcome

Message: TypeAlias = dict[str, Any]

#: PostgreSQL takes 255 MB in one jsonb; whoever sends more has lost its way.
MOST_BYTES = 256 * 1024 * 1024
_LENGTH = 4

_JOB = TypeAdapter(Job)
_OPTIONS = {name: TypeAdapter[Any](kind) for name, kind in get_type_hints(ScheduleOptions).items()}


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as it is sent."""
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH, "big") + body


def _decode(body: bytes) -> Message:
    message = json.loads(body)
    if not isinstance(message, dict):
        msg = "a message that is no object"
        raise ValueError(msg)  # noqa: TRY004 - as other JSON that is none of ours
    return cast("Message", message)


async def read(reader: asyncio.StreamReader) -> Message:
    """Return the next message.

    Raises:
        asyncio.IncompleteReadError: the other side has closed.
        ValueError: it is no message.
    """
    size = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    if size > MOST_BYTES:
        msg = f"a message of {size} bytes"
        raise ValueError(msg)
    return _decode(await reader.readexactly(size))


def receive(connection: socket.socket) -> Message | None:
    """Return the next message, None when the other side has closed. Blocks."""
    head = _receive_exactly(connection, _LENGTH)
    body = _receive_exactly(connection, int.from_bytes(head, "big")) if head is not None else None
    return None if body is None else _decode(body)


def _receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(min(size - len(found), 1 << 20))
        if not part:
            return None
        found += part
    return bytes(found)


def dump_job(job: Job) -> Any:
    """Return a job as JSON."""
    return _JOB.dump_python(job, mode="json")


def load_job(given: Any) -> Job:
    """Return the job that `dump_job` has written."""
    return _JOB.validate_python(given)


def dump_outcome(outcome: TryOutcome) -> Message:
    """Return what a try came to as JSON."""
    match outcome:
        case Succeeded(result):
            return {"came_to": "succeeded", "result": result}
        case Errored(error, retryable, after, at):
            return {
                "came_to": "errored",
                "error": error,
                "retryable": retryable,
                "after": None if after is None else after.total_seconds(),
                "at": None if at is None else at.isoformat(),
            }
        case TimedOut(error):
            return {"came_to": "timed_out", "error": error}
        case Snoozed(delay, reason):
            return {"came_to": "snoozed", "delay": delay.total_seconds(), "reason": reason}
        case Stopped() | Returned():
            return {"came_to": "stopped"}


def load_outcome(said: Mapping[str, Any]) -> TryOutcome:
    """Return the outcome that `dump_outcome` has written.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    match said["came_to"]:
        case "succeeded":
            return Succeeded(said["result"])
        case "errored":
            after, at = said["after"], said["at"]
            return Errored(
                dict(said["error"]),
                retryable=bool(said["retryable"]),
                retry_after=None if after is None else timedelta(seconds=after),
                retry_at=None if at is None else datetime.fromisoformat(at),
            )
        case "timed_out":
            return TimedOut(dict(said["error"]))
        case "snoozed":
            return Snoozed(timedelta(seconds=said["delay"]), str(said["reason"]))
        case "stopped":
            return Returned("its process was stopped")
        case kind:
            msg = f"an outcome {kind!r}"
            raise ValueError(msg)


def dump_spec(spec: JobSpec) -> Message:
    """Return a job to be scheduled as JSON.

    Raises:
        ValueError: its payload is no JSON.
    """
    return {
        "task": spec.task,
        "data": to_jsonable_python(spec.data),
        "options": to_jsonable_python(dict(spec.options)),
    }


def load_spec(said: Mapping[str, Any]) -> JobSpec:
    """Return what `dump_spec` has written.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    options = {name: _OPTIONS[name].validate_python(value) for name, value in said["options"].items()}
    return JobSpec(str(said["task"]), said["data"], cast("ScheduleOptions", options))


def dump_error(error: Exception) -> Message:
    """Return an error as JSON."""
    fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    return {
        "name": type(error).__name__,
        "message": str(error),
        "fields": to_jsonable_python(fields, fallback=str) if isinstance(error, AdapterError) else {},
    }


def load_error(said: Mapping[str, Any]) -> Exception:
    """Return the error that `dump_error` has written, of its class if that is one of ours."""
    kind = getattr(errors, said["name"], None)
    if not (isinstance(kind, type) and issubclass(kind, AdapterError)):
        return RuntimeError(f"{said['name']}: {said['message']}")
    # What its class makes of its arguments is made already.
    error = kind.__new__(kind, said["message"])
    vars(error).update(said["fields"])
    return error
