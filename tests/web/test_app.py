import httpx
from pydantic import SecretStr

from adapter import Adapter
from adapter.settings import Settings
from adapter.web.app import create_app
from tests.web.conftest import KEY


async def test_its_lifespan_opens_and_closes_the_adapter(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url), api_keys=(SecretStr(KEY),)))
    app = create_app(adapter)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://adapter.test") as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        runs = await client.get("/api/v1/runs", headers={"authorization": f"Bearer {KEY}"})
        assert runs.json() == {"data": [], "pagination": {}}


async def test_links_go_where_others_reach_us(database_url: str) -> None:
    adapter = Adapter(
        Settings(
            database_url=SecretStr(database_url),
            api_keys=(SecretStr(KEY),),
            public_url="https://jobs.example.com/base/",
        )
    )
    app = create_app(adapter, owns_adapter=False)
    async with (
        adapter,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://adapter.test",
            headers={"authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        url = (await client.put("/api/v2/packets/a%2Fb")).json()["presignedUrl"]
        assert url.startswith("https://jobs.example.com/base/api/v2/packet-store/a%2Fb?expires=")


async def test_without_api_keys_nobody_gets_in(database_url: str) -> None:
    async with Adapter(Settings(database_url=SecretStr(database_url))) as adapter:
        transport = httpx.ASGITransport(app=create_app(adapter, owns_adapter=False))
        async with httpx.AsyncClient(transport=transport, base_url="http://adapter.test") as client:
            for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer x"}):
                assert (await client.get("/api/v1/runs", headers=headers)).status_code == 401
