import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from adapter.domain.errors import EmbeddedPostgresError
from adapter.store.embedded import EmbeddedPostgres
from adapter.store.postgres_binaries import find_binaries
from tests import kit

pytestmark = [pytest.mark.once("a server of its own"), pytest.mark.timeout(120)]


def server_on(directory: Path, **options: Any) -> EmbeddedPostgres:
    options.setdefault("durable", False)
    return EmbeddedPostgres(directory, bin_dir=kit.own_setting("PG_BIN"), **options)


def rows(server: EmbeddedPostgres, statement: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        cursor = conn.execute(statement)
        return cursor.fetchall() if cursor.description else []


def postmaster(directory: Path) -> psutil.Process:
    return psutil.Process(int((directory / "data" / "postmaster.pid").read_text().split()[0]))


def living(processes: list[psutil.Process], seconds: float = 10) -> list[psutil.Process]:
    """Those still there after a while; a zombie is not: only its parent could bury it."""
    _, alive = psutil.wait_procs([p for p in processes if not is_zombie(p)], timeout=seconds)
    return [process for process in alive if not is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_started_server_has_its_database_and_asks_for_a_password(server_dir: Path) -> None:
    with server_on(server_dir) as server:
        assert rows(server, "SELECT current_database(), current_user") == [("adapter", "adapter")]
        major = (server_dir / "data" / "PG_VERSION").read_text().strip()
        assert server.version.partition(".")[0] == major
        url = server.url().replace(server.url().split(":")[2].split("@")[0], "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url)
    assert (server_dir / "password").stat().st_mode & 0o777 == 0o600


def test_the_server_listens_on_the_loopback_address_only(server_dir: Path) -> None:
    with server_on(server_dir):
        addresses = {c.laddr.ip for c in postmaster(server_dir).net_connections() if c.status == "LISTEN"}
        assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_only_a_server_that_need_not_last_gives_up_durability(
    server_dir: Path, durable: bool, fsync: str
) -> None:
    with server_on(server_dir, durable=durable, settings={"max_connections": "17"}) as server:
        assert rows(server, "SHOW fsync") == [(fsync,)]
        assert rows(server, "SHOW max_connections") == [("17",)]


def test_a_second_starter_joins_and_leaves_the_server_running(server_dir: Path) -> None:
    with server_on(server_dir) as owner:
        with server_on(server_dir, database="other") as guest:
            assert guest.url("x") == owner.url("x")
            assert rows(guest, "SELECT current_database()") == [("other",)]
        assert rows(owner, "SELECT 1") == [(1,)]


def test_starting_at_the_same_time_makes_one_server(server_dir: Path) -> None:
    servers = [server_on(server_dir) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        urls = {server.url() for server in pool.map(EmbeddedPostgres.start, servers)}
    assert len(urls) == 1
    for server in servers:
        server.stop()


def test_a_killed_server_starts_again_with_its_rows(server_dir: Path) -> None:
    with server_on(server_dir, durable=True) as server:
        rows(server, "CREATE TABLE kept AS SELECT 1 AS n")
        postmaster(server_dir).kill()
        server.start()
        assert rows(server, "SELECT n FROM kept") == [(1,)]


def test_a_dead_server_nobody_has_buried_is_not_taken_for_alive(server_dir: Path) -> None:
    """A zombie has a pid: `pg_ctl status` calls it running, and a new server would refuse to start."""
    owner = server_on(server_dir).start()
    process = postmaster(server_dir)
    process.kill()
    with server_on(server_dir) as heir:
        assert rows(heir, "SELECT 1") == [(1,)]
        assert postmaster(server_dir).pid != process.pid
        owner.stop()
        assert rows(heir, "SELECT 1") == [(1,)]


def test_a_pid_that_belongs_to_another_program_by_now_is_no_server(server_dir: Path) -> None:
    owner = server_on(server_dir).start()
    postmaster(server_dir).kill()
    claim = server_dir / "data" / "postmaster.pid"
    claim.write_text("\n".join([str(os.getpid()), *claim.read_text().splitlines()[1:]]) + "\n")
    with server_on(server_dir) as server:
        assert rows(server, "SELECT 1") == [(1,)]
    owner.stop()


@pytest.mark.parametrize("immediate", [False, True])
def test_a_restart_keeps_the_address(server_dir: Path, immediate: bool) -> None:
    with server_on(server_dir) as server:
        before, pid = server.url(), postmaster(server_dir).pid
        server.restart(immediate=immediate)
        assert rows(server, "SELECT 1") == [(1,)]
        assert (server.url(), postmaster(server_dir).pid != pid) == (before, True)


def test_data_of_another_major_version_is_refused(server_dir: Path) -> None:
    server_on(server_dir).start().stop()
    (server_dir / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresError, match="holds the data of PostgreSQL 12, but the programs"):
        server_on(server_dir).start()


def test_half_made_data_is_made_anew(server_dir: Path) -> None:
    (server_dir / "data.new").mkdir()
    (server_dir / "data.new" / "PG_VERSION").touch()
    with server_on(server_dir) as server:
        assert rows(server, "SELECT 1") == [(1,)]


def test_a_reason_not_to_start_is_told(server_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="unrecognized configuration parameter"):
        server_on(server_dir, settings={"no_such_setting": "1"}).start()


def test_a_taken_port_is_told(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.store.embedded._BUSY_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = server_on(server_dir, port=taken.getsockname()[1])
        with pytest.raises(EmbeddedPostgresError, match="Address already in use"):
            server.start()


def test_programs_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=f"tried given: {tmp_path}"):
        find_binaries(tmp_path)


def test_databases_are_made_copied_and_dropped_with_who_is_in_them(server_dir: Path) -> None:
    with server_on(server_dir) as server:
        rows(server, "CREATE TABLE kept AS SELECT 1 AS n")
        server.create_database("copy", template="adapter")
        with contextlib.closing(psycopg.connect(server.url("copy"))) as conn:
            assert conn.execute("SELECT n FROM kept").fetchall() == [(1,)]
            server.drop_database("copy")
        server.drop_database("copy")


def test_a_stop_leaves_no_process(server_dir: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    server = server_on(server_dir).start()
    started = set(psutil.Process().children(recursive=True)) - before
    assert len(started) > 2
    server.stop()
    assert living(list(started), seconds=0) == []


def test_a_killed_owner_leaves_no_process(server_dir: Path) -> None:
    script = (
        "import os, sys; from adapter.store.embedded import EmbeddedPostgres\n"
        "EmbeddedPostgres(sys.argv[1], bin_dir=sys.argv[2] or None).start()\n"
        "print('started', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(server_dir), kit.own_setting("PG_BIN") or ""]
    with subprocess.Popen(command, cwd=kit.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        started = psutil.Process(owner.pid).children(recursive=True)
        assert postmaster(server_dir) in started
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert living(started) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server another account")
def test_root_copies_programs_the_server_may_not_reach(server_dir: Path) -> None:
    programs, _ = find_binaries(kit.own_setting("PG_BIN"))
    closed = server_dir / "closed"
    shutil.copytree(programs.parent, closed / "package" / "install", symlinks=True)
    libraries = programs.parent.parent.with_name(f"{programs.parent.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
        (closed / "package").rename(closed / programs.parent.parent.name)
    closed.chmod(0o700)
    with EmbeddedPostgres(server_dir, bin_dir=next(closed.glob("*/install/bin"))) as server:
        assert rows(server, "SELECT 1") == [(1,)]
        assert postmaster(server_dir).exe().startswith(str(server_dir / "postgresql-"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server another account")
def test_root_is_told_of_a_directory_the_server_may_not_reach(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="may not enter"):
        server_on(closed / "server").start()
