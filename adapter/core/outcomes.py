"""What is counted in one process, and who wants to know when a job moved."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from adapter.domain.job import Job
from adapter.domain.shadow import is_shadow

logger = logging.getLogger("adapter")


class Observers:
    """Callables told of jobs that started or ended here, but of no shadows; none of them can hurt the job."""

    def __init__(self) -> None:
        #: Events by name since the process started: ``stale_write``, ``duplicate_event``, ...
        self.counts: Counter[str] = Counter()
        self._started: list[Callable[[Job], None]] = []
        self._finished: list[Callable[[Job], None]] = []

    def on_started(self, observer: Callable[[Job], None], *, wanted: bool = True) -> None:
        """Call ``observer(job)`` when a try starts in this process; ``wanted`` False: no more."""
        if wanted and observer not in self._started:
            self._started.append(observer)
        elif not wanted and observer in self._started:
            self._started.remove(observer)

    def on_finished(self, observer: Callable[[Job], None]) -> None:
        """Call ``observer(job)`` when a job ended by a write of this process."""
        self._finished.append(observer)

    @property
    def watch_starts(self) -> bool:
        """Whether anybody wants to see the jobs that start."""
        return bool(self._started)

    @property
    def watch_ends(self) -> bool:
        """Whether anybody wants to see the jobs that ended."""
        return bool(self._finished)

    def started(self, job: Job) -> None:
        """Tell that a try starts."""
        self._tell(self._started, [job])

    def finished(self, jobs: Sequence[Job]) -> None:
        """Tell that jobs ended."""
        self._tell(self._finished, jobs)

    def _tell(self, observers: list[Callable[[Job], None]], jobs: Sequence[Job]) -> None:
        for observer in observers:
            for job in jobs:
                if is_shadow(job.extra):
                    continue
                try:
                    observer(job)
                except Exception:
                    logger.exception("an observer failed", extra={"job_id": str(job.id)})
