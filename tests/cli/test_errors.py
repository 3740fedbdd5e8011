import sys
from pathlib import Path
from types import ModuleType

import pytest

from adapter.cli import exits, loading
from adapter.cli.root import hoisted
from adapter.domain import errors
from tests.cli.commands import adapter
from tests.cli.test_jobs import schedule

SECRET = "s3cret-of-the-payload"


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (("jobs", "show", "01890a5d-ac96-774b-bcce-b302099a8057"), 6, "job_not_found"),
        (("jobs", "show", "run_of_somebody_else"), 2, "usage"),
        (("jobs", "cancel", "01890a5d-ac96-774b-bcce-b302099a8057"), 6, "job_not_found"),
        (("jobs", "replay", "01890a5d-ac96-774b-bcce-b302099a8057"), 6, "job_not_found"),
        (("jobs", "schedule", "nope"), 6, "unknown_task"),
        (("jobs", "schedule", "off", "{}"), 5, "task_disabled"),
        (("jobs", "schedule", "send-email", "--executor", "mars"), 2, "invalid_payload"),
        (("jobs", "schedule", "index", "--executor", "mars"), 2, "unknown_executor"),
        (("jobs", "schedule", "index", "--delay", "soon"), 2, "invalid_argument"),
        (("jobs", "schedule", "index", "@/nowhere.json"), 2, "usage"),
        (("jobs", "list", "--after", "nonsense"), 2, "invalid_argument"),
        (("cutover", "explain", "nope"), 6, "unknown_task"),
        (("healthcheck", "--url", "file:///etc/passwd"), 2, "usage"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    shop: ModuleType, words: tuple[str, ...], code: int, name: str
) -> None:
    answer = adapter(*words)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(f"error [{name}] ")
    assert answer.err.count("\n") == 1
    programs = adapter("--json", *words)
    assert (programs.code, programs.out) == (code, "")
    assert f'"code": "{name}"' in programs.err


@pytest.mark.parametrize("payload", [f'{{"to": {{"pass": "{SECRET}"}}}}', f'{{"{SECRET}'])
def test_a_payload_is_not_shown_in_an_error(shop: ModuleType, payload: str) -> None:
    answer = adapter("jobs", "schedule", "send-email", payload)
    assert answer.code == 2
    assert SECRET not in answer.err + answer.out


def test_a_database_that_is_away_is_one_line_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://who:{SECRET}@127.0.0.1:1/x")
    answer = adapter("jobs", "list")
    assert answer.code == 1
    assert answer.err.startswith("error [store] The database cannot be reached")
    assert SECRET not in answer.err


def test_without_a_database_the_error_names_the_setting() -> None:
    answer = adapter("jobs", "list")
    assert (answer.code, "DATABASE_URL" in answer.err) == (1, True)


def test_a_setting_with_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_WORKER_CONCURRENCY", SECRET)
    answer = adapter("jobs", "list")
    assert answer.code == 1
    assert "ADAPTER_WORKER_CONCURRENCY" in answer.err or "worker_concurrency" in answer.err
    assert SECRET not in answer.err


@pytest.mark.parametrize(
    "words", [("tasks", "list"), ("cutover", "explain", "index"), ("worker",), ("jobs", "schedule", "x")]
)
def test_what_needs_tasks_says_how_to_name_an_application(database: str, words: tuple[str, ...]) -> None:
    answer = adapter(*words)
    assert (answer.code, "--app pkg.mod:adapter" in answer.err) == (2, True)


def test_the_application_may_be_named_anywhere_on_the_line(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPTER_APP")
    answer = adapter("tasks", "list", "--app", "tests.cli.shop:adapter", "--json")
    assert len(answer.document["tasks"]) == len(shop.adapter.registry)
    assert hoisted(["jobs", "schedule", "x", "--", "--json"]) == ["jobs", "schedule", "x", "--", "--json"]
    assert hoisted(["version", "--app"]) == ["--app", "version"]


@pytest.mark.parametrize(
    ("content", "spec", "words"),
    [
        (None, "nowhere.jobs:adapter", "There is no module 'nowhere'"),
        ("", ":adapter", "is no place"),
        ("", "app_of_test", "no attribute 'adapter'"),
        ("from adapter import Adapter\nmine = Adapter()", "app_of_test", "There is app_of_test:mine"),
        ("adapter = 1", "app_of_test", "is no Adapter but an int"),
        ("import nowhere_to_be_found", "app_of_test", "No module named 'nowhere_to_be_found'"),
        ("x = 1\ny = x.z", "app_of_test", "app_of_test.py:2"),
        ("raise SystemExit(3)", "app_of_test", "SystemExit: 3"),
        ("raise ValueError('postgresql://who:hidden@host/x')", "app_of_test", "//who:***@host"),
        ("def broken(:", "app_of_test", "SyntaxError"),
    ],
)
def test_an_application_that_cannot_be_had_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, spec: str, words: str
) -> None:
    if content is not None:
        (tmp_path / "app_of_test.py").write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "app_of_test", raising=False)
    answer = adapter("--app", spec, "tasks", "list")
    monkeypatch.delitem(sys.modules, "app_of_test", raising=False)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert "hidden" not in answer.err


def test_an_attribute_may_be_deep(shop: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "jobs", shop, raising=False)
    assert loading.load("tests.cli.shop:jobs.adapter") is shop.adapter


def subclasses(kind: type[errors.AdapterError]) -> list[type[errors.AdapterError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in subclasses(below))]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigurationError, 1),
        (errors.InvalidPayloadError, 2),
        (errors.ResultTimeoutError, 4),
        (errors.FlagConflictError, 5),
        (errors.UnknownTaskError, 6),
        (errors.NotSentError, 7),
        (errors.UnknownOutcomeError, 7),
        (errors.RejectedError, 1),
        (errors.SchemaError, 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: type[errors.AdapterError], code: int) -> None:
    assert kind in subclasses(errors.AdapterError)
    told = exits.told(kind.__new__(kind))
    assert told is not None
    assert told.exit_code == code


def test_an_error_that_nobody_foresaw_is_not_told_in_one_line() -> None:
    assert exits.told(RuntimeError("a bug")) is None


def test_json_answers_carry_no_color_and_tables_none_without_a_terminal(shop: ModuleType) -> None:
    schedule("index")
    for words in (("jobs", "list"), ("--json", "jobs", "list"), ("tasks", "list"), ("doctor",)):
        assert "\x1b" not in adapter(*words, env={"FORCE_COLOR": ""}).out
