"""An open adapter on the worker's database, and a client that talks to its application."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import JsonValue, SecretStr

from adapter import Adapter
from adapter.settings import Settings
from adapter.web.app import create_app

KEY = "tr_prod_" + "k" * 24
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "the secret before this one"


def settings_for(database_url: str) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        api_keys=(SecretStr(KEY),),
        webhook_secrets=(SecretStr(SECRET), SecretStr(OLD_SECRET)),
    )


def as_client(adapter: Adapter) -> httpx.AsyncClient:
    """A client that talks to the adapter's application, with the root key."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=create_app(adapter, owns_adapter=False)),
        base_url="http://adapter.test",
        headers={"authorization": f"Bearer {KEY}"},
    )


@pytest.fixture
async def adapter(database_url: str) -> AsyncIterator[Adapter]:
    made = Adapter(settings_for(database_url))

    async def echo(payload: JsonValue) -> JsonValue:
        return payload

    made.task("echo")(echo)
    made.task("other")(echo)
    made.task("ns/task with space")(echo)
    made.task("off", enabled=False)(echo)
    async with made:
        yield made


@pytest.fixture
async def client(adapter: Adapter) -> AsyncIterator[httpx.AsyncClient]:
    async with as_client(adapter) as made:
        yield made
