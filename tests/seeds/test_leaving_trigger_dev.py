"""S0, phase 6, "Cleanup": what has to go before Trigger.dev can be shut down is listed; of variables only the names."""

from dataclasses import asdict

import pytest

from adapter.domain.gates import Verdict
from tests.rig import Rig, new_id

#: S0, 6.3: "Update environment variables. Remove:".
VARIABLES = (
    "TRIGGER_PROJECT_ID",
    "TRIGGER_SECRET_KEY",
    "TRIGGER_API_KEY",
    "TRIGGER_SECRET",
    "TRIGGER_DEV_API_KEY",
    "TRIGGER_API_URL",
    "TRIGGER_ENDPOINT",
    "TRIGGER_WEBHOOK_SECRET",
)


async def test_s0_phase_6_finalize_check_lists_what_still_ties_you_there(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.sent("remote")
    await rig.sql(
        "INSERT INTO {s}.job_schedules (id, task, cron, owner, remote_schedule_id)"
        " VALUES (%(id)s, 'remote', '0 6 * * *', 'trigger', 'sched_6')",
        id=new_id(),
    )
    await rig.adapter.receive_webhook("hooks", "msg_1", "s1", {"type": "x"})
    for name in VARIABLES:
        monkeypatch.setenv(name, "not-to-be-shown")
    monkeypatch.setenv("ADAPTER_EXECUTOR__REMOTE", "trigger")
    report = await rig.adapter.finalize_check("trigger")
    found = {each.name: each.found for each in report.ties}
    assert found["open runs"] == ["remote: 1"]
    assert found["schedules"] == ["remote: sched_6 lives there"]
    assert found["webhook secrets used in 7 days"][0].startswith("s1: 1 webhooks")
    assert found["traffic of 7 days"][0].startswith("remote: 1 jobs")
    assert found["variables"] == sorted((*VARIABLES, "ADAPTER_EXECUTOR__REMOTE"))
    assert "remote: its default" in found["registry"]
    assert "not-to-be-shown" not in str(asdict(report))
    gates = {each.name: each.verdict for each in report.gates}
    assert not report.ready
    assert {gates[name] for name in ("drained", "traffic", "elsewhere", "drill")} == {Verdict.FAILED}
