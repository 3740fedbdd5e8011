"""What the doctor looks at, and what it makes of it."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from adapter.app import Adapter
from adapter.cli import outgoing_checks, pass_through_checks, storage_checks
from adapter.cli.output import brief
from adapter.cli.verdicts import Check, Verdict
from adapter.domain import gates
from adapter.domain.destinations import Share, destination
from adapter.domain.errors import AdapterError
from adapter.domain.job import LOCAL
from adapter.domain.routing import Flags
from adapter.store import diagnosis, migrate
from adapter.store.database import Connection, DatabaseConfig, Schema

_VERSIONS = range(14, 19)
_SKEW_TO_MENTION, _SKEW_TO_FAIL = timedelta(seconds=1), timedelta(seconds=30)
_LONG = timedelta(minutes=5)
_WAITS_TOO_LONG = timedelta(minutes=5)
_DAYS_AHEAD = 3


class Doctor:
    """Examines one adapter and its database. ``knows_tasks``: an application was named."""

    def __init__(self, adapter: Adapter, *, knows_tasks: bool) -> None:
        self._adapter = adapter
        self._knows_tasks = knows_tasks
        self._checks: list[Check] = []

    async def examine(self) -> list[Check]:
        """Return every check; what builds on a failed one is left out."""
        self._checks = []
        self._executors()
        try:
            config = self._adapter.settings.database("adapter doctor")
            async with await diagnosis.connect(config) as conn:
                schema = Schema(config.schema)
                await self._server(conn, schema, config)
                if self._schema(config):
                    await self._backlog(conn, schema)
                    await self._remotes(conn, schema)
                    await self._switches()
                    await self._ways_back()
                    self._checks += await pass_through_checks.examine(self._adapter)
                    self._checks += await outgoing_checks.examine(self._adapter)
                    self._checks += await storage_checks.examine(conn, schema)
                await self._transactions(conn, schema)
        except psycopg.Error as error:
            words = error.diag.message_primary or str(error).partition("\n")[0]
            self._fail("database", words, "Is DATABASE_URL right, and may this role read?")
        except AdapterError as error:
            self._fail("configuration", str(error))
        return self._checks

    def _pass(self, name: str, finding: str) -> None:
        self._checks.append(Check(name, Verdict.PASS, finding))

    def _warn(self, name: str, finding: str, advice: str = "") -> None:
        self._checks.append(Check(name, Verdict.WARN, finding, advice))

    def _fail(self, name: str, finding: str, advice: str = "") -> None:
        self._checks.append(Check(name, Verdict.FAIL, finding, advice))

    async def _server(self, conn: Connection, schema: Schema, config: DatabaseConfig) -> None:
        found = await diagnosis.server(conn, schema, self._adapter.clock)
        major = found.version_num // 10000
        if major < _VERSIONS.start:
            self._fail(
                "database", f"PostgreSQL {found.version}", f"{_VERSIONS.start} is the oldest we promise."
            )
        elif major not in _VERSIONS:
            self._warn(
                "database", f"PostgreSQL {found.version}", "Newer than any this version was tested with."
            )
        else:
            trip = found.round_trip.total_seconds() * 1000
            self._pass("database", f"PostgreSQL {found.version}, {trip:.1f} ms away")
        self._durability(found)
        skew = abs(found.skew)
        finding = f"the database's clock differs by {skew.total_seconds():.3f} s from this machine's"
        advice = "Times are the database's; webhook signatures and tokens are held against this machine's."
        if skew >= _SKEW_TO_FAIL:
            self._fail("clock", finding, advice)
        elif skew >= _SKEW_TO_MENTION:
            self._warn("clock", finding, advice)
        else:
            self._pass("clock", finding)
        await self._wakeups(config)

    def _durability(self, found: diagnosis.Server) -> None:
        if found.fsync != "on":
            self._warn("durability", f"fsync is {found.fsync}", "A crash of the machine may lose everything.")
        elif found.synchronous_commit != "off":
            self._pass("durability", f"synchronous_commit is {found.synchronous_commit}")
        else:
            self._warn(
                "durability",
                "synchronous_commit is off by default",
                "Claims are flushed all the same; what your own transactions commit, jobs too, a crash may lose.",
            )

    async def _wakeups(self, config: DatabaseConfig) -> None:
        if config.transaction_pooler:
            self._pass("wake-ups", "polling: ADAPTER_DB_POOLER says that a transaction pooler is in between")
        elif await diagnosis.hears(config):
            self._pass("wake-ups", "LISTEN and NOTIFY work")
        else:
            self._fail(
                "wake-ups",
                "a notification does not arrive",
                "If a transaction pooler is in between, set ADAPTER_DB_POOLER=transaction.",
            )

    def _schema(self, config: DatabaseConfig) -> bool:
        at, head = migrate.current(config.url, config.schema), migrate.head()
        if at != head:
            finding = f"{config.schema} is at {at or 'nothing'}, this version needs {head}"
            if at is not None and at > head:
                self._warn("schema", finding, "A newer version has migrated it.")
                return True
            self._fail("schema", finding, "Run `adapter db upgrade`.")
            return False
        differences = migrate.check(config.url, config.schema)
        if differences:
            self._warn("schema", f"{len(differences)} differences from the tables", "See `adapter db check`.")
        else:
            self._pass("schema", f"{config.schema} is at {head}, as it should be")
        return True

    def _executors(self) -> None:
        adapter = self._adapter
        if adapter.settings.trigger_secret_key is not None and "trigger" not in adapter.executors:
            self._warn("executors", "TRIGGER_SECRET_KEY is a placeholder: the executor 'trigger' is off")
        else:
            names = ["local", *adapter.executors.names]
            self._pass("executors", f"configured: {', '.join(names)}")
        if not adapter.executors.names:
            return
        if adapter.settings.webhook_secrets:
            self._pass("webhook secret", f"{len(adapter.settings.webhook_secrets)} set")
        else:
            self._warn(
                "webhook secret",
                "a remote executor is configured, and no secret for its webhooks",
                "Set ADAPTER_WEBHOOK_SECRETS. Until then only polling finds out how jobs end.",
            )

    async def _switches(self) -> None:
        """Hold the kill switches against the tasks that there are."""
        async with self._adapter as adapter:
            flags = await adapter.steering.current()
            findings = adapter.steering.boot_findings(flags)
            if self._knows_tasks:
                self._beforehand(flags)
        if not findings:
            self._pass("kill switches", "every one has a meaning")
        for finding in findings:
            unmatched = "matches no task" in finding
            if unmatched and self._knows_tasks:
                self._fail("kill switches", finding, "It does nothing as it is written.")
            elif unmatched:
                self._warn("kill switches", finding, "No --app was given: its tasks are not known here.")
            else:
                self._warn("kill switches", finding)

    def _beforehand(self, flags: Flags) -> None:
        """Say what a switch of all tasks would do: nobody should learn it during an incident."""
        for name in ("local", *self._adapter.executors.names):
            waits, stays = self._adapter.steering.beforehand(name, flags)
            said = [f"{', '.join(waits)} would wait"] if waits else []
            said += [f"{', '.join(stays)} would stay"] if stays else []
            self._pass(f"kill '*' --to {name}", "; ".join(said) or "every task can run there")

    async def _ways_back(self) -> None:
        """See whether tasks that run elsewhere could come back to the handlers they have here."""
        async with self._adapter as adapter:
            flags = await adapter.steering.current()
            away = {
                each.id
                for each in adapter.registry
                if each.runs_here and destination(each.policy, flags).shares != (Share(LOCAL, 100),)
            }
            ways = [each for each in await adapter.can_go_back() if each.task in away]
        stuck = [each for each in ways if each.verdict is not gates.Verdict.PASSED]
        for each in stuck:
            why = "; ".join(c.says for c in each.checks if c.verdict is not gates.Verdict.PASSED)
            self._warn("way back", f"{each.task} could not come back to local now: {why}")
        if ways and not stuck:
            self._pass("way back", f"{len(ways)} tasks that run elsewhere could come back")

    async def _backlog(self, conn: Connection, schema: Schema) -> None:
        found = await diagnosis.backlog(conn, schema)
        if found.days_ahead >= _DAYS_AHEAD:
            self._pass("partitions", f"made for {found.days_ahead} days ahead")
        else:
            self._fail(
                "partitions",
                f"made for {found.days_ahead} days ahead",
                "Upkeep does it: let a worker or a dispatcher run.",
            )
        if found.dead_letters:
            self._warn(
                "dead letters", f"{found.dead_letters} webhooks were given up", "See `adapter webhooks list`."
            )
        else:
            self._pass("dead letters", "none")
        if found.stuck:
            self._fail(
                "uncertain submits",
                f"{found.stuck} jobs have been uncertain for over 20 h",
                "They wait for a person: `adapter jobs resolve`.",
            )
        else:
            self._pass("uncertain submits", "none older than 20 h")
        workers = f"workers alive: {found.workers}"
        if found.oldest_ready is not None and not found.workers:
            finding = f"the oldest waits for {brief(found.oldest_ready)}; {workers}"
            self._warn("ready jobs", finding, "Nobody runs jobs: start `adapter worker`.")
        else:
            self._waiting("ready jobs", found.oldest_ready, workers, "Run more workers.")
        self._waiting("undispatched jobs", found.oldest_pending, "", "Is a dispatcher running?")

    def _waiting(self, name: str, age: timedelta | None, also: str, advice: str) -> None:
        finding = "none" if age is None else f"the oldest waits for {brief(age)}"
        finding += f"; {also}" if also else ""
        if age is not None and age > _WAITS_TOO_LONG:
            self._warn(name, finding, advice)
        else:
            self._pass(name, finding)

    async def _remotes(self, conn: Connection, schema: Schema) -> None:
        """Hold what remotes have against what is configured: a job is only asked for where it went."""
        strange = 0
        for each in await diagnosis.held(conn, schema):
            executor = self._adapter.executors.get(each.executor)
            if executor is None:
                strange += 1
                advice = "Nobody here can ask for them: configure it, or `adapter jobs resolve` them."
                self._fail(
                    "remote jobs", f"{each.jobs} are at {each.executor!r}, which is not configured", advice
                )
            elif each.environment not in {None, executor.environment}:
                strange += 1
                where = f"{each.environment!r}, not {executor.environment!r} as configured"
                advice = "Configure the key they were sent with until they have ended."
                self._fail("remote jobs", f"{each.jobs} at {each.executor} are in {where}", advice)
        if not strange:
            self._pass("remote jobs", "each is where our keys open")

    async def _transactions(self, conn: Connection, schema: Schema) -> None:
        found = await diagnosis.long_transactions(conn, schema, _LONG)
        for each in found:
            who = f"pid {each.pid} ({each.application or 'unnamed'}, {each.state})"
            self._warn(
                "transactions", f"{who} is open for {brief(each.age)}", "It keeps vacuum from its work."
            )
        if not found:
            self._pass("transactions", f"none is older than {brief(_LONG)}")
