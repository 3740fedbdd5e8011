"""Tasks of handlers that do not end although they were told to: nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

#: Documented for whoever extends asyncio.
_unregister: Callable[[asyncio.Task[Any]], None] = vars(asyncio)["_unregister_task"]
#: What asyncio itself sets where a task's end is nobody's concern.
_COMPLAINS = "_log_destroy_pending"


def leave_behind(task: asyncio.Task[Any]) -> None:
    """Let the event loop end without this task, and without a word about it: whoever calls has logged it."""
    _unregister(task)
    setattr(task, _COMPLAINS, False)
