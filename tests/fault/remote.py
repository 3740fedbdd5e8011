"""The in-memory Trigger.dev on a real port, so that other processes can talk to it."""

from __future__ import annotations

import asyncio
from typing import Literal, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import SECRET_KEY, FakeTriggerDev
from tests.kit import eventually

Hold = Literal["before", "after"]
_NOT_OURS = {"content-length", "transfer-encoding"}


class Remote:
    """``hold``: calls to ``held_path`` (triggers) wait, before they are done or with their reply, until `release`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fake = FakeTriggerDev(self.clock)
        self.hold: Hold | None = None
        self.held_path = "/trigger"
        self.held = 0
        self._released = asyncio.Event()
        routes = [Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT"])]
        config = uvicorn.Config(
            Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def env(self) -> dict[str, str]:
        return {
            "TRIGGER_SECRET_KEY": SECRET_KEY,
            "TRIGGER_API_URL": f"http://127.0.0.1:{self.port}",
            "ADAPTER_TRIGGER_RATE_PER_MINUTE": "0",
        }

    def release(self) -> None:
        """Let go of what is held, and hold nothing more."""
        self.hold = None
        self._released.set()
        self._released = asyncio.Event()

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        hold = self.hold if request.url.path.endswith(self.held_path) else None
        if hold == "before":
            await self._wait()
        asked = httpx.Request(request.method, str(request.url), headers=request.headers.raw, content=body)
        answer = self.fake.handle(asked)
        if hold == "after":
            await self._wait()
        headers = {name: value for name, value in answer.headers.items() if name not in _NOT_OURS}
        return Response(answer.content, answer.status_code, headers)

    async def _wait(self) -> None:
        self.held += 1
        await self._released.wait()

    async def __aenter__(self) -> Self:
        # Not `serve`, which would take the signals of the test's own process.
        self._task = asyncio.get_running_loop().create_task(self._server._serve())
        await eventually(lambda: self._server.started, within=10)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
