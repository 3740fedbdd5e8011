"""Whether a start fence refuses the runs of closed epochs: a capability of a task at an executor."""

from __future__ import annotations

import re
from typing import Any

from adapter.core.registry import TaskDefinition
from adapter.executors.base import Executor, RemoteRun

#: Every version that can still start a run.
EVERY_VERSION = "*"


def refuses_old_runs(
    definition: TaskDefinition[Any, Any] | None, executor: Executor, run: RemoteRun | None = None
) -> bool:
    """Whether it is known that a run, or with ``run=None`` any run of the task there, asks before it begins.

    Believed of an executor that says so of all of its runs, of a task that declares it for every version, and of a
    run that is bound to a version the declaration covers.
    """
    if executor.capabilities.start_fence:
        return True
    since = definition.policy.start_fence.get(executor.name) if definition is not None else None
    if since is None or since == EVERY_VERSION:
        return since is not None
    if run is None or run.version is None:
        return False
    first, its = _numbers(since), _numbers(run.version)
    return bool(first) and len(first) == len(its) and its >= first


def _numbers(version: str) -> list[int]:
    """Read ``20260101.12``; nothing for a version that is not made of numbers."""
    parts = version.split(".")
    return [int(part) for part in parts] if all(re.fullmatch(r"\d+", part) for part in parts) else []
