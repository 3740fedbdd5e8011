"""What a task of asyncio awaits, as far as that can be seen from outside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, cast

#: What `asyncio.wait` is at while it waits, with the tasks as ``fs``.
_WAIT: Any = getattr(getattr(asyncio.tasks, "_wait", None), "__code__", None)


def awaits_only(task: asyncio.Task[Any], waiting: Collection[asyncio.Task[Any]]) -> bool:
    """Whether a task, and every task that it awaits, can only go on after one of ``waiting`` does.

    It sees through tasks that are awaited themselves, by `asyncio.gather`, `asyncio.wait` or an
    `asyncio.TaskGroup`; of whoever awaits anything else it says no.
    """
    left: list[asyncio.Future[Any]] = [task]
    seen: set[asyncio.Future[Any]] = set()
    while left:
        each = left.pop()
        if each in seen or each in waiting or each.done():
            continue
        seen.add(each)
        awaited = _awaited(each)
        if awaited is None:
            return False
        left.extend(awaited)
    return True


def _awaited(task: asyncio.Future[Any]) -> Iterable[asyncio.Future[Any]] | None:
    """Return what has to end before a task goes on; None when that cannot be seen, or it is about to."""
    # asyncio tells this to nobody before Python 3.14; without these names the answer is None.
    future: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    if not isinstance(task, asyncio.Task) or future is None or future.done():
        return None
    if isinstance(future, asyncio.Task):
        return [future]
    if (gathered := getattr(future, "_children", None)) is not None:
        return gathered
    frame = _innermost(task.get_coro())
    if frame is None:
        return None
    if frame.f_code is _WAIT:
        return frame.f_locals.get("fs")
    group = frame.f_locals.get("self")
    return getattr(group, "_tasks", None) if isinstance(group, asyncio.TaskGroup) else None


def _innermost(coroutine: Any) -> Any:
    """Return the frame in which a coroutine awaits what is none; None when something else is in between."""
    while inspect.iscoroutine(awaited := coroutine.cr_await):
        coroutine = cast("Coroutine[Any, Any, Any]", awaited)
    return coroutine.cr_frame
