import json
from typing import Any

import jsonschema
import pytest
import yaml

from tests import kit

ROLES = ("web", "worker", "dispatcher")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((kit.ROOT / "docker-compose.yml").read_text())


def test_the_file_is_what_the_compose_specification_allows(compose: dict[str, Any]) -> None:
    schema = json.loads((kit.ROOT / "tests" / "schemas" / "compose-spec.json").read_text())
    jsonschema.validate(compose, schema, cls=jsonschema.Draft7Validator)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_starts_on_a_migrated_database_and_may_take_its_time_to_stop(
    compose: dict[str, Any], role: str
) -> None:
    service = compose["services"][role]
    assert service["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"]


def test_every_command_is_one_of_ours_in_exec_form(compose: dict[str, Any]) -> None:
    commands = {name: compose["services"][name]["command"] for name in ("migrate", *ROLES)}
    assert commands == {
        "migrate": ["adapter", "db", "upgrade"],
        "web": ["adapter", "serve", "--host", "0.0.0.0", "--port", "8000"],
        "worker": ["adapter", "worker", "--health-file", "/tmp/health"],
        "dispatcher": ["adapter", "dispatch"],
    }


def test_a_worker_is_looked_at_by_the_file_it_writes(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert worker["healthcheck"]["test"] == ["CMD", "adapter", "healthcheck", "--file", worker["command"][-1]]


def test_the_image_is_run_by_nobody_special_and_checks_its_health() -> None:
    lines = (kit.ROOT / "Dockerfile").read_text().splitlines()
    assert "USER adapter" in lines
    assert any(
        line.startswith("HEALTHCHECK ") and line.endswith('CMD ["adapter", "healthcheck"]') for line in lines
    )
    assert all("[" in line for line in lines if line.startswith(("CMD", "ENTRYPOINT")))
