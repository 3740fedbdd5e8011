"""Taking jobs back from the executor they were given to: the words of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

#: What a rollback touches: only new jobs; those that have not started; all there are (idempotent tasks).
RollbackMode = Literal["new-only", "recall-unstarted", "recall-all"]
#: A source that means every executor but the target.
ANYWHERE = "*"


class RecallMode(StrEnum):
    """What a recall takes."""

    #: Jobs that have not started at a remote.
    UNSTARTED = "recall-unstarted"
    #: Also those that have: of idempotent tasks only.
    ALL = "recall-all"
    #: Delayed and queued jobs that no remote was ever given: nothing has to be asked for.
    PENDING = "migrate-pending"


class RecallState(StrEnum):
    """Where a recall stands."""

    #: Stored; the kill switch is not turned yet.
    PLANNED = "planned"
    RUNNING = "running"
    #: Somebody wants it to end: runs that were asked to stop are still waited for, nothing else.
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"

    @property
    def is_open(self) -> bool:
        """Whether something of it is left to do."""
        return self not in {RecallState.STOPPED, RecallState.DONE}


class RecallOutcome(StrEnum):
    """What became of one job that a recall wanted."""

    #: It never started, and has a new epoch at the target.
    MOVED = "moved"
    #: It was running and was moved all the same, as was asked for.
    MOVED_RUNNING = "moved_running"
    #: It started after our cancel had left, was canceled at work, and moved: its task is idempotent.
    HIT_MOVED = "hit_running_moved"
    #: The same, but its task is not idempotent: the job ended as CANCELED.
    HIT_CANCELED = "hit_running_canceled"
    #: It had started before anything was asked for, and goes on there.
    STARTED = "started"
    #: It ended otherwise, before it could be taken back.
    ENDED = "ended"
    #: Somebody canceled it meanwhile.
    CANCELED = "canceled"
    #: It stays where it is: the recall was stopped, or nothing can be proven of it.
    LEFT = "left"


class Guarantee(StrEnum):
    """How exact a recall of a task is."""

    #: A start fence refuses the old run: nothing can run twice, or be hit at work.
    FENCE = "exact by start fence"
    #: Nothing was ever given away.
    UNSENT = "exact: no try has left"
    #: The remote is asked first. A run that starts between the look and our cancel is hit at work.
    BEST_EFFORT = "best effort"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecall:
    """What a recall is to do. ``types`` are the tasks it takes, ``idempotent`` those that may move once started.

    ``batch``: jobs in one step. ``per_second``: how many jobs it takes at most, None: as the remote's limit lets it.
    """

    id: UUID
    task: str
    source: str
    target: str
    mode: RecallMode
    types: tuple[str, ...]
    idempotent: tuple[str, ...]
    reason: str
    actor: str
    batch: int = 200
    per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall(NewRecall):
    """A stored recall. ``calls`` and ``seconds``: what was spent on it, by all processes."""

    state: RecallState
    calls: int
    seconds: float
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallCounts:
    """How many jobs there were of each kind, before anything is asked.

    ``unsent``: no try has left. ``uncertain``: one may have got through. ``accepted``: a remote has them and
    they have not started, as far as is known. ``started``: they have.
    """

    unsent: int = 0
    uncertain: int = 0
    accepted: int = 0
    started: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.unsent + self.uncertain + self.accepted + self.started
