"""`adapter worker --processes N`: workers that are kept running."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from adapter.cli import health, reloading
from adapter.cli.health import HealthFile, of_process
from adapter.cli.supervision import FIRST_WAIT_S, LONGEST_WAIT_S, pause_after
from tests.cli.commands import SHOP, Started, adapter, all_end, eventually, started

pytestmark = [pytest.mark.once("about processes and signals"), pytest.mark.timeout(150)]

Rows = list[tuple[Any, ...]]


@pytest.fixture
def env(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    told = {"DATABASE_URL": database_url, "ADAPTER_APP": SHOP}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return told


def rows(database_url: str, statement: str) -> Rows:
    with psycopg.connect(database_url) as conn:
        return conn.execute(statement.encode()).fetchall()


def pids(database_url: str) -> set[int]:
    """The workers that the database knows and that live."""
    known = rows(database_url, "SELECT pid FROM adapter.workers")
    return {pid for (pid,) in known if psutil.pid_exists(pid)}


def at_work(running: Started, env: dict[str, str], number: int) -> set[int]:
    """Wait until so many are at work; returns their pids."""

    def found() -> set[int]:
        running.says("")
        now = pids(env["DATABASE_URL"])
        return now if len(now) == number else set()

    return eventually(found)


def scheduled(task: str) -> str:
    answer = adapter("--json", "jobs", "schedule", task)
    assert answer.code == 0, answer.err
    return answer.document["job"]["id"]


def statuses(env: dict[str, str]) -> Rows:
    return rows(env["DATABASE_URL"], "SELECT status, attempt FROM adapter.worker_jobs ORDER BY id")


def test_a_killed_worker_is_replaced_and_all_end_together(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "health"
    with started(
        "worker", "--processes", "2", "--health-file", str(file), directory=tmp_path / "run", env=env
    ) as running:
        before = at_work(running, env, 2)
        eventually(lambda: {each.state for each in health.read(file)} == {"working"})
        seen = adapter("--json", "healthcheck", "--file", str(file))
        assert (seen.code, {each["pid"] for each in seen.document["workers"]}) == (0, before)
        victim = min(before)
        psutil.Process(victim).kill()
        eventually(lambda: len(pids(env["DATABASE_URL"]) - before) == 1)
        eventually(lambda: victim not in pids(env["DATABASE_URL"]))
        after = pids(env["DATABASE_URL"])
        assert len(before & after) == 1
        assert f"(pid {victim}) was killed by SIGKILL; it starts again in 0.5 s" in running.err
        assert adapter("jobs", "schedule", "index", "--wait").code == 0
        children = running.process.children(recursive=True)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert all_end(children)
    assert {"worker-1", "worker-2"} <= {word for line in running.err.splitlines() for word in line.split()}
    assert health.read(file) == []
    # The killed one is not among them: nobody could say goodbye for it.
    assert {pid for (pid,) in rows(env["DATABASE_URL"], "SELECT pid FROM adapter.workers")} <= {victim}


def test_the_second_signal_gives_everything_back_from_every_process(
    env: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        scheduled("endless")
    options = ("--processes", "2", "--concurrency", "1")
    with started("worker", *options, directory=tmp_path, env=env) as running:
        eventually(lambda: statuses(env) == [("EXECUTING", 1)] * 2)
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: running.err.count("stopping") >= 3)
        assert running.process.is_running()
        assert statuses(env) == [("EXECUTING", 1)] * 2
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert statuses(env) == [("QUEUED", 0)] * 2


def test_when_the_parent_is_killed_the_workers_end_and_give_back(env: dict[str, str], tmp_path: Path) -> None:
    scheduled("endless")
    grace = {"ADAPTER_WORKER_GRACE_SECONDS": "0"}
    with started("worker", "--processes", "2", directory=tmp_path, env=env | grace) as running:
        at_work(running, env, 2)
        eventually(lambda: statuses(env) == [("EXECUTING", 1)])
        children = running.process.children(recursive=True)
        running.process.kill()
        running.end()
        assert all_end(children)
    assert statuses(env) == [("QUEUED", 0)]


def test_a_crash_loop_is_said_and_slows_down(env: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    with started("worker", "--processes", "2", directory=tmp_path, env=env | nowhere) as running:
        eventually(lambda: running.says("starts again in 2 s"))
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 1
    assert "worker-1" in running.err
    waits = [
        line.rpartition("starts again in ")[2][:5]
        for line in running.err.splitlines()
        if "worker-1 (" in line
    ]
    assert waits[:2] == ["0.5 s", "1 s ["]


def test_the_waits_grow_to_a_bound() -> None:
    assert [pause_after(n) for n in (1, 2, 3)] == [FIRST_WAIT_S, FIRST_WAIT_S * 2, FIRST_WAIT_S * 4]
    assert pause_after(100_000) == LONGEST_WAIT_S


@pytest.mark.parametrize(
    ("app", "words"), [("no_such_shop:adapter", "no_such_shop"), (None, "This needs the tasks")]
)
def test_what_can_never_start_is_not_started_again(
    env: dict[str, str], tmp_path: Path, app: str | None, words: str
) -> None:
    told = {name: value for name, value in env.items() if name != "ADAPTER_APP"}
    given = ("--app", app) if app else ()
    with started(*given, "worker", "--processes", "2", directory=tmp_path, env=told) as running:
        assert running.end() == 2
    assert words in running.err
    assert "starts again" not in running.err


def test_a_hangup_restarts_one_process_after_the_other(env: dict[str, str], tmp_path: Path) -> None:
    with started("worker", "--processes", "2", directory=tmp_path, env=env) as running:
        before = at_work(running, env, 2)
        running.process.send_signal(signal.SIGHUP)
        eventually(lambda: running.says("rolling restart done"))
        after = at_work(running, env, 2)
        assert not before & after
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert "starts again in" not in running.err
    lines = running.err.splitlines()
    first = next(n for n, line in enumerate(lines) if "worker-1" in line and "worker stopped" in line)
    again = [n for n, line in enumerate(lines) if "worker-1" in line and "worker started" in line]
    second = next(n for n, line in enumerate(lines) if "worker-2" in line and "worker stopped" in line)
    assert first < again[1] < second


def test_a_terminal_that_goes_leaves_nothing_behind(env: dict[str, str], tmp_path: Path) -> None:
    terminal, theirs = os.openpty()
    with started("worker", "--processes", "2", directory=tmp_path, env=env, stdin=theirs) as running:
        at_work(running, env, 2)
        children = running.process.children(recursive=True)
        # As the kernel does: everybody in the terminal's group hears it.
        os.killpg(running.process.pid, signal.SIGHUP)
        assert running.end() == 0
        assert all_end(children)
    os.close(terminal)
    os.close(theirs)
    assert pids(env["DATABASE_URL"]) == set()


def test_running_once_is_for_one_process(env: dict[str, str]) -> None:
    answer = adapter("worker", "--once", "--processes", "2")
    assert (answer.code, "--once" in answer.err) == (2, True)


def test_reloading_without_the_watcher_says_what_to_install(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_name: str) -> None:
        """No such package."""

    monkeypatch.setattr(reloading, "find_spec", nothing)
    for command in ("worker", "dev"):
        answer = adapter(command, "--reload")
        assert (answer.code, "trigger-adapter[reload]" in answer.err) == (2, True)


def test_a_worker_shows_that_it_is_alive(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "health"
    with started("worker", "--health-file", str(file), directory=tmp_path / "run", env=env) as running:
        eventually(lambda: [each.state for each in health.read(file)] == ["working"])
        assert "health: working" in adapter("healthcheck", "--file", str(file)).out
        # A process that stands still is not alive.
        running.process.suspend()
        eventually(lambda: adapter("healthcheck", "--file", str(file), "--max-age", "2").code == 1)
        running.process.resume()
        eventually(lambda: adapter("healthcheck", "--file", str(file), "--max-age", "2").code == 0)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert not file.exists()
    assert adapter("healthcheck", "--file", str(file)).code == 1


def test_one_old_file_of_several_is_unhealthy(tmp_path: Path) -> None:
    file = tmp_path / "health"
    for name in ("worker-1", "worker-2"):
        HealthFile(of_process(file, name)).write(state="working")
    assert adapter("healthcheck", "--file", str(file)).code == 0
    long_ago = of_process(file, "worker-2").stat().st_mtime - 60
    os.utime(of_process(file, "worker-2"), (long_ago, long_ago))
    answer = adapter("healthcheck", "--file", str(file))
    assert (answer.code, "health.worker-2: working" in answer.out, "too old" in answer.out) == (1, True, True)
