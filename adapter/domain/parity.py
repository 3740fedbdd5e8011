"""Whether a task does at one executor what it does at another: the figures, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError
from adapter.domain.shares import difference, wilson

#: The share that a candidate may be worse, and the least that anything is said from.
MARGIN: Final = 0.02
AT_LEAST: Final = 200


class ParityVerdict(StrEnum):
    """What a comparison of executors comes to."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an executor costs, in a currency of one's own: per job, and per second that one runs."""

    per_run: float = 0.0
    per_second: float = 0.0

    def __post_init__(self) -> None:
        if not (self.per_run >= 0 and self.per_second >= 0):
            msg = f"A price cannot be negative, as {self} is."
            raise TaskDefinitionError(msg)

    def of(self, jobs: int, seconds: float) -> float:
        """Return what so many jobs cost that ran for so many seconds altogether."""
        return jobs * self.per_run + seconds * self.per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityTerms:
    """How strict one is. ``margin``: how much worse a share may be; ``at_least``: jobs, or copies, of each."""

    margin: float = MARGIN
    at_least: int = AT_LEAST

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1 or self.at_least < 1:
            msg = "margin is a share between 0 and 1, and at_least a number of jobs of at least 1."
            raise InvalidArgumentError(msg)


@dataclass(frozen=True, slots=True)
class Spread:
    """How seconds are spread: the medium one, and those that one in twenty and one in a hundred exceed."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorFigures:
    """The jobs of a task that ended at one executor, shadows left out.

    ``jobs``: those that came to something (not canceled, not expired), ``succeeded`` of them; ``success``: that
    share, between ``success_low`` and ``success_high`` (Wilson, 95 %). ``statuses``: every end. ``errors``: by
    name. ``attempts``: per job. In seconds: ``lag`` from when a job could start until a remote was first given
    it, ``wait`` from when it could start to its start, ``run`` from there to its end. ``repairs``: what had to
    be put right, by kind of event. ``cost_per_1000``: where `Adapter.price` says what it costs.
    """

    executor: str
    jobs: int
    succeeded: int
    statuses: dict[str, int]
    errors: dict[str, int]
    attempts: float | None = None
    lag: Spread | None = None
    wait: Spread | None = None
    run: Spread | None = None
    repairs: dict[str, int] = field(default_factory=dict[str, int])
    cost_per_1000: float | None = None
    success: float | None = field(init=False)
    success_low: float = field(init=False)
    success_high: float = field(init=False)

    def __post_init__(self) -> None:
        low, high = wilson(self.succeeded, self.jobs)
        object.__setattr__(self, "success", self.succeeded / self.jobs if self.jobs else None)
        object.__setattr__(self, "success_low", low)
        object.__setattr__(self, "success_high", high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A copy that came to something else than its job. ``paths``: where they differ; ``detail``: how they ended."""

    job_id: UUID
    shadow_id: UUID
    at: datetime
    paths: list[str]
    record_hash: str
    shadow_hash: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFigures:
    """The copies that were made at one executor.

    ``equal`` and ``different``: of those that were worked; ``taken`` and ``refused``: of those that were only to
    be taken. ``void``: they say nothing. ``open``: not ended yet. ``dropped``: too many at once, since the
    shadow was last changed. ``took``: from being made to the end, in seconds. ``paths``: where copies differed,
    how often. ``mismatches``: the latest.
    """

    executor: str
    equal: int = 0
    different: int = 0
    taken: int = 0
    refused: int = 0
    void: int = 0
    open: int = 0
    dropped: int = 0
    took: Spread | None = None
    paths: dict[str, int] = field(default_factory=dict[str, int])
    mismatches: list[Mismatch] = field(default_factory=list[Mismatch])

    @property
    def compared(self) -> int:
        """How many outcomes were compared."""
        return self.equal + self.different


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorVerdict:
    """Whether a task does at ``executor`` as well as at the reference, and why one thinks so."""

    executor: str
    verdict: ParityVerdict
    reasons: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskParity:
    """One task. ``reference``: the executor the others are held against. ``expired``: rules that hold no more."""

    task: str
    reference: str | None
    executors: list[ExecutorFigures]
    shadows: list[ShadowFigures]
    verdicts: list[ExecutorVerdict]
    expired: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """What ended in a window, per task and executor, with a verdict on each executor but the reference."""

    since: datetime
    until: datetime
    terms: ParityTerms
    tasks: list[TaskParity]
    verdict: ParityVerdict = field(init=False)

    def __post_init__(self) -> None:
        found = [each.verdict for task in self.tasks for each in task.verdicts]
        object.__setattr__(self, "verdict", worst(found))


def worst(verdicts: Sequence[ParityVerdict]) -> ParityVerdict:
    """Return what several verdicts come to; nothing is inconclusive."""
    if ParityVerdict.FAIL in verdicts:
        return ParityVerdict.FAIL
    return (
        ParityVerdict.PASS
        if verdicts and set(verdicts) == {ParityVerdict.PASS}
        else ParityVerdict.INCONCLUSIVE
    )


def reference_of(executors: Sequence[ExecutorFigures], shadows: Sequence[ShadowFigures]) -> str | None:
    """Return the executor that most jobs ended at, where there is something to hold against it."""
    if not executors or len({each.executor for each in (*executors, *shadows)}) < 2:
        return None
    return max(executors, key=lambda each: (each.jobs, each.executor)).executor


def judge(
    executor: str,
    jobs: ExecutorFigures | None,
    reference: ExecutorFigures | None,
    shadows: ShadowFigures | None,
    terms: ParityTerms,
) -> ExecutorVerdict:
    """Hold an executor against the reference, by all there is: jobs of both, and copies.

    Each kind of evidence fails when the whole interval is over the margin, passes when none of it is, and is
    inconclusive in between. What there is too little of decides nothing. That copies are taken shows the way
    to be whole, and not what is done at its end: it can fail, and cannot pass by itself.
    """
    found: list[tuple[ParityVerdict, bool]] = []
    reasons: list[str] = []

    def weigh(what: str, low: float, high: float, *, proves: bool = True) -> None:
        verdict = ParityVerdict.INCONCLUSIVE
        if high <= terms.margin:
            verdict = ParityVerdict.PASS
        elif low > terms.margin:
            verdict = ParityVerdict.FAIL
        found.append((verdict, proves))
        reasons.append(
            f"{verdict}: {what}, between {low:.2%} and {high:.2%}; up to {terms.margin:.2%} is well"
        )

    counts = (jobs.jobs if jobs else 0, reference.jobs if reference else 0)
    if jobs is not None and reference is not None and min(counts) >= terms.at_least:
        low, high = difference((reference.succeeded, reference.jobs), (jobs.succeeded, jobs.jobs))
        weigh(
            f"{jobs.success:.2%} succeed of {jobs.jobs}, {reference.success:.2%} at {reference.executor}, worse by",
            low,
            high,
        )
    else:
        reasons.append(f"too few jobs: {counts[0]} here, {counts[1]} at the reference, of {terms.at_least}")
    if shadows is not None:
        for hits, of, what, proves in (
            (shadows.different, shadows.compared, "copies came to something else", True),
            (shadows.refused, shadows.taken + shadows.refused, "copies were not taken", False),
        ):
            if of >= terms.at_least:
                weigh(f"{hits} of {of} {what}", *wilson(hits, of), proves=proves)
            elif of:
                reasons.append(f"too few copies: {hits} of {of} {what}; it takes {terms.at_least}")
    verdict = worst([each for each, _ in found])
    if verdict is ParityVerdict.PASS and not any(proves for _, proves in found):
        verdict = ParityVerdict.INCONCLUSIVE
    return ExecutorVerdict(executor=executor, verdict=verdict, reasons=reasons)
