"""Texts of a job that are in an index: what is longer than an entry can be is refused before anything is written."""

import random
from typing import Any

import psycopg
import pytest

from adapter.domain.errors import InvalidArgumentError
from tests.rig import Rig

#: PostgreSQL compresses what it can; this it cannot.
_RANDOM = random.Random(7).randbytes(2000).hex()
_LONG, _LONGEST = _RANDOM, _RANDOM[:1000]


def _options(name: str, text: str) -> Any:
    return {"extra": {name: text}} if name in {"region", "machine", "version"} else {name: text}


@pytest.mark.parametrize("name", ["user_id", "concurrency_key", "queue", "region", "machine", "version"])
async def test_no_job_is_taken_that_could_not_end(rig: Rig, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        await rig.adapter.schedule_job("echo", 1, **_options(name, _LONG))
    with pytest.raises(InvalidArgumentError, match=name):
        await rig.adapter.schedule_job("echo", 1, **_options(name, "\u00e9" * 501))
    job = await rig.adapter.schedule_job("echo", 1, **_options(name, _LONGEST))
    await rig.adapter.cancel_job(job.id)
    assert await rig.status(job.id) == "CANCELED"


@pytest.mark.parametrize("name", ["user_id", "concurrency_key", "queue"])
async def test_sql_producers_are_told_so(rig: Rig, name: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        await rig.sql("SELECT {s}.schedule_job('echo', " + name + " => %(text)s)", text=_LONG)  # pyright: ignore[reportArgumentType]
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open") == 0
