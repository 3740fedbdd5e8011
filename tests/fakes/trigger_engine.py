"""Trigger.dev's engine in memory: how runs come about, move and end (its API contract, 3, 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from adapter.domain.durations import parse_duration
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

STORE_URL = "https://store.test/"
FAILED_LIKE = frozenset({"FAILED", "CRASHED", "SYSTEM_FAILURE", "TIMED_OUT", "EXPIRED"})
ENDED = FAILED_LIKE | {"COMPLETED", "CANCELED"}
WORDS = ENDED | {"PENDING_VERSION", "QUEUED", "DEQUEUED", "EXECUTING", "WAITING", "DELAYED"}
LONGEST_TTL = timedelta(days=14)
CANCEL_GRACE = timedelta(seconds=30)


class Event(NamedTuple):
    """What user code of a run did, or was kept from: start, refused, finish, stop."""

    event: str
    run_id: str
    task: str
    tags: tuple[str, ...]


@dataclass(slots=True)
class FakeRun:
    id: str
    number: int
    task: str
    payload: Any
    options: dict[str, Any]
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    status: str = "QUEUED"
    max_attempts: int = 3
    attempts: int = 0
    running: bool = False
    ttl: timedelta | None = None
    delayed_until: datetime | None = None
    expires_at: datetime | None = None
    kill_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    output: Any = None
    output_url: str | None = None
    error: dict[str, Any] | None = None
    #: (when, body as of then): what a list shows is the newest that is older than the lag.
    history: list[tuple[datetime, dict[str, Any]]] = field(
        default_factory=list[tuple[datetime, dict[str, Any]]]
    )


class FakeEngine:
    """Runs, and what a test makes of them. Deterministic; time moves only by `advance`."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.runs: dict[str, FakeRun] = {}
        self.ledger: list[Event] = []
        #: Asked before user code of a run begins; False keeps it from beginning.
        self.fence: Callable[[FakeRun], bool] | None = None
        #: What lies in the object store: path -> (content, content type).
        self.store: dict[str, tuple[bytes, str]] = {}
        self._made = 0

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    # What a test makes runs do. Each returns whether the run was in a state for it.

    def start(self, run_id: str) -> bool:
        """Begin an attempt: dequeue the run, ask the fence, run user code."""
        run = self._run(run_id)
        if run.status not in {"QUEUED", "DEQUEUED"} or run.running:
            return False
        self.dequeue(run_id)
        run.attempts += 1
        if self.fence is not None and not self.fence(run):
            self._note("refused", run)
            self._attempt_failed(run, {"name": "Error", "message": "start refused"})
            return False
        run.running = True
        self._note("start", run)
        self.move(run, "EXECUTING")
        return True

    def dequeue(self, run_id: str) -> bool:
        run = self._run(run_id)
        if run.status != "QUEUED":
            return False
        run.started_at = run.started_at or self.clock.now()
        self.move(run, "DEQUEUED")
        return True

    def wait(self, run_id: str) -> bool:
        return self._between(run_id, "EXECUTING", "WAITING")

    def resume(self, run_id: str) -> bool:
        return self._between(run_id, "WAITING", "EXECUTING")

    def park(self, run_id: str) -> bool:
        """Let a queued run wait for a version that has its task."""
        return self._between(run_id, "QUEUED", "PENDING_VERSION")

    def complete(
        self, run_id: str, output: Any = None, *, stored_as: str | None = None, packet: bytes = b""
    ) -> bool:
        """End it well; with ``stored_as`` (a content type) ``packet`` lies in the object store."""
        run = self._run(run_id)
        if run.status != "EXECUTING":
            return False
        run.output = output
        if stored_as is not None:
            path = f"runs/{run.id}/output"
            self.store[path] = (packet, stored_as)
            run.output_url = STORE_URL + path
        return self._finish(run, "COMPLETED")

    def fail(self, run_id: str, error: dict[str, Any] | None = None, *, status: str = "FAILED") -> bool:
        """End it badly, for good."""
        run = self._run(run_id)
        if run.status not in {"EXECUTING", "DEQUEUED", "WAITING"} or status not in FAILED_LIKE:
            return False
        run.error = error or {"name": "Error", "message": "boom", "stackTrace": "at task"}
        return self._finish(run, status)

    def fail_attempt(self, run_id: str) -> bool:
        """End the attempt: queued again while attempts are left, else FAILED."""
        run = self._run(run_id)
        if run.status != "EXECUTING":
            return False
        self._note("finish", run)
        run.running = False
        self._attempt_failed(run, {"name": "Error", "message": "boom"})
        return True

    def stop(self, run_id: str) -> bool:
        """Let user code of a canceled run end now instead of after its grace."""
        run = self._run(run_id)
        if run.kill_at is None:
            return False
        self._stop(run, self.clock.now())
        return True

    def expire(self, run_id: str) -> bool:
        run = self._run(run_id)
        if run.status not in {"QUEUED", "PENDING_VERSION"} or run.attempts:
            return False
        self._expire(run, self.clock.now())
        return True

    def lose(self, run_id: str) -> None:
        """Forget the run, as after its retention."""
        del self.runs[run_id]

    def runs_of(self, tag: str) -> list[FakeRun]:
        return [run for run in self.runs.values() if tag in run.tags]

    # How runs change.

    def _run(self, run_id: str) -> FakeRun:
        self.settle()
        return self.runs[run_id]

    def make(self, task: str, payload: Any, options: dict[str, Any], tags: list[str]) -> FakeRun:
        self._made += 1
        now = self.clock.now()
        run = FakeRun(
            id="run_" + str(self._made).replace("0", "z").rjust(26, "x"),
            number=self._made,
            task=task,
            payload=payload,
            options=options,
            tags=tuple(sorted({tag for tag in tags if tag.strip()})),
            created_at=now,
            updated_at=now,
            max_attempts=options.get("maxAttempts", 3),
            ttl=_ttl(options.get("ttl")),
            delayed_until=_delay(options.get("delay"), now),
        )
        self.runs[run.id] = run
        if run.delayed_until is None:
            self._enqueue(run, now)
        else:
            self.move(run, "DELAYED", now)
        return run

    def _enqueue(self, run: FakeRun, at: datetime) -> None:
        run.expires_at = None if run.ttl is None else at + run.ttl
        self.move(run, "QUEUED", at)

    def _between(self, run_id: str, old: str, new: str) -> bool:
        run = self._run(run_id)
        if run.status != old:
            return False
        self.move(run, new)
        return True

    def _attempt_failed(self, run: FakeRun, error: dict[str, Any]) -> None:
        if run.attempts < run.max_attempts:
            self.move(run, "QUEUED")
        else:
            run.error, run.finished_at = error, self.clock.now()
            self.move(run, "FAILED")

    def _finish(self, run: FakeRun, status: str) -> bool:
        if run.running:
            self._note("finish", run)
        run.running, run.finished_at = False, self.clock.now()
        self.move(run, status)
        return True

    def _expire(self, run: FakeRun, at: datetime) -> None:
        run.finished_at = at
        run.error = {"message": f"Run expired because the TTL ({run.options.get('ttl')}) was reached"}
        self.move(run, "EXPIRED", at)

    def _stop(self, run: FakeRun, at: datetime) -> None:
        run.running, run.kill_at, run.finished_at = False, None, at
        self._note("stop", run)
        self.move(run, "CANCELED", at)

    def settle(self) -> None:
        """Do what has become due, in its order."""
        while True:
            due = [each for run in self.runs.values() for each in self._due(run)]
            ripe = [each for each in due if each[0] <= self.clock.now()]
            if not ripe:
                return
            at, _, run, act = min(ripe, key=lambda each: each[:2])
            act(run, at)

    def _due(self, run: FakeRun) -> list[tuple[datetime, int, FakeRun, Callable[[FakeRun, datetime], None]]]:
        if run.status == "DELAYED" and run.delayed_until is not None:
            return [(run.delayed_until, run.number, run, self._enqueue)]
        if run.status in {"QUEUED", "PENDING_VERSION"} and run.expires_at is not None and not run.attempts:
            return [(run.expires_at, run.number, run, self._expire)]
        if run.kill_at is not None:
            return [(run.kill_at, run.number, run, self._stop)]
        return []

    def move(self, run: FakeRun, status: str, at: datetime | None = None) -> None:
        run.status, run.updated_at = status, at or self.clock.now()
        run.history.append((run.updated_at, shown(run)))

    def _note(self, event: str, run: FakeRun) -> None:
        self.ledger.append(Event(event, run.id, run.task, run.tags))


def shown(run: FakeRun) -> dict[str, Any]:
    status = run.status
    times = {
        "startedAt": run.started_at,
        "finishedAt": run.finished_at,
        "delayedUntil": run.delayed_until,
        "expiredAt": run.finished_at if status == "EXPIRED" else None,
    }
    return {
        "id": run.id,
        "status": status,
        "taskIdentifier": run.task,
        "tags": list(run.tags),
        "createdAt": iso(run.created_at),
        "updatedAt": iso(run.updated_at),
        # The real server's booleans, with their holes (contract, 3.1): nobody should go by them.
        "isQueued": status in {"DELAYED", "QUEUED", "PENDING_VERSION"},
        "isExecuting": status in {"DEQUEUED", "EXECUTING"},
        "isWaiting": status == "WAITING",
        "isCompleted": status in ENDED - {"EXPIRED", "TIMED_OUT"},
        "isSuccess": status == "COMPLETED",
        "isFailed": status in {"FAILED", "CRASHED", "SYSTEM_FAILURE", "CANCELED"},
        "isCancelled": status == "CANCELED",
        "isTest": False,
        "attemptCount": run.attempts,
        "costInCents": 0,
        "baseCostInCents": 0,
        "durationMs": 0,
        "depth": 0,
        "triggerFunction": "trigger",
        **({"metadata": run.options["metadata"]} if "metadata" in run.options else {}),
        **{name: iso(at) for name, at in times.items() if at is not None},
    }


def iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ttl(ttl: str | int | None) -> timedelta | None:
    """The cap of the Cloud is also its default."""
    if ttl is None:
        return LONGEST_TTL
    duration = timedelta(seconds=ttl) if isinstance(ttl, int) else parse_duration(ttl)
    return min(duration, LONGEST_TTL) if duration else None


def _delay(delay: str | None, now: datetime) -> datetime | None:
    if delay is None:
        return None
    try:
        until = datetime.fromisoformat(delay)
    except ValueError:
        until = now + parse_duration(delay)
    return until if until > now else None
