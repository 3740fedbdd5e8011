"""`adapter.sync` where the adapter is open already: handlers in threads, and the loop itself."""

from datetime import timedelta

import pytest

from adapter import Adapter, Settings
from adapter.domain.errors import InvalidArgumentError, NotOpenError

SOON = timedelta(seconds=20)


def made(database_url: str) -> Adapter:
    return Adapter(Settings.model_validate({"database_url": database_url}))


async def test_a_handler_in_a_thread_schedules_through_the_sync_face(database_url: str) -> None:
    adapter = made(database_url)

    @adapter.task("child")
    async def child(payload: int) -> int:
        return payload + 1

    @adapter.task("parent")
    def parent(payload: int) -> str:
        with adapter.sync as face:
            return str(face.schedule_job("child", payload).id)

    async with adapter.running(work=True):
        job = await parent.schedule(1)
        child_id = await job.result(SOON)
        found = [each for each in (await adapter.list_jobs()).jobs if str(each.id) == child_id]
        assert [each.type for each in found] == ["child"]
        # The handler's block closed its own face and nothing else.
        assert await (await child.schedule(4)).result(SOON) == 5


async def test_the_sync_face_refuses_to_wait_for_the_loop_it_is_called_on(database_url: str) -> None:
    adapter = made(database_url)
    async with adapter:
        with adapter.sync as face, pytest.raises(InvalidArgumentError, match="Await instead"):
            face.list_jobs()


def test_a_closed_sync_face_says_so(database_url: str) -> None:
    adapter = made(database_url)
    with adapter.sync as face:
        assert face.list_jobs().jobs == ()
    with pytest.raises(NotOpenError):
        face.list_jobs()
