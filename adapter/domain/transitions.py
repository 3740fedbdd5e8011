"""The legal moves of a job inside one epoch; one name per move.

Store statements take their ``status = ANY(...)`` guard from here, and the simulation checks every
observed change against `is_legal`. The drawing is in docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapter.domain.job import OPEN, TERMINAL, JobStatus

_PENDING, _DELAYED, _QUEUED = JobStatus.PENDING, JobStatus.DELAYED, JobStatus.QUEUED
_WAITING, _EXECUTING = JobStatus.WAITING, JobStatus.EXECUTING


@dataclass(frozen=True, slots=True)
class Move:
    """A change of status: from any of ``sources`` to any of ``targets``."""

    sources: frozenset[JobStatus]
    targets: frozenset[JobStatus]

    @property
    def guard(self) -> list[str]:
        """The sources as a parameter for ``status = ANY(...)``, in a stable order."""
        return sorted(self.sources)


def _move(sources: set[JobStatus], *targets: JobStatus) -> Move:
    return Move(frozenset(sources), frozenset(targets))


#: A worker takes a ready job.
CLAIM = _move({_QUEUED}, _EXECUTING)
#: Its time has come.
PROMOTE = _move({_DELAYED}, _QUEUED, _PENDING, _WAITING)
#: A known retry, a rescue, or a graceful return of a local try.
GIVE_BACK = _move({_EXECUTING}, _QUEUED, _DELAYED, _WAITING)
#: A worker that can run it has appeared, a token was handed over, the children are done.
RESUME = _move({_WAITING}, _QUEUED, _EXECUTING)
#: Somebody waits inside the handler.
SUSPEND = _move({_EXECUTING}, _WAITING)
#: The remote has it.
ACCEPT = _move({_PENDING}, _QUEUED, _DELAYED)
#: A remote reports progress; late-comers are legal (a webhook may beat the reply to our submit).
REPORT = Move(OPEN, frozenset({_QUEUED, _DELAYED, _WAITING, _EXECUTING}))
#: The start fence lets a remote run begin.
START = _move({_PENDING, _DELAYED, _QUEUED, _WAITING, _EXECUTING}, _EXECUTING)
#: It never started and its time to live is over.
EXPIRE = _move({_PENDING, _DELAYED, _QUEUED, _WAITING}, JobStatus.EXPIRED)
#: Nobody was ever given it, so it ends at once.
CANCEL_UNGIVEN = _move({_PENDING, _DELAYED, _QUEUED, _WAITING}, JobStatus.CANCELED)
#: An outcome.
FINISH = Move(OPEN, TERMINAL)

_BACKWARD = {
    (_EXECUTING, _QUEUED),
    (_EXECUTING, _DELAYED),
    (_EXECUTING, _WAITING),
    (_WAITING, _EXECUTING),
    (_WAITING, _QUEUED),
}
_RANK = {_PENDING: 0, _DELAYED: 1, _QUEUED: 2, _WAITING: 3, _EXECUTING: 3}


def is_legal(before: JobStatus, after: JobStatus) -> bool:
    """Whether a job may be seen in ``after`` when it was last seen in ``before``, in one epoch.

    Forward by any number of steps, or back by a known retry, rescue, return or wait.
    """
    if before == after:
        return True
    if before in TERMINAL:
        return False
    if after in TERMINAL:
        return True
    if (before, after) in _BACKWARD:
        return True
    # A local job that cannot run here waits for an executor before it was ever ready.
    return _RANK[after] > _RANK[before] or (before, after) == (_DELAYED, _PENDING)
