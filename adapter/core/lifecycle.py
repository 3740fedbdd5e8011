"""Telling a receiver how our jobs go: the engine's own lifecycle events.

They make a peer fast; its reconciling makes it right. So an event may be lost (a full queue, a receiver
that is down for long), and no worker ever waits for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from adapter.domain.errors import ExecutorError, RejectedError
from adapter.domain.identity import run_id_of
from adapter.domain.job import Job, JobStatus
from adapter.domain.wire import error_fields, moment, status_word
from adapter.executors.http import encode_json
from adapter.executors.lifecycle import EventPoster

if TYPE_CHECKING:
    from adapter.domain.clock import Clock
    from adapter.executors.http import Transport

#: A larger output is left out, and the receiver fetches it.
MOST_OUTPUT_BYTES = 128 * 1024
#: The waits before an event is tried again.
BACKOFF_S = (0.2, 1.0, 5.0)

_log = logging.getLogger("adapter.lifecycle")


@dataclass(frozen=True, slots=True)
class Event:
    """One event on its way. ``id`` is the same for the same thing, however often it is said."""

    id: str
    body: dict[str, Any]


class LifecycleSender:
    """A bounded queue and the task that empties it, in order.

    The task starts with the first event, in the loop that says it, and ends in `aclose`.
    When the queue is full the oldest event goes (``dropped``). An event that four posts could not
    deliver is given up (``failed``).
    """

    def __init__(
        self, url: str, secret: str, clock: Clock, transport: Transport | None = None, *, capacity: int = 1000
    ) -> None:
        self._poster = EventPoster(url, secret, clock, transport)
        self._clock = clock
        self._capacity = capacity
        self._queue: deque[Event] = deque()
        self._in_hand: Event | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.sent = 0
        self.dropped = 0
        self.failed = 0

    def started(self, job: Job) -> None:
        """Say that an attempt of a job has begun. Never waits, never raises."""
        self._put(job, "RUN_STARTED")

    def finished(self, job: Job) -> None:
        """Say how a job ended. Never waits, never raises."""
        self._put(job, _end(job.status))

    async def run_once(self) -> bool:
        """Deliver the oldest event, or give it up; False when there is none."""
        event = self._in_hand
        if event is None:
            if not self._queue:
                return False
            # Held apart, so that a full queue cannot push it out while it is sent.
            event = self._in_hand = self._queue.popleft()
        delivered = await self._deliver(event)
        self._in_hand = None
        self.sent += delivered
        self.failed += not delivered
        return True

    async def aclose(self, deadline: timedelta = timedelta(seconds=5)) -> None:
        """Send what is queued for at most ``deadline``, then stop; what is left counts as dropped."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self._poster.open()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline.total_seconds()):
                    while await self.run_once():
                        pass
        left = len(self._queue) + (self._in_hand is not None)
        if left:
            _log.warning("%d lifecycle events were not sent before the stop", left)
        self.dropped += left
        self._queue.clear()
        self._in_hand = None
        await self._poster.close()

    async def _run(self) -> None:
        await self._poster.open()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self.run_once():
                pass

    async def _deliver(self, event: Event) -> bool:
        for wait in (*BACKOFF_S, None):
            try:
                await self._poster.post(event.id, event.body)
            except RejectedError as error:
                _log.warning("a lifecycle event was refused: %s", error, extra={"event": event.id})
                return False
            except ExecutorError as error:
                if wait is None:
                    _log.warning("a lifecycle event was given up: %s", error, extra={"event": event.id})
                    return False
                await self._clock.sleep(wait)
            except Exception:  # noqa: BLE001 - an event is never worth a worker; logged
                _log.exception("a lifecycle event could not be sent", extra={"event": event.id})
                return False
            else:
                return True
        return False

    def _put(self, job: Job, kind: str) -> None:
        if self._closed:
            self.dropped += 1
            return
        try:
            event = lifecycle_event(job, kind)
        except Exception:  # noqa: BLE001 - as in `_deliver`
            _log.exception("no lifecycle event could be made", extra={"job_id": str(job.id)})
            self.failed += 1
            return
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(event)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="lifecycle events")


def lifecycle_event(job: Job, kind: str) -> Event:
    """Return what is said of a job: RUN_STARTED, RUN_COMPLETED, RUN_FAILED or RUN_CANCELED.

    The job's tags travel along: by a tag ``job:{id}:{epoch}`` a peer adapter knows its own job.
    """
    run_id = run_id_of(job.id)
    optional: dict[str, Any] = {
        "startedAt": moment(job.started) if job.started else None,
        "finishedAt": moment(job.finished) if job.finished else None,
        "error": error_fields(job.error) if kind not in {"RUN_STARTED", "RUN_COMPLETED"} else None,
    }
    run: dict[str, Any] = {
        "id": run_id,
        "status": status_word(job.status),
        "taskIdentifier": job.type,
        "attempt": job.attempt,
        "tags": list(job.tags),
        "updatedAt": moment(job.updated_at),
        **{name: value for name, value in optional.items() if value is not None},
    }
    if job.status is JobStatus.COMPLETED and job.result is not None:
        fits = len(encode_json(job.result)) <= MOST_OUTPUT_BYTES
        run |= {"output": job.result} if fits else {"outputOmitted": True}
    return Event(
        id=f"{run_id}:{job.epoch}:{job.attempt}:{kind}",
        body={
            "type": kind,
            "timestamp": moment(job.updated_at),
            "data": {"source": "engine", "run": run},
        },
    )


def _end(status: JobStatus) -> str:
    match status:
        case JobStatus.COMPLETED:
            return "RUN_COMPLETED"
        case JobStatus.CANCELED:
            return "RUN_CANCELED"
        case _:
            return "RUN_FAILED"
