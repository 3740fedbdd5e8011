"""A migration, step by step: the jobs of a news site come home from a remote, and nobody notices.

    python -m examples.cutover.walk

The remote is a second adapter with a database and processes of its own, which is reached as Trigger.dev is.
What is typed here a person types; what must hold is asserted, from ledgers that know nothing of job rows.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from adapter import Adapter, JobSpec
from examples.cutover import documents
from examples.cutover.terminal import adapter
from examples.demo.stage import Place, Processes, databases, free_port, scratch
from examples.demo.witness import Ledgers

APP = "examples.cutover.app:adapter"
STORIES = [f"story-{number}" for number in range(40)]
_PATIENCE_S = 60.0


class Walk:
    """One migration. ``site`` is the application, which only schedules."""

    def __init__(self, processes: Processes, directory: Path, app: Place, remote: Place) -> None:
        self._processes, self._app, self._remote = processes, app, remote
        self._ledger = directory / "ledger"
        self._ledger.mkdir()
        ports = {"app": free_port(), "remote": free_port()}
        key, secret = f"tr_prod_{secrets.token_hex(12)}", f"whsec_{secrets.token_hex(24)}"
        shared = {
            "ADAPTER_APP": APP,
            "NEWS_LEDGER": str(self._ledger),
            "NEWS_DATABASE_URL": app.url,
            # What the handlers of the document service go by.
            "DATABASE_URL": app.url,
            "ADAPTER_WORKER_LEASE_SECONDS": "5",
        }
        self._ports = ports
        self._environ = {
            "app": shared
            | {
                "ADAPTER_DATABASE_URL": app.url,
                "NEWS_SIDE": "local",
                "NEWS_HOME": "trigger",
                "TRIGGER_API_URL": f"http://127.0.0.1:{ports['remote']}",
                "TRIGGER_SECRET_KEY": key,
                "TRIGGER_WEBHOOK_SECRET": secret,
                "ADAPTER_TRIGGER_RATE_PER_MINUTE": "0",
            },
            "remote": shared
            | {
                "ADAPTER_DATABASE_URL": remote.url,
                "NEWS_SIDE": "trigger",
                "NEWS_HOME": "local",
                "ADAPTER_API_KEY": key,
                "ADAPTER_LIFECYCLE_URL": f"http://127.0.0.1:{ports['app']}/api/trigger/webhook",
                "ADAPTER_LIFECYCLE_SECRET": secret,
            },
        }
        # The terminal of this walk is one of the application's.
        os.environ.update(self._environ["app"])
        # An adapter of its own: the one of `APP` belongs to the commands.
        self._news = runpy.run_module("examples.cutover.news")
        self.site: Adapter = self._news["adapter"]
        documents.declare(self.site, "trigger")
        self.scheduled = Counter[str]()

    # ---- the two sides ---------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        commands = {
            "app": ["serve", "--work", "--port", str(self._ports["app"])],
            "remote server": ["serve", "--port", str(self._ports["remote"])],
            "remote worker": ["worker"],
        }
        for name in names:
            self._processes.start(name, commands[name], self._environ[name.split(" ")[0]])

    def rows(self, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._app.url, autocommit=True) as conn:
            cursor = conn.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def until(self, what: str, reached: Callable[[], bool]) -> float:
        """Wait; returns how many seconds it took."""
        began = time.monotonic()
        while not reached():
            self._processes.check()
            assert time.monotonic() - began < _PATIENCE_S, f"waited {_PATIENCE_S:.0f} s for {what}"
            time.sleep(0.05)
        return time.monotonic() - began

    def open_jobs(self, which: LiteralString) -> int:
        return self.rows("SELECT count(*) FROM adapter.worker_jobs_open WHERE " + which)[0][0]

    def all_done(self) -> None:
        self.until("all jobs to end", lambda: self.open_jobs("status <> 'DELAYED'") == 0)

    def spec(self, task: str, story: str, week: int, delay: timedelta | None = None) -> JobSpec:
        subject = f"{story} in week {week}"
        if delay is None:
            self.scheduled[f"{task} {subject}"] += 1
        return JobSpec(task, {"story": subject, "reader": "ada"}, {"tag": story, "delay": delay})

    def schedule(
        self, task: str, stories: list[str], *, week: int, delay: timedelta | None = None
    ) -> dict[str, str]:
        """Schedule a job per story, as the site does; returns where each went."""
        specs = [self.spec(task, story, week, delay) for story in stories]
        handles = self.site.sync.call(self.site.schedule_specs(specs))
        went = {handle.job.tag or "": str(handle.job.executor) for handle in handles}
        counts = Counter(went.values())
        say(f"the site schedules {len(stories)} {task}: {counts['local']} go here, {counts['trigger']} there")
        return went

    def schedule_documents(self, *, week: int) -> set[str]:
        """Schedule one of each of the seven jobs of the document service; returns where they went."""
        payloads = documents.of_a_week(week)
        manual = payloads["re-ingest-job"]["ingest_job"]
        self.rows(
            "INSERT INTO public.documents VALUES (%s, %s, 'manuals', 'acme', 'a manual', 1)", manual, manual
        )
        specs = [JobSpec(task, payload) for task, payload in payloads.items()]
        for task, payload in payloads.items():
            self.scheduled[f"{task} {next(iter(payload.values()))}"] += 1
        went = Counter(str(each.job.executor) for each in self.site.sync.schedule_many(specs))
        say(
            f"the document service schedules one of each of its {went.total()} jobs: {went['local']} go here,"
            f" {went['trigger']} there"
        )
        return set(went)

    def clock_is_kept(self, owner: str) -> float:
        """Wait until a clock has arrived."""
        return self.until(
            f"the clock to be {owner}",
            lambda: (
                self.rows(
                    "SELECT owner, handover_state FROM adapter.job_schedules WHERE task = %s", documents.CLOCK
                )
                == [(owner, None)]
            ),
        )

    # ---- the steps -------------------------------------------------------------------------------

    def walk(self) -> None:
        self.start("remote server", "remote worker", "app")
        with self.site.sync:
            self.site.sync.call(self._news["open_site"]())
            asyncio.run(self._processes.ready(*self._ports.values()))
            for statement in documents.TABLES.split(";"):
                self.rows(statement)
            self.look()
            self.move_a_share()
            self.watch()
            self.incident()
            self.move_the_rest()
            self.take_the_clock()
            self.finish()
            self.all_done()
        self.reckon()

    def look(self) -> None:
        title("1. Look: all tasks run there, and so does a clock")
        self.schedule("generate-brief", STORIES[:10], week=0)
        assert self.schedule_documents(week=0) == {"trigger"}
        # Monthly, so that no tick is near whenever somebody walks.
        adapter("cron add reset-usage '0 12 1 * *' --key usage --reason 'as it was'")
        adapter(f"cron hand-over {self.clock()} --to trigger --reason 'as it was'")
        self.clock_is_kept("trigger")
        self.all_done()
        adapter("cutover status")
        adapter("cutover explain generate-brief --tag story-7")

    def move_a_share(self) -> None:
        title("2. Move a share: one task, one story in twenty, then one in four")
        adapter("cutover rollout generate-brief --to local --percent 5 --by tag --reason 'week 1'")
        small = here(self.schedule("generate-brief", STORIES, week=1))
        self.all_done()
        adapter("cutover rollout generate-brief --to local --percent 25 --by tag --reason 'week 2'")
        large = here(self.schedule("generate-brief", STORIES, week=2))
        self.all_done()
        assert small <= large
        say(f"the {len(small)} of week 1 are among the {len(large)} of week 2")
        adapter(f"cutover explain generate-brief --tag {min(large)}")

    def clock(self) -> str:
        """Return the end of the id of the clock, which is enough for a person."""
        return str(
            self.rows(
                "SELECT right(id::text, 12) FROM adapter.job_schedules WHERE task = %s", documents.CLOCK
            )[0][0]
        )

    def watch(self) -> None:
        title("3. Watch: is it equal, is it well?")
        adapter("cutover parity generate-brief", code=3)
        adapter("cutover health")

    def incident(self) -> None:
        title("4. Go back: the remote takes jobs and starts none")
        self._processes.kill("remote worker")
        self.schedule("story-summarize", STORIES[:12], week=3)
        self.until("the remote to have them", lambda: self.open_jobs("submit_state <> 'accepted'") == 0)
        adapter("cutover kill '*' --to local --reason INC-7")
        assert len(here(self.schedule("story-summarize", STORIES[12:18], week=3))) == 6
        adapter("cutover rollback story-summarize --mode recall-unstarted --reason INC-7 --dry-run")
        adapter("cutover rollback story-summarize --mode recall-unstarted --reason INC-7 --yes")
        self.all_done()
        self.start("remote worker")

    def move_the_rest(self) -> None:
        title("5. Move the rest, and what waits to be given away")
        adapter(f"cron hand-over {self.clock()} --to local --reason 'week 4'")
        adapter("cutover unkill '*' --reason 'INC-7 is over'")
        adapter("cutover unkill story-summarize --reason 'INC-7 is over'")
        self.schedule("analyze-story", STORIES[:10], week=4, delay=timedelta(hours=1))
        adapter("cutover rollout '*' --to local --percent 100 --reason 'week 4'")
        adapter("cutover migrate-pending '*' --to local --reason 'week 4' --yes")
        assert len(here(self.schedule("score-relevance", STORIES[:10], week=4))) == 10
        assert self.schedule_documents(week=4) == {"local"}

    def take_the_clock(self) -> None:
        title("6. The clocks: one is on its way home, one is made anew")
        adapter("cron add ingest-pull '*/5 * * * *' --key pull --reason 'week 4'")
        adapter("cron next '*/5 * * * *' --count 2")

    def finish(self) -> None:
        title("7. Finish: could one still go back? and what is left there?")
        adapter("cutover can-go-back generate-brief --to trigger")
        with self.traffic("generate-brief", week=5):
            adapter("cutover drill generate-brief --to trigger --for 2s --reason 'before we leave'")
        self.all_done()
        adapter("cutover wait-drained trigger --quiet 1s --timeout 60s")
        self.clock_is_kept("local")
        say("half a minute has passed, for lists that lag: the clock is at home")
        adapter("cron list --task reset-usage")
        adapter("cutover finalize trigger --check", code=3)

    @contextmanager
    def traffic(self, task: str, *, week: int) -> Generator[None]:
        """Let the site go on scheduling while something else happens."""
        over = threading.Event()

        def go_on() -> None:
            for story in STORIES:
                self.site.sync.call(self.site.schedule_specs([self.spec(task, story, week)]))
                if over.wait(0.1):
                    return

        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(go_on)
            yield
            over.set()
        going.result()

    def reckon(self) -> None:
        title("8. The reckoning: what the handlers wrote down, who know nothing of job rows")
        ledgers = Ledgers.read(self._ledger)
        # The clock may have struck meanwhile.
        ends = Counter({subject: n for subject, n in ledgers.ends.items() if subject in self.scheduled})
        ended = dict(
            self.rows(
                "SELECT status, count(*) FROM adapter.worker_jobs_finished"
                " WHERE type <> 'ingest-pull' AND parent_id IS NULL GROUP BY 1"
            )
        )
        begun = Counter(side for sides in ledgers.starts.values() for side in sides.elements())
        say(f"{self.scheduled.total()} jobs scheduled, {begun['local']} begun here, {begun['trigger']} there")
        say(f"lost: {len(self.scheduled.keys() - ledgers.ends.keys())}")
        say(f"begun twice: {len(ledgers.again)}; begun by two executors: {len(ledgers.on_two_executors)}")
        assert ended == {"COMPLETED": self.scheduled.total()}
        assert ends == self.scheduled
        assert not ledgers.again
        assert self.open_jobs("status = 'DELAYED' AND executor = 'local'") == 10


def here(went: dict[str, str]) -> set[str]:
    return {story for story, executor in went.items() if executor == "local"}


def title(text: str) -> None:
    print(f"\n## {text}", flush=True)


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def main() -> None:
    given = {name: os.environ[name] for name in ("ADAPTER_PG_BIN",) if name in os.environ}
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        _, app, remote = stack.enter_context(databases(given))
        processes = stack.enter_context(Processes(directory, APP))
        Walk(processes, directory, app, remote).walk()


if __name__ == "__main__":
    main()
