"""What this process saw executors do, until it is written down."""

from __future__ import annotations

from collections import defaultdict

from adapter.domain.failback import IN_A_ROW, OWN_FAILURES, SILENT, WINDOW
from adapter.domain.job import LOCAL, Job
from adapter.domain.shadow import is_shadow
from adapter.store.executor_health import BAD, GOOD


class Tally:
    """Outcomes and tries by (executor, task), in order, shadows left out. What a killed process had not written is lost."""

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, str], str] = defaultdict(str)
        self._tries: defaultdict[tuple[str, str], str] = defaultdict(str)

    def tried(self, executor: str, job: Job, *, arrived: bool) -> None:
        """Note a submit: it was answered, or it did not arrive or may not have."""
        if is_shadow(job.extra):
            return
        pair = executor, job.type
        self._tries[pair] = (self._tries[pair] + (GOOD if arrived else BAD))[-IN_A_ROW:]

    def ended(self, job: Job) -> None:
        """Note the end of a job's run at a remote."""
        if job.executor in {None, LOCAL} or job.remote_run_id is None or job.status in SILENT:
            return
        if is_shadow(job.extra):
            return
        pair = str(job.executor), job.type
        self._outcomes[pair] = (self._outcomes[pair] + (BAD if job.status in OWN_FAILURES else GOOD))[
            -WINDOW:
        ]

    def take(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return what was noted since the last call, as (outcomes, tries)."""
        pairs = {*self._outcomes, *self._tries}
        taken = {pair: (self._outcomes.get(pair, ""), self._tries.get(pair, "")) for pair in pairs}
        self._outcomes.clear()
        self._tries.clear()
        return taken
