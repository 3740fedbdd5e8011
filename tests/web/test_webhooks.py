import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from adapter import Adapter
from adapter.domain.signing import sign_standard
from adapter.web.webhooks import Claim
from tests.web.conftest import KEY, OLD_SECRET, SECRET

HOOK = "/api/trigger/webhook"
CLAIM = "/api/trigger/claim"
EVENT: dict[str, Any] = {"type": "RUN_STARTED", "data": {"run": {"id": "run_1", "tags": []}}}


def signed(adapter: Adapter, body: bytes, *, id_: str = "msg_1", secret: str = SECRET) -> dict[str, str]:
    return sign_standard(secret, id_, adapter.clock.now(), body)


async def inbox_of(adapter: Adapter) -> list[dict[str, Any]]:
    return await adapter.database.fetch(
        "SELECT source, delivery_id, secret_id, body FROM {s}.webhook_inbox ORDER BY id"
    )


async def test_a_signed_event_is_stored_once_and_answered_the_same_twice(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    body = json.dumps(EVENT).encode()
    for _ in range(2):
        reply = await client.post(HOOK, content=body, headers=signed(adapter, body))
        assert (reply.status_code, reply.json()) == (200, {"success": True})
    (stored,) = await inbox_of(adapter)
    assert (stored["delivery_id"], stored["body"]) == ("msg_1", EVENT)
    assert stored["source"].endswith("standard")


async def test_no_api_key_is_asked_for(adapter: Adapter, client: httpx.AsyncClient) -> None:
    body = json.dumps(EVENT).encode()
    reply = await client.post(HOOK, content=body, headers=signed(adapter, body) | {"authorization": "x"})
    assert reply.status_code == 200


@pytest.mark.parametrize("header", ["trigger-signature", "x-trigger-signature-hmacsha256"])
async def test_the_other_schemes_and_the_older_secret(
    adapter: Adapter, client: httpx.AsyncClient, header: str
) -> None:
    body = json.dumps(EVENT | {"id": "alert_9"}).encode()
    signature = hmac.new(OLD_SECRET.encode(), body, hashlib.sha256).hexdigest()
    reply = await client.post(HOOK, content=body, headers={header: signature})
    assert (reply.status_code, reply.json()) == (200, {"success": True})
    (stored,) = await inbox_of(adapter)
    alert = header.startswith("x-")
    assert stored["delivery_id"] == ("alert_9" if alert else hashlib.sha256(body).hexdigest())
    assert stored["source"].endswith("alert" if alert else "guide")


@pytest.mark.parametrize("path", [HOOK, CLAIM])
async def test_a_bad_signature_is_a_401_without_detail(
    adapter: Adapter, client: httpx.AsyncClient, path: str
) -> None:
    body = json.dumps(EVENT).encode()
    good = signed(adapter, body)
    late = sign_standard(SECRET, "m", adapter.clock.now() - timedelta(minutes=6), body)
    for headers in (
        {},
        signed(adapter, body, secret="whsec_AAAA"),
        good | {"webhook-id": "x"},
        late,
        {"trigger-signature": "0" * 64},
    ):
        reply = await client.post(path, content=body, headers=headers)
        assert (reply.status_code, reply.json()) == (401, {"error": "Invalid signature"})
    assert (await client.post(path, content=body + b" ", headers=good)).status_code == 401
    assert await inbox_of(adapter) == []


async def test_a_body_above_the_cap_is_a_413_even_in_chunks(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 65536

    for content in (b"x" * 262_145, chunks()):
        reply = await client.post(HOOK, content=content, headers=signed(adapter, b""))
        assert reply.status_code == 413
        assert set(reply.json()) == {"error"}
    padded = json.dumps(EVENT | {"pad": "x" * 261_000}).encode()
    assert (await client.post(HOOK, content=padded, headers=signed(adapter, padded))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"type":"RUN_NEW"}',
        b'{"type":"RUN_STARTED"}',
        b'{"type":"alert.error","x":"\\u0000"}',
        b'{"type":"alert.error","x":NaN}',
    ],
)
async def test_what_is_signed_and_no_event_is_a_400(
    adapter: Adapter, client: httpx.AsyncClient, body: bytes
) -> None:
    reply = await client.post(HOOK, content=body, headers=signed(adapter, body))
    assert reply.status_code == 400
    assert set(reply.json()) == {"error"}
    assert await inbox_of(adapter) == []


async def test_other_alerts_are_accepted(adapter: Adapter, client: httpx.AsyncClient) -> None:
    body = b'{"id":"alert_1","type":"alert.deployment.success","object":{}}'
    reply = await client.post(HOOK, content=body, headers=signed(adapter, body))
    assert reply.json() == {"success": True}


def claim_of(job_id: str, epoch: int = 1, run_id: str = "run_1", attempt: int = 1) -> bytes:
    return json.dumps(
        {"job": {"id": job_id, "epoch": epoch}, "run": {"id": run_id, "attempt": attempt}}
    ).encode()


async def test_a_claim_is_refused_with_its_reason(adapter: Adapter, client: httpx.AsyncClient) -> None:
    unknown = claim_of("01890a5d-ac96-774b-bcce-b302099a8057")
    reply = await client.post(CLAIM, content=unknown, headers=signed(adapter, unknown))
    assert reply.status_code == 409
    assert reply.json() == {"claimed": False, "reason": "there is no such job"}
    # A job of our own workers is nobody else's to claim.
    job = await adapter.schedule_job("echo", 1)
    body = claim_of(str(job.id))
    assert (await client.post(CLAIM, content=body, headers=signed(adapter, body))).json()["claimed"] is False


async def test_the_run_that_has_the_job_may_start_as_often_as_it_asks(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    job = await adapter.schedule_job("echo", 1)
    await adapter.database.fetch(
        "UPDATE {s}.worker_jobs_open SET executor = 'trigger', status = 'PENDING', submit_state = 'trying' WHERE id = %(id)s",
        {"id": job.id},
    )
    for attempt in (1, 1, 2):
        body = claim_of(str(job.id), attempt=attempt)
        reply = await client.post(CLAIM, content=body, headers=signed(adapter, body))
        assert (reply.status_code, reply.json()) == (200, {"claimed": True})
    for other in (claim_of(str(job.id), run_id="run_2"), claim_of(str(job.id), epoch=2)):
        reply = await client.post(CLAIM, content=other, headers=signed(adapter, other))
        assert (reply.status_code, reply.json()["claimed"]) == (409, False)
    assert (await adapter.get_job(job.id) or job.job).status == "EXECUTING"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"job":{"id":"x","epoch":1},"run":{"id":"r","attempt":1}}',
        claim_of("01890a5d-ac96-774b-bcce-b302099a8057", epoch=2**31),
        claim_of("01890a5d-ac96-774b-bcce-b302099a8057", run_id=""),
        claim_of("01890a5d-ac96-774b-bcce-b302099a8057", attempt=0),
    ],
)
async def test_a_claim_that_cannot_be_read_is_a_400(
    adapter: Adapter, client: httpx.AsyncClient, body: bytes
) -> None:
    reply = await client.post(CLAIM, content=body, headers=signed(adapter, body))
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("The claim cannot be read: ")


def test_a_claim_without_an_attempt_is_the_first() -> None:
    claim = Claim.model_validate(
        json.loads(claim_of("01890a5d-ac96-774b-bcce-b302099a8057")) | {"run": {"id": "r"}}
    )
    assert claim.run.attempt == 1


async def test_without_secrets_nothing_is_believed(adapter: Adapter, client: httpx.AsyncClient) -> None:
    for value in ("", KEY):
        signature = hmac.new(value.encode(), b"{}", hashlib.sha256).hexdigest()
        reply = await client.post(HOOK, content=b"{}", headers={"trigger-signature": signature})
        assert reply.status_code == 401
