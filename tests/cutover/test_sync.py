"""Every verb of a cutover for code without an event loop, with the same words."""

import inspect

from pydantic import SecretStr

from adapter import Adapter, Settings
from adapter.core.cron.verbs import KeepsSchedules
from adapter.core.cutover.verbs import CutsOver
from adapter.sync import SyncAdapter


def test_every_verb_has_a_twin_that_waits() -> None:
    verbs = {
        name
        for mixin in (CutsOver, KeepsSchedules)
        for name, _ in inspect.getmembers(mixin, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    missing = {name for name in verbs if not callable(getattr(SyncAdapter, name, None))}
    assert missing == set()
    assert {name for name in verbs if inspect.iscoroutinefunction(getattr(SyncAdapter, name))} == set()


def test_flags_are_turned_without_an_event_loop(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url)))

    @adapter.task("echo")
    async def echo(payload: object) -> None:
        del payload

    del echo
    with adapter.sync as face:
        made = face.rollout("echo", to="local", percent=10, reason="week 1", actor="ann")
        face.kill(reason="INC-7")
        assert face.flags().kill_runtime == {"*": "local"}
        assert face.explain("echo", tag="a").route.reason == "kill switch: runtime, all tasks"
        assert [each.reason for each in face.cutover_history()] == ["INC-7", "week 1"]
        assert face.clear_flag("kill", "*", reason="over") is not None
        assert face.revert_change(made.id, reason="no").after is None
        assert face.cutover_status().flags == []
        job = face.schedule_job("echo")
        assert face.explain_job(job.id).job.route_reason == "default"
