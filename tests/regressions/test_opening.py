"""What opening and closing, long sessions and second blocks leave behind."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from adapter import Adapter, Settings
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import JobStatus
from adapter.store.steps import after_commit
from tests.kit import eventually
from tests.rig import Rig, rigged


async def test_closing_ends_everything_though_the_last_notification_cannot_be_sent(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(database_url) as rig:
        adapter = rig.adapter

        async def unavailable(*_: Any) -> Any:
            raise DatabaseUnavailableError("gone")

        monkeypatch.setattr(adapter.database, "connect", unavailable)
        adapter.notifier.poke("default")
    assert adapter.database._pool is None
    assert adapter.notifier._task is not None
    assert adapter.notifier._task.exception() is None


def test_a_session_that_lives_long_keeps_nothing_of_what_it_scheduled(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url)))

    @adapter.task("echo")
    async def echo(payload: Any) -> Any:
        return payload

    del echo
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with adapter.sync, Session(engine) as session:
        for _ in range(5):
            adapter.sync.schedule_job("echo", 1, within=session)
            session.commit()
            adapter.sync.schedule_job("echo", 1, within=session)
            session.rollback()
        listeners = [*session.dispatch.after_commit, *session.dispatch.after_rollback]
        assert len(listeners) <= 2
    engine.dispose()


def test_a_savepoint_is_no_commit(database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    said = list[str]()
    with Session(engine) as session:
        session.connection()
        with session.begin_nested():
            session.connection()
            assert after_commit(session, lambda: said.append("done"))
        assert said == []
        session.commit()
        assert said == ["done"]
        session.connection()
        session.commit()
        assert said == ["done"]
        session.connection()
        after_commit(session, lambda: said.append("never"))
        session.rollback()
        session.connection()
        session.commit()
        assert said == ["done"]
    engine.dispose()


async def test_background_loops_can_run_twice_in_one_opened_adapter(rig: Rig) -> None:
    for turn in range(2):
        async with rig.adapter.running(work=True, dispatch=True, sync=True):
            job = await rig.adapter.schedule_job("echo", turn, delay=timedelta(milliseconds=10))
            sent = await rig.adapter.schedule_job("remote", turn)
            ended = await rig.adapter.wait_for(job.id, timedelta(seconds=5))
            assert ended.status is JobStatus.COMPLETED
            await eventually(lambda sent=sent: _is_sent(rig, sent.id))


async def _is_sent(rig: Rig, job_id: Any) -> bool:
    return (await rig.row(job_id))["remote_run_id"] is not None
