import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from adapter.cli.logs import configure, is_secret, mask
from tests.cli.commands import adapter

FIELDS = {"job_id": "01890a5d", "type": "index", "executor": "trigger", "run_id": "run_1", "attempt": 2}
SECRETS: dict[str, Any] = {
    "secret": "s1-hidden",
    "api_key": "s2-hidden",
    "Authorization": "s3-hidden",
    "payload": {"to": "s4-hidden"},
    "data": ["s5-hidden"],
    "nested": {"password": "s6-hidden", "kept": 1},
}


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.mark.parametrize("style", ["text", "json"])
def test_fields_are_shown_and_secrets_are_not(
    capsys: pytest.CaptureFixture[str], style: Literal["text", "json"]
) -> None:
    configure(style, "INFO")
    logging.getLogger("adapter.of.a.test").info("ran %s", "it", extra={**FIELDS, **SECRETS})
    (line,) = lines(capsys)
    assert "hidden" not in line
    assert "ran it" in line
    if style == "json":
        said = json.loads(line)
        assert FIELDS.items() <= said.items()
        assert said["nested"] == {"password": "***", "kept": 1}
        assert (said["level"], said["logger"]) == ("info", "adapter.of.a.test")
    else:
        assert all(f"{name}={value}" in line for name, value in FIELDS.items())
        assert "\x1b" not in line


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_traceback_shows_no_variables_and_no_secrets(
    capsys: pytest.CaptureFixture[str], style: Literal["text", "json"]
) -> None:
    configure(style, "INFO")
    local = "hidden-variable"
    try:
        int(f"postgresql://who:{local[:6]}@host/x")
    except ValueError:
        logging.getLogger("adapter").exception("it failed")
    said = "\n".join(lines(capsys))
    assert "//who:***@host" in said
    assert "ValueError" in said
    assert "hidden-variable" not in said


def test_structlog_and_the_standard_library_share_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "INFO", role="worker")
    with structlog.contextvars.bound_contextvars(run_id="run_1"):
        structlog.get_logger("shop").info("sent", token="hidden", n=1)
    said = json.loads(lines(capsys)[0])
    assert (said["message"], said["n"], said["run_id"], said["role"]) == ("sent", 1, "run_1", "worker")
    assert said["token"] == "***"


def test_full_urls_of_the_http_client_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "INFO")
    logging.getLogger("httpx").info("HTTP Request: GET https://host/?signature=hidden")
    assert lines(capsys) == []


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "INFO")
    configure("text", "INFO", role="server")
    logging.getLogger("adapter").info("once")
    (line,) = lines(capsys)
    assert "server     once" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://a:b@c/d", "postgresql://a:***@c/d"),
        ("key tr_prod_abc123 used", "key tr_prod_*** used"),
        ("whsec_MfKQ9r8GKYqrTwjU=", "whsec_***"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("host=x password=abc dbname=y", "host=x password=*** dbname=y"),
        ("12:30: a plain line, http://host:80/x", "12:30: a plain line, http://host:80/x"),
        ("\x1b[2J", "\\x1b[2J"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_names_of_fields_that_are_no_secrets() -> None:
    assert not any(map(is_secret, ("database", "metadata", "job_id", "executor", "attempt", "type")))


def test_a_command_that_answers_logs_only_what_goes_wrong_unless_asked(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRIGGER_SECRET_KEY", "tr_dev_placeholder")
    assert adapter("jobs", "list").err == "No jobs.\n"
    monkeypatch.setenv("ADAPTER_LOG_LEVEL", "INFO")
    assert "placeholder" in adapter("jobs", "list").err


def test_the_library_itself_brings_no_command_along() -> None:
    code = "import sys, adapter; adapter.Adapter; print([m for m in ('typer', 'structlog', 'uvicorn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_does_not_wait_for_what_commands_need() -> None:
    code = (
        "import sys; import adapter.cli.root;"
        "print([m for m in ('sqlalchemy', 'psycopg', 'httpx', 'alembic', 'uvicorn', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
