"""What a rollback or migration promises beforehand, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from adapter.domain.recall import Guarantee, RecallCounts, RecallState


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Which guarantee holds for the jobs of one task at one executor, and why."""

    task: str
    executor: str
    guarantee: Guarantee
    jobs: RecallCounts
    says: str


@dataclass(slots=True, kw_only=True)
class RollbackReport:
    """What a rollback or migration found and did.

    ``hit_running`` comes first: jobs that started after our cancel had left, and were canceled at work. ``outcomes``
    counts jobs by `RecallOutcome`; ``open``: not settled yet. ``left``: jobs that stay where they are, at most 100.
    ``eta_seconds``: what the remote's rate limit makes of what is left, None when it has none.
    """

    hit_running: list[UUID] = field(default_factory=list[UUID])
    task: str
    mode: str
    target: str
    dry_run: bool = False
    recall_id: UUID | None = None
    state: RecallState | None = None
    promises: list[Promise] = field(default_factory=list[Promise])
    #: Tasks that are not touched, each with the reason.
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    left: list[UUID] = field(default_factory=list[UUID])
    eta_seconds: float | None = None
    seconds: float = 0.0
    calls: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is None or not self.state.is_open
