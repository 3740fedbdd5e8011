"""It wakes one sleeper, soon or at the latest, and remembers that it was rung."""

import asyncio

from adapter.core.bell import Bell


async def _tick() -> None:
    for _ in range(3):
        await asyncio.get_running_loop().run_in_executor(None, int)


async def _sleeps(bell: Bell) -> bool:
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(bell.heard(60))
        await _tick()
        sleeps = not sleeper.done()
        sleeper.cancel()
    return sleeps


async def test_who_sleeps_is_woken() -> None:
    bell = Bell()
    async with asyncio.TaskGroup() as group:
        group.create_task(bell.heard(60))
        await _tick()
        bell.ring()
        bell.ring()


async def test_who_comes_after_it_was_rung_does_not_sleep_until_it_is_stilled() -> None:
    bell = Bell()
    bell.ring()
    assert not await _sleeps(bell)
    assert not await _sleeps(bell)
    bell.still()
    assert await _sleeps(bell)
    # Nobody sleeps any more whom this could wake.
    bell.ring()
    assert not await _sleeps(bell)


async def test_nobody_sleeps_longer_than_they_said() -> None:
    bell = Bell()
    await bell.heard(0.01)
    # That was no ring.
    assert await _sleeps(bell)
