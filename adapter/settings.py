"""What the environment says. The only reader of ``os.environ``; everything else is handed a `Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from adapter.core.worker_options import WorkerOptions
from adapter.domain.errors import ConfigurationError
from adapter.domain.job import executor_name
from adapter.domain.routing import EVERY_TASK
from adapter.store.database import DatabaseConfig

_KILL = "ADAPTER_EXECUTOR"
_KILL_TASK = "ADAPTER_EXECUTOR__"
#: What ties an application to an executor: the guides' variables, the SDK's, and ours.
_TIES = {
    "trigger": (
        "TRIGGER_PROJECT_ID",
        "TRIGGER_SECRET_KEY",
        "TRIGGER_API_KEY",
        "TRIGGER_SECRET",
        "TRIGGER_DEV_API_KEY",
        "TRIGGER_API_URL",
        "TRIGGER_ENDPOINT",
        "TRIGGER_WEBHOOK_SECRET",
        "TRIGGER_UPSTREAM_URL",
        "TRIGGER_UPSTREAM_KEYS",
        "TRIGGER_PROJECT_REF",
        "TRIGGER_ACCESS_TOKEN",
        "ADAPTER_TRIGGER_RATE_PER_MINUTE",
        "ADAPTER_WEBHOOK_SECRETS",
    )
}


def _from(*names: str) -> Any:
    return AliasChoices(*names)


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _true_or_false(value: Any) -> Any:
    """Read exactly four words: a switch that is misread is worse than none."""
    words = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.strip() not in words:
        msg = "it is true, false, 1 or 0, and nothing else"
        raise ValueError(msg)
    return words[value.strip()]


#: What is on or off.
Flag = Annotated[bool, BeforeValidator(_true_or_false)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """Everything that can be set from outside. A blank variable counts as unset."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    #: Where the jobs live.
    database_url: SecretStr | None = Field(
        default=None, validation_alias=_from("ADAPTER_DATABASE_URL", "DATABASE_URL", "DATABASE_PRIMARY_URL")
    )
    #: The schema that holds all our tables.
    database_schema: str = Field(default="adapter", validation_alias=_from("ADAPTER_DB_SCHEMA"))
    #: ``transaction`` when a pooler such as PgBouncer in transaction mode is in between.
    database_pooler: Literal["none", "transaction"] = Field(
        default="none", validation_alias=_from("ADAPTER_DB_POOLER")
    )
    #: Connections one process keeps at most, beside those of its worker.
    database_pool_size: int = Field(default=10, ge=1, le=500, validation_alias=_from("ADAPTER_DB_POOL_SIZE"))
    #: A directory with initdb and postgres, for ``adapter dev``.
    postgres_bin: Path | None = Field(default=None, validation_alias=_from("ADAPTER_PG_BIN"))

    #: Trigger.dev's environment key; without it there is no executor ``trigger``.
    trigger_secret_key: SecretStr | None = Field(default=None, validation_alias=_from("TRIGGER_SECRET_KEY"))
    #: Trigger.dev's project, for what needs one.
    trigger_project_ref: str | None = Field(default=None, validation_alias=_from("TRIGGER_PROJECT_REF"))
    #: Where Trigger.dev (or another adapter) is.
    trigger_api_url: str = Field(default="https://api.trigger.dev", validation_alias=_from("TRIGGER_API_URL"))
    #: Calls per minute its rate limit allows our key; 0: it has none.
    trigger_rate_per_minute: float = Field(
        default=1500, ge=0, validation_alias=_from("ADAPTER_TRIGGER_RATE_PER_MINUTE")
    )
    #: The Trigger.dev that gets what is not ours; without it nothing is passed on.
    upstream_url: str | None = Field(default=None, validation_alias=_from("TRIGGER_UPSTREAM_URL"))
    #: Its key for callers that show one of ours: ``ours=theirs``, or one key for all of ours.
    upstream_keys: Secrets = Field(default=(), validation_alias=_from("TRIGGER_UPSTREAM_KEYS"))
    #: Where wait tokens are made while requests are passed on: by whoever runs the tasks that wait for them.
    wait_tokens: Literal["upstream", "adapter"] = Field(
        default="upstream", validation_alias=_from("ADAPTER_WAIT_TOKENS")
    )
    #: Secrets that sign webhooks to us, the newest first; several while one is being replaced.
    webhook_secrets: Secrets = Field(
        default=(), validation_alias=_from("ADAPTER_WEBHOOK_SECRETS", "TRIGGER_WEBHOOK_SECRET")
    )
    #: The largest webhook that is read.
    max_webhook_bytes: int = Field(
        default=262_144, ge=1024, validation_alias=_from("ADAPTER_MAX_WEBHOOK_BYTES")
    )

    #: Root keys of our HTTP API (``tr_dev_...``).
    api_keys: Secrets = Field(default=(), validation_alias=_from("ADAPTER_API_KEYS", "ADAPTER_API_KEY"))
    #: Calls per minute each key may make here, half of them at once; 0: as many as it likes.
    api_rate_per_minute: float = Field(default=0, ge=0, validation_alias=_from("ADAPTER_API_RATE_PER_MINUTE"))
    #: The same for each public token.
    api_token_rate_per_minute: float = Field(
        default=0, ge=0, validation_alias=_from("ADAPTER_API_TOKEN_RATE_PER_MINUTE")
    )
    #: Origins whose pages may call the API from a browser; empty: all.
    cors_origins: Names = Field(default=(), validation_alias=_from("ADAPTER_CORS_ORIGINS"))
    #: Whether ``/graphql`` is served, too; needs the extra ``graphql``.
    graphql: Flag = Field(default=False, validation_alias=_from("ADAPTER_GRAPHQL"))
    #: How others reach us; for the links our API hands out.
    public_url: str | None = Field(default=None, validation_alias=_from("ADAPTER_PUBLIC_URL"))
    #: Who is told when jobs start and end here, and the secret that signs it.
    lifecycle_url: str | None = Field(default=None, validation_alias=_from("ADAPTER_LIFECYCLE_URL"))
    lifecycle_secret: SecretStr | None = Field(
        default=None, validation_alias=_from("ADAPTER_LIFECYCLE_SECRET")
    )

    #: A file of kill switches that is read again when it changes.
    kill_switch_file: Path | None = Field(default=None, validation_alias=_from("ADAPTER_EXECUTOR_FILE"))
    #: Kill switches of the environment: a task's spelling, or ``*``, and an executor.
    kill_switches: Mapping[str, str] = Field(default_factory=dict[str, str])

    #: Jobs a worker runs at once, and threads for handlers that are not async.
    worker_concurrency: int = Field(default=50, ge=1, validation_alias=_from("ADAPTER_WORKER_CONCURRENCY"))
    worker_threads: int = Field(default=32, ge=1, validation_alias=_from("ADAPTER_WORKER_THREADS"))
    #: Jobs a worker holds at most beyond those it runs, while its handlers are quick.
    worker_prefetch: int = Field(default=2000, ge=0, validation_alias=_from("ADAPTER_WORKER_PREFETCH"))
    #: Child processes for handlers with isolation="process"; 0: one per core.
    worker_isolated_processes: int = Field(
        default=0, ge=0, validation_alias=_from("ADAPTER_WORKER_ISOLATED_PROCESSES")
    )
    #: How long a worker may be silent before its jobs are taken over, in seconds.
    worker_lease_seconds: float = Field(
        default=30, ge=2, validation_alias=_from("ADAPTER_WORKER_LEASE_SECONDS")
    )
    #: How long a stopping worker waits for its jobs, in seconds; below the orchestrator's own patience.
    worker_grace_seconds: float = Field(
        default=25, ge=0, validation_alias=_from("ADAPTER_WORKER_GRACE_SECONDS")
    )
    #: How long a handler that was told to stop has to end before it is left behind, in seconds.
    worker_cancel_grace_seconds: float = Field(
        default=5, ge=0, validation_alias=_from("ADAPTER_WORKER_CANCEL_GRACE_SECONDS")
    )
    #: How long one call of a lifecycle hook may take, in seconds.
    worker_hook_seconds: float = Field(
        default=30, gt=0, validation_alias=_from("ADAPTER_WORKER_HOOK_SECONDS")
    )
    #: Queues this worker serves; empty: all.
    worker_queues: Names = Field(default=(), validation_alias=_from("ADAPTER_WORKER_QUEUES"))
    #: How long an own-transaction schedule waits for the remote's answer, in seconds.
    dispatch_wait_seconds: float = Field(
        default=2.0, ge=0, validation_alias=_from("ADAPTER_DISPATCH_WAIT_SECONDS")
    )
    #: How long a job that a dispatcher was handing out waits after that dispatcher died, in seconds.
    dispatch_lease_seconds: float = Field(
        default=60, ge=2, validation_alias=_from("ADAPTER_DISPATCH_LEASE_SECONDS")
    )
    #: How often remote jobs are compared with their remote, in seconds.
    reconcile_seconds: float = Field(default=300, ge=1, validation_alias=_from("ADAPTER_RECONCILE_SECONDS"))

    #: How long jobs that ended badly stay at least, in days, unless their task says; None: like all others.
    keep_failed_for_days: float | None = Field(
        default=None, ge=0, le=36_500, validation_alias=_from("ADAPTER_KEEP_FAILED_FOR_DAYS")
    )
    #: The zone of schedules that name none.
    cron_timezone: str = Field(default="UTC", validation_alias=_from("JOBS_CRON_TZ"))
    #: How log lines are written by the command.
    log: Literal["text", "json"] = Field(default="text", validation_alias=_from("ADAPTER_LOG"))
    #: The least severe line that is logged by the command.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", validation_alias=_from("ADAPTER_LOG_LEVEL")
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings once.

        Raises:
            ConfigurationError: a variable has a value it cannot have. The value itself is not shown.
        """
        given = os.environ if environ is None else environ
        values: dict[str, Any] = {name: value for name, value in given.items() if value.strip()}
        switches = {
            name.removeprefix(_KILL_TASK): v for name, v in values.items() if name.startswith(_KILL_TASK)
        }
        if _KILL in values:
            switches[EVERY_TASK] = values[_KILL]
        try:
            return cls.model_validate(values | {"kill_switches": switches})
        except ValidationError as error:
            problems = [f"{each['loc'][0]}: {each['msg']}" for each in error.errors(include_input=False)]
            msg = f"The environment is not valid: {'; '.join(problems)}."
            raise ConfigurationError(msg) from None

    def database(self, application: str = "adapter") -> DatabaseConfig:
        """Return how to reach the database.

        Raises:
            ConfigurationError: no URL is set.
        """
        if self.database_url is None:
            msg = "No database is set. Set ADAPTER_DATABASE_URL or DATABASE_URL, or try `adapter dev`."
            raise ConfigurationError(msg)
        return DatabaseConfig(
            self.database_url.get_secret_value(),
            schema=self.database_schema,
            application=application,
            transaction_pooler=self.database_pooler == "transaction",
            pool_size=self.database_pool_size,
        )

    def worker(self, **changes: Any) -> WorkerOptions:
        """Return how a worker of this process works."""
        options: dict[str, Any] = {
            "concurrency": self.worker_concurrency,
            "threads": self.worker_threads,
            "prefetch": self.worker_prefetch,
            "processes": self.worker_isolated_processes,
            "lease": timedelta(seconds=self.worker_lease_seconds),
            "grace": timedelta(seconds=self.worker_grace_seconds),
            "cancel_grace": timedelta(seconds=self.worker_cancel_grace_seconds),
            "hook_timeout": timedelta(seconds=self.worker_hook_seconds),
            "queues": self.worker_queues,
        }
        return WorkerOptions(**(options | changes))


def variables_set(executor: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the variables that are set for an executor, or send jobs to it; never a value."""
    given = os.environ if environ is None else environ
    there = {name for name in _TIES.get(executor, ()) if given.get(name, "").strip()}
    there |= {
        name
        for name, value in given.items()
        if (name == _KILL or name.startswith(_KILL_TASK)) and executor_name(value.strip()) == executor
    }
    return sorted(there)
