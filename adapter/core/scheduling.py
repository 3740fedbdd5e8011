"""From plans to rows: routed, inserted, once per key and tag, and never with stale flags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace as changed
from typing import TypeAlias
from uuid import UUID

from adapter.core.flags import FlagSource
from adapter.core.planning import Planned, Planner
from adapter.core.registry import Registry
from adapter.domain.debounce import Debounce
from adapter.domain.errors import DuplicateJobError, FlagConflictError, NameTakenError
from adapter.domain.job import LOCAL, Job, JobStatus, NewJob
from adapter.domain.routing import Flags, Route, Step, can_run, decide, depends_on_job, explain
from adapter.store.debouncing import let_go, put_off
from adapter.store.inserting import MOST_ROWS, are_plain, insert, insert_plain, release_tag, replace
from adapter.store.jobs import Holder, find_held
from adapter.store.processes import MAKE_QUEUES
from adapter.store.rows import Written, found
from adapter.store.steps import Savepoint, Statement, Steps
from adapter.store.wakeup import DISPATCH

_MOST_TRIES = 20
_HELD_BY = {"request": "request key", "key": "idempotency key", "throttle": "throttle", "tag": "tag"}

#: What became of a plan: the row that was written, or the job that was found.
Scheduled: TypeAlias = "Job | Written"


class Scheduler:
    """Routes planned jobs and carries them into the store."""

    def __init__(
        self, planner: Planner, registry: Registry, flags: FlagSource, *, delaying: frozenset[str]
    ) -> None:
        #: Makes the plans.
        self.plan = planner.plan
        self._registry = registry
        self._flags = flags
        #: Executors that can hold a job until it is due.
        self._delaying = delaying
        #: Routes that do not depend on the job, by (task, executor=, strict=), as of these flags.
        self._routes: dict[tuple[str, str | None, bool], tuple[Route, JobStatus]] = {}
        self._routes_of: Flags | None = None

    def explain(self, planned: Planned, data: object, flags: Flags) -> tuple[Route, list[Step]]:
        """Return the route the job would take with the payload ``data``, and why."""
        return explain(planned.definition.policy, planned.request_with(data), flags)

    def schedule(self, planned: Sequence[Planned], *, own: bool = True) -> Steps[list[Scheduled]]:
        """Insert the jobs, or settle with those that hold their keys and tags; one result per plan, in order.

        Needs an open transaction where `needs_transaction` says so. ``own=False``: it is a caller's.

        Raises:
            DuplicateJobError: a name is held, and the call wants to know; nothing is written.
            NameTakenError: a name is held by another user's job, and the caller is only to meet their own.
            FlagConflictError: the flags changed faster than we could decide, many times over.
        """
        if any("debounce" in each.options for each in planned):
            return (yield from self._some_debounced(planned, own=own))
        return (yield from self._schedule(planned, own=own))

    def _some_debounced(self, planned: Sequence[Planned], *, own: bool) -> Steps[list[Scheduled]]:
        rest = [each for each in planned if each.options.get("debounce") is None]
        done = iter((yield from self._schedule(rest, own=own)) if rest else [])
        result: list[Scheduled] = []
        for each in planned:
            debounce = each.options.get("debounce")
            if debounce is None:
                result.append(next(done))
            else:
                result.append((yield from self._debounced(each, debounce, own=own)))
        return result

    def _debounced(self, planned: Planned, debounce: Debounce, *, own: bool) -> Steps[Scheduled]:
        """Put the job off that holds the debounce's key, or make one when none can be put off."""
        for _ in range(_MOST_TRIES):
            holder = (yield from find_held([planned.job])).get(planned.job.id)
            _require_own(planned, holder)
            if holder is not None and holder.by != "tag":
                return found(holder.job, repeated=holder.by == "request")
            if holder is not None:
                later = yield from put_off(holder.job.id, debounce, planned.job.payload, planned.options)
                if later is not None:
                    return later
                yield from let_go(holder.job.id)
            (made,) = yield from self._schedule([planned], own=own)
            if not made.deduplicated:
                return made
        msg = f"The debounce {debounce.key!r} changed hands while it was looked at. Nothing is lost: schedule again."
        raise FlagConflictError(msg)

    def _schedule(self, planned: Sequence[Planned], *, own: bool) -> Steps[list[Scheduled]]:
        if own and len(planned) <= MOST_ROWS:
            written = yield from self.at_once(planned)
            if written:
                return [*written]
        # In a caller's transaction an error must leave nothing of this call behind.
        guarded = not own and any(each.job.terms.on_conflict == "reject" for each in planned)
        if guarded:
            yield Savepoint.SET
        try:
            done = yield from self._scheduled(planned, own=own)
        except DuplicateJobError:
            if guarded:
                yield Savepoint.UNDO
                yield Savepoint.KEEP
            raise
        if guarded:
            yield Savepoint.KEEP
        return [done[each.job.id] for each in planned]

    def is_plain(self, planned: Planned) -> bool:
        """Whether `at_once` inserts such a job, beside others, and without asking anything first."""
        terms = planned.job.terms
        return are_plain((terms,), MOST_ROWS) and terms.queue in self._registry.queue_limits

    @property
    def fresh_flags(self) -> Flags | None:
        """The flags, if they are known and not too old to decide with."""
        return self._flags.fresh

    def read_flags(self) -> Steps[Flags]:
        """Read the flags anew."""
        return self._flags.reading()

    def forget_flags(self) -> None:
        """Drop the flags: they have changed."""
        self._flags.forget()

    def routes_alike(self, planned: Planned, flags: Flags) -> bool:
        """Whether all jobs run here that differ from this one in their payloads at most."""
        task = planned.definition.id
        if depends_on_job(task, flags) or self._registry.find(task) is None:
            return False
        return self._route(planned, flags)[0].executor == LOCAL

    def at_once(self, planned: Sequence[Planned]) -> Steps[list[Written]]:
        """Insert jobs that have no name for others to hold, in one statement; all of them or none."""
        flags, terms = self._flags.fresh, {each.job.terms for each in planned}
        if flags is None or any(each.is_named for each in terms) or not are_plain(terms, len(planned)):
            return []
        yield from self.declare_queues({each.queue for each in terms})
        written = yield from insert_plain([self.routed(each, flags) for each in planned], flags.version)
        if not written:
            # The flags have changed: whoever goes on reads them anew.
            self._flags.forget()
        return written

    def _scheduled(self, planned: Sequence[Planned], *, own: bool) -> Steps[dict[UUID, Scheduled]]:
        left = {each.job.id: each for each in planned}
        done: dict[UUID, Scheduled] = {}
        flags = self._flags.fresh
        # On our own connection the insert itself finds out, and mostly there is nothing to find. In a
        # caller's transaction that would lock the holder's key until the caller is done.
        looking, missing = not own, set[UUID]()
        for _ in range(_MOST_TRIES):
            replacing = (yield from self._settle(left, done)) if looking else {}
            if not left:
                return done
            if flags is None or not missing.isdisjoint(left):
                # Read where we write: what others read meanwhile may be newer than a caller's snapshot.
                self._flags.forget()
                flags = yield from self._flags.reading(keep=own)
            first = _first_of_each_name(left.values())
            yield from self.declare_queues(each.job.terms.queue for each in first)
            jobs = [self.routed(each, flags) for each in first]
            done.update((yield from _write(jobs, replacing, flags.version)))
            missing = {job.id for job in jobs if job.id not in done}
            # Those that share a name with one that is in now are found in the next round.
            left = {job_id: each for job_id, each in left.items() if job_id not in done}
            if not left:
                return done
            looking = True
        msg = "The flags kept changing while jobs were routed. Nothing is lost: schedule them again."
        raise FlagConflictError(msg)

    def _settle(self, left: dict[UUID, Planned], done: dict[UUID, Scheduled]) -> Steps[dict[UUID, UUID]]:
        """Move those whose name is held from ``left`` to ``done``; return whose row, by key, they may take."""
        replacing: dict[UUID, UUID] = {}
        held = yield from find_held([each.job for each in left.values()])
        for job_id, holder in held.items():
            _require_own(left[job_id], holder)
            settled = yield from _settled(left[job_id].job, holder)
            if settled is not None:
                done[job_id] = settled
                del left[job_id]
            elif holder.by == "key":
                replacing[job_id] = holder.job.id
        return replacing

    def declare_queues(self, queues: Iterable[str]) -> Steps[None]:
        """Make queues known that no task names: a worker serves the queues it knows."""
        known = self._registry.queue_limits
        strange = sorted({queue for queue in queues if queue not in known})
        if strange:
            yield Statement(MAKE_QUEUES, {"names": strange})

    def routed(self, planned: Planned, flags: Flags) -> NewJob:
        """Return the job with the route that the flags give it."""
        job = planned.job
        route, job.status = self._route(planned, flags)
        job.executor, job.route_reason = route.executor, route.reason
        if "remote_delay" in job.terms.extra and route.executor not in self._delaying:
            extra = {name: value for name, value in job.terms.extra.items() if name != "remote_delay"}
            job.terms = changed(job.terms, extra=extra)
        return job

    def _route(self, planned: Planned, flags: Flags) -> tuple[Route, JobStatus]:
        if self._routes_of is not flags:
            self._routes, self._routes_of = {}, flags
        task = planned.definition.id
        key = (task, planned.executor, planned.options.get("strict", False))
        known = self._routes.get(key)
        if known is not None:
            return known
        policy = planned.definition.policy
        route = decide(policy, planned.request(), flags)
        if not can_run(policy, route.executor, flags):
            status = JobStatus.WAITING
        else:
            status = JobStatus.QUEUED if route.executor == LOCAL else JobStatus.PENDING
        # Of undeclared tasks anybody may think up any number.
        if not depends_on_job(task, flags) and self._registry.find(task) is not None:
            self._routes[key] = route, status
        return route, status


def _write(
    jobs: Sequence[NewJob], replacing: dict[UUID, UUID], flags_version: int
) -> Steps[dict[UUID, Scheduled]]:
    """Insert the jobs, and let those of ``replacing`` take the place of the job there."""
    done: dict[UUID, Scheduled] = {}
    fresh = [job for job in jobs if job.id not in replacing] if replacing else jobs
    if fresh:
        # Names are taken in sorted order, so that two calls cannot wait for each other.
        result = yield from insert(sorted(fresh, key=_lock_order) if len(fresh) > 1 else fresh, flags_version)
        done.update(result.jobs)
        if result.missing:
            return done
    # Rows last, in one order too: who holds a row waits for no name any more.
    for job in sorted((job for job in jobs if job.id in replacing), key=lambda job: replacing[job.id]):
        replaced = yield from replace(replacing[job.id], job, flags_version)
        if replaced is not None:
            done[job.id] = replaced
    return done


def _require_own(planned: Planned, holder: Holder | None) -> None:
    """Refuse a user what holds the name for somebody else: neither is it theirs to see, nor to replace."""
    if holder is None or not planned.options.get("own_names"):
        return
    if holder.job.user_id != planned.job.terms.user_id:
        raise NameTakenError(planned.job.terms.type, _HELD_BY[holder.by])


def _settled(job: NewJob, holder: Holder) -> Steps[Scheduled | None]:
    """Return what the call gets of a job that holds its name; None: it is to take that one's place."""
    terms = job.terms
    if holder.by == "request" or terms.on_conflict == "keep":
        return found(holder.job, repeated=holder.by == "request")
    if terms.on_conflict == "reject":
        raise DuplicateJobError(terms.type, _HELD_BY[holder.by], holder.job.id)
    if _is_unstarted(holder.job):
        return None
    if holder.by == "key":
        return found(holder.job)
    # Its tag is held although an executor was given it: as good as started, so there will be a new one.
    yield from release_tag(holder.job.id)
    return None


def _is_unstarted(job: Job) -> bool:
    """Whether it may still be replaced, as far as can be seen here; the write decides."""
    given = job.executor not in {None, LOCAL} and job.submit_state != "never"
    return job.started is None and not job.status.is_terminal and not job.cancel_requested and not given


def _names(job: NewJob) -> list[tuple[str, str]]:
    tag = [] if job.terms.tag is None else [f"tag:{job.terms.tag}"]
    return [(job.terms.type, name) for name in (*job.terms.keys, *tag)]


def _first_of_each_name(planned: Iterable[Planned]) -> list[Planned]:
    """Leave out every plan that shares a key or tag with one before it."""
    taken: set[tuple[str, str]] = set()
    first: list[Planned] = []
    for each in planned:
        if each.job.terms.is_named:
            names = _names(each.job)
            if not taken.isdisjoint(names):
                continue
            taken.update(names)
        first.append(each)
    return first


def _lock_order(job: NewJob) -> tuple[str, str, str, UUID]:
    terms = job.terms
    return (terms.type, min(terms.keys, default=""), terms.tag or "", job.id)


def workers_of(planned: Planned) -> set[str]:
    """Return the queue that gets this job, once it is routed and unless it waits or is a remote's, as a topic."""
    job = planned.job
    return {job.terms.queue} if job.executor == LOCAL and job.status is JobStatus.QUEUED else set()


def topics_of(planned: Sequence[Planned], jobs: Sequence[Scheduled]) -> set[str]:
    """Return what is to be told of these jobs: the queues that have new work, and the dispatcher."""
    topics: set[str] = set()
    for each, job in zip(planned, jobs, strict=True):
        if job.queue in topics and job.executor == LOCAL:
            continue
        if job.deduplicated and each.job.terms.on_conflict != "replace":
            continue
        if job.status is JobStatus.PENDING:
            topics.add(DISPATCH)
        elif job.executor == LOCAL and job.status is JobStatus.QUEUED:
            topics.add(job.queue)
    return topics
