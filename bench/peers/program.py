"""How a contender is driven: one program with six commands, the same for all of them.

    PROGRAM prepare|fill|single|bulk|pace|work --database URL [--count N] [--connections N] [--task NAME] [--keys]

- ``prepare`` makes the schema, ``fill`` writes N jobs ``{"i": 0..N-1}`` through the bulk call.
- ``single`` and ``bulk`` warm up, print ``ready``, wait for a line, schedule N jobs and print one JSON line.
- ``pace`` schedules N jobs at 50 a second, each with the moment its call began.
- ``work`` is one worker process; it ends in order on SIGTERM. Its handlers write a `Ledger`.

`node/program.mjs` is its twin. The standard library is all this needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

PER_SECOND = 50
CHUNK = 1000
Call = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says."""

    command: str
    database: str
    count: int
    connections: int
    task: str
    keys: bool


class Program(ABC):
    """One contender. Each opens what it needs for ``given``."""

    def __init__(self, given: Given) -> None:
        self.given = given

    @abstractmethod
    async def prepare(self) -> None:
        """Make the schema in an empty database, with the settings the peer's documents recommend."""

    @abstractmethod
    def client(self) -> AbstractAsyncContextManager[Client]:
        """Lend what schedules, on ``given.connections`` connections."""

    async def work(self) -> None:
        """Be one worker process until SIGTERM."""
        raise NotImplementedError


class Client(ABC):
    """What schedules."""

    @abstractmethod
    async def one(self, number: int, lane: int) -> object:
        """Schedule job ``number``; ``lane`` is which of the connections it is to be, where one must be named."""

    @abstractmethod
    async def many(self, start: int, count: int) -> object:
        """Schedule ``count`` jobs from ``start`` on, in one call."""

    @abstractmethod
    async def timed(self, at_ns: int) -> object:
        """Schedule a job whose handler notes the time since ``at_ns``."""


async def _fill(client: Client, count: int) -> None:
    for start in range(0, count, CHUNK):
        await client.many(start, min(CHUNK, count - start))


async def _single(client: Client, given: Given) -> list[float]:
    numbers, took = iter(range(given.count)), list[float]()

    async def lane(which: int) -> None:
        for number in numbers:
            began = time.perf_counter()
            await client.one(number, which)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*[lane(which) for which in range(given.connections)])
    return took


async def _measured(client: Client, given: Given) -> None:
    for _ in range(3):
        await asyncio.gather(*[client.one(-1, lane) for lane in range(given.connections)])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    spent, began = time.process_time(), time.perf_counter()
    took = [0.0]
    if given.command == "single":
        took = await _single(client, given)
    else:
        await _fill(client, given.count)
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    said = {"seconds": seconds, "cpu_s": spent, "p50_ms": sorted(took)[len(took) // 2] * 1000}
    print(json.dumps(said), flush=True)


async def _pace(client: Client, count: int) -> None:
    rng = random.Random(7)
    began = time.monotonic()
    for number in range(count):
        # Jittered, so that a worker that polls cannot fall into step.
        at = began + (number + rng.uniform(-0.4, 0.4)) / PER_SECOND
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        await client.timed(time.monotonic_ns())


async def run(make: Callable[[Given], Program], arguments: list[str] | None = None) -> None:
    """Carry out one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["prepare", "fill", "single", "bulk", "pace", "work"])
    parser.add_argument("--database", required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--task", default="noop")
    parser.add_argument("--keys", action="store_true")
    given = Given(**vars(parser.parse_args(arguments)))
    program = make(given)
    if given.command == "prepare":
        await program.prepare()
    elif given.command == "work":
        await program.work()
    else:
        async with program.client() as client:
            if given.command == "fill":
                await _fill(client, given.count)
            elif given.command == "pace":
                await _pace(client, given.count)
            else:
                await _measured(client, given)
