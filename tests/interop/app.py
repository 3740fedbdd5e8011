"""The application behind the server that the official SDK talks to."""

import asyncio

from pydantic import BaseModel, JsonValue

from adapter import Adapter, JobContext, RetryPolicy

adapter = Adapter.from_env()

SOON = RetryPolicy(max_attempts=1, min_timeout_in_ms=50, max_timeout_in_ms=100, randomize=False)


class Failure(BaseModel):
    """How a job is to fail: on its first ``times`` attempts, or on all of them."""

    message: str = "no reason given"
    times: int | None = None


@adapter.task("echo")
async def echo(payload: JsonValue) -> JsonValue:
    return payload


@adapter.task("ns/task with space")
async def echo_elsewhere(payload: JsonValue) -> JsonValue:
    return payload


@adapter.task("fail", retry=SOON)
async def fail(payload: Failure, ctx: JobContext) -> str:
    if payload.times is None or ctx.attempt <= payload.times:
        raise ValueError(payload.message)
    return "done in the end"


class Steps(BaseModel):
    """How many steps to report, one after the other."""

    steps: int


@adapter.task("in steps")
async def in_steps(payload: Steps, ctx: JobContext) -> dict[str, int]:
    for step in range(payload.steps):
        ctx.progress((step + 1) / payload.steps, f"step {step + 1}")
        await asyncio.sleep(0.7)  # noqa: TID251 - progress is written every half second
    return {"done": payload.steps}


@adapter.task("family")
async def family(payload: JsonValue, ctx: JobContext) -> JsonValue:
    return await ctx.trigger_and_wait("echo", payload)


@adapter.task("slow")
async def slow(payload: JsonValue) -> None:
    """Ends when it is canceled, and never else."""
    await asyncio.Event().wait()
