"""A PostgreSQL of one's own, on a directory: for `adapter dev` and for tests.

Only the server's *programs* are looked for; starting them is done here, so that no system user is created, no
permissions of parent directories change, and a password is always asked for.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from adapter.domain.errors import EmbeddedPostgresError
from adapter.store.postgres_binaries import copy_programs, find_binaries
from adapter.store.postgres_process import Claim, free_port, hand_over, lent_account, spawn, watch

_USER = "adapter"
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_BUSY = ("Address already in use", "pre-existing shared memory block")
_START_SECONDS = 60.0
_BUSY_SECONDS = 10.0
_STOP_SECONDS = 20.0
_STEP_SECONDS = 0.02


class EmbeddedPostgres:
    """One PostgreSQL server on 127.0.0.1 with its data in `data_dir`.

    Whoever starts it owns it: it ends with `stop()` or with the owner's process, however that ends. A second
    starter on the same directory joins the running server, and its `stop()` leaves the server alone.
    `durable=False` trades every promise about a crash of the machine for speed.
    `settings` are server settings by name; `environ` is where PATH is taken from.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        database: str = "adapter",
        port: int = 0,
        bin_dir: Path | str | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._root = Path(data_dir).expanduser().resolve()
        self._data, self._log = self._root / "data", self._root / "server.log"
        self._password, self._claim = self._root / "password", Claim(self._data)
        self._database, self._wanted_port, self._port = database, port, 0
        self._bin_dir, self._environ = bin_dir, dict(environ or {})
        self._settings = {"max_connections": "200", **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._account = lent_account()
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._version, self._log_from = "", 0

    @property
    def version(self) -> str:
        """The server's full version, as `18.4`; empty before the first start."""
        return self._version.partition(" ")[0]

    def start(self) -> Self:
        """Start the server, or join the one that runs on this directory; create the database if need be."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        hand_over(self._root, self._account)
        with (self._root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                while not self._joined():
                    if self._server is not None:
                        self.stop(immediate=True)  # buries one that died by itself
                    self._launch()
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self, *, immediate: bool = False) -> None:
        """End the server if this object started it; open connections are cut. `immediate` is a crash."""
        if self._server is not None:
            self._end(self._server.pid, immediate=immediate)
            self._server.wait()
            self._server = None
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start again on the same port; `immediate` makes it a crash with recovery."""
        port, pid = self._port, self._claim.running_pid()
        self._wanted_port = port
        if self._server is None and pid is not None:
            self._end(pid, immediate=immediate)
        self.stop(immediate=immediate)
        self.start()

    def url(self, database: str | None = None) -> str:
        """Connection URL, password included."""
        password = self._password.read_text()
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self._port}/{database or self._database}"

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create an empty database, or a copy of `template`, which nobody may be connected to."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self._connect("postgres") as conn:
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, and cut who is connected to it."""
        with self._connect("postgres") as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    def _joined(self) -> bool:
        """Meet the server that runs on the directory; False when there is none, or it goes away meanwhile."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while self._claim.running_pid() is not None:
            try:
                self._wait_ready()
                with self._connect("postgres") as conn:
                    self._version = str(
                        conn.execute("SELECT current_setting('server_version')").fetchall()[0][0]
                    )
                    found = conn.execute(
                        "SELECT FROM pg_database WHERE datname = %s", [self._database]
                    ).fetchone()
                if found is None:
                    self.create_database(self._database)
            except (psycopg.Error, EmbeddedPostgresError) as error:
                if time.monotonic() > deadline or isinstance(error, psycopg.errors.InvalidPassword):
                    raise EmbeddedPostgresError(
                        f"no connection to PostgreSQL in {self._root}: {error}"
                    ) from error
                time.sleep(_STEP_SECONDS)
            else:
                return True
        return False

    def _launch(self) -> None:
        self._log.touch(mode=0o600)
        hand_over(self._log, self._account)
        source, version = find_binaries(self._bin_dir, self._environ)
        bin_dir = self._reachable(source, version)
        if not self._data.exists():
            self._init(bin_dir)
        have = (self._data / "PG_VERSION").read_text().strip()
        if have != version.partition(".")[0]:
            raise EmbeddedPostgresError(
                f"{self._root} holds the data of PostgreSQL {have}, but the programs found in {source} are of "
                f"PostgreSQL {version}: give the programs of version {have}, or another directory"
            )
        self._claim.disown()
        deadline = time.monotonic() + _BUSY_SECONDS
        while not self._spawned(bin_dir):
            said = self._said()
            if not any(reason in said for reason in _BUSY) or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL did not start in {self._root}:\n{said}")
            time.sleep(0.2)

    def _spawned(self, bin_dir: Path) -> bool:
        """Start the server and its watcher; False when it ended at once, its reason then being in the log."""
        self._port = self._wanted_port or free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": str(self._port), "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in {**self._settings, **settings}.items()]
        self._log_from = self._log.stat().st_size
        self._server = self._popen(bin_dir / "postgres", "-D", str(self._data), *options)
        self._watcher = watch(self._server.pid, self._account)
        try:
            self._wait_ready()
        except EmbeddedPostgresError:
            gone = self._server.poll() is not None
            self.stop(immediate=True)
            if gone:
                return False
            raise
        return True

    def _init(self, bin_dir: Path) -> None:
        """Make the data directory under another name first: a half-made one is never taken for a whole."""
        fresh = self._root / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._password.unlink(missing_ok=True)
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(24))
        hand_over(self._password, self._account)
        locale = "C" if sys.platform == "darwin" else "C.UTF-8"
        options = [f"--username={_USER}", f"--pwfile={self._password}", "--auth=scram-sha-256"]
        options += ["--encoding=UTF8", f"--locale={locale}", "--no-instructions"]
        options += [] if self._settings.get("fsync") != "off" else ["--no-sync"]
        made = self._popen(bin_dir / "initdb", "-D", str(fresh), *options).wait()
        if made != 0:
            raise EmbeddedPostgresError(f"initdb failed:\n{self._said()}")
        fresh.rename(self._data)

    def _popen(self, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
        path = self._environ.get("PATH", os.defpath)
        return spawn([str(program), *arguments], account=self._account, path=path, log=self._log)

    def _reachable(self, bin_dir: Path, version: str) -> Path:
        """The programs, or a copy of them next to the data where the server's account may not run them."""
        if self._account is None:
            return bin_dir
        with contextlib.suppress(OSError):
            if self._popen(bin_dir / "postgres", "--version").wait() == 0:
                return bin_dir
        return copy_programs(bin_dir, self._root / f"postgresql-{version}")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            pid, port, state = self._claim.read()
            if state == "ready" and (self._server is None or pid == self._server.pid):
                self._port = port
                return
            if self._server.poll() is not None if self._server else self._claim.running_pid() is None:
                break
            time.sleep(_STEP_SECONDS)
        raise EmbeddedPostgresError(f"PostgreSQL in {self._root} does not answer:\n{self._said()}")

    def _end(self, pid: int, *, immediate: bool) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT if immediate else signal.SIGINT)
            while self._claim.is_held_by(pid) and not (self._server and self._server.poll() is not None):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(_STEP_SECONDS)

    def _said(self) -> str:
        return self._log.read_bytes()[self._log_from :].decode(errors="replace")[-1500:]
