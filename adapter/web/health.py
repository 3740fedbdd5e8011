"""``/livez``: this process answers. ``/readyz``: it can do its work.

A remote executor that is down makes nobody unready: its jobs wait.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from adapter.domain.clock import Clock

_log = logging.getLogger("adapter.web")


class Readiness:
    """The last result of a probe, refreshed by one task at a time.

    ``probe`` returns what is wrong, by name; an empty dict means ready.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[dict[str, str]]],
        clock: Clock,
        *,
        fresh_s: float = 1.0,
        deadline_s: float = 2.0,
    ) -> None:
        self._probe = probe
        self._clock = clock
        self._fresh_s = fresh_s
        self._deadline_s = deadline_s
        self._problems: dict[str, str] = {}
        self._probed_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def problems(self) -> dict[str, str]:
        """Return what is wrong, at most ``fresh_s`` old, within ``deadline_s``."""
        if self._probed_at is not None and self._clock.monotonic() - self._probed_at <= self._fresh_s:
            return self._problems
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh(), name="readiness probe")
        done, _ = await asyncio.wait({self._task}, timeout=self._deadline_s)
        return self._problems if done else {"probe": f"no answer within {self._deadline_s:g} s"}

    async def _refresh(self) -> None:
        try:
            # Ends before the askers stop waiting, so that none of them meets a task about to end.
            async with asyncio.timeout(self._deadline_s * 0.75):
                problems = await self._probe()
        except TimeoutError:
            problems = {"probe": f"no answer within {self._deadline_s * 0.75:g} s"}
        except Exception as error:  # noqa: BLE001 - a probe that breaks is an answer, and logged
            _log.warning("readiness probe failed", exc_info=error)
            problems = {"probe": type(error).__name__}
        self._problems, self._probed_at = problems, self._clock.monotonic()


async def livez(_request: Request) -> Response:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "ok"})


def routes(readiness: Readiness) -> list[Route]:
    """Return the two routes."""

    async def readyz(_request: Request) -> Response:
        """200 while the database can be used and has the right schema, else 503 with what is wrong."""
        problems = await readiness.problems()
        if problems:
            return JSONResponse({"status": "unready", "problems": problems}, 503)
        return JSONResponse({"status": "ok"})

    return [Route("/livez", livez), Route("/readyz", readyz)]
