"""Where the jobs of a task go as a whole: shares, and the rule that makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adapter.domain.job import LOCAL
from adapter.domain.routing import EVERY_TASK, Flags, Request, Rollout, can_run, decide
from adapter.domain.task import TaskPolicy


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a task's new jobs. Lists and conditions of a rollout come on top of its percentage."""

    executor: str
    percent: float


@dataclass(frozen=True, slots=True)
class Destination:
    """Where new jobs of a task go. ``rollouts``: those that have a part in it; ``depends``: on lists or context."""

    shares: tuple[Share, ...]
    rule: str
    rollouts: tuple[Rollout, ...] = ()
    depends: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether some jobs run here and some elsewhere."""
        there = {each.executor for each in self.shares if each.percent or self.depends}
        return LOCAL in there and len(there) > 1

    def __str__(self) -> str:
        if len(self.shares) == 1:
            return self.shares[0].executor
        return ", ".join(f"{each.executor} {each.percent:g}%" for each in self.shares)


def destination(policy: TaskPolicy, flags: Flags) -> Destination:
    """Return where jobs of a task go that say nothing of it themselves."""
    if not policy.enabled:
        return Destination((Share("nowhere", 100),), "disabled in the registry")
    rest = decide(policy, Request(job_id=""), replace(flags, rollouts=()))
    own = tuple(each for each in flags.rollouts if each.task == policy.id)
    covering = own or tuple(each for each in flags.rollouts if each.task == EVERY_TASK)
    at_work = [
        each
        for each in sorted(covering, key=lambda each: each.executor)
        if (each.percent > 0 or each.allow) and can_run(policy, each.executor, flags)
    ]
    if rest.reason.startswith("kill switch") or not at_work:
        return Destination((Share(rest.executor, 100),), rest.reason)
    # Each has a salt of its own: what one leaves is dealt by the next.
    left, parts = 100.0, dict[str, float]()
    for each in at_work:
        parts[each.executor] = parts.get(each.executor, 0) + left * each.percent / 100
        left -= left * each.percent / 100
    parts[rest.executor] = parts.get(rest.executor, 0) + left
    depends = any(each.allow or each.deny or each.when for each in at_work)
    shares = tuple(
        Share(name, round(part, 3)) for name, part in parts.items() if part or depends or len(parts) == 1
    )
    rules = [_said(each) for each in at_work]
    if left or depends:
        rules.append(f"else {rest.reason}")
    return Destination(shares, "; ".join(rules), tuple(at_work), depends)


def _said(rollout: Rollout) -> str:
    lists = ", ".join(name for name in ("allow", "deny", "when") if getattr(rollout, name))
    scope = ", all tasks" if rollout.task == EVERY_TASK else ""
    return f"rollout by {rollout.hash_by}{scope}{f' ({lists})' if lists else ''}"
