"""What is nested very deeply is the caller's mistake: answered once, and kept nowhere."""

import json

import httpx
import pytest

from adapter import Adapter
from adapter.domain.errors import InvalidPayloadError
from adapter.web.bodies import BadJsonError, load_json
from tests.web.conftest import as_client, settings_for


@pytest.mark.parametrize("depth", [300, 600, 900, 3000])
async def test_a_deep_payload_or_metadata_is_refused(database_url: str, depth: int) -> None:
    adapter = Adapter(settings_for(database_url))

    async def echo(payload: object) -> None:
        del payload

    adapter.task("echo")(echo)
    deep = "[" * depth + "]" * depth
    bodies = [
        f'{{"payload":{deep}}}',
        f'{{"options":{{"metadata":{{"a":{deep}}}}}}}',
        json.dumps({"payload": deep, "options": {"payloadType": "text/plain"}}),
        json.dumps({"payload": f'{{"json":{deep}}}', "options": {"payloadType": "application/super+json"}}),
    ]
    async with adapter, as_client(adapter) as client:
        for task in ("echo", "nowhere"):
            answers: list[httpx.Response] = []
            for body in bodies:
                path = f"/api/v1/tasks/{task}/trigger"
                answers.append(await client.post(path, content=body))
            assert [each.status_code // 100 for each in answers] == [4, 4, 2, 4], [
                each.text[:100] for each in answers
            ]
        line = f'{{"index":0,"task":"echo","payload":{deep}}}\n'
        batch = (await client.post("/api/v3/batches", json={"runCount": 1})).json()["id"]
        ndjson = {"content-type": "application/x-ndjson"}
        filled = await client.post(f"/api/v3/batches/{batch}/items", content=line, headers=ndjson)
        assert filled.status_code == 422
        for path in ("/api/v1/runs", "/api/jobs"):
            assert (await client.get(path)).status_code == 200
        with pytest.raises(InvalidPayloadError):
            await adapter.schedule_job("echo", json.loads("[" * 300 + "]" * 300))


def test_what_is_wide_is_not_deep() -> None:
    assert len(load_json(b"[" + b",".join([b"[{}]"] * 1000) + b"]")) == 1000
    assert load_json(b"[" * 200 + b"]" * 200)
    with pytest.raises(BadJsonError):
        load_json(b"[" * 201 + b"]" * 201)
