"""What a worker loads: 15 to 40 MB of each process are at stake."""

import subprocess
import sys

HEAVY = ("sqlalchemy", "alembic", "httpx", "starlette", "rich", "uvicorn")


def test_scheduling_and_working_load_neither_an_orm_nor_a_web_framework_nor_a_client() -> None:
    said = subprocess.check_output(
        [sys.executable, "-c", "import sys, adapter.app, adapter.sync; print(*sys.modules)"], text=True
    )
    assert not set(HEAVY) & set(said.split())
