"""What the protocol promises, checked over every change that was committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from adapter.domain.job import LOCAL, JobStatus
from adapter.domain.transitions import is_legal

if TYPE_CHECKING:
    from tests.simulation.world import World

_SUBMIT_MOVES = {
    ("never", "trying"),
    ("trying", "never"),
    ("trying", "unknown"),
    ("trying", "accepted"),
    ("unknown", "accepted"),
}
#: What lets a local handler start once more.
_AGAIN = ("rescued", "retry", "returned")


def check(world: World) -> None:
    """Raise an AssertionError that names every broken promise since the last check."""
    broken = [*world.problems]
    for move in world.rows("SELECT * FROM moves WHERE n > %s ORDER BY n", world.seen):
        world.seen = move["n"]
        broken += [
            f"{move['what']} of {move['job']}: {each}\n  {move['before']}\n  {move['after']}"
            for each in _move(world, move["what"], move["job"], move["before"], move["after"])
        ]
    broken += _nothing_lost(world)
    broken += _one_holder(world)
    assert not broken, "\n".join(broken)


def _move(world: World, what: str, job: UUID, before: Any, after: Any) -> list[str]:
    match what:
        case "update open":
            same = before["epoch"] == after["epoch"]
            return _within_epoch(before, after) if same else _new_epoch(world, job, before, after)
        case "insert finished":
            if job in world.finished:
                return ["I2: it finished twice"]
            world.finished[job] = after
            return _finish(world, after)
        case "update finished":
            return _revived(before, after)
        case "delete finished":
            return ["I4: a finished row vanished"]
        case _:
            return []


def _within_epoch(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    broken: list[str] = []
    if not is_legal(JobStatus(before["status"]), JobStatus(after["status"])):
        broken.append(f"I4: {before['status']} ▶ {after['status']}")
    states = before["submit_state"], after["submit_state"]
    if states[0] != states[1] and states not in _SUBMIT_MOVES:
        broken.append(f"I4: submit state {states[0]} ▶ {states[1]}")
    if states == ("trying", "trying") and before["dispatch_lease"] != after["dispatch_lease"]:
        broken.append("I4: a try was taken over and is not unknown")
    if before["executor"] != after["executor"]:
        broken.append("I6: the executor changed without a new epoch")
    if before["remote_run_id"] not in {None, after["remote_run_id"]}:
        broken.append("I3: another run took the epoch")
    return broken


def _new_epoch(world: World, job: UUID, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    broken: list[str] = []
    if after["epoch"] != before["epoch"] + 1:
        broken.append("I4: an epoch was skipped")
    # What started is taken back only by a recall, and only if it may run twice.
    taken_back = before["recall_id"] is not None
    may = taken_back and world.accepted.get(job) == "idempotent"
    if before["started"] is not None and not may:
        broken.append("I2: a job moved on that had started")
    if after["recall_id"] is not None or after["recall_to"] is not None:
        broken.append("I8: the new epoch has kept the old one's intent")
    if taken_back and after["executor"] != before["recall_to"]:
        broken.append("I6: it was taken back to another place than the recall says")
    left = before["submit_state"] not in {"never", "trying"}
    if before["executor"] != after["executor"] and left and not taken_back:
        broken.append("I6: a job was moved that a try had left for")
    if not world.rows("SELECT FROM job_events WHERE job_id = %s AND epoch = %s", job, after["epoch"]):
        broken.append("I8: a new epoch without an event")
    return broken


def _finish(world: World, after: dict[str, Any]) -> list[str]:
    if after["remote_run_id"] is None:
        return []
    runs = world.rows("SELECT * FROM remote_runs WHERE run_id = %s", after["remote_run_id"])
    broken = [f"I2: its run is a {run['role']}" for run in runs if run["role"] != "bound"]
    run = world.fake.runs.get(after["remote_run_id"])
    if run is not None and after["status"] != run.status and not after["orphaned"]:
        broken.append(f"it ended as {after['status']}, and its run is {run.status}")
    return broken


def _revived(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if before == after:
        return ["I4: a finished row was written again"]
    return [] if before["orphaned"] and not after["orphaned"] else ["I4: a finished row changed"]


def _nothing_lost(world: World) -> list[str]:
    rows = world.rows("SELECT id FROM worker_jobs_open UNION ALL SELECT id FROM worker_jobs_finished")
    there = [row["id"] for row in rows]
    broken = [f"I1: job {job} is nowhere" for job in world.accepted.keys() - set(there)]
    if len(there) != len(set(there)):
        broken.append("I1: a job is open and finished")
    return broken


def _one_holder(world: World) -> list[str]:
    broken: list[str] = []
    for job, starts in world.starts.items():
        executors = {start.executor for start in starts}
        runs = {start.holder for start in starts if start.executor != LOCAL}
        if (len(executors) > 1 or len(runs) > 1) and world.accepted.get(job) != "idempotent":
            broken.append(f"I2: {job} was started by {starts}")
        here = sum(start.executor == LOCAL for start in starts)
        if here > 1:
            events = world.rows(
                "SELECT FROM job_events WHERE job_id = %s AND kind = ANY(%s)", job, list(_AGAIN)
            )
            if here > 1 + len(events):
                broken.append(f"I8: {job} started {here} times, explained {len(events)} times")
    return broken
