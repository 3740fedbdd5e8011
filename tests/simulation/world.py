"""The world the protocol has to survive: a real store, a remote in memory, and everything that goes wrong.

Nothing runs by itself: each thing happens when it is called. What happened is kept apart from the code
under test: starts in `World.starts`, every committed change of a row by triggers in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import httpx
import psycopg
from psycopg.rows import DictRow, dict_row
from pydantic import SecretStr

from adapter.app import Adapter
from adapter.core.completion import Completer, Done
from adapter.core.context import JobContext
from adapter.core.worker import Worker
from adapter.domain.errors import (
    AbortJobError,
    DatabaseUnavailableError,
    InvalidArgumentError,
    RecallConflictError,
)
from adapter.domain.identity import parse_epoch_tag
from adapter.domain.job import LOCAL
from adapter.domain.recall import RollbackMode
from adapter.domain.task import Queue, RetryPolicy
from adapter.executors.base import Accepted, Submission
from adapter.executors.trigger_dev import TriggerDev
from adapter.settings import Settings
from adapter.store.claims import Claimed
from tests import kit
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev
from tests.fakes.trigger_engine import ENDED, FakeRun, iso
from tests.simulation.invariants import check

Crash = Literal["before", "in_flight", "after"]
Loss = Literal["none", "claimed", "outcome", "reply"]

#: Tasks by what the protocol promises of them.
BOTH, FENCED, IDEMPOTENT, REMOTE, LATER, LIMITED = (
    "both",
    "fenced",
    "idempotent",
    "remote",
    "later",
    "limited",
)
TASKS = (BOTH, FENCED, IDEMPOTENT, REMOTE, LATER, LIMITED)
#: Time the world may pass in all: within it every uncertain submit can be repeated.
LONGEST = timedelta(hours=15)
_LAG_S = 20.0
_ROUNDS = 40

_TRIGGERS = """
CREATE TABLE {s}.moves (
  n bigint GENERATED ALWAYS AS IDENTITY, what text, job uuid, before jsonb, after jsonb
);
CREATE FUNCTION {s}.moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO {s}.moves (what, job, before, after) VALUES (
    lower(TG_OP) || ' ' || CASE WHEN TG_TABLE_NAME = 'worker_jobs_open' THEN 'open' ELSE 'finished' END,
    COALESCE(NEW.id, OLD.id), CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END,
    CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
  RETURN NULL;
END $$;
CREATE TRIGGER moved AFTER INSERT OR UPDATE OR DELETE ON {s}.worker_jobs_open
  FOR EACH ROW EXECUTE FUNCTION {s}.moved();
CREATE TRIGGER moved AFTER INSERT OR UPDATE OR DELETE ON {s}.worker_jobs_finished
  FOR EACH ROW EXECUTE FUNCTION {s}.moved();
"""

#: Every stored time that code compares with the database's clock.
_TIMES = {
    "worker_jobs_open": (
        "created_at",
        "due",
        "expires_at",
        "started",
        "first_try_at",
        "next_try_at",
        "dispatch_lease_until",
        "confirm_at",
    ),
    "remote_runs": ("created_at", "missing_since", "checked_at"),
    "webhook_inbox": ("next_try_at", "received_at"),
    "leases": ("until",),
    "recall_jobs": ("next_at", "asked_at"),
    "recalls": ("held_until",),
}


def prepare(url: str) -> None:
    """Make the database write down every change of a job."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(_TRIGGERS.replace("{s}", kit.SCHEMA).encode())


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook on its way to us."""

    id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """User code of a job began. ``holder``: the run, or the local worker."""

    executor: str
    holder: str
    epoch: int


class Remote(TriggerDev):
    """Trigger.dev, and a dispatcher that dies at a chosen point of its next submit."""

    def __init__(self, transport: httpx.MockTransport, clock: ManualClock) -> None:
        super().__init__(
            secret_key=SECRET_KEY, api_url=API_URL, requests_per_minute=0, clock=clock, transport=transport
        )
        self.crash: Crash | None = None
        self.reached = asyncio.Event()
        #: Requests that left before their sender died and have not arrived yet.
        self.in_flight: list[Submission] = []

    async def submit(self, submission: Submission) -> Accepted:
        crash, self.crash = self.crash, None
        if crash is None:
            return await super().submit(submission)
        if crash == "after":
            await super().submit(submission)
        elif crash == "in_flight":
            self.in_flight.append(submission)
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def arrive(self, submission: Submission) -> None:
        """Let a request arrive whose sender is long dead."""
        await super().submit(submission)


@dataclass
class World:
    """One adapter and its surroundings. ``accepted``: jobs whose scheduling call returned."""

    url: str
    lag: float = _LAG_S
    accepted: dict[UUID, str] = field(default_factory=dict[UUID, str])
    starts: dict[UUID, list[Start]] = field(default_factory=dict[UUID, list[Start]])
    messages: list[Message] = field(default_factory=list[Message])
    zombies: list[tuple[Worker, list[Done]]] = field(default_factory=list[tuple[Worker, list[Done]]])
    passed: timedelta = timedelta(0)
    problems: list[str] = field(default_factory=list[str])
    late_arrival: bool = False
    #: Newest end of each job and everything else that is checked move by move.
    finished: dict[UUID, dict[str, Any]] = field(default_factory=dict[UUID, dict[str, Any]])
    seen: int = 0
    told: int = 0

    async def open(self) -> None:
        self.conn = psycopg.Connection[DictRow].connect(self.url, autocommit=True, row_factory=dict_row)
        self.rows(f'SET search_path TO "{kit.SCHEMA}"')
        began = self.rows("SELECT now() AS at")[0]["at"]
        self.seen = self.rows("SELECT COALESCE(max(n), 0) AS n FROM moves")[0]["n"]
        self.clock = ManualClock(began)
        self.fake = FakeTriggerDev(self.clock, lag=self.lag)
        self.remote = Remote(httpx.MockTransport(self._arrives), self.clock)
        self.adapter = Adapter(
            Settings(database_url=SecretStr(self.url), database_schema=kit.SCHEMA, dispatch_wait_seconds=0),
            executors=[self.remote],
            clock=self.clock,
        )
        self._declare()
        await self.adapter.open()

    def _declare(self) -> None:
        there = {"trigger": "there"}
        retry = RetryPolicy(randomize=False)
        self.adapter.task(BOTH, retry=retry, remote_id=there)(self._handle)
        fence = {"trigger": "*"}
        self.adapter.task(FENCED, retry=retry, remote_id=there, start_fence=fence)(self._handle)
        self.adapter.task(IDEMPOTENT, retry=retry, idempotent=True, remote_id=there)(self._handle)
        self.adapter.task(LATER, retry=retry, remote_delay=True, remote_id=there)(self._handle)
        self.adapter.task(LIMITED, retry=retry, queue=Queue("narrow", 1), remote_id=there)(self._handle)
        self.adapter.remote_task(REMOTE, executor="trigger", on_kill="keep", retry=retry)

    async def close(self) -> None:
        await self.adapter.close()
        self.conn.close()

    def rows(self, query: str, *parameters: Any) -> list[DictRow]:
        cursor = self.conn.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description is not None else []

    # ---- what applications do ---------------------------------------------------------------------

    async def schedule(self, task: str, behavior: str, **options: Any) -> UUID:
        job = await self.adapter.schedule_job(task, {"do": behavior}, **options)
        self.accepted.setdefault(job.id, task)
        return job.id

    async def cancel(self, job_id: UUID) -> None:
        await self.adapter.cancel_job(job_id)

    async def turn(self, task: str, to: str | int | None) -> None:
        """A kill switch to an executor, a rollout by a percentage, or no kill switch any more."""
        if to is None:
            await self.adapter.clear_flag("kill", task, reason="simulation")
        elif isinstance(to, str):
            await self.adapter.kill(task, to=to, reason="simulation")
        else:
            await self.adapter.rollout(task, to="trigger", percent=to, reason="simulation")

    async def recall(self, task: str, mode: RollbackMode, lost: Literal["retrieve", "cancel"] | None) -> None:
        """A person rolls a task back; the recall gets one step far, and then its process is busy elsewhere.

        ``lost``: the remote does what the first of such calls asks, and the answer is lost.
        """
        for _ in range(3 if lost is not None else 0):
            self.fake.next_fault("timeout_after", on=lost)
        with contextlib.suppress(InvalidArgumentError, RecallConflictError):
            await self.adapter.rollback(task, mode=mode, reason="simulation", timeout=timedelta(0))
        self.fake._faults.clear()
        # New jobs may go there again: else there would soon be nothing to take back.
        await self.turn(task, None)

    async def go_on_with_recalls(self, *, stop: bool = False) -> None:
        """Each open recall goes one step further, or is told to stop."""
        for each in await self.adapter.recalls():
            if each.state.is_open:
                verb = self.adapter.stop_recall if stop else self.adapter.resume_recall
                await verb(each.id, timeout=timedelta(0))

    async def tick(self, what: str) -> None:
        match what:
            case "recall":
                await self.go_on_with_recalls()
            case "stop":
                await self.go_on_with_recalls(stop=True)
            case "maintain":
                await self.adapter.maintenance.run_once()
            case "reconcile":
                await self.adapter.reconcile()
            case "confirm":
                await self.adapter.inbox.confirm_once()
            case "bury":
                await self.bury_the_dead()
            case "zombies":
                await self.zombie_writes()
            case "takeover":
                # Others take over what dead workers hold, die as well, and the first come back.
                await self.bury_the_dead()
                await self.work("claimed")
                await self.zombie_writes()
            case _:
                await self.arrive()

    # ---- the local executor -----------------------------------------------------------------------

    async def _handle(self, data: dict[str, Any], context: JobContext) -> dict[str, Any]:
        job = context.job
        self._starts(job.id, Start(LOCAL, f"attempt {job.attempt}", job.epoch))
        if data["do"] == "fail":
            raise RuntimeError("boom")
        if data["do"] == "abort":
            raise AbortJobError("no use")
        return {"ran": LOCAL}

    def _starts(self, job_id: UUID, start: Start) -> None:
        rows = self.rows("SELECT status FROM worker_jobs_open WHERE id = %s", job_id)
        if not rows and not self._is_orphan(job_id):
            self.problems.append(f"{job_id} started at {start.executor} although it had ended")
        self.starts.setdefault(job_id, []).append(start)

    def _is_orphan(self, job_id: UUID) -> bool:
        return bool(self.rows("SELECT FROM worker_jobs_finished WHERE id = %s AND orphaned", job_id))

    async def work(self, loss: Loss = "none", room: int = 3) -> None:
        """One tick of a new worker process, which may die at a commit boundary."""
        worker = self.adapter.worker(concurrency=room)
        kept: list[Done] = []
        if loss == "claimed":
            worker._claimer._begin = _loses_them
        elif loss == "outcome":

            def keep(done: Done) -> bool:
                kept.append(done)
                return True

            worker._completer.take = keep
        elif loss == "reply":
            worker._completer.write = _ReplyIsLost(worker._completer).write
        await worker.run_once()
        if loss in {"claimed", "outcome"}:
            self.zombies.append((worker, kept))
        else:
            self.rows("DELETE FROM workers WHERE id = %s", worker.id)

    async def bury_the_dead(self) -> None:
        """The workers that died are found out."""
        dead = [worker.id for worker, _ in self.zombies]
        self.rows("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE id = ANY(%s)", dead)
        # Counted from the last start of PostgreSQL at the earliest, which here was just now.
        self.rows("UPDATE workers SET lease = interval '-1 hour' WHERE id = ANY(%s)", dead)
        for _ in range(2):
            await self.tick("maintain")

    async def zombie_writes(self) -> None:
        """Workers that were only paused come back and write what they have."""
        for worker, kept in self.zombies:
            stale = [done for done in kept if not self._holds(done)]
            before = self.state()
            if stale:
                await worker._completer.write(stale)
                self._unchanged(before, "I3: a write of a worker that has lost its jobs")
            if len(stale) < len(kept):
                await worker._completer.write([done for done in kept if done not in stale])

    def _holds(self, done: Done) -> bool:
        query = "SELECT FROM worker_jobs_open WHERE id = %s AND worker_id = %s AND claim_number = %s"
        return bool(self.rows(query, done.job.id, done.lease.worker_id, done.lease.claim_number))

    # ---- the dispatcher ---------------------------------------------------------------------------

    async def dispatch(self, fault: str | None = None, crash: Crash | None = None) -> None:
        """One tick of a dispatcher, which may meet a fault or die."""
        for word in (fault,) * 3 if fault is not None else ():
            if word.isdecimal():
                self.fake.next_fault(int(word), on="trigger", after=False)
            elif word == "500_after":
                self.fake.next_fault(500, on="trigger", after=True)
            else:
                self.fake.next_fault(word, on="trigger")  # pyright: ignore[reportArgumentType]
        self.remote.crash = crash
        self.remote.reached.clear()
        loop = asyncio.get_running_loop()
        tick = loop.create_task(self.adapter.dispatcher.run_once())
        dying = loop.create_task(self.remote.reached.wait())
        await asyncio.wait({tick, dying}, return_when=asyncio.FIRST_COMPLETED)
        for task in (tick, dying):
            if not task.done():
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tick
        with contextlib.suppress(asyncio.CancelledError):
            await dying
        self.remote.crash = None
        self.fake._faults.clear()

    async def arrive(self) -> None:
        """What was in flight arrives."""
        self.late_arrival = True
        while self.remote.in_flight:
            await self.remote.arrive(self.remote.in_flight.pop(0))
        self.late_arrival = False

    def _arrives(self, request: httpx.Request) -> httpx.Response:
        """Look over the dispatcher's shoulder: what must be committed before the first byte leaves."""
        if request.method == "POST" and request.url.path.endswith("/trigger") and not self.late_arrival:
            tags: list[str] = json.loads(request.content)["options"]["tags"]
            ours = [parsed for tag in tags if (parsed := parse_epoch_tag(tag))]
            for job_id, epoch in ours:
                rows = self.rows("SELECT * FROM worker_jobs_open WHERE id = %s", job_id)
                row: dict[str, Any] = dict(rows[0]) if rows else {}
                fine = (
                    row.get("epoch") == epoch
                    and row["submit_state"] in {"trying", "unknown"}
                    and row["dispatch_lease"] is not None
                    and row["first_try_at"] is not None
                    and row["remote_environment"] == self.remote.environment
                )
                if not fine:
                    self.problems.append(f"{job_id}:{epoch} was submitted, and its row says {row}")
                elif row["cancel_requested"] or row["recall_id"]:
                    self.problems.append(f"{job_id}:{epoch} was submitted after its cancel")
        return self.fake.handle(request)

    # ---- the remote -------------------------------------------------------------------------------

    def runs(self, *statuses: str) -> list[FakeRun]:
        self.fake.settle()
        found = [run for run in self.fake.runs.values() if not statuses or run.status in statuses]
        return sorted(found, key=lambda run: run.number)

    @staticmethod
    def owner(run: FakeRun) -> tuple[UUID, int] | None:
        return next((parsed for tag in run.tags if (parsed := parse_epoch_tag(tag))), None)

    async def start_run(self, run: FakeRun) -> None:
        owner = self.owner(run)
        assert owner is not None or run.tags[0].startswith("tombstone:"), run.tags
        if owner is None:
            self.problems.append(f"a tombstone was started: {run.tags}")
            return
        self.fake.fence = None
        if self.accepted.get(owner[0]) == FENCED:
            claim = await self.adapter.claim_start(*owner, run.id, run.attempts + 1)
            self.fake.fence = lambda _: claim.claimed
        if self.fake.start(run.id):
            self._starts(owner[0], Start("trigger", run.id, owner[1]))
            self.say("RUN_STARTED", run)

    async def act(self, run: FakeRun, what: str) -> None:
        match what:
            case "start":
                await self.start_run(run)
            case "start and fail" | "start and complete":
                await self.start_run(run)
                self.end_run(run, what.removeprefix("start and "))
            case "expire":
                self.fake.expire(run.id)
            case "resume":
                self.fake.resume(run.id)
            case "lose":
                self.fake.lose(run.id)
            case _:
                self.end_run(run, what)

    def end_run(self, run: FakeRun, how: str) -> None:
        """End user code of a run; what its hooks say is on its way."""
        match how:
            case "complete":
                if self.fake.complete(run.id, {"ran": "trigger"}):
                    self.say("RUN_COMPLETED", run)
            case "crash_after_hook":
                if run.status == "EXECUTING":
                    self.say("RUN_COMPLETED", run)
                    self.fake.fail(run.id, status="CRASHED")
            case "attempt":
                self.fake.fail_attempt(run.id)
            case "wait":
                self.fake.wait(run.id)
            case _:
                if self.fake.fail(run.id, status="FAILED"):
                    self.say("RUN_FAILED", run)
                    self._alert(run)

    def say(self, kind: str, run: FakeRun) -> None:
        owner = self.owner(run)
        said: dict[str, Any] = {
            "id": run.id,
            "status": run.status,
            "taskIdentifier": run.task,
            "attempt": run.attempts,
            "tags": list(run.tags) if run.number % 3 else [],
            "updatedAt": iso(run.updated_at),
            **({"output": run.output} if kind == "RUN_COMPLETED" else {}),
        }
        data: dict[str, Any] = {"source": "hook", "run": said}
        if owner is not None and run.number % 2:
            data["job"] = {"id": str(owner[0]), "epoch": owner[1]}
        self._send({"type": kind, "timestamp": iso(self.clock.now()), "data": data})

    def _alert(self, run: FakeRun) -> None:
        said = {"id": run.id, "status": run.status, "tags": list(run.tags), "error": {"message": "boom"}}
        alert = {"created": iso(self.clock.now()), "object": {"task": {"id": run.task}, "run": said}}
        self._send({"type": "alert.run.failed", **alert})

    def _send(self, body: dict[str, Any]) -> None:
        self.told += 1
        self.messages.append(Message(f"m{self.told}", body))

    # ---- what comes back --------------------------------------------------------------------------

    async def webhook(self, which: int, fate: str) -> None:
        message = self.messages[which]
        if fate != "again later":
            self.messages.remove(message)
        if fate != "lost":
            await self.deliver(message, again=fate == "twice")

    async def deliver(self, message: Message, *, again: bool) -> None:
        """Deliver a webhook and apply it; ``again``: the network does it twice, as if they were two."""
        await self.adapter.receive_webhook("hooks", message.id, "a", message.body)
        await self.adapter.inbox.run_once()
        if again:
            before = self.state()
            await self.adapter.receive_webhook("hooks", message.id, "a", message.body)
            await self.adapter.receive_webhook("hooks", f"{message.id}-again", "a", message.body)
            await self.adapter.inbox.run_once()
            self._unchanged(before, f"applying {message.body['type']} twice")

    def state(self) -> list[DictRow]:
        """Everything that is known of jobs and runs."""
        return self.rows(
            "SELECT to_jsonb(o) AS row FROM worker_jobs_open o UNION ALL"
            " SELECT to_jsonb(f) FROM worker_jobs_finished f UNION ALL"
            " SELECT to_jsonb(r) FROM remote_runs r UNION ALL"
            " SELECT to_jsonb(e) FROM job_events e ORDER BY 1"
        )

    def _unchanged(self, before: list[DictRow], what: str) -> None:
        after = self.state()
        if after != before:
            new = [row["row"] for row in after if row not in before]
            self.problems.append(f"{what} changed something: {new}")

    # ---- time -------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Let time pass everywhere at once."""
        if self.passed + timedelta(seconds=seconds) > LONGEST:
            return
        self.passed += timedelta(seconds=seconds)
        self.fake.advance(seconds)
        with self.conn.transaction():
            self.rows("SET LOCAL session_replication_role = replica")
            for table, columns in _TIMES.items():
                shifted = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
                self.rows(f"UPDATE {table} SET {shifted}")

    # ---- what must hold ---------------------------------------------------------------------------

    def check(self) -> None:
        """Check the invariants over everything that was committed since the last check."""
        check(self)

    async def settle(self) -> None:
        """Without any more faults, everything ends."""
        self.remote.crash = None
        self.fake._faults.clear()
        self.messages.clear()
        await self.arrive()
        for _ in range(_ROUNDS):
            if not self.rows("SELECT FROM worker_jobs_open LIMIT 1") and not self.runs(
                *{run.status for run in self.runs()} - ENDED
            ):
                break
            await self._quiet_round()
            self.check()

    async def _quiet_round(self) -> None:
        await self.sleep(120)
        await self.bury_the_dead()
        await self.dispatch()
        await self.work(room=20)
        for run in self.runs():
            if run.kill_at is not None:
                self.fake.stop(run.id)
            elif run.status in {"QUEUED", "DEQUEUED"}:
                await self.start_run(run)
            elif run.status == "WAITING":
                self.fake.resume(run.id)
            elif run.status == "EXECUTING":
                self.fake.complete(run.id, {"ran": "trigger"})
        await self.sleep(30)
        await self.adapter.inbox.run_once()
        await self.tick("confirm")
        await self.tick("reconcile")
        await self.tick("recall")

    def never_ends(self) -> list[str]:
        """What is left after `settle`, in words."""
        left = self.rows(
            "SELECT id, type, status, waiting_for, executor, epoch, submit_state, remote_run_id, cancel_requested,"
            " started FROM worker_jobs_open"
        )
        alive = [f"run {run.id} {run.status} {run.tags}" for run in self.runs() if run.status not in ENDED]
        return [*(f"job {row}" for row in left), *alive]


def _loses_them(claimed: Sequence[Claimed]) -> None:
    """Dies between the claim and the first step of a handler."""


class _ReplyIsLost:
    """The first batch is committed, and its writer hears nothing of it."""

    def __init__(self, completer: Completer) -> None:
        self._write, self._lost = completer.write, False

    async def write(self, batch: Sequence[Done]) -> None:
        await self._write(batch)
        if not self._lost:
            self._lost = True
            raise DatabaseUnavailableError("the connection was lost")
