"""GraphQL: the guide's ``cancelJob`` and its rule of owner or system user, and what bounds a query."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import JsonValue, SecretStr

from adapter import Adapter, Settings
from tests.web.conftest import KEY

CANCEL = "mutation ($id: ID!) { cancelJob(jobId: $id) { id success finished result status } }"


@pytest.fixture
async def graph(database_url: str) -> AsyncIterator[tuple[Adapter, httpx.AsyncClient]]:
    settings = Settings(database_url=SecretStr(database_url), api_keys=(SecretStr(KEY),), graphql=True)
    adapter = Adapter(settings)

    @adapter.task("echo")
    async def echo(payload: JsonValue) -> JsonValue:
        return payload

    del echo
    transport = httpx.ASGITransport(app=adapter.asgi())
    async with adapter, httpx.AsyncClient(transport=transport, base_url="http://adapter.test") as client:
        yield adapter, client


async def asked(client: httpx.AsyncClient, key: str, query: str, **variables: Any) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"}
    reply = await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_the_owner_and_the_system_user_cancel_and_nobody_else_learns_of_it(
    graph: tuple[Adapter, httpx.AsyncClient],
) -> None:
    adapter, client = graph
    jobs = [await adapter.schedule_job("echo", {"n": n}, user_id=7) for n in range(2)]
    owner, other, system = [(await adapter.create_key(user, user_id=user)).secret for user in ("7", "8", "0")]
    missing, said = str(UUID(int=7)), set[str]()
    for id_ in (str(jobs[0].id), missing):
        answer = await asked(client, other, CANCEL, id=id_)
        (error,) = answer["errors"]
        assert (answer["data"], error["extensions"]["code"], error["path"]) == (
            None,
            "job_not_found",
            ["cancelJob"],
        )
        said.add(error["message"].replace(id_, ""))
        assert await asked(client, other, "query ($id: ID!) { job(id: $id) { id } }", id=id_) == {
            "data": {"job": None}
        }
    assert len(said) == 1
    for key, job in ((owner, jobs[0]), (system, jobs[1])):
        canceled = (await asked(client, key, CANCEL, id=str(job.id)))["data"]["cancelJob"]
        assert (canceled["id"], canceled["success"], canceled["status"]) == (str(job.id), False, "CANCELED")
        assert canceled["finished"] is not None
    retried = await asked(
        client, owner, "mutation ($id: ID!) { retryJob(jobId: $id) { id data } }", id=str(jobs[0].id)
    )
    again = retried["data"]["retryJob"]
    assert (again["id"] != str(jobs[0].id), again["data"]) == (True, {"n": 0})
    early = await asked(client, owner, "mutation ($id: ID!) { retryJob(jobId: $id) { id } }", id=again["id"])
    assert early["errors"][0]["extensions"]["code"] == "job_state"


async def test_lists_are_of_ones_own_and_come_in_pages(graph: tuple[Adapter, httpx.AsyncClient]) -> None:
    adapter, client = graph
    for n in range(3):
        await adapter.schedule_job("echo", n, user_id=n % 2)
    pages = 'query ($after: String) { jobs(first: 2, after: $after, status: ["QUEUED"]) { nodes { data userId } next } }'
    first = (await asked(client, KEY, pages))["data"]["jobs"]
    rest = (await asked(client, KEY, pages, after=first["next"]))["data"]["jobs"]
    assert [each["data"] for each in (*first["nodes"], *rest["nodes"])] == [2, 1, 0]
    assert rest["next"] is None
    one = (await adapter.create_key("one", user_id="1")).secret
    assert (await asked(client, one, "{ jobs { nodes { userId } } }"))["data"] == {
        "jobs": {"nodes": [{"userId": "1"}]}
    }
    others = await asked(client, one, '{ jobs(userId: "0") { nodes { id } } }')
    assert others["errors"][0]["extensions"]["code"] == "not_found"
    for query, code in (
        ('{ jobs(status: ["DONE"]) { next } }', "invalid_argument"),
        ("{ jobs(first: 0) { next } }", "invalid_argument"),
    ):
        assert (await asked(client, KEY, query))["errors"][0]["extensions"]["code"] == code


async def test_a_query_is_bounded_and_only_comes_as_json_with_a_key(
    graph: tuple[Adapter, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, client = graph
    aliases = " ".join(f"a{n}: jobs {{ next }}" for n in range(16))
    for query in ("{ nothing }", "{", f"{{ {aliases} }}", "{ jobs { nodes { " + "id " * 1000 + "} } }"):
        answer = await asked(client, KEY, query)
        assert answer["data"] is None
        assert answer["errors"]
    assert (await client.post("/graphql", json={"query": "{ jobs { next } }"})).status_code == 401
    headers = {"authorization": f"Bearer {KEY}"}
    assert (
        await client.get("/graphql", params={"query": "{ jobs { next } }"}, headers=headers)
    ).status_code == 405
    form = await client.post("/graphql", data={"query": "{ jobs { next } }"}, headers=headers)
    assert form.status_code == 415

    async def broken(*_: object) -> None:
        raise RuntimeError("the password is x")

    monkeypatch.setattr(type(adapter), "list_jobs", broken)
    (error,) = (await asked(client, KEY, "{ jobs { next } }"))["errors"]
    assert (error["message"], error["extensions"]) == ("Internal Server Error", {"code": "internal"})
