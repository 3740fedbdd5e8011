"""What others must not get out of us, or into us, by the requests that we send for callers."""

import gzip

import httpx
import pytest

from adapter import Adapter
from adapter.domain.clock import SystemClock
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.upstream import read
from adapter.domain.webhooks import is_public
from adapter.executors.upstream import Upstream
from adapter.executors.webhook_posts import WebhookPoster
from adapter.settings import Settings
from tests.web.test_pass_through import Recorder, both_ends


@pytest.mark.parametrize(
    "address",
    [
        "fec0::1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b:1::7f00:1",
        "64:ff9b::7f00:1",
        "::ffff:10.0.0.1",
    ],
)
def test_an_address_that_may_lead_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


async def test_a_receivers_answer_is_not_unpacked() -> None:
    seen: list[httpx.Request] = []
    bomb = gzip.compress(b"0" * 10_000_000)

    def receive(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        stream = httpx.ByteStream(bomb)
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    poster = WebhookPoster(SystemClock(), httpx.MockTransport(receive))
    await poster.open()
    posted = await poster.post("http://receiver.test/", b"{}", {}, allow_private=True)
    await poster.close()
    assert posted.is_taken
    assert "0" * 100 not in posted.answer
    assert seen[0].headers["accept-encoding"] == "identity"


def test_a_method_that_nobody_knows_is_no_business_of_upstreams() -> None:
    """Each would be a line of its own in what is counted, and anybody may send them."""
    assert read("GET", "/api/v9/whatever") is not None
    assert read("AAAA1", "/api/v9/whatever") is None


async def test_a_key_of_ours_stays_here_wherever_it_is_shown(database_url: str) -> None:
    async with (
        Adapter(Settings.model_validate({"database_url": database_url})) as adapter,
        both_ends(database_url, recorder := Recorder()) as client,
    ):
        made = await adapter.create_key("a person", environment="pat")
        shown = {"authorization": f"Bearer {made.secret}"}
        for path in ("/api/v1/runs", "/api/v3/runs/run_feqmkjnbmbaek9zjv17wz", "/api/v9/whatever"):
            assert (await client.get(path, headers=shown)).status_code == 401
        assert recorder.requests == []


async def test_odd_requests_are_passed_on_or_refused_and_break_nothing(database_url: str) -> None:
    recorder = Recorder()
    path = "/api/v3/runs/run_feqmkjnbmbaek9zjv17wz"
    async with both_ends(database_url, recorder) as client:
        # A body that a GET does not send on is not announced either.
        answer = await client.request("GET", path, content=b"12345")
        assert answer.status_code == 200, answer.text
        assert "content-length" not in recorder.requests[0][2]


@pytest.mark.parametrize("query", [b"a=\xff", b"a=1" * 30_000])
async def test_what_is_no_url_is_the_callers_mistake(query: bytes) -> None:
    upstream = Upstream("http://trigger.test", httpx.MockTransport(lambda _: httpx.Response(200)))
    await upstream.open()
    with pytest.raises(InvalidArgumentError):
        await upstream.send("GET", b"/api/v1/runs?" + query, [], None)
    await upstream.close()
