"""What the doctor makes of pass-through: what still goes to the Trigger.dev behind us."""

from __future__ import annotations

from adapter.app import Adapter
from adapter.cli.verdicts import Check, Verdict

_DAYS = 7
#: So many endpoints and tasks are named.
_NAMED = 5


async def examine(adapter: Adapter) -> list[Check]:
    """Return the checks; none while nothing is handed on and nothing was."""
    async with adapter:
        passing = adapter.pass_through
        found = await adapter.forwarded(_DAYS)
        strangers = passing.strangers(adapter.settings.api_keys) if passing.is_on else 0
    if not passing.is_on and not found:
        return []
    total, failed = sum(each.requests for each in found), sum(each.failed for each in found)
    said = [f"{each.requests} {each.endpoint}{f' ({each.task})' if each.task else ''}" for each in found]
    finding = f"forwarded in the last {_DAYS} days: {total}, failed: {failed}"
    finding += f"; most: {', '.join(said[:_NAMED])}" if said else ""
    if failed:
        checks = [Check("pass-through", Verdict.WARN, finding, "Was TRIGGER_UPSTREAM_URL down?")]
    else:
        checks = [Check("pass-through", Verdict.PASS, finding)]
    if strangers:
        advice = "Say which in TRIGGER_UPSTREAM_KEYS; a key of ours is never shown to others."
        what = f"{strangers} of ADAPTER_API_KEYS have no key there: their callers see only what is here"
        checks.append(Check("pass-through keys", Verdict.WARN, what, advice))
    return checks
