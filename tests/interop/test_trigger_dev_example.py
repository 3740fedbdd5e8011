"""What users copy into their Trigger.dev project: it fits the SDK, and what it sends is what the adapter reads."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests import kit
from tests.interop import node_tools

EXAMPLE = kit.ROOT / "examples" / "trigger_dev"
TSC = node_tools.MODULES / "typescript" / "bin" / "tsc"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODIES = ["", "{}", "größer ☂ \U0001f600", '"\\u0000"', "x" * 200_000]

Json = dict[str, Any]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example, beside packages that are installed once for all interop tests."""
    copy = tmp_path / "project"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("node_modules"))
    node_tools.require_node()
    (copy / "node_modules").symlink_to(node_tools.MODULES)
    return copy


def read(path: Path) -> Json:
    loaded: Json = json.loads(path.read_text())
    return loaded


@pytest.mark.interop
@pytest.mark.timeout(120)
def test_the_example_type_checks_and_keeps_its_promises(project: Path, tmp_path: Path) -> None:
    node_tools.run_node(TSC, "--noEmit", "false", "--outDir", "built", env={}, cwd=project)
    vectors = tmp_path / "vectors.json"
    vectors.write_text(json.dumps([vector(body, n) for n, body in enumerate(BODIES)]))
    recorded = tmp_path / "recorded.json"
    tests = node_tools.NODE_PROJECT / "hooks.test.mjs"
    node_tools.run_node(
        "--test",
        "--test-timeout=10000",
        tests,
        env={
            "EXAMPLE_BUILD": str(project / "built" / "src"),
            "SIGNING_VECTORS": str(vectors),
            "RECORDED_REQUESTS": str(recorded),
        },
    )
    assert_signed_as_the_adapter_checks(read(recorded))


def vector(body: str, n: int) -> Json:
    at = datetime(2026, 11, 22, 10, n, tzinfo=UTC)
    signature = Webhook(SECRET).sign(f"msg_{n}", at, body)
    return {
        "secret": SECRET,
        "id": f"msg_{n}",
        "timestamp": int(at.timestamp()),
        "body": body,
        "signature": signature,
    }


def assert_signed_as_the_adapter_checks(recorded: Json) -> None:
    requests = recorded["requests"]
    assert {request["path"] for request in requests} == {"/api/trigger/webhook", "/api/trigger/claim"}
    for request in requests:
        verified = Webhook(recorded["secret"]).verify(request["body"], request["headers"])
        assert ("job" if request["path"].endswith("claim") else "type") in verified


@pytest.mark.interop
@pytest.mark.timeout(120)
def test_a_hook_that_does_not_fit_the_sdk_is_found(project: Path) -> None:
    hooks = project / "src" / "adapter" / "hooks.ts"
    hooks.write_text(hooks.read_text().replace("tasks.onStartAttempt(", "tasks.onBegin("))
    with pytest.raises(pytest.fail.Exception, match=r"hooks\.ts.*onBegin"):
        node_tools.run_node(TSC, env={}, cwd=project)


def test_the_example_is_checked_against_the_packages_it_pins() -> None:
    ours, theirs = (read(folder / "package.json") for folder in (node_tools.NODE_PROJECT, EXAMPLE))
    pinned = theirs["dependencies"] | theirs["devDependencies"]
    assert pinned.items() <= (ours["dependencies"] | ours["devDependencies"]).items()
    assert all(version[0].isdigit() for version in pinned.values())


@pytest.mark.parametrize("folder", [EXAMPLE, node_tools.NODE_PROJECT], ids=lambda folder: folder.name)
def test_a_lock_file_fits_its_package_and_names_no_host(folder: Path) -> None:
    package, lock = read(folder / "package.json"), read(folder / "package-lock.json")
    root = lock["packages"][""]
    for kind in ("dependencies", "devDependencies"):
        assert root[kind] == package[kind]
        for name, version in package[kind].items():
            assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry for path, entry in lock["packages"].items() if path)
    assert not [path for path, entry in lock["packages"].items() if "resolved" in entry]


def test_every_variable_the_example_reads_is_in_its_readme() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    for name in ("ADAPTER_URL", "ADAPTER_WEBHOOK_SECRET", "EMAIL_API_URL", "TRIGGER_PROJECT_REF"):
        assert f"`{name}`" in readme
