"""Who is measured, and what there is to know about each: its programs, its tables, what it keeps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

ROOT = Path(__file__).resolve().parents[1]
OURS = "adapter"
RAW = "raw"
_PYTHON = ROOT / ".venv-bench/bin/python"
_NODE = ROOT / ".venv/node/bin/node"
_NODE_PEERS = ROOT / "bench/peers/node"
#: How long ago the n-th of a million jobs was, when there was one a millisecond.
_AGO: LiteralString = "(1000000 - n) * interval '1 ms'"
#: The id it had: version 7, as ours all are, so that a new one comes behind all that are there.
_OLD_ID: LiteralString = (
    "(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - 1000000 + n), 12, '0') || '7' ||"
    " substr(md5(n::text), 1, 3) || 'a' || substr(md5(n::text), 4, 15))::uuid"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A table where finished jobs stay, and the SQL of the columns that differ from row to row (``n`` counts)."""

    table: LiteralString
    own: dict[LiteralString, LiteralString]
    of: LiteralString = "true"


@dataclass(frozen=True, slots=True)
class Contender:
    """``program`` is driven as `bench.peers.program` says. ``worker`` is a worker process; None: the program's.

    ``queue`` is the table that is claimed from. ``open_jobs`` is true while a job is unfinished. ``share``: of the
    number of jobs the others get.
    """

    name: str
    program: tuple[str, ...]
    queue: LiteralString
    open_jobs: LiteralString
    kept: tuple[Kept, ...]
    keeps: str
    worker: tuple[str, ...] | None = None
    share: float = 1.0

    def command(self, command: str, url: str, **options: object) -> list[str]:
        """The arguments that run one command of the program."""
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return [*self.program, command, "--database", url, *given]

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.name == OURS:
            return None
        checks = {
            _PYTHON: [_PYTHON, "-c", "import asyncpg, pgqueuer, procrastinate, uvloop"],
            _NODE: [_NODE, "--check", _NODE_PEERS / "program.mjs"],
        }
        command = checks[Path(self.program[0])]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        if self.program[0] == str(_NODE) and not (_NODE_PEERS / "node_modules").is_dir():
            return "its packages are not installed"
        return None


ADAPTER = Contender(
    OURS,
    (sys.executable, "-m", "bench.own"),
    "adapter.worker_jobs_open",
    "SELECT EXISTS (SELECT FROM adapter.worker_jobs_open)",
    (
        Kept(
            "adapter.worker_jobs_finished",
            {"id": _OLD_ID, "created_at": f"created_at - {_AGO}", "finished": f"finished - {_AGO}"},
        ),
    ),
    "the job's whole row, result, attempts and times, in partitions of its own",
    worker=(sys.executable, "-m", "adapter.cli", "--app", "bench.app:adapter", "worker"),
)
PROCRASTINATE = Contender(
    "procrastinate",
    (str(_PYTHON), "-m", "bench.peers.procrastinate"),
    "procrastinate_jobs",
    "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
    (Kept("procrastinate_jobs", {}),),
    "succeeded jobs in its one table (its events, three a job, were left out)",
    share=0.05,
)
PGQUEUER = Contender(
    "pgqueuer",
    (str(_PYTHON), "-m", "bench.peers.pgqueuer"),
    "pgqueuer",
    "SELECT EXISTS (SELECT FROM pgqueuer)",
    (Kept("pgqueuer_log", {"job_id": "1000000 + n"}),),
    "log lines, three a job; no result",
)
GRAPHILE_WORKER = Contender(
    "graphile-worker",
    (str(_NODE), "bench/peers/node/graphile_worker.mjs"),
    "graphile_worker._private_jobs",
    "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)",
    (),
    "nothing: a job that succeeded is deleted",
)
PG_BOSS = Contender(
    "pg-boss",
    (str(_NODE), "bench/peers/node/pg_boss.mjs"),
    "pgboss.job",
    "SELECT EXISTS (SELECT FROM pgboss.job WHERE name = 'noop' AND state < 'completed')",
    (
        Kept(
            "pgboss.job",
            {
                "id": "gen_random_uuid()",
                "created_on": f"created_on - {_AGO}",
                "completed_on": f"completed_on - {_AGO}",
            },
            "name = 'noop'",
        ),
    ),
    "the completed row, in its one table",
)
PEERS = (GRAPHILE_WORKER, PG_BOSS, PGQUEUER, PROCRASTINATE)
