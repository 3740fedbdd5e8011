"""The background jobs of a news site: sources come in, stories grow out of them, readers get briefs.

Eighteen tasks, each in a queue with the limit it had at Trigger.dev; the playbooks are switched off. All can
run there and here, and go there unless ``NEWS_HOME=local`` says that the migration is over; the same of its
clocks and ``NEWS_CLOCK=here``. The site's own tables are in ``NEWS_DATABASE_URL``, or beside the jobs.

    adapter --app examples.cutover.news:adapter cutover status
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
from pydantic import BaseModel

from adapter import AbortJobError, Adapter, JobContext, Queue, RetryPolicy

adapter = Adapter.from_env()

HOME = os.environ.get("NEWS_HOME", "trigger")
CLOCK = os.environ.get("NEWS_CLOCK", "there")
TABLES: tuple[LiteralString, ...] = (
    # Processes that begin together wait for each other here.
    "SELECT pg_advisory_xact_lock(hashtext('news'))",
    "CREATE SCHEMA IF NOT EXISTS news",
    "CREATE TABLE IF NOT EXISTS news.sources (id text PRIMARY KEY, feed text NOT NULL, body text, story text)",
    "CREATE TABLE IF NOT EXISTS news.stories (id text PRIMARY KEY, summary text, ready bool)",
    "CREATE TABLE IF NOT EXISTS news.insights (id bigserial PRIMARY KEY, story text, kind text, value text, attached bool)",
    "CREATE TABLE IF NOT EXISTS news.briefs (reader text, story text, PRIMARY KEY (reader, story))",
)


class Source(BaseModel):
    source: str
    feed: str = "wire"


class Story(BaseModel):
    story: str


class Brief(BaseModel):
    reader: str
    story: str


def task(
    name: str, limit: int, *, cron: str | None = None, enabled: bool = True
) -> Callable[[Callable[..., Any]], Any]:
    """Declare a task that can run there and here, ``limit`` at once; ``cron`` in the zone of ``JOBS_CRON_TZ``."""
    return adapter.task(
        name,
        executor=HOME,
        remote_id={"trigger": name},
        queue=Queue(name, concurrency_limit=limit),
        retry=RetryPolicy(max_attempts=3),
        idempotent=True,
        cron=cron if CLOCK == "here" else None,
        enabled=enabled,
    )


# ---- the site's tables -------------------------------------------------------------------------------


async def rows(statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
    """Carry a statement out; returns its rows."""
    url = os.environ.get("NEWS_DATABASE_URL") or adapter.settings.database().url
    async with await psycopg.AsyncConnection.connect(url) as conn:
        cursor = await conn.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []


async def open_site() -> None:
    """Make the tables; a second time does nothing."""
    url = os.environ.get("NEWS_DATABASE_URL") or adapter.settings.database().url
    async with await psycopg.AsyncConnection.connect(url) as conn:
        for statement in TABLES:
            await conn.execute(statement)


async def take_in(source: str, feed: str) -> bool:
    """Add a source; False when it is there."""
    statement: LiteralString = (
        "INSERT INTO news.sources (id, feed) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING id"
    )
    return bool(await rows(statement, source, feed))


async def text_of(story: str) -> str:
    """Return the words of all sources of a story."""
    statement: LiteralString = (
        "SELECT coalesce(string_agg(body, ' ' ORDER BY id), '') FROM news.sources WHERE story = %s"
    )
    return str((await rows(statement, story))[0][0])


async def note(story: str, kind: str, value: object) -> None:
    """Add an insight; a second one of a kind is for ``dedupe-insights``."""
    await rows("INSERT INTO news.insights (story, kind, value) VALUES (%s, %s, %s)", story, kind, str(value))


# ---- sources -----------------------------------------------------------------------------------------


@task("ingest-pull", 1, cron="*/5 * * * *")
async def ingest_pull(_: None, ctx: JobContext) -> int:
    """Fetch what has no text yet."""
    found = await rows("SELECT id FROM news.sources WHERE body IS NULL AND feed <> 'youtube' ORDER BY id")
    for (source,) in found:
        await ctx.schedule_job("fetch-content", Source(source=source), tag=f"fetch {source}")
    return len(found)


@task("ingest-pull-youtube", 1, cron="0 * * * *")
async def ingest_pull_youtube(_: None, ctx: JobContext) -> int:
    """The same for videos."""
    found = await rows("SELECT id FROM news.sources WHERE body IS NULL AND feed = 'youtube' ORDER BY id")
    for (source,) in found:
        await ctx.schedule_job("ingest-from-youtube", Source(source=source), tag=f"fetch {source}")
    return len(found)


@task("ingest-oneoff", 2)
async def ingest_oneoff(payload: Source) -> bool:
    return await take_in(payload.source, "by hand")


@task("ingest-source", 5)
async def ingest_source(payload: Source) -> bool:
    return await take_in(payload.source, payload.feed)


@task("ingest-from-upload", 2)
async def ingest_from_upload(payload: Source) -> bool:
    return await take_in(payload.source, "upload")


@task("ingest-from-youtube", 1)
async def ingest_from_youtube(payload: Source) -> None:
    await take_in(payload.source, "youtube")
    await rows("UPDATE news.sources SET body = 'words of ' || id WHERE id = %s", payload.source)


@task("fetch-content", 3)
async def fetch_content(payload: Source) -> int:
    found = await rows(
        "UPDATE news.sources SET body = 'text of ' || id || ', which 3 people read' WHERE id = %s"
        " RETURNING length(body)",
        payload.source,
    )
    if not found:
        raise AbortJobError(f"there is no source {payload.source}")
    return int(found[0][0])


@task("link-source-to-story", 1)
async def link_source_to_story(payload: Source) -> str:
    story = f"story of {payload.source}"
    await rows("INSERT INTO news.stories (id) VALUES (%s) ON CONFLICT DO NOTHING", story)
    await rows("UPDATE news.sources SET story = %s WHERE id = %s", story, payload.source)
    return story


# ---- insights ----------------------------------------------------------------------------------------


@task("analyze-story", 5)
async def analyze_story(payload: Story) -> int:
    words = len((await text_of(payload.story)).split())
    await note(payload.story, "words", words)
    return words


@task("generate-brief", 10)
async def generate_brief(payload: Brief) -> None:
    await rows(
        "INSERT INTO news.briefs VALUES (%s, %s) ON CONFLICT DO NOTHING", payload.reader, payload.story
    )


@task("extract-highlights", 1)
async def extract_highlights(payload: Story) -> str:
    highlight = (await text_of(payload.story)).partition(",")[0]
    await note(payload.story, "highlight", highlight)
    return highlight


@task("extract-structured", 1)
async def extract_structured(payload: Story) -> list[int]:
    numbers = [int(each) for each in re.findall(r"\b\d+\b", await text_of(payload.story))]
    await note(payload.story, "numbers", numbers)
    return numbers


@task("score-relevance", 20)
async def score_relevance(payload: Story) -> float:
    score = min(len(await text_of(payload.story)) / 100, 1.0)
    await note(payload.story, "relevance", score)
    return score


@task("dedupe-insights", 1)
async def dedupe_insights(payload: Story) -> int:
    gone = await rows(
        "DELETE FROM news.insights old USING news.insights new WHERE old.story = %s AND old.story = new.story"
        " AND old.kind = new.kind AND old.id < new.id RETURNING old.id",
        payload.story,
    )
    return len(gone)


@task("insights-attach-to-story", 3)
async def insights_attach_to_story(payload: Story) -> int:
    statement: LiteralString = (
        "UPDATE news.insights SET attached = true WHERE story = %s AND attached IS NULL RETURNING id"
    )
    return len(await rows(statement, payload.story))


# ---- stories and playbooks ---------------------------------------------------------------------------


@task("story-summarize", 4)
async def story_summarize(payload: Story) -> str:
    summary = (await text_of(payload.story))[:60]
    await rows("UPDATE news.stories SET summary = %s WHERE id = %s", summary, payload.story)
    return summary


@task("stories-update-status", 1)
async def stories_update_status(_: None) -> int:
    return len(
        await rows(
            "UPDATE news.stories SET ready = true WHERE summary IS NOT NULL AND ready IS NULL RETURNING id"
        )
    )


@task("playbook-run", 2, enabled=False)
async def playbook_run(payload: Story) -> None:
    raise AbortJobError(f"no playbook for {payload.story}: they are switched off")
