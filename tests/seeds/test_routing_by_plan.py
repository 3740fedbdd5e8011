"""S4, "routing by customer plan": attributes of the call carry the plan; some plans move, the others stay."""

from tests.rig import Rig


async def test_jobs_of_some_plans_move_and_the_others_stay(rig: Rig) -> None:
    await rig.adapter.rollout(
        "both",
        to="trigger",
        percent=100,
        by="context.customer",
        deny=["acme"],
        when={"plan": ["pro", "team"]},
        reason="paying customers first",
    )

    async def goes(**context: object) -> str | None:
        return (await rig.adapter.schedule_job("both", context=context)).executor

    assert await goes(plan="pro", customer="blue") == "trigger"
    assert await goes(plan="team", customer="blue") == "trigger"
    assert await goes(plan="pro", customer="acme") == "local"
    assert await goes(plan="free", customer="blue") == "local"
    assert await goes() == "local"


async def test_all_jobs_of_one_customer_go_together_as_the_share_rises(rig: Rig) -> None:
    sides: dict[str, list[str | None]] = {f"c{n}": [] for n in range(20)}
    for percent in (10, 50, 90):
        await rig.adapter.rollout("both", to="trigger", percent=percent, by="context.customer", reason="on")
        for customer, seen in sides.items():
            jobs = [await rig.adapter.schedule_job("both", context={"customer": customer}) for _ in range(2)]
            assert len({job.executor for job in jobs}) == 1
            seen.append(jobs[0].executor)
    moved = [seen.index("trigger") for seen in sides.values() if "trigger" in seen]
    assert all("local" not in seen[seen.index("trigger") :] for seen in sides.values() if "trigger" in seen)
    assert len(set(moved)) > 1
