"""The examples run as they are printed."""

import os
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from adapter import Adapter, Settings
from tests import kit, pooling

EXAMPLES = kit.ROOT / "examples"
KEY = "tr_dev_" + "k" * 24


def run_example(file: str, database_url: str, **environment: str) -> str:
    """Run it as a person would; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / file)],
        env=pooling.environment(
            {"PATH": os.defpath, "PYTHONPATH": str(kit.ROOT), "DATABASE_URL": database_url, **environment}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(90)
def test_the_quickstart(database_url: str) -> None:
    said = run_example("quickstart.py", database_url)
    assert "goes to local (default)" in said
    assert "it found 3 rows" in said
    assert "10 jobs found 45 rows" in said
    assert "after the commit: {'rows': 3}" in said
    assert "so it goes to local" in said


@pytest.mark.timeout(90)
def test_code_without_an_event_loop(database_url: str) -> None:
    said = run_example("in_flask_style/orders.py", database_url)
    assert said.startswith("order 1: job ")
    assert "send-receipt CANCELED" in said
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT data ->> 'id', status FROM adapter.worker_jobs ORDER BY created_at"
        ).fetchall()
        conn.execute("DROP TABLE public.orders")
    assert rows == [("1", "QUEUED"), ("2", "CANCELED")]


@pytest.mark.timeout(90)
def test_the_jobs_of_a_document_service(database_url: str) -> None:
    said = run_example("document_jobs/jobs.py", database_url)
    assert said.splitlines() == ["ingested 3", "metered 200", "deleted 1", "reset 1", "deleted 2"]
    with psycopg.connect(database_url) as conn:
        conn.execute("DROP TABLE public.documents, public.usage")


@pytest.fixture
async def shop(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Adapter, httpx.AsyncClient]]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ADAPTER_API_KEY", KEY)
    module: dict[str, Any] = runpy.run_path(str(EXAMPLES / "in_starlette" / "app.py"))
    app = module["app"]
    # The transport runs no lifespan; this is the host's, which a server would run.
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            yield module["adapter"], client


async def test_inside_a_starlette_application(shop: tuple[Adapter, httpx.AsyncClient]) -> None:
    adapter, client = shop
    replies = [await client.post("/orders", json={"order_id": 7}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [202, 202]
    first, second = (reply.json() for reply in replies)
    assert (first["deduplicated"], second["deduplicated"]) == (False, True)
    assert first["job"] == second["job"]
    assert (await client.post("/orders", json={})).status_code == 422
    # The adapter's own routes are beside the host's.
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    runs = await client.get("/api/v1/runs", headers={"authorization": f"Bearer {KEY}"})
    assert [run["taskIdentifier"] for run in runs.json()["data"]] == ["send-invoice"]
    # This process does not work; another does.
    worker = adapter.worker()
    assert await worker.run_once() == 1
    (job,) = (await adapter.list_jobs()).jobs
    assert job.result == "invoice for order 7"


async def test_users_of_the_shop_see_their_own_jobs_and_support_sees_all(
    shop: tuple[Adapter, httpx.AsyncClient],
) -> None:
    _, client = shop
    ann = {"cookie": "session=cookie-of-ann", "origin": "http://shop.test"}
    sue = {"cookie": "session=cookie-of-sue", "origin": "http://shop.test"}
    hers = (await client.post("/orders", json={"order_id": 1}, headers=ann)).json()["job"]
    other = (await client.post("/orders", json={"order_id": 2})).json()["job"]
    assert [each["id"] for each in (await client.get("/api/jobs", headers=ann)).json()["jobs"]] == [hers]
    assert (await client.get(f"/api/jobs/{other}", headers=ann)).status_code == 404
    for job in (hers, other):
        assert (await client.get(f"/api/jobs/{job}", headers=sue)).status_code == 200
        assert (await client.post(f"/api/jobs/{job}/cancel", headers=sue)).status_code == 404
    forged = ann | {"origin": "https://evil.example"}
    assert (await client.post(f"/api/jobs/{hers}/cancel", headers=forged)).json()["code"] == "cross_site"
    canceled = await client.post(f"/api/jobs/{hers}/cancel", headers=ann)
    assert canceled.json()["status"] == "CANCELED"
    assert (await client.get(f"/api/jobs/{hers}")).status_code == 401


@pytest.mark.timeout(150)
def test_the_tests_of_the_shop_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "tested_shop")],
        env={"PATH": os.defpath, "PYTHONPATH": str(kit.ROOT)},
        cwd=EXAMPLES / "tested_shop",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_every_example_is_run_here_or_has_tests_of_its_own() -> None:
    ours = {"quickstart.py", "in_starlette", "in_flask_style", "tested_shop", "document_jobs", "cutover"}
    elsewhere = {
        "demo",
        "trigger_dev",
        "prometheus",
        "use_job_status",
    }  # tests/demo or cli, interop, web, interop
    there = {each.name for each in EXAMPLES.iterdir() if not each.name.startswith((".", "__"))}
    assert there - elsewhere == ours


def test_the_examples_ask_for_no_private_part() -> None:
    for file in EXAMPLES.rglob("*.py"):
        if {"node_modules", "demo"} & set(file.relative_to(EXAMPLES).parts):
            continue
        text = Path(file).read_text()
        assert "from adapter." not in text, file
    assert Settings.model_fields  # the public names are importable
