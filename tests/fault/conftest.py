"""What the tests that break things share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapter.store.embedded import EmbeddedPostgres
from tests import kit
from tests.fault.remote import Remote
from tests.fault.site import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.fault)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(90))


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """The session's database, and processes on it that end with the test."""
    with Site(database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    """Trigger.dev as a server on a port, which can hold its requests."""
    async with Remote() as made:
        yield made


@pytest.fixture
def own_postgres(server_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A server that a test may restart, and that loses nothing then."""
    with EmbeddedPostgres(server_dir, bin_dir=kit.own_setting("PG_BIN")) as server:
        yield server
