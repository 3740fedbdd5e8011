"""The whole suite behind PgBouncer in transaction mode, `ADAPTER_TEST_POOLER=1`.

What the product connects to is the pooler; what a test opens itself goes to the server, to look at it from outside.
"""

import asyncio
import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

import psycopg

from adapter.settings import Settings
from adapter.store.database import DatabaseConfig
from tests.kit import eventually

_direct = Settings.database


@contextmanager
def behind(pooler: str, server: str) -> Generator[None]:
    """Every adapter in this process that is given the server's URL reaches it through the pooler."""
    address, hidden = _address(pooler), _address(server)

    def database(settings: Settings, application: str = "adapter") -> DatabaseConfig:
        config = _direct(settings, application)
        parts = urlsplit(config.url)
        if _address(config.url) != hidden:
            return config
        return dataclasses.replace(
            config,
            url=urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{address}")),
            transaction_pooler=True,
        )

    with mock.patch.object(Settings, "database", database):
        yield


def wait_for(pooler: str) -> None:
    """Return when the pooler answers."""
    asyncio.run(eventually(lambda: asyncio.to_thread(_answers, pooler), within=20))


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _address(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
