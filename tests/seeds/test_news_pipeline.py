"""Rows of the migration of a news site (S0): its eighteen named tasks are ready to be used, with their limits."""

import runpy
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from adapter import Adapter
from adapter.domain.errors import TaskDisabledError
from tests import kit

#: The task and its concurrency there, as the tables of the plan have them.
LIMITS = {
    "ingest-pull": 1,
    "ingest-pull-youtube": 1,
    "ingest-oneoff": 2,
    "ingest-source": 5,
    "ingest-from-upload": 2,
    "ingest-from-youtube": 1,
    "fetch-content": 3,
    "link-source-to-story": 1,
    "analyze-story": 5,
    "generate-brief": 10,
    "extract-highlights": 1,
    "extract-structured": 1,
    "score-relevance": 20,
    "dedupe-insights": 1,
    "insights-attach-to-story": 3,
    "story-summarize": 4,
    "stories-update-status": 1,
    "playbook-run": 2,
}


@pytest.fixture
def news(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("NEWS_HOME", "local")
    monkeypatch.setenv("NEWS_CLOCK", "here")
    return runpy.run_path(str(kit.ROOT / "examples/cutover/news.py"))


@pytest.fixture
async def pipeline(news: dict[str, Any], database_url: str) -> AsyncIterator[Adapter]:
    adapter: Adapter = news["adapter"]
    async with adapter:
        await news["open_site"]()
        yield adapter
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await conn.execute("DROP SCHEMA news CASCADE")


def test_eighteen_tasks_with_their_limits_two_crons_and_one_disabled_group(news: dict[str, Any]) -> None:
    adapter: Adapter = news["adapter"]
    policies = {each.id: each.policy for each in adapter.registry}
    assert {name: policy.queue.concurrency_limit for name, policy in policies.items()} == LIMITS
    crons = {name: policy.cron.expression for name, policy in policies.items() if policy.cron is not None}
    assert crons == {"ingest-pull": "*/5 * * * *", "ingest-pull-youtube": "0 * * * *"}
    assert [name for name, policy in policies.items() if not policy.enabled] == ["playbook-run"]
    assert all(policy.remote_ids == {"trigger": name} for name, policy in policies.items())


async def test_a_source_becomes_a_story_that_is_read(pipeline: Adapter, news: dict[str, Any]) -> None:
    worker = pipeline.worker()

    async def run(task: str, payload: Any) -> Any:
        job = await pipeline.schedule_job(task, payload)
        while await worker.run_once():
            pass
        return (await pipeline.wait_for(job.id)).result

    assert await run("ingest-source", {"source": "s1"}) is True
    assert await run("ingest-oneoff", {"source": "s1"}) is False
    assert await run("ingest-from-upload", {"source": "s2"}) is True
    assert await run("ingest-pull", None) == 2
    await pipeline.schedule_job("ingest-source", {"source": "v1", "feed": "youtube"})
    assert await run("ingest-source", {"source": "v2", "feed": "youtube"}) is True
    assert await run("ingest-pull-youtube", None) == 2
    story = await run("link-source-to-story", {"source": "s1"})
    about = {"story": story}
    assert await run("analyze-story", about) == 7
    assert await run("analyze-story", about) == 7
    assert await run("dedupe-insights", about) == 1
    assert await run("extract-highlights", about) == "text of s1"
    assert await run("extract-structured", about) == [3]
    assert await run("score-relevance", about) == 0.31
    assert await run("insights-attach-to-story", about) == 4
    assert await run("story-summarize", about) == "text of s1, which 3 people read"
    assert await run("stories-update-status", None) == 1
    await run("generate-brief", {"reader": "ada", "story": story})
    rows = news["rows"]
    assert await rows("SELECT * FROM news.briefs") == [("ada", story)]
    assert await rows("SELECT count(*) FROM news.sources WHERE body IS NULL") == [(0,)]


async def test_a_disabled_task_is_refused_aloud(pipeline: Adapter) -> None:
    with pytest.raises(TaskDisabledError):
        await pipeline.schedule_job("playbook-run", {"story": "s"})
