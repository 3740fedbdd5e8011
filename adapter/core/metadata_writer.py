"""Brings what handlers say of their jobs to the store while they run."""

from __future__ import annotations

import asyncio
import logging

from adapter.core.parts import Parts
from adapter.core.progress import JobMetadata
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import Job
from adapter.domain.outcome import Lease
from adapter.store.job_metadata import write_metadata

logger = logging.getLogger("adapter.worker")

#: At most one write per job in so many seconds.
INTERVAL_S = 0.5


class MetadataWriter:
    """Writes what handlers of one worker say, many jobs in one statement, each at most every `INTERVAL_S`."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._counts = parts.observers.counts
        self._clock = parts.clock
        self._dirty: dict[int, JobMetadata] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wrote_at = -INTERVAL_S

    def begin(self) -> None:
        """Write on the running loop from now on; what is said may come from any thread."""
        self._loop = asyncio.get_running_loop()

    def of(self, lease: Lease, job: Job) -> JobMetadata:
        """Return the metadata of a job this worker runs."""
        return JobMetadata(job, lease, self._heard)

    def _heard(self, metadata: JobMetadata) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._mark, metadata)

    def _mark(self, metadata: JobMetadata) -> None:
        self._dirty[id(metadata)] = metadata
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write(), name="adapter-metadata")

    async def _write(self) -> None:
        while self._dirty:
            await self._clock.sleep(max(0.0, self._wrote_at + INTERVAL_S - self._clock.monotonic()))
            marked, self._dirty = self._dirty, {}
            try:
                await self._write_all([each for each in marked.values() if not each.is_closed])
            except DatabaseUnavailableError as error:
                logger.warning("metadata could not be written, trying again: %s", type(error).__name__)
                self._dirty = marked | self._dirty
            except Exception:
                logger.exception("metadata of %d jobs was refused", len(marked))
            self._wrote_at = self._clock.monotonic()

    async def _write_all(self, marked: list[JobMetadata]) -> None:
        if not marked:
            return
        patches = [each.patch() for each in marked]
        async with self._database.connection() as conn:
            held = await write_metadata(conn, self._database.schema, [patch for patch, _ in patches])
        self._notifier.changed()
        for each, (patch, version) in zip(marked, patches, strict=True):
            if patch.job_id not in held:
                # Whoever has the job now is not told by us.
                self._counts["stale_metadata"] += not each.is_closed
            elif each.wrote(version):
                self._dirty[id(each)] = each
