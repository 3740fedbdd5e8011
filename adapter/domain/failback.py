"""When an executor is to get no more jobs of a task: a budget of its own failures, never the jobs'.

The rule looks at counts, not at minutes, so it holds for a task of one job an hour as for one of a
hundred a second. It only ever trips; a person closes the circuit again.
"""

from __future__ import annotations

from typing import Final

from adapter.domain.job import JobStatus
from adapter.domain.shares import wilson

#: The share of failures an executor may have, and how sure one must be that it has more.
BUDGET: Final = 0.02
Z: Final = 2.58
#: So many outcomes are looked at, and so many there must be.
WINDOW: Final = 200
LEAST: Final = 10
#: So many submits in a row that did not arrive, or may not have.
IN_A_ROW: Final = 5
#: So many beats of the canary that did not come back.
MISSED_BEATS: Final = 3

#: The task of the canaries, here and at the executors.
CANARY: Final = "adapter-canary"

#: Ends that are the executor's own failure. FAILED, TIMED_OUT and CRASHED are what the job's code did.
OWN_FAILURES: Final = frozenset({JobStatus.SYSTEM_FAILURE})
#: Ends that say nothing of the executor: somebody canceled, or it waited past its own time.
SILENT: Final = frozenset({JobStatus.CANCELED, JobStatus.EXPIRED})


def wilson_lower(failures: int, outcomes: int, z: float = Z) -> float:
    """Return the lower end of Wilson's score interval for a share of ``failures`` in ``outcomes``."""
    return wilson(failures, outcomes, z)[0]


def over_budget(failures: int, outcomes: int) -> bool:
    """Whether so many failures of an executor among its last outcomes are surely more than it may have."""
    return outcomes >= LEAST and wilson_lower(failures, outcomes) > BUDGET
