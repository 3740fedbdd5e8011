"""What the doctor makes of those who are told how jobs go."""

from __future__ import annotations

from adapter.app import Adapter
from adapter.cli.verdicts import Check, Verdict

_NAME = "webhooks to others"


async def examine(adapter: Adapter) -> list[Check]:
    """Return the checks; none while nobody is subscribed."""
    async with adapter:
        found = await adapter.webhook_subscriptions()
    checks: list[Check] = []
    for each in found:
        who = f"{each.name or each.id} ({each.url})"
        if not each.active and each.disabled_because:
            advice = f"`adapter webhooks change {each.id} --on` when it is there again."
            checks.append(Check(_NAME, Verdict.WARN, f"{who} is off: {each.disabled_because}", advice))
        elif each.dead or each.open_until is not None:
            finding = f"{who}: {each.pending} wait, {each.dead} were given up"
            advice = "See `adapter webhooks deliveries`; when it is mended: `adapter webhooks redrive`."
            checks.append(Check(_NAME, Verdict.WARN, finding, advice))
    if found and not checks:
        waiting = sum(each.pending for each in found)
        checks.append(Check(_NAME, Verdict.PASS, f"{len(found)} are told, {waiting} events wait"))
    return checks
