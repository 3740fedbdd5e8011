"""The demo, act by act: cut over, pull the plug, repair, roll back, and count what is left."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from adapter import Adapter, Task
from examples.demo.corpus import Counts, Package, count, packages
from examples.demo.screen import Screen
from examples.demo.stage import Place, Processes, StageError, free_port
from examples.demo.tasks import TASK, declare
from examples.demo.witness import OPEN, Ledgers, Records, how_many, records

_LOOK_EVERY_S = 0.1
#: No act takes longer than this unless something is wrong.
_PATIENCE_S = 90.0
_APPLICATION = ("server", "worker", "dispatcher")
_REMOTE = ("remote server", "remote worker")
_NO_ENVIRONMENT: dict[str, str] = {}

States: TypeAlias = Counter[tuple[str, str]]


class Story:
    """One telling. ``most``: how many jobs at most; None: one for every package there is."""

    def __init__(
        self, screen: Screen, processes: Processes, scratch: Path, places: dict[str, Place], most: int | None
    ) -> None:
        self._screen, self._processes = screen, processes
        self._places = places
        self._ledger = scratch / "ledger"
        self._ledger.mkdir()
        found = packages()
        step = max(1, -(-len(found) // most)) if most else 1
        self._packages = found[::step]
        # Neighbors are alike; dealt out like this every part gets large and small ones.
        self._parts = [self._packages[start::20] for start in range(20)]
        self._ports = {"app": free_port(), "remote": free_port()}
        self._key = f"tr_dev_{secrets.token_hex(12)}"
        self._secret = f"whsec_{secrets.token_hex(24)}"
        self._extra = _NO_ENVIRONMENT
        self._killed_while: list[str] = []
        self._untold: set[str] = set()

    # ---- the two sides ---------------------------------------------------------------------------

    def _environ(self, side: str) -> dict[str, str]:
        place = self._places[side]
        shared = {
            "ADAPTER_DATABASE_URL": place.url,
            "ADAPTER_DB_SCHEMA": place.schema,
            "ADAPTER_WORKER_LEASE_SECONDS": "5",
            "ADAPTER_WORKER_CONCURRENCY": "4",
            "DEMO_LEDGER": str(self._ledger),
            "DEMO_SIDE": "local" if side == "app" else "trigger",
        }
        if side == "remote":
            return shared | {
                "ADAPTER_API_KEY": self._key,
                "ADAPTER_LIFECYCLE_URL": f"http://127.0.0.1:{self._ports['app']}/api/trigger/webhook",
                "ADAPTER_LIFECYCLE_SECRET": self._secret,
            }
        return shared | {
            "TRIGGER_API_URL": f"http://127.0.0.1:{self._ports['remote']}",
            "TRIGGER_SECRET_KEY": self._key,
            "TRIGGER_WEBHOOK_SECRET": self._secret,
            # Our own remote has no rate limit.
            "ADAPTER_TRIGGER_RATE_PER_MINUTE": "0",
            "ADAPTER_DISPATCH_LEASE_SECONDS": "5",
            **self._extra,
        }

    def _start(self, *names: str) -> None:
        for name in names:
            side = "remote" if name.startswith("remote") else "app"
            command = {
                "server": ["serve", "--port", str(self._ports[side])],
                "worker": ["worker"],
                "dispatcher": ["dispatch"],
            }[name.removeprefix("remote ")]
            self._processes.start(name, command, self._environ(side))

    @asynccontextmanager
    async def _scheduling(self) -> AsyncGenerator[tuple[Adapter, Task[Package, Counts]]]:
        """The application as a user writes it: an adapter in this process that only schedules."""
        environ = self._environ("app")
        adapter = Adapter.from_env(environ)
        task = declare(adapter, None)
        async with adapter:
            yield adapter, task

    # ---- the acts --------------------------------------------------------------------------------

    async def tell(self, where: str) -> bool:
        """Tell it; returns whether everything that must hold holds."""
        screen = self._screen
        screen.act(
            "The stage",
            f"{where}: one for the application, one for a second adapter that plays Trigger.dev.",
            "Each side has a server and a worker of its own; the application also has a dispatcher.",
            "While they boot, this process counts the standard library itself: the truth to compare with.",
        )
        self._start(*_REMOTE, *_APPLICATION)
        expected = await self._count_directly()
        await self._processes.ready(*self._ports.values())
        async with records(self._places["app"]) as app, records(self._places["remote"]) as remote:
            async with self._scheduling() as (adapter, task):
                await self._wake_up(task, app)
                await self._cut_over(adapter, task, app)
                await self._pull_the_plug(task, app, remote)
            await self._repair(app)
            await self._roll_back(app)
            return await self._reckon(expected, app, remote)

    async def _count_directly(self) -> Counts:
        total, files = Counts(), sum(len(package.files) for package in self._packages)
        with self._screen.meter("counting") as meter:
            for package in self._packages:
                total += await asyncio.to_thread(count, package.files)
                meter.show(total.files, files, f"{total.lines:,} lines")
                self._processes.check()
        self._screen.say(
            f"{total.files:,} files, {total.lines:,} lines, {total.functions:,} functions, "
            f"{total.classes:,} classes, {total.imports:,} imports in {len(self._packages)} packages"
        )
        return total

    async def _wake_up(self, task: Task[Package, Counts], app: Records) -> None:
        """Send one job each way, so that nobody still boots when it matters."""
        for executor in ("local", "trigger"):
            package = self._parts[0].pop()
            await task.schedule(package, tag=package.name, executor=executor)
        await self._until(app, "waking up", lambda states: not any(status in OPEN for _, status in states))
        self._screen.say("one job each way came back: everybody is awake")

    async def _cut_over(self, adapter: Adapter, task: Task[Package, Counts], app: Records) -> None:
        self._screen.act(
            "Cutting over: 0 %, 25 %, 100 %",
            "One job per package. A flag in the database moves new jobs to the remote, step by step;",
            "the same package always gets the same answer, and every row keeps the reason for its route.",
        )
        shown: list[list[str]] = []
        for percent, parts in ((0, range(3)), (25, range(3, 7)), (100, range(7, 13))):
            if percent:
                await adapter.rollout(
                    TASK, to="trigger", percent=percent, by="tag", reason=f"step to {percent} %"
                )
            shown += await self._schedule(task, f"{percent} %", parts)
        self._screen.table("Routes", ["rollout", "jobs", "local", "trigger", "for example, because"], shown)

        def busy(states: States) -> bool:
            here = how_many(states, "local", "EXECUTING") >= 2 and how_many(states, "local", "COMPLETED") >= 3
            there = how_many(states, "trigger", *OPEN) >= 3 and how_many(states, "trigger", "COMPLETED") >= 3
            # A machine can be too fast to be caught in the middle.
            return (here and there) or not how_many(states, "local", *OPEN)

        await self._until(app, "both sides at work", busy)

    async def _schedule(self, task: Task[Package, Counts], label: str, parts: range) -> list[list[str]]:
        chosen = [package for part in parts for package in self._parts[part]]
        handles = await task.schedule_many([task.job(package, tag=package.name) for package in chosen])
        to: dict[str, list[str]] = {}
        for handle in handles:
            to.setdefault(handle.executor or "nowhere", []).append(handle.route_reason or "")
        local, trigger = len(to.get("local", [])), len(to.get("trigger", []))
        return [
            [label if not number else "", str(len(chosen)) if not number else "", *counts, reasons[0]]
            for number, (counts, reasons) in enumerate(
                ([str(local) if name == "local" else "", str(trigger) if name == "trigger" else ""], reasons)
                for name, reasons in sorted(to.items())
            )
        ]

    async def _pull_the_plug(self, task: Task[Package, Counts], app: Records, remote: Records) -> None:
        jobs = await app.jobs()
        for name in _APPLICATION:
            self._processes.kill(name)
        states = await app.by_status()
        self._screen.act(
            "kill -9: the application's server, worker and dispatcher are gone",
            "The remote goes on, and its webhooks find nobody. More jobs are scheduled meanwhile:",
            "that takes a database and nothing else.",
        )
        self._killed_while = [
            job["package"] for job in jobs if job["status"] == "EXECUTING" and job["executor"] == "local"
        ]
        self._screen.say(
            f"in the air: {how_many(states, 'local', 'EXECUTING')} jobs that ran here, "
            f"{how_many(states, 'trigger', 'QUEUED', 'EXECUTING')} at the remote, "
            f"{how_many(states, 'trigger', 'PENDING')} on their way to it"
        )
        await self._schedule(task, "", range(13, 17))
        waiting = how_many(await app.by_status(), "trigger", "PENDING")
        self._screen.say(f"scheduled meanwhile: {waiting} rows now wait for a dispatcher")
        await self._until(
            remote,
            "the remote alone",
            lambda states: not how_many(states, "local", *OPEN),
            executors=("local",),
        )
        done, known = await _completed(remote), await _completed(app, at="trigger")
        self._untold = done - known
        self._screen.say(f"the remote has finished {len(done)} jobs; the application knows of {len(known)}")
        self._processes.kill("remote worker")
        self._screen.say(
            "kill -9 for the remote's worker as well: what it still wanted to tell is lost for good"
        )

    async def _repair(self, app: Records) -> None:
        self._screen.act(
            "Restart and repair",
            "The server reconciles on boot: it asks the remote for every run that is not known to have ended.",
            "The worker's jobs come back when its lease of 5 s is over; the dispatcher goes on with the outbox.",
        )
        self._start(*_APPLICATION, "remote worker")
        await self._processes.ready(self._ports["app"])
        with self._screen.meter("asking the remote") as meter:
            async for _ in self._looks("reconciliation"):
                left = self._untold - await _completed(app, at="trigger")
                meter.show(len(self._untold) - len(left), len(self._untold))
                if not left:
                    break
        self._screen.say(
            f"{len(self._untold)} finished jobs nobody had told us of are known, with their results"
        )
        with self._screen.meter("waiting for the lease of the dead worker") as meter:
            lost = len(self._killed_while)
            async for _ in self._looks("the dead worker's jobs to be rescued"):
                rescued = {event["package"] for event in await app.events() if event["kind"] == "rescued"}
                open_ones = {job["package"] for job in await app.jobs() if job["status"] in OPEN}
                left = [name for name in self._killed_while if name in open_ones - rescued]
                meter.show(lost - len(left), lost)
                if not left:
                    self._screen.say(f"{len(rescued)} jobs of the dead worker were rescued and run again")
                    break

    async def _roll_back(self, app: Records) -> None:
        self._screen.act(
            "Rolling back by the environment",
            "The processes are restarted with ADAPTER_EXECUTOR=local. The flag still says 100 %; the switch wins.",
            "What the remote has stays there; what no try has left for is taken back; new jobs stay here.",
        )
        self._extra = {"ADAPTER_EXECUTOR": "local"}
        await self._processes.stop(*_APPLICATION)
        self._start(*_APPLICATION)
        async with self._scheduling() as (_, task):
            shown = await self._schedule(task, "100 %", range(17, 20))
        self._screen.table("Routes", ["rollout", "jobs", "local", "trigger", "for example, because"], shown)
        await self._processes.ready(self._ports["app"])
        await self._until(app, "to the end", lambda states: not any(status in OPEN for _, status in states))

    async def _reckon(self, expected: Counts, app: Records, remote: Records) -> bool:
        screen = self._screen
        screen.act(
            "The reckoning", "Job rows say one thing; the ledgers the handlers wrote know nothing of them."
        )
        jobs, ledgers = await app.jobs(), Ledgers.read(self._ledger)
        states = Counter((job["executor"], job["status"]) for job in jobs)
        names = sorted({status for _, status in states})
        screen.table(
            "Jobs",
            ["executor", *names, "handlers started", "packages"],
            [
                [
                    side,
                    *(str(states[side, name]) for name in names),
                    str(sum(sides[side] for sides in ledgers.starts.values())),
                    str(sum(side in sides for sides in ledgers.starts.values())),
                ]
                for side in ("local", "trigger")
            ],
        )
        why: dict[str, set[str]] = {}
        for event in [*await app.events(), *await remote.events()]:
            why.setdefault(event["package"], set()).add(event["kind"])
        again = ledgers.again
        for name, times in again.items():
            reasons = ", ".join(sorted(why.get(name, {"nothing that explains it"})))
            screen.say(f"started {times} times: {name} ({reasons})")
        unexplained = [name for name in again if not {"rescued", "retry"} & why.get(name, set())]
        moved = sum("rerouted" in kinds for kinds in why.values())
        uncertain = sum("submit_unknown" in kinds for kinds in why.values())
        if moved or uncertain:
            screen.say(
                f"taken back before they were sent: {moved}; sent twice under one key, to be sure: {uncertain}"
            )
        told = await app.told()
        ended = how_many(states, "trigger", *{status for _, status in states} - set(OPEN))
        screen.say(f"of {ended} ends at the remote a webhook told {told}; reconciliation found the others")
        scheduled = {package.name for package in self._packages}
        lost = scheduled - {job["package"] for job in jobs if job["status"] == "COMPLETED"}
        total = sum((Counts.model_validate(job["result"]) for job in jobs if job["result"]), Counts())
        screen.gap()
        same = total == expected
        held = [
            screen.check(f"lost: {len(lost)}", _some(lost), holds=not lost and len(jobs) == len(scheduled)),
            screen.check(
                f"run on two executors: {len(ledgers.on_two_executors)}",
                _some(ledgers.on_two_executors),
                holds=not ledgers.on_two_executors,
            ),
            screen.check(
                f"run again after the kill: {len(again)}, each with its reason in job_events",
                _some(unexplained),
                holds=not unexplained,
            ),
            screen.check(
                f"run to the end: {sum(name in ledgers.ends for name in scheduled)}",
                holds=all(name in ledgers.ends for name in scheduled),
            ),
            screen.check(
                f"totals: {total.lines:,} lines, {total.functions:,} functions, {total.classes:,} classes, "
                f"{total.imports:,} imports",
                "equal to the direct count" if same else f"the direct count says {expected}",
                holds=same,
            ),
        ]
        return all(held)

    # ---- waiting ---------------------------------------------------------------------------------

    async def _looks(self, what: str) -> AsyncIterator[None]:
        """Come back again and again, until it takes too long or a process has ended by itself."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        while True:
            yield
            self._processes.check()
            if loop.time() > deadline:
                raise StageError(f"waited {_PATIENCE_S:.0f} s for {what}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _until(
        self,
        side: Records,
        title: str,
        reached: Callable[[States], bool],
        executors: tuple[str, ...] = ("local", "trigger"),
    ) -> None:
        with self._screen.meter(title) as meter:
            async for _ in self._looks(title):
                states = await side.by_status()
                done = sum(n for (_, status), n in states.items() if status not in OPEN)
                running = " ".join(f"{name} {how_many(states, name, 'COMPLETED')}" for name in executors)
                meter.show(done, states.total(), running)
                if reached(states):
                    return


async def _completed(side: Records, at: str = "local") -> set[str]:
    """The packages of the jobs an executor has completed, as far as this side knows."""
    return {
        job["package"] for job in await side.jobs() if (job["executor"], job["status"]) == (at, "COMPLETED")
    }


def _some(names: set[str] | list[str]) -> str:
    few = sorted(names)[:5]
    return ", ".join(few) + (" ..." if len(names) > len(few) else "")
