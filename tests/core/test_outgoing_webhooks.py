"""Telling others how jobs go: an outbox in the same transaction, delivered for hours, each receiver on its own."""

import asyncio
import base64
import importlib
import json
import pkgutil
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from adapter import JobStatus, store
from adapter.cli import outgoing_checks
from adapter.cli.verdicts import Verdict
from adapter.core.remote_events import parse_event
from adapter.core.webhooks.delivering import Deliverer
from adapter.domain.errors import InvalidArgumentError, SubscriptionNotFoundError
from adapter.domain.identity import run_id_of
from adapter.domain.outcome import Authority, Lease
from adapter.domain.signing import Secret, verify
from adapter.domain.webhooks import ALERT, LIFECYCLE, WAITS_S, is_public, wait_after
from adapter.executors.webhook_posts import PRIVATE, WebhookPoster
from adapter.store.endings import Ending, finish
from adapter.store.webhook_outbox import TOLD
from tests.kit import eventually
from tests.rig import Rig, new_id

URL, OTHER = "https://receiver.test/hooks?x=1", "https://other.test/"
SECRET = "whsec_" + base64.b64encode(b"a secret of the receiver").decode()


class Receivers:
    """Every receiver there is: by host, the answers it gives next; then 200."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int | httpx.Response | Exception]] = {}
        self.requests: list[httpx.Request] = []
        self.hold: asyncio.Event | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.hold is not None and request.url.host == "receiver.test":
            await self.hold.wait()
        answers = self.answers.get(request.url.host, [])
        answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer

    def bodies(self, host: str = "receiver.test") -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests if request.url.host == host]


@pytest.fixture
async def receivers(rig: Rig) -> AsyncIterator[Receivers]:
    made = Receivers()
    poster = WebhookPoster(rig.adapter.clock, httpx.MockTransport(made))
    await poster.open()
    rig.adapter.deliverer.poster = poster
    yield made
    await poster.close()


async def subscribe(rig: Rig, *events: str, url: str = URL, secret: str = SECRET) -> UUID:
    made = await rig.adapter.subscribe_webhook(url, events, secret=secret, allow_private=True)
    return made.id


async def deliver(rig: Rig, *, due: bool = False) -> int:
    """Send what is due; with ``due``, what is not due yet, too."""
    if due:
        await rig.sql("UPDATE {s}.webhook_deliveries SET next_at = now() WHERE state = 'pending'")
        await rig.sql("UPDATE {s}.webhook_subscriptions SET open_until = NULL")
    return await rig.adapter.deliverer.run_once()


async def states(rig: Rig) -> list[tuple[str, str, int]]:
    rows = await rig.sql("SELECT event, state, attempts FROM {s}.webhook_deliveries ORDER BY event, id")
    return [(row["event"], row["state"], row["attempts"]) for row in rows]


async def test_nobody_is_told_and_nothing_is_paid_for_it(rig: Rig) -> None:
    assert not rig.adapter.observers.watch_starts
    assert not rig.adapter.observers.watch_ends
    await rig.adapter.schedule_job("echo", 1)
    await rig.work()
    assert await states(rig) == []
    ends = [text for template, text in rig.schema._made.items() if "{told}" in template]
    assert ends
    assert not any("webhook" in text for text in ends)


def test_every_statement_that_ends_jobs_has_room_for_what_is_told() -> None:
    """Each has a ``given`` to tell of, and no part of its own by the same name."""
    ending = {
        f"{module.name}.{name}": value
        for module in pkgutil.iter_modules(store.__path__)
        for name, value in vars(importlib.import_module(f"adapter.store.{module.name}")).items()
        if isinstance(value, str)
        and "{told}" in value
        and "worker_jobs_finished (" in value
        and "WITH" in value
    }
    assert len(ending) >= 8
    for name, statement in ending.items():
        parts = re.findall(
            r"(?:WITH|,|\{told\}|\))\s+(\w+) AS (?:MATERIALIZED )?\(", statement.replace("{told}", TOLD)
        )
        assert parts.count("told_others") == 1, name
        assert "given" in parts, name
        assert len(parts) == len(set(parts)), name


async def test_every_way_to_end_is_told_once_in_its_own_transaction(rig: Rig, receivers: Receivers) -> None:
    await subscribe(rig, *LIFECYCLE, ALERT)
    done = await rig.adapter.schedule_job("echo", {"n": 1}, tags=["a", f"job:{UUID(int=9)}:2"])
    await rig.work()
    canceled = await rig.adapter.schedule_job("echo", delay=timedelta(hours=1))
    await rig.adapter.cancel_job(canceled.id)
    expired = await rig.adapter.schedule_job("echo", ttl=timedelta(seconds=1))
    await rig.set(expired.id, "expires_at = now() - interval '1 second'")
    await rig.adapter.maintenance.run_once()
    remote, run = await rig.sent("remote")
    run.status = "FAILED"
    await rig.webhook("RUN_FAILED", run, source="engine", status="FAILED", error={"message": "boom"})
    await rig.adapter.inbox.work_once()
    assert await rig.status(remote) == "FAILED"
    told = {
        (each.event, each.job_id): each.event_id for each in await rig.adapter.webhook_deliveries(limit=100)
    }
    # The start has its own, small transaction, with the next delivery.
    await deliver(rig)
    assert set(told) == {
        ("RUN_COMPLETED", done.id),
        ("RUN_CANCELED", canceled.id),
        ("RUN_FAILED", expired.id),
        ("RUN_FAILED", remote),
        (ALERT, remote),
    }
    ids = {request.headers.get("webhook-id") for request in receivers.requests}
    assert ids == {told[key] for key in told if key[0] != ALERT} | {
        f"{run_id_of(done.id)}:1:1:RUN_STARTED",
        None,
    }
    assert {state for _, state, _ in await states(rig)} == {"delivered"}
    assert await deliver(rig, due=True) == 0


async def test_what_is_rolled_back_or_stale_is_not_told(rig: Rig, receivers: Receivers) -> None:
    await subscribe(rig, "RUN_COMPLETED")
    await rig.adapter.schedule_job("echo")
    lease, (job,) = await rig.claim()
    ending = Ending(job_id=job.id, epoch=1, lease=lease, status=JobStatus.COMPLETED)
    stale = replace(ending, lease=Lease(new_id(), 1))
    async with rig.adapter.database.connection() as conn:
        assert await finish(conn, rig.schema, [stale]) == []
        async with conn.transaction():
            assert len(await finish(conn, rig.schema, [ending])) == 1
            raise psycopg.Rollback
    assert await states(rig) == []
    assert await rig.status(job.id) == "EXECUTING"


async def test_an_event_is_signed_by_every_secret_and_read_by_our_own_parser(
    rig: Rig, receivers: Receivers
) -> None:
    subscription = await subscribe(rig, "RUN_COMPLETED")
    rotated = await rig.adapter.rotate_webhook_secret(subscription)
    new = rotated.secrets[0]
    assert (len(rotated.secrets), rotated.secret_count) == (1, 2)
    await rig.adapter.schedule_job("echo", {"rows": 3}, tags=[f"job:{UUID(int=9)}:2"])
    await rig.work()
    await deliver(rig)
    (request,) = receivers.requests
    assert str(request.url) == URL
    for secret in (SECRET, new):
        verified = verify(request.headers, request.content, [Secret("a", secret)], rig.adapter.clock.now())
        assert verified.delivery_id.endswith(":1:1:RUN_COMPLETED")
    body = receivers.bodies()[0]
    assert body["version"] == 1
    event = parse_event(body)
    assert event is not None
    assert event.job == (UUID(int=9), 2)
    assert (event.report.status, event.report.output) == (JobStatus.COMPLETED, {"rows": 3})
    assert (event.report.authority, event.report.attempt, event.report.started) == (Authority.ENGINE, 1, True)
    kept = await rig.adapter.rotate_webhook_secret(subscription, drop_old=True)
    assert (kept.secrets, kept.secret_count) == ((), 1)
    shown = await rig.adapter.webhook_subscriptions()
    assert new not in repr(shown)
    assert SECRET not in repr(shown)


async def test_a_large_output_is_left_out_and_shadows_are_not_told(rig: Rig, receivers: Receivers) -> None:
    await subscribe(rig, "RUN_COMPLETED")
    await rig.adapter.schedule_job("echo", "x" * 200_000)
    shadow = await rig.adapter.schedule_job("echo")
    await rig.set(shadow.id, """extra = '{"shadow_of": "x"}'""")
    await rig.work()
    await deliver(rig)
    (body,) = receivers.bodies()
    assert body["data"]["run"]["outputOmitted"] is True
    assert "output" not in body["data"]["run"]


async def test_a_receiver_that_fails_is_tried_again_for_hours_and_then_given_up(
    rig: Rig, receivers: Receivers
) -> None:
    subscription = await subscribe(rig, "RUN_COMPLETED")
    receivers.answers["receiver.test"] = [500]
    await rig.adapter.schedule_job("echo")
    await rig.work()
    waits: list[float] = []
    for _ in range(len(WAITS_S) + 1):
        assert await deliver(rig, due=True) == 1
        waits.append(
            await rig.value(
                "SELECT extract(epoch FROM next_at - now())::float8 AS s FROM {s}.webhook_deliveries"
            )
        )
    for wait, usual in zip(waits, WAITS_S, strict=False):
        assert usual * 0.8 - 5 <= wait <= usual * 1.2
    assert await states(rig) == [("RUN_COMPLETED", "dead", 10)]
    (dead,) = await rig.adapter.webhook_deliveries(subscription, state="dead")
    assert (dead.status, dead.error) == (500, "it answered 500")
    assert len({request.headers["webhook-id"] for request in receivers.requests}) == 1
    (shown,) = await rig.adapter.webhook_subscriptions()
    assert (shown.pending, shown.dead) == (0, 1)
    (check,) = await outgoing_checks.examine(rig.adapter)
    assert (check.verdict, "1 were given up" in check.finding) == (Verdict.WARN, True)
    receivers.answers.clear()
    assert await rig.adapter.redrive_webhooks(subscription) == 1
    await deliver(rig, due=True)
    assert await states(rig) == [("RUN_COMPLETED", "delivered", 1)]


async def test_one_dead_receiver_is_left_alone_and_keeps_nobody_waiting(
    rig: Rig, receivers: Receivers
) -> None:
    dead, _ = await subscribe(rig, "RUN_COMPLETED"), await subscribe(rig, "RUN_COMPLETED", url=OTHER)
    receivers.answers["receiver.test"] = [httpx.ConnectError("no")]
    for _ in range(30):
        await rig.adapter.schedule_job("echo")
    await rig.work()
    for _ in range(3):
        await rig.sql("UPDATE {s}.webhook_deliveries SET next_at = now() WHERE state = 'pending'")
        await deliver(rig)
    assert len(receivers.bodies("other.test")) == 30
    tried = len(receivers.bodies())
    assert tried == 60
    await rig.sql("UPDATE {s}.webhook_deliveries SET next_at = now() WHERE state = 'pending'")
    assert await deliver(rig) == 0
    # When its pause is over one goes first; when that is taken, all the others follow.
    receivers.answers.clear()
    await rig.sql("UPDATE {s}.webhook_subscriptions SET open_until = now() WHERE id = %(id)s", id=dead)
    assert await deliver(rig) == 1
    assert [await deliver(rig), await deliver(rig)] == [20, 9]


async def test_a_receiver_that_hangs_is_waited_for_by_nobody(rig: Rig, receivers: Receivers) -> None:
    await subscribe(rig, "RUN_COMPLETED")
    await subscribe(rig, "RUN_COMPLETED", url=OTHER)
    receivers.hold = asyncio.Event()
    deliverer = rig.adapter.deliverer
    await rig.adapter.schedule_job("echo")
    await rig.work()
    await deliverer._begin()
    await rig.adapter.schedule_job("echo")
    await rig.work()
    async with asyncio.timeout(5):
        while len(receivers.bodies("other.test")) < 2:
            await deliverer._begin()
            await rig.adapter.clock.sleep(0.01)
    assert len(receivers.bodies()) == 1
    receivers.hold.set()
    await deliverer.run_once()
    await deliverer.run_once()
    assert {state for _, state, _ in await states(rig)} == {"delivered"}


async def test_a_receiver_says_when_to_come_back_or_never_again(rig: Rig, receivers: Receivers) -> None:
    await subscribe(rig, "RUN_COMPLETED")
    receivers.answers["receiver.test"] = [httpx.Response(503, headers={"retry-after": "900"}), 410]
    await rig.adapter.schedule_job("echo")
    await rig.work()
    await deliver(rig)
    wait = await rig.value(
        "SELECT extract(epoch FROM next_at - now())::float8 AS s FROM {s}.webhook_deliveries"
    )
    assert 890 < wait <= 900
    await deliver(rig, due=True)
    (shown,) = await rig.adapter.webhook_subscriptions()
    assert (shown.active, shown.disabled_because) == (False, "it answered 410 Gone")
    (check,) = await outgoing_checks.examine(rig.adapter)
    assert (check.verdict, "410 Gone" in check.finding) == (Verdict.WARN, True)
    await rig.adapter.schedule_job("echo")
    await rig.work()
    assert await states(rig) == [("RUN_COMPLETED", "dead", 2)]
    again = await rig.adapter.change_webhook(shown.id, active=True, events=["RUN_FAILED"])
    assert (again.active, again.events, again.disabled_because) == (True, ("RUN_FAILED",), None)


async def test_two_processes_send_nothing_twice_and_a_dead_one_loses_nothing(
    rig: Rig, receivers: Receivers
) -> None:
    await subscribe(rig, "RUN_COMPLETED")
    for _ in range(15):
        await rig.adapter.schedule_job("echo")
    await rig.work()
    second = Deliverer(rig.adapter._parts, rig.adapter.deliverer.poster, project="p", link="http://x")
    await asyncio.gather(rig.adapter.deliverer.run_once(), second.run_once())
    assert len(receivers.requests) == 15
    # One takes a delivery and dies: when its lease is over the next one sends it, and the dead one's word is stale.
    await rig.adapter.schedule_job("echo")
    await rig.work()
    receivers.hold = asyncio.Event()
    await second._begin()
    assert await deliver(rig) == 0
    (sending,) = second._sending.values()
    sending.cancel()
    await asyncio.wait({sending})
    receivers.hold = None
    assert await deliver(rig, due=True) == 1
    assert sorted({state for _, state, _ in await states(rig)}) == ["delivered"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://169.254.169.254/latest",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://0.0.0.0:1/",
        "http://[fd00::1]/",
    ],
)
async def test_nothing_is_posted_into_the_own_network_unless_that_is_allowed(rig: Rig, url: str) -> None:
    sent = await rig.adapter.test_webhook(url)
    assert (sent.posted.status, sent.posted.error) == (None, PRIVATE)


def test_addresses() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:4700::1111")
    assert not is_public("100.64.0.1")
    assert not is_public("224.0.0.1")
    assert not is_public("2002:0a00:0001::1")


def test_the_waits_grow_for_hours_and_end() -> None:
    assert wait_after(1, 0.5) == WAITS_S[0]
    assert wait_after(1, 0.0) == WAITS_S[0] * 0.8
    assert wait_after(2, 0.5, 10_000_000) == 86_400
    assert wait_after(len(WAITS_S) + 1, 0.5) is None
    assert sum(WAITS_S) > 12 * 3600


@pytest.mark.parametrize(
    ("url", "events", "secret"),
    [
        ("ftp://x", (), None),
        ("http://user:pass@x/", (), None),
        ("https://x/#a", (), None),
        ("https://x", ("RUN_EXPLODED",), None),
        ("https://x", (), "whsec_%%%"),
    ],
)
async def test_what_cannot_be_subscribed(rig: Rig, url: str, events: Any, secret: str | None) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.subscribe_webhook(url, events, secret=secret)


async def test_who_is_gone_is_told_nothing(rig: Rig, receivers: Receivers) -> None:
    subscription = await subscribe(rig)
    job = await rig.adapter.schedule_job("echo")
    await rig.work()
    assert rig.schema._told == TOLD
    await rig.adapter.unsubscribe_webhook(subscription)
    assert rig.schema._told == ""
    assert await deliver(rig, due=True) == 0
    assert receivers.requests == []
    del job
    with pytest.raises(SubscriptionNotFoundError):
        await rig.adapter.unsubscribe_webhook(subscription)
    with pytest.raises(SubscriptionNotFoundError):
        await rig.adapter.change_webhook(new_id(), active=True)
    with pytest.raises(SubscriptionNotFoundError):
        await rig.adapter.test_webhook(subscription)


async def test_what_nobody_took_in_three_days_is_a_dead_letter_and_what_is_old_goes(
    rig: Rig, receivers: Receivers
) -> None:
    subscription = await subscribe(rig, "RUN_COMPLETED")
    for _ in range(3):
        await rig.adapter.schedule_job("echo")
    await rig.work()
    await rig.adapter.change_webhook(subscription, active=False)
    await rig.sql(
        "UPDATE {s}.webhook_deliveries SET created_at = now() - interval '4 days', next_at = now() - interval '1 hour'"
    )
    await rig.adapter.retention.run_once()
    assert {state for _, state, _ in await states(rig)} == {"dead"}
    await rig.sql("UPDATE {s}.webhook_deliveries SET settled_at = now() - interval '31 days'")
    await rig.adapter.retention.run_once()
    assert await states(rig) == []


async def test_a_process_that_only_dispatches_learns_who_is_subscribed(rig: Rig) -> None:
    async def told() -> bool:
        await rig.adapter.cancel_job((await rig.adapter.schedule_job("echo", 1)).id)
        return await rig.value("SELECT count(*) FROM {s}.webhook_deliveries") > 0

    async with rig.adapter.running(work=False, sync=False, dispatch=True):
        assert not await told()
        await rig.sql(
            "INSERT INTO {s}.webhook_subscriptions (id, url, events, secrets, open_until)"
            " VALUES (%(id)s, 'https://receiver.example', '{RUN_CANCELED}', '{}', 'infinity')",
            id=new_id(),
        )
        await eventually(told)
