"""The whole suite behind PgBouncer in transaction mode, `ADAPTER_TEST_POOLER=1`.

What the product connects to is the pooler; what a test opens itself goes to the server, to look at it from outside.
"""

import asyncio
import dataclasses
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

import psycopg

from adapter.settings import Settings
from adapter.store.database import DatabaseConfig
from tests.kit import eventually

_direct = Settings.database
#: The server and the pooler before it, while a test is behind one.
_ways: list[tuple[str, str]] = []


@contextmanager
def behind(pooler: str, server: str) -> Generator[None]:
    """Every adapter that is given the server's URL reaches it through the pooler: in this process, and in children."""

    def database(settings: Settings, application: str = "adapter") -> DatabaseConfig:
        config = _direct(settings, application)
        if (url := _through(config.url)) is None:
            return config
        return dataclasses.replace(config, url=url, transaction_pooler=True)

    _ways.append((_address(server), _address(pooler)))
    try:
        with mock.patch.object(Settings, "database", database):
            yield
    finally:
        _ways.pop()


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what a child gets as its environment: itself, or what leads through the pooler."""
    changed = dict(given)
    for name in ("ADAPTER_DATABASE_URL", "DATABASE_URL"):
        if name in given and (url := _through(given[name])) is not None:
            changed |= {name: url, "ADAPTER_DB_POOLER": "transaction"}
    return changed


def wait_for(pooler: str) -> None:
    """Return when the pooler answers."""
    asyncio.run(eventually(lambda: asyncio.to_thread(_answers, pooler), within=20))


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _through(url: str) -> str | None:
    """Return the URL through the pooler of a server that is behind one."""
    parts = urlsplit(url)
    for server, pooler in _ways:
        if _address(url) == server:
            return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{pooler}"))
    return None


def _address(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
