"""A batch's key, taken by two at once."""

from typing import Any

import pytest

from adapter import JobSpec
from adapter.store import batches
from tests.rig import Rig


async def test_a_batch_that_is_completed_while_its_key_is_taken_keeps_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await rig.adapter.open_batch(1, key="k")
    real = batches.fetch

    async def read(_place: int, _text: str, _find: Any) -> JobSpec:
        return JobSpec("echo", 1)

    async def fetch(conn: Any, schema: Any, template: Any, parameters: Any = None) -> list[Any]:
        if template is batches._FREE:
            monkeypatch.setattr(batches, "fetch", real)
            await rig.adapter.add_items(first.id, {0: ""}, read)
        return await real(conn, schema, template, parameters)

    monkeypatch.setattr(batches, "fetch", fetch)
    found = await rig.adapter.open_batch(2, key="k")
    assert (found.id, found.deduplicated) == (first.id, True)
