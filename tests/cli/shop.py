"""The application that the command's tests name with --app."""

import asyncio
import threading

from pydantic import BaseModel, JsonValue

from adapter import Adapter, JobContext, Queue, RetryPolicy, Settings
from adapter.domain.clock import SystemClock
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import FakeTriggerDev
from tests.rig import trigger_executor

remote = FakeTriggerDev(ManualClock(SystemClock().now()))
adapter = Adapter(Settings.from_env(), executors=[trigger_executor(remote)])
no_adapter = "a shop"


class Mail(BaseModel):
    to: str
    text: str = ""


@adapter.task("send-email", queue=Queue("mail", 5), retry=RetryPolicy(max_attempts=5))
async def send(payload: Mail) -> dict[str, str]:
    return {"sent": payload.to}


@adapter.task("fail", retry=RetryPolicy(max_attempts=1))
async def fail(payload: JsonValue) -> None:
    raise ValueError("no such mailbox")


@adapter.task("index", remote_id={"trigger": "index"}, description="here or there")
async def index(payload: JsonValue, ctx: JobContext) -> int:
    return ctx.attempt


@adapter.task("endless")
async def endless(payload: JsonValue) -> None:
    await asyncio.Event().wait()


@adapter.task("deaf")
def deaf(payload: JsonValue) -> None:
    """Runs in a thread, which nobody can stop."""
    threading.Event().wait()


@adapter.task("off", enabled=False)
async def off(payload: JsonValue) -> None:
    """Nobody may schedule it."""


report = adapter.remote_task("report", executor="trigger")
