import signal
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.cli.commands import SHOP, adapter, eventually, started

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def env(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the processes are told; and the commands of the test itself."""
    told = {"DATABASE_URL": database_url, "ADAPTER_APP": SHOP, "ADAPTER_API_KEY": "tr_dev_" + "k" * 24}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return told


def status(database_url: str) -> str | None:
    """The status of the one open job there is."""
    with psycopg.connect(database_url) as conn:
        row = conn.execute("SELECT status FROM adapter.worker_jobs_open").fetchone()
    return row[0] if row else None


def scheduled(*words: str) -> str:
    answer = adapter("--json", "jobs", "schedule", *words)
    assert answer.code == 0, answer.err
    return answer.document["job"]["id"]


def job(job_id: str) -> dict[str, object]:
    return adapter("--json", "jobs", "show", job_id).document["job"]


def test_a_server_serves_until_it_is_told_to_stop(env: dict[str, str], tmp_path: Path) -> None:
    with started("serve", "--port", "0", directory=tmp_path, env=env) as server:
        eventually(lambda: server.says("serving on "))
        url = server.err.partition("serving on ")[2].split()[0]
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get("/readyz").status_code == 200
            assert client.post("/api/v1/tasks/send-email/trigger", json={}).status_code == 401
            assert adapter("healthcheck", "--url", f"{url}/readyz").code == 0
            waits = f"/api/jobs/{scheduled('index', '--delay', '1h')}/stream"
            with client.stream(
                "GET", waits, headers={"authorization": f"Bearer {env['ADAPTER_API_KEY']}"}
            ) as sent:
                lines = sent.iter_lines()
                assert next(line for line in lines if line.startswith("data: "))
                server.process.send_signal(signal.SIGTERM)
                # Whoever follows a job is let go, and comes back to the next server.
                assert not any(line.startswith("data: ") for line in lines)
        assert server.end() == 0
    assert "exceeded" not in server.err, "its patience had to end"
    assert server.out == ""


def test_a_server_that_works_runs_jobs_too(env: dict[str, str], tmp_path: Path) -> None:
    with started("serve", "--port", "0", "--work", "--no-loops", directory=tmp_path, env=env) as server:
        eventually(lambda: server.says("serving on "))
        assert adapter("jobs", "schedule", "index", "--wait").code == 0
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 0


def test_a_port_that_is_taken_is_told(env: dict[str, str], tmp_path: Path) -> None:
    with started("serve", "--port", "0", directory=tmp_path / "first", env=env) as first:
        eventually(lambda: first.says("serving on "))
        port = first.err.partition("serving on ")[2].split()[0].rpartition(":")[2]
        answer = adapter("serve", "--port", port)
    assert (answer.code, "[address]" in answer.err) == (1, True)


def test_a_worker_lets_running_jobs_end_and_a_second_signal_does_not(
    env: dict[str, str], tmp_path: Path
) -> None:
    job_id = scheduled("endless")
    with started("worker", "--concurrency", "2", directory=tmp_path, env=env) as worker:
        eventually(lambda: status(env["DATABASE_URL"]) == "EXECUTING")
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: worker.says("stopping"))
        assert worker.process.is_running()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.end() == 0
    assert "stopping at once" in worker.err
    assert (job(job_id)["status"], job(job_id)["attempt"]) == ("QUEUED", 0)


def test_a_worker_does_not_wait_for_a_thread_that_never_ends(env: dict[str, str], tmp_path: Path) -> None:
    scheduled("deaf")
    grace = {"ADAPTER_WORKER_GRACE_SECONDS": "0"}
    with started("worker", directory=tmp_path, env=env | grace) as worker:
        eventually(lambda: status(env["DATABASE_URL"]) == "EXECUTING")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.end() == 1
    assert "leaves without it" in worker.err


def test_a_worker_serves_only_the_queues_it_is_given(env: dict[str, str], tmp_path: Path) -> None:
    other = scheduled("index")
    mine = scheduled("send-email", '{"to": "ann"}')
    with started("worker", "--queues", "mail, bulk", directory=tmp_path, env=env) as worker:
        eventually(lambda: job(mine)["status"] == "COMPLETED")
        assert job(other)["status"] == "QUEUED"
        worker.process.send_signal(signal.SIGTERM)
        assert worker.end() == 0


def test_a_worker_that_runs_once_ends_when_nothing_is_ready(env: dict[str, str]) -> None:
    scheduled("index")
    scheduled("index", "--delay", "1h")
    assert adapter("--json", "worker", "--once").document == {"ran": 1}
    assert adapter("worker", "--once").out == "0 jobs run\n"
    with psycopg.connect(env["DATABASE_URL"]) as conn:
        assert conn.execute("SELECT count(*) FROM adapter.workers").fetchone() == (0,)


def test_a_dispatcher_hands_out_what_others_scheduled(env: dict[str, str], tmp_path: Path) -> None:
    job_id = scheduled("report", "--delay", "1s")
    with started("dispatch", directory=tmp_path, env=env | {"ADAPTER_LOG": "json"}) as dispatcher:
        eventually(lambda: job(job_id)["remote_run_id"])
        dispatcher.process.send_signal(signal.SIGTERM)
        assert dispatcher.end() == 0
    assert '"message": "dispatching to trigger"' in dispatcher.err


def test_a_worker_that_could_run_nothing_does_not_start(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "idle_shop.py").write_text("from adapter import Adapter\nadapter = Adapter.from_env()\n")
    told = env | {"ADAPTER_APP": "idle_shop", "PYTHONPATH": str(tmp_path)}
    with started("worker", directory=tmp_path, env=told) as worker:
        assert worker.end() == 2
    assert "could run nothing" in worker.err
