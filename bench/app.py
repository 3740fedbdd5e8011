"""The application that is measured: ``adapter --app bench.app:adapter``."""

from __future__ import annotations

import time

from pydantic import BaseModel, JsonValue

from adapter import Adapter


class Sent(BaseModel):
    """When the call that scheduled the job began, by the machine's monotonic clock."""

    at_ns: int


def declare(adapter: Adapter) -> Adapter:
    @adapter.task("noop")
    async def noop(payload: JsonValue) -> None:
        pass

    @adapter.task("lag")
    async def lag(payload: Sent) -> float:
        return (time.monotonic_ns() - payload.at_ns) / 1e6

    adapter.remote_task("elsewhere", remote_id={"trigger": "elsewhere"})
    return adapter


adapter = declare(Adapter.from_env())
