"""kill -9 of the process that hands a clock over, while its call is under way: another ends it right."""

import pytest

from tests.fault.remote import Hold, Remote
from tests.fault.site import Site
from tests.kit import eventually


@pytest.mark.parametrize("hold", ["before", "after"])
async def test_a_hand_over_whose_process_is_killed_in_a_call_arrives(site: Site, hold: Hold) -> None:
    """``before``: the call of the dead still lands, when the living is at it already."""
    async with Remote() as remote:
        site.env |= remote.env
        remote.hold, remote.held_path = hold, "/schedules"
        async with site.adapter() as adapter:
            made = await adapter.schedule_cron("either", "0 0 1 1 *", {})
            await adapter.hand_over_schedule(made.id, to="trigger", reason="they keep it")
        first = await site.start("worker").ready()
        await eventually(lambda: remote.held == 1, within=20)
        first.kill()
        site.rows("UPDATE leases SET until = now() - interval '1 second' WHERE name = 'schedules'")
        remote.release()
        await site.start("worker").ready()
        await eventually(lambda: site.count("job_schedules", "owner = 'trigger'") == 1, within=20)
        [there] = remote.fake.schedules.values()
        assert (there.active, there.external_id) == (True, str(made.id))
        [row] = site.rows("SELECT handover_state, next_at, extra ->> 'problem' AS problem FROM job_schedules")
        assert tuple(row.values()) == (None, None, None)
