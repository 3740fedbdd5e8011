"""What somebody watches, and which states of its jobs are known: values, and nothing that asks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

from adapter.store.watched import MOST_MEMBERS, Sighting, Version

#: How many changes back a subscriber is told only what has changed since; before that, everything.
_TRAIL = 128
_DIGEST_BYTES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """One job, or the jobs that carry all of ``tags`` and are not older, or those of a batch."""

    job_id: UUID | None = None
    tags: frozenset[str] = frozenset()
    created_from: datetime | None = None
    batch_id: UUID | None = None

    def covers(self, seen: Sighting) -> bool:
        """Whether this job belongs to it."""
        if self.job_id is not None:
            return seen.version.job_id == self.job_id
        if self.batch_id is not None:
            return seen.batch_id == self.batch_id
        recent = self.created_from is None or seen.created_at >= self.created_from
        return recent and self.tags <= seen.tags


class Feed:
    """The jobs of one interest, each in the state that is known of it; shared by all who have that interest.

    `mark` names all these states together: ``<ms of the latest write>_<digest of all states>``. It is made of
    the rows alone, so that every process that knows the same states calls them the same.
    """

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        #: How many hold it at the moment, and since when nobody does.
        self.holders = 0
        self.left_at = 0.0
        self._versions: dict[UUID, Version] = {}
        self._sum = 0
        self._trail: deque[tuple[str, dict[UUID, bool]]] = deque(maxlen=_TRAIL)
        self._moved = asyncio.Event()
        self.mark = self._mark()

    @property
    def ids(self) -> list[UUID]:
        """All its jobs, the oldest first."""
        return sorted(self._versions)

    @property
    def open(self) -> dict[UUID, int]:
        """Its open jobs, and when each was written as far as is known."""
        return {each.job_id: each.written for each in self._versions.values() if each.is_open}

    def knows(self, version: Version | None) -> bool:
        """Whether this is the state that is known of its job."""
        return version is not None and self._versions.get(version.job_id) == version

    def apply(self, versions: Iterable[Version], gone: Iterable[UUID] = (), *, older: bool = True) -> bool:
        """Take note of states; of jobs that are ``gone``, that they are. Returns whether that was news.

        ``older``: believe also a state that was written before the known one. The clock of a write is when its
        transaction began, so the later of two writes may be the older.
        """
        before = self.mark
        changes: dict[UUID, bool] = {}
        for version in versions:
            known = self._versions.get(version.job_id)
            if known == version or (known is not None and not older and known.written >= version.written):
                continue
            self._put(version.job_id, version)
            changes[version.job_id] = known is None
        for job_id in gone:
            self._put(job_id, None)
        while len(self._versions) > MOST_MEMBERS:
            # Ids are in the order of time.
            self._put(min(self._versions), None)
        self.mark = self._mark()
        if self.mark == before:
            return False
        self._trail.append((before, changes))
        self.wake()
        return True

    def since(self, mark: str) -> dict[UUID, bool] | None:
        """Return the jobs that have changed since ``mark``, and whether each is new; None when it is unknown."""
        if mark == self.mark:
            return {}
        found: dict[UUID, bool] = {}
        for before, changes in reversed(self._trail):
            for job_id, is_new in changes.items():
                found[job_id] = found.get(job_id, False) or is_new
            if before == mark:
                return {job_id: is_new for job_id, is_new in found.items() if job_id in self._versions}
        return None

    async def moved(self, mark: str) -> None:
        """Wait until its states are others than ``mark`` says, or somebody wakes all who wait."""
        if self.mark == mark:
            await self._moved.wait()

    def wake(self) -> None:
        """Let everybody go on who waits."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _put(self, job_id: UUID, version: Version | None) -> None:
        known = self._versions.pop(job_id, None)
        self._sum += _digest(version) - _digest(known)
        if version is not None:
            self._versions[job_id] = version

    def _mark(self) -> str:
        latest = max((each.written for each in self._versions.values()), default=0)
        return f"{latest // 1000}_{self._sum % (1 << 8 * _DIGEST_BYTES)}"


def _digest(version: Version | None) -> int:
    if version is None:
        return 0
    state = version.job_id.bytes + version.written.to_bytes(8) + bytes([version.is_open])
    return int.from_bytes(blake2b(state, digest_size=_DIGEST_BYTES).digest())
