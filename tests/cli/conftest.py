"""The shop: an application on the worker's database, for commands that are called in this process."""

import importlib
import logging
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import structlog

from tests.cli.commands import SHOP


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment names the database, and no application."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def shop(database: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The environment names the shop, which is imported anew."""
    name = SHOP.partition(":")[0]
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("ADAPTER_APP", SHOP)
    module = importlib.import_module(name)
    # Undone with the rest, so that no test meets the adapter of another.
    monkeypatch.setitem(sys.modules, name, module)
    return module
