"""Fixtures, and nothing else: what they are made of is in `tests/kit.py`."""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from adapter.store.embedded import EmbeddedPostgres
from tests import kit, pooling
from tests.fault.pooler import pooled
from tests.rig import Rig, rigged


def pytest_configure() -> None:
    kit.scrub_environment()
    # How fast a machine is says nothing of an example.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has a database: by that mark, not by a list of folders, it is run again on another server."""
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.database)


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """What a test does to the environment ends with it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A directory a server may run in, whoever it runs as: pytest's own is closed to others than root."""
    with kit.server_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[kit.Server]:
    """The worker's own PostgreSQL, or the one named by ADAPTER_TEST_DATABASE_URL."""
    if given := kit.own_setting("DATABASE_URL"):
        yield kit.GivenServer(given)
        return
    bin_dir, settings = kit.own_setting("PG_BIN"), {"max_wal_size": "256MB"}
    with (
        kit.server_directory() as directory,
        EmbeddedPostgres(directory, bin_dir=bin_dir, durable=False, settings=settings) as server,
    ):
        kit.make_logins_cheap(server)
        yield server


@pytest.fixture(scope="session")
def make_database(postgres: kit.Server) -> Iterator[Callable[[], str]]:
    """Makes empty databases and returns their URLs; they go with the session."""
    made: list[str] = []

    def make() -> str:
        name = f"adapter_test_{os.getpid()}_{len(made)}"
        made.append(name)
        postgres.create_database(name)
        return postgres.url(name)

    yield make
    for name in made:
        postgres.drop_database(name)


@pytest.fixture(scope="session")
def database_url(make_database: Callable[[], str]) -> str:
    """The worker's migrated database. Every table is empty again after a test that used it."""
    url = make_database()
    kit.set_up(url)
    return url


@pytest.fixture(scope="session")
def pooler_url(postgres: kit.Server) -> Iterator[str]:
    """URL of a PgBouncer before the worker's PostgreSQL."""
    directory = Path(tempfile.mkdtemp(prefix="adapter-test-"))
    with pooled(postgres.url(), directory, connections=40) as url:
        pooling.wait_for(url)
        yield url
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def product_behind_pooler(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ADAPTER_TEST_POOLER the product is behind a pooler, but in tests that say why they cannot be."""
    if (
        not kit.own_setting("POOLER")
        or "postgres" not in request.fixturenames
        or request.node.get_closest_marker("direct")
    ):
        yield
        return
    server = request.getfixturevalue("postgres")
    with pooling.behind(request.getfixturevalue("pooler_url"), server.url()):
        yield


@pytest.fixture(scope="session")
def broom_box() -> Iterator[list[kit.Broom]]:
    """Where the session's one broom stands once a test has needed it."""
    box: list[kit.Broom] = []
    yield box
    for broom in box:
        broom.close()


@pytest.fixture(autouse=True)
def swept_database(request: pytest.FixtureRequest, broom_box: list[kit.Broom]) -> Iterator[None]:
    """Cleans up after a test that used the database; set up first, it runs when all else is closed."""
    yield
    if "database_url" in request.fixturenames:
        if not broom_box:
            broom_box.append(kit.Broom(request.getfixturevalue("database_url")))
        broom_box[0].sweep()


@pytest.fixture
def empty_database(postgres: kit.Server, make_database: Callable[[], str]) -> Iterator[str]:
    """URL of a new database without any table, for one test: a copy takes 0.3 s, so ask only for good reason."""
    url = make_database()
    yield url
    postgres.drop_database(urlsplit(url).path.removeprefix("/"))


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    """An open adapter with the usual tasks, and an in-memory Trigger.dev."""
    async with rigged(database_url) as made:
        yield made
