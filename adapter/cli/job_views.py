"""How jobs are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adapter.cli import output
from adapter.domain.documents import job_document
from adapter.domain.identity import run_id_of
from adapter.domain.job import Job
from adapter.domain.waiting import WaitReason
from adapter.store.insights import JobEvent, JobPage

#: What a list leaves out: it can be large, and `show` has it.
_LARGE = ("data", "result", "metadata", "extra")
_LONGEST_JSON = 4000
_MOST_AWAITED = 25


def summary(job: Job) -> dict[str, Any]:
    """Return the document without what can be large."""
    fields = {name: value for name, value in job_document(job).items() if name not in _LARGE}
    if job.error is not None:
        fields["error"] = {name: value for name, value in job.error.items() if name != "stack"}
    return fields


def jobs_table(jobs: Iterable[Job], now: datetime) -> Table:
    """Return jobs as a table."""
    columns = ("ID", "TASK", "STATUS", "EXECUTOR", "QUEUE", "TAG", "TRY", "CREATED")
    rows = [
        (
            str(job.id),
            job.type,
            status(job),
            job.executor,
            job.queue,
            job.tag,
            f"{job.attempt}/{job.max_attempts}",
            output.ago(job.created_at, now),
        )
        for job in jobs
    ]
    return output.table(columns, rows)


def status(job: Job) -> Text:
    """Return the status, with what it waits for."""
    shown = output.word(job.status)
    if job.waiting_for is not None:
        shown.append(f" ({job.waiting_for})", style="dim")
    if job.cancel_requested and not job.status.is_terminal:
        shown.append(" (cancel asked)", style="yellow")
    return shown


def scheduled(job: Job, now: datetime, *, with_result: bool = False) -> list[RenderableType]:
    """Return what a scheduling command answers."""
    pairs: list[tuple[str, object]] = [
        ("job", str(job.id)),
        ("run id", run_id_of(job.id)),
        ("status", status(job)),
        ("route", f"{job.executor}: {job.route_reason}"),
        ("due", _when(job.due, now)),
        ("remote run", job.remote_run_id),
        ("found", "this job was there before: nothing was scheduled" if job.deduplicated else None),
    ]
    parts: list[RenderableType] = [output.facts(pairs)]
    if with_result:
        parts += _block("Result", job.result)
    return parts


def job_sheet(
    job: Job, events: Sequence[JobEvent], now: datetime, *, beside: Sequence[RenderableType] = ()
) -> list[RenderableType]:
    """Return everything about a job; ``beside`` follows its facts."""
    ran = job.finished - job.started if job.finished and job.started else None
    pairs: list[tuple[str, object]] = [
        ("job", str(job.id)),
        ("run id", run_id_of(job.id)),
        ("task", job.type),
        ("status", status(job)),
        ("route", f"{job.executor or 'none yet'}: {job.route_reason or 'not routed yet'}"),
        ("epoch", job.epoch),
        ("submit", None if job.executor == "local" else job.submit_state),
        ("remote run", job.remote_run_id),
        ("remote status", job.remote_status),
        ("remote env.", job.remote_environment),
        ("queue", job.queue),
        ("key", job.concurrency_key),
        ("priority", job.priority or None),
        ("attempt", f"{job.attempt} of {job.max_attempts}"),
        ("progress", _progress(job)),
        ("tag", job.tag),
        ("labels", ", ".join(job.tags) or None),
        ("user", job.user_id),
        ("idempotency", job.idempotency_key),
        ("parent", job.parent_id),
        ("root", job.root_id),
        ("replay of", job.extra.get("replay_of")),
        ("created", _when(job.created_at, now)),
        ("due", _when(job.due, now)),
        ("expires", _when(job.expires_at, now)),
        ("started", _when(job.started, now)),
        ("finished", _when(job.finished, now)),
        ("took", f"{ran.total_seconds():.3f} s" if ran is not None else None),
        ("kept until", _when(job.remove_at, now)),
    ]
    parts: list[RenderableType] = [output.facts(pairs), *beside]
    parts += _block("Payload", job.data)
    parts += _block("Metadata", job.metadata)
    parts += _block("Result", job.result)
    parts += _error(job.error)
    if events:
        rows = [
            (
                output.moment(each.at),
                str(each.epoch),
                each.kind,
                each.actor,
                ", ".join(f"{k}={v}" for k, v in (each.detail or {}).items()),
            )
            for each in events
        ]
        parts += [
            _heading("History"),
            _indented(output.table(("AT", "EPOCH", "WHAT", "WHO", "DETAIL"), rows)),
        ]
    return [Group(*parts)]


def waits(reasons: Sequence[WaitReason], now: datetime) -> list[RenderableType]:
    """Return why a job waits; nothing when it does not."""
    if not reasons:
        return []
    rows = [(each.code, each.text, _when(each.since, now), _when(each.until, now)) for each in reasons]
    return [_heading("Why it waits"), _indented(output.table(("WHAT", "WHY", "SINCE", "UNTIL"), rows))]


def children(page: JobPage, awaited: Collection[UUID], now: datetime) -> list[RenderableType]:
    """Return a parent's newest children, and what it awaits; nothing when it has none."""
    if not page.jobs:
        return []
    title = "Children" if page.next is None else f"Children (the newest {len(page.jobs)})"
    parts: list[RenderableType] = [_heading(title), _indented(jobs_table(page.jobs, now))]
    if awaited:
        parts += [_heading(f"Awaits ({len(awaited)})")]
        parts += [_indented(Text(str(each))) for each in sorted(awaited)[:_MOST_AWAITED]]
        if len(awaited) > _MOST_AWAITED:
            parts.append(_indented(Text("… (all of them with --json)", style="dim")))
    return parts


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _progress(job: Job) -> str | None:
    said: Any = (job.metadata or {}).get("progress")
    match said:
        case {"value": float() | int() as value, **rest}:
            return f"{value:.0%} {rest.get('message') or ''}".rstrip()
        case _:
            return None


def _when(at: datetime | None, now: datetime) -> str | None:
    if at is None:
        return None
    passed = output.ago(at, now) or ""
    return f"{output.moment(at)} ({passed if passed.startswith('in ') else f'{passed} ago'})"


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _error(error: dict[str, Any] | None) -> list[RenderableType]:
    if error is None:
        return []
    words = Text(f"{output.plain(error.get('name') or 'Error')}: ", style="red")
    words.append(output.plain(error.get("message") or "no message was kept"), style="default")
    if error.get("stack"):
        words.append(f"\n{output.plain(error['stack']).rstrip()}", style="dim")
    return [_heading("Error"), _indented(words)]


def _block(title: str, value: Any) -> list[RenderableType]:
    if value is None:
        return []
    shown = JSON.from_data(value, indent=2, ensure_ascii=False)
    text = Text(output.plain(shown.text.plain[:_LONGEST_JSON]), overflow="fold")
    if len(shown.text.plain) > _LONGEST_JSON:
        text.append("\n… (all of it with --json)", style="dim")
    return [_heading(title), _indented(text)]
