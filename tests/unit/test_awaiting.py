"""What can be seen of what a task awaits: tasks, and the ways of asyncio to await several; no to all else."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from adapter.core.awaiting import awaits_only

Several = Callable[[list[asyncio.Task[Any]]], Coroutine[Any, Any, None]]


async def _settle() -> None:
    for _ in range(10):
        await asyncio.to_thread(int)


async def gathers(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks)


async def waits(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


async def waits_for_one_after_another(tasks: list[asyncio.Task[Any]]) -> None:
    left = set(tasks)
    while left:
        _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)


async def awaits_each(tasks: list[asyncio.Task[Any]]) -> None:
    for each in reversed(tasks):
        await each


async def nests(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(gathers(tasks[:1]), waits(tasks[1:]))


async def groups(tasks: list[asyncio.Task[Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in tasks:
            group.create_task(awaits_each([each]))


async def passes(tasks: list[asyncio.Task[Any]]) -> None:
    async with asyncio.timeout(60):
        await awaits_each(tasks)


@pytest.mark.parametrize(
    "several", [gathers, waits, waits_for_one_after_another, awaits_each, nests, groups, passes]
)
async def test_what_is_awaited_is_seen_through(several: Several) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.get_running_loop().create_task(gate.wait()) for gate in gates]
    whole = asyncio.get_running_loop().create_task(several(tasks))
    await _settle()
    assert awaits_only(whole, set(tasks))
    assert not awaits_only(whole, {tasks[0]})
    gates[0].set()
    await _settle()
    assert awaits_only(whole, {tasks[1]})
    assert not awaits_only(whole, {tasks[0]})
    gates[1].set()
    await whole


async def computes(_: list[asyncio.Task[Any]]) -> None:
    await asyncio.Event().wait()


async def gathers_more(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, asyncio.Event().wait())


async def groups_more(tasks: list[asyncio.Task[Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(awaits_each(tasks))
        group.create_task(computes([]))


async def is_in_a_thread(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, asyncio.get_running_loop().create_future())


async def takes_them_as_they_come(tasks: list[asyncio.Task[Any]]) -> None:
    for each in asyncio.as_completed(tasks):
        await each


async def shields(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.shield(asyncio.gather(*tasks))


async def yields(tasks: list[asyncio.Task[Any]]) -> None:
    async def generate() -> AsyncGenerator[int]:
        await asyncio.Event().wait()
        yield len(tasks)

    async for _ in generate():
        pass


@pytest.mark.parametrize(
    "other",
    [computes, gathers_more, groups_more, is_in_a_thread, takes_them_as_they_come, shields, yields],
)
async def test_of_everything_else_it_says_no(other: Several) -> None:
    tasks = [asyncio.get_running_loop().create_task(asyncio.Event().wait()) for _ in range(2)]
    whole = asyncio.get_running_loop().create_task(other(tasks))
    await _settle()
    try:
        assert not awaits_only(whole, set(tasks))
        assert awaits_only(whole, {whole})
    finally:
        for each in [whole, *tasks]:
            each.cancel()
        await asyncio.wait([whole, *tasks])


async def test_a_task_that_is_about_to_go_on_does_not_wait() -> None:
    gate = asyncio.Event()
    task = asyncio.get_running_loop().create_task(gate.wait())
    whole = asyncio.get_running_loop().create_task(gathers([task]))
    await _settle()
    gate.set()
    seen: list[bool] = []
    # It is called after what the gathering has asked for, and before the task that this wakes.
    task.add_done_callback(lambda _: seen.append(whole.done() or awaits_only(whole, set())))
    await whole
    await _settle()
    assert seen == [False]


async def test_two_that_wait_for_each_other_are_looked_at_once() -> None:
    others: list[asyncio.Task[Any]] = []

    async def wait_for(number: int) -> None:
        await asyncio.wait([others[number]])

    loop = asyncio.get_running_loop()
    others.extend([loop.create_task(wait_for(1)), loop.create_task(wait_for(0))])
    await _settle()
    assert awaits_only(others[0], set())
    for each in others:
        each.cancel()
    await asyncio.wait(others)
