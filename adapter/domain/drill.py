"""Drills: going back for a while, to see that it works before somebody needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from adapter.domain.gates import Gate, Verdict, worst

#: No job may be assigned elsewhere later than that.
STOPS_WITHIN_S: Final = 1.0


class DrillState(StrEnum):
    """How a drill stands. ``interrupted``: its process ended, the flag is back. ``overtaken``: somebody turned it."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    INTERRUPTED = "interrupted"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a drill saw, in seconds by the database's clock from the moment the flag was turned.

    ``jobs``: that came meanwhile. ``stopped_after``: the last of them that was assigned elsewhere, None when none was.
    ``last_run_after``: the last run that was bound elsewhere, also of jobs that had left before.
    """

    jobs: int
    stopped_after: float | None
    last_run_after: float | None
    checks: list[Gate]

    @property
    def state(self) -> DrillState:
        """What it comes to."""
        return {
            Verdict.PASSED: DrillState.PASSED,
            Verdict.FAILED: DrillState.FAILED,
            Verdict.UNKNOWN: DrillState.INCONCLUSIVE,
        }[worst(each.verdict for each in self.checks)]

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """Read what `as_json` wrote."""
        given: dict[str, Any] = dict(value)
        given["checks"] = [Gate(c["name"], Verdict(c["verdict"]), c["says"]) for c in value["checks"]]
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill. ``flag_before``: the task's kill switch that it replaced, None when there was none."""

    id: UUID
    task: str
    target: str
    state: DrillState
    reason: str
    actor: str
    source: str
    hold: timedelta
    flag_before: dict[str, Any] | None
    flag_version: int
    started_at: datetime
    held_until: datetime
    finished_at: datetime | None
    measured: Measured | None = None


def judged(found: Mapping[str, Any], lost: int, *, idempotent: bool) -> Measured:
    """Judge what the rows say: see the columns of the store's measure."""
    jobs, after = found["jobs"], found["stopped_after"]
    if not jobs:
        stopped = Gate("stopped", Verdict.UNKNOWN, "no job of the task came, so nothing was measured")
    elif after is None:
        stopped = Gate("stopped", Verdict.PASSED, f"none of {jobs} jobs was assigned elsewhere")
    else:
        late = after > STOPS_WITHIN_S
        says = f"the last of {jobs} jobs that was assigned elsewhere came after {after:.3f} s"
        stopped = Gate("stopped", Verdict.FAILED if late else Verdict.PASSED, says)
    started = Gate("one executor", Verdict.PASSED, "no job was started by two executors")
    if found["started_twice"]:
        says = f"{found['started_twice']} jobs were started by two executors"
        allowed = f"{says}, which the task allows: it is idempotent"
        started = (
            Gate("one executor", Verdict.PASSED, allowed)
            if idempotent
            else Gate("one executor", Verdict.FAILED, says)
        )
    return Measured(
        jobs=jobs,
        stopped_after=after,
        last_run_after=found["last_run_after"],
        checks=[
            stopped,
            _none(
                "not lost", lost, "no job that was seen has vanished", "jobs are neither open nor finished"
            ),
            _none(
                "one place",
                found["doubled"],
                "no job is open and finished",
                "jobs are open and finished at once",
            ),
            started,
            _none(
                "runs there",
                found["stranded"],
                "none waits for somebody who can run it",
                "jobs wait for an executor",
            ),
        ],
    )


def _none(name: str, count: int, good: str, bad: str) -> Gate:
    return Gate(name, Verdict.FAILED, f"{count} {bad}") if count else Gate(name, Verdict.PASSED, good)
