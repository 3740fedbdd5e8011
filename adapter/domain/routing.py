"""Where a job goes, and why. Pure: the same facts always give the same route.

Highest wins: kill switch (environment, file, runtime row), the call, rollout, registry, ``local``;
then the circuit. The reason is stored on the row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import LOCAL
from adapter.domain.task import TaskPolicy, names_unit

#: A scope that means every task.
EVERY_TASK = "*"
_BUCKETS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A share of one task's jobs (or of every task's) that goes to ``executor``.

    ``percent`` has steps of 0.001. ``hash_by`` names the unit: ``tag``, ``user_id``,
    ``data.<path>`` or ``context.<name>``. The lists are checked before the percentage. ``when``: what
    ``context=`` must say; a list means any of its values.
    """

    task: str
    executor: str
    percent: float
    salt: str
    hash_by: str = "tag"
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    when: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Every switch there is, as of one version of the store.

    The three ``kill_*`` maps go from a task id, or ``*``, to an executor name. ``open_circuits``
    holds (task or ``*``, executor).
    """

    version: int = 0
    kill_environment: Mapping[str, str] = field(default_factory=dict[str, str])
    kill_file: Mapping[str, str] = field(default_factory=dict[str, str])
    kill_runtime: Mapping[str, str] = field(default_factory=dict[str, str])
    rollouts: tuple[Rollout, ...] = ()
    open_circuits: frozenset[tuple[str, str]] = frozenset()
    #: Tasks some local worker advertised in the last 7 days, living or not.
    advertised: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a scheduling call brings to the decision. ``job_id`` is the unit of last resort."""

    job_id: str
    tag: str | None = None
    user_id: str | None = None
    data: Any = None
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    executor: str | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """An executor and the reason for it. ``blocked``: nothing can take the job now, so it waits."""

    executor: str
    reason: str
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was looked at: ``decided`` is the executor it chose, None if it passed."""

    rule: str
    decided: str | None
    detail: str


def bucket(salt: str, unit: str) -> int:
    """Return the place of ``unit`` in 0..99_999.

    The contract, pinned by vectors: the top 64 bits of sha256("{salt}:{unit}"), scaled.
    """
    top = int.from_bytes(sha256(f"{salt}:{unit}".encode()).digest()[:8], "big")
    return (top * _BUCKETS) >> 64


def threshold(percent: float) -> int:
    """Return how many of the 100_000 buckets ``percent`` covers."""
    return round(percent * 1000)


def environment_spelling(task: str) -> str:
    """Return a task id as it is written in an environment variable.

    ``process-large-dataset`` and ``processLargeDataset`` are both ``PROCESS_LARGE_DATASET``.
    """
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", task)
    return re.sub(r"[^A-Za-z0-9]+", "_", split).strip("_").upper()


def kill_switch(flags: Flags, task: str) -> tuple[str, str] | None:
    """Return (executor, reason) of the highest kill switch that covers the task, or None."""
    sources = (
        ("environment", flags.kill_environment),
        ("file", flags.kill_file),
        ("runtime", flags.kill_runtime),
    )
    for source, switches in sources:
        for scope in (task, EVERY_TASK):
            if scope in switches:
                scoped = "all tasks" if scope == EVERY_TASK else "this task"
                return switches[scope], f"kill switch: {source}, {scoped}"
    return None


def check_unit(hash_by: str) -> None:
    """Refuse what names no unit: it would silently be the job's own id.

    Raises:
        InvalidArgumentError: it is none of ``tag``, ``user_id``, ``data.<path>``, ``context.<name>``.
    """
    if not names_unit(hash_by):
        msg = f"{hash_by!r} names no unit: it is tag, user_id, data.<path> or context.<name>."
        raise InvalidArgumentError(msg)


def unit_of(request: Request, hash_by: str) -> tuple[str, str]:
    """Return (unit, what it is). A unit that the request does not bring is the job's own id."""
    kind, _, path = hash_by.partition(".")
    value: Any = {"tag": request.tag, "user_id": request.user_id}.get(kind)
    if kind in {"data", "context"}:
        value = request.data if kind == "data" else request.context
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    if value is None or isinstance(value, (Mapping, list)):
        return request.job_id, "job id"
    return str(value), hash_by  # pyright: ignore[reportUnknownArgumentType]


def can_run(task: TaskPolicy, executor: str, flags: Flags) -> bool:
    """Whether the registry, or what workers advertised, says the task can run there."""
    return task.runs_at(executor) or (executor == LOCAL and task.id in flags.advertised)


def depends_on_job(task: str, flags: Flags) -> bool:
    """Whether two jobs of a task may go to different places, though both calls say the same of where."""
    return any(each.task in {task, EVERY_TASK} for each in flags.rollouts)


def decide(task: TaskPolicy, request: Request, flags: Flags) -> Route:
    """Return the route of one job. Never raises: an error goes to the task's safe executor."""
    return explain(task, request, flags)[0]


def explain(task: TaskPolicy, request: Request, flags: Flags) -> tuple[Route, list[Step]]:
    """Return the route and every rule on the way to it, highest first."""
    steps: list[Step] = []
    try:
        route = _by_rules(task, request, flags, steps)
        return _through_circuit(task, request, flags, route, steps), steps
    except Exception as error:  # noqa: BLE001 - a fault in a rule must not lose the job
        safe = task.safe_executor or (LOCAL if task.runs_locally else task.default_executor) or LOCAL
        steps.append(Step("error", safe, type(error).__name__))
        return Route(safe, f"error: {type(error).__name__}"), steps


def _by_rules(task: TaskPolicy, request: Request, flags: Flags, steps: list[Step]) -> Route:
    kill = kill_switch(flags, task.id)
    if kill is not None:
        executor, reason = kill
        if task.on_kill == "keep" and not can_run(task, executor, flags):
            steps.append(Step("kill switch", None, f"{reason} -> {executor}; this task says on_kill='keep'"))
        else:
            steps.append(Step("kill switch", executor, reason))
            return Route(executor, reason)
    else:
        steps.append(Step("kill switch", None, "none is set"))
    if request.executor is not None:
        steps.append(Step("call", request.executor, "executor= was given"))
        return Route(request.executor, "call")
    steps.append(Step("call", None, "no executor= was given"))
    rolled = _by_rollout(task, request, flags, steps)
    if rolled is not None:
        return rolled
    default = task.default_executor
    if default is not None:
        steps.append(Step("registry", default, "the task's default"))
        return Route(default, "registry")
    steps.append(Step("default", LOCAL, "the registry names none"))
    return Route(LOCAL, "default")


def _by_rollout(task: TaskPolicy, request: Request, flags: Flags, steps: list[Step]) -> Route | None:
    rollouts = [each for each in flags.rollouts if each.task == task.id]
    rollouts += [each for each in flags.rollouts if each.task == EVERY_TASK and not rollouts]
    for rollout in sorted(rollouts, key=lambda each: each.executor):
        name = f"rollout {rollout.percent:g}% to {rollout.executor}"
        unit, what = unit_of(request, rollout.hash_by)
        if not can_run(task, rollout.executor, flags):
            steps.append(Step("rollout", None, f"{name}: the task cannot run there"))
        elif not all(_says(request.context, name, wanted) for name, wanted in rollout.when.items()):
            steps.append(Step("rollout", None, f"{name}: the context does not match"))
        elif unit in rollout.deny:
            steps.append(Step("rollout", None, f"{name}: {what} is on the deny list"))
        elif unit in rollout.allow:
            steps.append(Step("rollout", rollout.executor, f"{name}: {what} is on the allow list"))
            return Route(rollout.executor, f"{name}: allow list")
        else:
            place = bucket(rollout.salt, unit)
            inside = place < threshold(rollout.percent)
            detail = f"{name}: bucket {place / 1000:.3f} by {what}"
            steps.append(Step("rollout", rollout.executor if inside else None, detail))
            if inside:
                return Route(rollout.executor, detail)
    if not rollouts:
        steps.append(Step("rollout", None, "none covers this task"))
    return None


def _says(context: Mapping[str, Any], name: str, wanted: Any) -> bool:
    """Whether the context has the wanted value, or for a list one of them."""
    if name not in context:
        return False
    if not isinstance(wanted, list):
        return _same(context[name], wanted)
    return any(_same(context[name], each) for each in cast("list[Any]", wanted))


def _same(given: Any, wanted: Any) -> bool:
    # For JSON true is not 1.
    return given == wanted and isinstance(given, bool) == isinstance(wanted, bool)


def _through_circuit(
    task: TaskPolicy, request: Request, flags: Flags, route: Route, steps: list[Step]
) -> Route:
    is_open = any((scope, route.executor) in flags.open_circuits for scope in (task.id, EVERY_TASK))
    if not is_open or (request.executor is not None and request.strict):
        return route
    if task.fallback is None:
        steps.append(
            Step("circuit", None, f"{route.executor} is open and the task has no fallback: it waits")
        )
        return Route(route.executor, f"{route.reason}; circuit open", blocked=True)
    steps.append(Step("circuit", task.fallback, f"{route.executor} is open: the task's fallback"))
    return Route(task.fallback, f"{route.reason}; circuit open, fallback")
