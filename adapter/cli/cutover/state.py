"""How things stand: where each task's jobs go, by whose doing, and what is still open where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from adapter.cli.invocation import Invocation
from adapter.domain.gates import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from adapter.app import Adapter
    from adapter.core.cutover.status import CutoverStatus, TaskStatus
    from adapter.core.cutover.way_back import WayBack
    from adapter.store.flag_entries import FlagEntry

_NOTHING = (None, None, None)
#: More tasks than this are counted and not named.
_MOST_NAMED = 5


def status(ctx: typer.Context) -> None:
    """Show where the jobs of each task go now, since when, who did it and why; and how many are open where."""
    from adapter.cli import output

    async def read(adapter: Adapter) -> tuple[CutoverStatus, datetime]:
        return await adapter.cutover_status(), adapter.clock.now()

    invocation = Invocation.of(ctx)
    found, now = invocation.run(read)
    rows = [*_for_all(found, now), *(_row(each, now) for each in found.tasks)]
    columns = ("TASK", "GOES TO", "BECAUSE", "OPEN", "SINCE", "WHO", "WHY")
    parts = [output.table(columns, rows)] if rows else []
    notes = "" if rows else "No tasks are known, and nothing is switched: say --app pkg.mod:adapter."
    invocation.answer(found, *parts, note=notes)
    if not invocation.as_json:
        for line in _back(found.ways_back):
            invocation.say(line)
    for each in found.warnings if not invocation.as_json else ():
        invocation.say(f"warning: {each}", style="yellow")


def _back(ways: list[WayBack]) -> Iterable[str]:
    """Say per executor whether one can still go back there, and what stands in the way."""
    for executor in dict.fromkeys(each.executor for each in ways):
        there = [each for each in ways if each.executor == executor]
        fine = [each.task for each in there if each.verdict is Verdict.PASSED]
        names = f" ({', '.join(fine)})" if len(fine) <= _MOST_NAMED else ""
        said = [f"yes for {len(fine)}{names}"] if fine else []
        for verdict, word in ((Verdict.FAILED, "NO"), (Verdict.UNKNOWN, "nobody knows")):
            said += [
                f"{word} for {each.task}: {_why(each, verdict)}" for each in there if each.verdict is verdict
            ]
        yield f"Can we still go back to {executor}? {'; '.join(said)}"


def _why(way: WayBack, verdict: Verdict) -> str:
    return next(each.says for each in way.checks if each.verdict is verdict)


def _for_all(found: CutoverStatus, now: datetime) -> list[tuple[Any, ...]]:
    """Return what holds for tasks that have nothing of their own, switches of tasks nobody knows, and shadows."""
    known = {each.task for each in found.tasks}
    fixed = [
        (each.task, f"{each.executor}", f"kill switch: {each.source}", None, *_NOTHING)
        for each in found.switches
        if each.task not in known
    ]
    turned = [
        (each.task, _aim(each), _KINDS[each.kind], None, *_who(each, now))
        for each in found.flags
        if each.task not in known or each.kind == "shadow"
    ]
    return fixed + turned


_KINDS = {"kill": "kill switch: runtime", "rollout": "rollout", "circuit": "open circuit", "shadow": "shadow"}


def _aim(flag: FlagEntry) -> str:
    if flag.kind == "circuit":
        return f"not {flag.executor}"
    if flag.kind == "shadow":
        return f"{flag.percent:g}% copied to {flag.executor}"
    return flag.executor if flag.percent is None else f"{flag.executor} {flag.percent:g}%"


def _row(task: TaskStatus, now: datetime) -> tuple[Any, ...]:
    from adapter.cli import output

    one = len(task.shares) == 1
    goes = ", ".join(each.executor if one else f"{each.executor} {each.percent:g}%" for each in task.shares)
    jobs = ", ".join(f"{executor} {count}" for executor, count in task.open.items())
    who = _NOTHING if task.flag is None else _who(task.flag, now)
    return task.task, output.cell(goes, "bold"), task.rule, jobs, *who


def _who(flag: FlagEntry, now: datetime) -> tuple[Any, ...]:
    from adapter.cli import output

    return output.ago(flag.updated_at, now), flag.actor, flag.reason
