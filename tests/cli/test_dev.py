import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from adapter.cli.dev import default_data_dir, hidden
from tests import kit
from tests.cli.commands import PATIENCE_S, SHOP, Started, all_end, eventually, started

pytestmark = pytest.mark.timeout(240)

#: Finding, starting and filling a database comes on top of the rest.
BOOT_S = PATIENCE_S * 2


@pytest.fixture
def dev(server_dir: Path, tmp_path: Path) -> Callable[..., Any]:
    """Starts `adapter dev` on this test's data directory and a free port, without any database URL."""
    env = {"ADAPTER_APP": SHOP}
    if bin_dir := kit.own_setting("PG_BIN"):
        env["ADAPTER_PG_BIN"] = bin_dir
    options = ("--port", "0", "--data-dir", str(server_dir))

    def start(*more: str, run: str = "run", **added: str) -> Any:
        return started("--json", "dev", *options, *more, directory=tmp_path / run, env=env | added)

    return start


def ready(running: Started) -> dict[str, Any]:
    eventually(lambda: running.says("Ready."), within=BOOT_S)
    return json.loads(running.out)


def family(running: Started) -> list[psutil.Process]:
    """Everything it has started, and itself."""
    return [psutil.Process(running.process.pid), *running.process.children(recursive=True)]


def test_everything_runs_a_job_stops_and_starts_again_with_its_data(dev: Callable[..., Any]) -> None:
    with dev() as running:
        told = ready(running)
        assert set(told["pids"]) == {"dev", "postgres", "server", "worker", "dispatcher"}
        assert told["pids"]["dev"] == running.process.pid
        assert ":***@127.0.0.1:" in told["database_url"]
        headers = {"authorization": f"Bearer {told['api_key']}"}
        with httpx.Client(base_url=told["url"], headers=headers, trust_env=False) as client:
            made = client.post("/api/v1/tasks/send-email/trigger", json={"payload": {"to": "ann"}})
            assert made.status_code == 200, made.text
            run_id = made.json()["id"]

            def output() -> Any:
                return client.get(f"/api/v3/runs/{run_id}").json().get("output")

            assert eventually(output) == {"sent": "ann"}
        groups = {os.getpgid(told["pids"][name]) for name in ("dev", "server", "worker", "dispatcher")}
        assert len(groups) == 1
        everybody = family(running)
        assert {each.pid for each in everybody} >= set(told["pids"].values())
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert all_end(everybody)
    password = (Path(told["data_dir"]) / "password").read_text()
    assert password not in running.out + running.err

    with dev("--no-worker", run="again", ADAPTER_API_KEY=told["api_key"]) as running:
        again = ready(running)
        assert set(again["pids"]) == {"dev", "postgres", "server", "dispatcher"}
        assert again["api_key"] is None
        kept = httpx.get(f"{again['url']}/api/v3/runs/{run_id}", headers=headers, trust_env=False)
        assert kept.json()["output"] == {"sent": "ann"}
        everybody = family(running)
        # As a service manager, and Ctrl+C in a terminal, do: everybody in the group hears it.
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.end() == 0
        assert all_end(everybody)
    assert "stopping at once" not in running.err


@pytest.mark.parametrize("victim", ["worker", "postgres"])
def test_when_one_process_dies_all_end_with_an_error(dev: Callable[..., Any], victim: str) -> None:
    with dev() as running:
        told = ready(running)
        everybody = family(running)
        psutil.Process(told["pids"][victim]).kill()
        assert running.end() == 1
        assert all_end(everybody)
    assert '"code": "child_ended"' in running.err


def test_when_it_is_killed_itself_nothing_is_left_behind(dev: Callable[..., Any]) -> None:
    with dev() as running:
        ready(running)
        everybody = family(running)
        running.process.kill()
        running.end()
        assert all_end(everybody)


def test_with_a_database_url_no_server_is_started(empty_database: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": empty_database, "ADAPTER_API_KEY": "tr_dev_" + "k" * 24}
    with started("--json", "dev", "--port", "0", directory=tmp_path, env=env) as running:
        told = ready(running)
        assert set(told["pids"]) == {"dev", "server", "dispatcher"}
        assert (told["data_dir"], told["api_key"]) == (None, None)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert "no worker is started" in running.err


def test_a_port_that_is_taken_is_told_before_anything_starts(dev: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with dev("--port", str(taken.getsockname()[1])) as running:
            assert running.end() == 1
        assert '"code": "address"' in running.err


def test_each_project_has_its_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    (tmp_path / "shop").mkdir()
    (tmp_path / "other" / "shop").mkdir(parents=True)
    places: set[Path] = set()
    for project in ("shop", "other/shop"):
        monkeypatch.chdir(tmp_path / project)
        places.add(default_data_dir())
    assert len(places) == 2
    assert {each.parent for each in places} == {Path("/home/ann/.local/state/trigger-adapter")}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir().parent == Path("/var/lib/trigger-adapter")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://who:hidden@host:5432/jobs?password=hidden", "postgresql://who:***@host:5432/jobs"),
        ("host=host user=who password=hidden dbname=jobs", "postgresql://who:***@host/jobs"),
    ],
)
def test_a_database_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hidden(url) == shown
