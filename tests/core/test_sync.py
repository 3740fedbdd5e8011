"""Every verb for code without an event loop, with the same words."""

import inspect

from pydantic import SecretStr

from adapter import Adapter, Settings
from adapter.sync import SyncAdapter

#: What only the loops and the web floor call.
OF_THE_HOUSE = {"claim_start", "probe", "receive_webhook"}
#: By other names, or made of parts.
OTHERWISE = {"schedule_specs": "schedule_many"}


def test_every_verb_has_a_twin_that_waits() -> None:
    verbs = {
        OTHERWISE.get(name, name)
        for name, _ in inspect.getmembers(Adapter, inspect.iscoroutinefunction)
        if not name.startswith("_") and name not in OF_THE_HOUSE
    }
    missing = {name for name in verbs if not callable(getattr(SyncAdapter, name, None))}
    assert missing == set()
    assert {name for name in verbs if inspect.iscoroutinefunction(getattr(SyncAdapter, name))} == set()


def test_a_job_is_looked_after_without_an_event_loop(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url)))

    @adapter.task("echo")
    async def echo(payload: object) -> object:
        return payload

    with adapter.sync as face:
        job = face.schedule_job("echo", 1, user_id="u", queue="slow")
        (reason,) = face.why_waiting(job.id)
        assert reason.code == "no_worker"
        assert (face.get_job(job.id), face.awaited_jobs(job.id), face.job_events(job.id)) == (job.job, [], [])
        face.pause_queue("slow", reason="deploy")
        assert face.why_waiting(job.id)[0].code == "paused"
        again = face.replay_job(job.id, data=2)
        assert (again.job.data, again.job.user_id) == (2, "u")
        assert {each.id for each in face.list_jobs().jobs} == {job.id, again.id}
        assert face.cancel_job(job.id).status == "CANCELED"
        assert face.wait_for(job.id).status == "CANCELED"
        assert face.dead_letters().letters == ()
    del echo


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
