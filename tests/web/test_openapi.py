"""The document says what is served, and who is asked who they are."""

from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from adapter import Adapter
from adapter.web.app import create_app
from adapter.web.openapi.document import OPEN
from adapter.web.openapi.reading import takes
from adapter.web.people.jobs import JobBody, JobRoutes, JobsQuery
from adapter.web.trigger_api.options import TriggerBody
from adapter.web.trigger_api.tasks import TaskRoutes


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/api/openapi.json", headers={"authorization": ""})).json()


async def test_every_route_is_in_a_document_that_is_valid(adapter: Adapter, document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    routes = [each for each in create_app(adapter, owns_adapter=False).routes if isinstance(each, Route)]
    served = {
        (each.path.replace(":path", ""), method.lower())
        for each in routes
        for method in (each.methods or set()) - {"HEAD"}
    }
    operations = {
        (path, method): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert set(operations) == served
    assert len({each["operationId"] for each in operations.values()}) == len(operations)
    assert all(each["summary"] for each in operations.values())
    assert {path for path, _ in operations} >= OPEN
    # What changes a cutover, a key or a job has a body that is described.
    unsaid = [
        path
        for (path, method), each in operations.items()
        if path.startswith(("/api/admin/", "/api/jobs"))
        and method in {"post", "put"}
        and "requestBody" not in each
    ]
    assert unsaid == ["/api/jobs/{job}/retry"]


async def test_models_are_those_the_endpoints_take(document: dict[str, Any]) -> None:
    assert takes(JobRoutes.schedule).body is JobBody
    assert takes(JobRoutes.list).query is JobsQuery
    assert takes(TaskRoutes.trigger).body is TriggerBody
    body = document["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/JobBody"}
    assert document["components"]["schemas"]["JobBody"]["required"] == ["task"]
    asked = {each["name"]: each for each in document["paths"]["/api/jobs"]["get"]["parameters"]}
    assert (asked["status"]["schema"]["type"], asked["status"]["explode"]) == ("array", False)
    assert "run_id" in document["components"]["schemas"]["Job"]["properties"]


async def test_who_calls_is_asked_wherever_the_document_says_so(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    wrong: list[tuple[str, str, int]] = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            url = path.replace("{", "").replace("}", "")
            answer = await client.request(method.upper(), url, headers={"authorization": ""}, content=b"{")
            is_asked = answer.status_code == 401 and answer.json()["error"] == "Invalid or Missing API key"
            if is_asked is not bool(operation["security"]):
                wrong.append((method, path, answer.status_code))
    assert wrong == []
