"""What can be set, go wrong, be written down, asked for or called is in docs/, and nothing else is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from starlette.routing import Route

from adapter import Adapter, AdapterError, Settings
from adapter.cli.exits import MEANINGS
from adapter.cli.root import app
from adapter.core.reconcile import Verdict
from adapter.domain import errors
from adapter.domain.job import JobStatus
from adapter.domain.outcome import Applied
from adapter.domain.waiting import WaitCode
from adapter.store.tables import metadata_for
from adapter.web.app import create_app
from adapter.web.errors import status_of
from tests import kit

DOCS = kit.ROOT / "docs"
PAGES = [
    kit.ROOT / "README.md",
    kit.ROOT / "CONTRIBUTING.md",
    kit.ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted(each for each in (kit.ROOT / "examples").rglob("*.md") if "node_modules" not in each.parts),
]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(name: str) -> list[list[str]]:
    """The cells of every table row of a page, without the heads."""
    lines = [line for line in page(name).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "`" in line]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


# ---- settings ------------------------------------------------------------------------------------

#: Read beside the fields of `Settings`: families of names, and what the command itself takes.
BESIDE = {"ADAPTER_EXECUTOR", "ADAPTER_EXECUTOR__<TASK>", "ADAPTER_APP"}


def variables(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    return [str(each) for each in alias.choices] if isinstance(alias, AliasChoices) else []


def test_every_setting_is_documented_and_nothing_else() -> None:
    known = {name for field in Settings.model_fields.values() for name in variables(field)} | BESIDE
    documented = {name for row in rows("settings.md") for name in quoted(row[0])}
    assert documented == known


def test_every_default_is_documented_as_it_is() -> None:
    documented = {name: row[1] for row in rows("settings.md") for name in quoted(row[0])}
    for field in Settings.model_fields.values():
        for name in variables(field):
            said, default = documented[name], field.default
            if default in {None, ()}:
                assert said in {"none", "all", "the request's"}, name
            elif isinstance(default, int | float):
                assert float(said.strip("`")) == default, name
            else:
                assert said == f"`{default}`", name


def test_every_word_a_setting_may_have_is_documented() -> None:
    meanings = {name: row[2] for row in rows("settings.md") for name in quoted(row[0])}
    for field in Settings.model_fields.values():
        words = [word for word in get_args(field.annotation) if isinstance(word, str)]
        for name in variables(field):
            assert {word for word in words if word != field.default} <= quoted(meanings[name]), name


def test_the_example_environment_names_settings_that_exist() -> None:
    known = {name for field in Settings.model_fields.values() for name in variables(field)} | BESIDE
    ours = {"POSTGRES_PASSWORD", "ADAPTER_PORT"}  # docker-compose.yml's own
    text = (kit.ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#? ?([A-Z_]+)=", text, re.MULTILINE)) <= known | ours


# ---- errors --------------------------------------------------------------------------------------


def kinds_of(error: type[AdapterError]) -> Iterator[type[AdapterError]]:
    """Walk the tree in the order in which it is drawn."""
    drawn = errors.__doc__ or ""
    yield error
    ours = [each for each in error.__subclasses__() if each.__module__.startswith("adapter.domain.errors.")]
    for each in sorted(ours, key=lambda each: drawn.index(f" {each.__name__} ")):
        yield from kinds_of(each)


def test_every_error_is_documented_with_its_code_status_and_place() -> None:
    documented = [(row[0], row[1].strip("`"), row[2]) for row in rows("errors.md")]
    made = [
        (f"{'— ' if depth(each) > 1 else ''}`{each.__name__}`", each.code, str(status_of(made_up(each))))
        for each in kinds_of(AdapterError)
    ]
    assert documented == made


def depth(error: type[AdapterError]) -> int:
    return [each for each in error.__mro__ if issubclass(each, AdapterError)].index(AdapterError)


def made_up(error: type[AdapterError]) -> AdapterError:
    return error.__new__(error)


def test_every_name_the_adapter_gives_a_jobs_error_is_documented() -> None:
    code = "\n".join(each.read_text() for each in code_of("core", "store"))
    given = set(re.findall(r"""['"]name['"][,:] ['"]([A-Za-z]+)['"]""", code))
    given |= set(re.findall(r"""\bname="([A-Z][A-Za-z]+)",\s+message=""", code))
    assert given
    assert given <= quoted(page("errors.md"))


# ---- events and counters -------------------------------------------------------------------------


def code_of(*floors: str) -> list[Path]:
    return [each for floor in floors for each in sorted((kit.ROOT / "adapter" / floor).rglob("*.py"))]


def test_every_reason_to_wait_is_documented_and_nothing_else() -> None:
    table = page("operations.md").partition("| what | why |\n|---|---|\n")[2].partition("\n\n")[0]
    documented = re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)
    assert documented == list(get_args(WaitCode))


def test_every_kind_of_event_is_documented_and_nothing_else() -> None:
    written: set[str] = set()
    for file in code_of("core", "store"):
        text = file.read_text()
        for insert in re.findall(
            r"INSERT INTO \{s\}\.job_events.*?(?=FROM|VALUES \(|RETURNING)", text, re.DOTALL
        ):
            written |= set(re.findall(r"epoch(?:\)s)?, '([a-z_]+)'", insert))
        written |= set(re.findall(r"\bkind=\"([a-z_]+)\"", text))
        written |= set(re.findall(r"\"kind\": \"([a-z_]+)\"", text))
    documented = {name for row in rows("events.md") if len(row) == 3 for name in quoted(row[0])}
    assert documented == written


def test_every_counter_is_documented_and_nothing_else() -> None:
    counted: set[str] = set()
    for file in code_of("core", "store"):
        counted |= set(re.findall(r"counts\[\"([a-z_]+)\"\]", file.read_text()))
    counted |= {f"report_{each}" for each in Applied if each not in {Applied.CHANGED, Applied.CONFIRM}}
    documented = {name for row in rows("events.md") if len(row) == 2 for name in quoted(row[0])}
    assert documented == counted


def test_every_logger_that_is_documented_exists() -> None:
    text = "\n".join(each.read_text() for each in code_of("."))
    for name in re.findall(r"`(adapter\.[a-z]+)`", page("events.md")):
        if name != "adapter.observers":
            assert f'getLogger("{name}")' in text, name


# ---- words ---------------------------------------------------------------------------------------


def test_every_status_is_explained() -> None:
    explained = {name for row in rows("protocol.md") for name in quoted(row[0])}
    assert {status.value for status in JobStatus} <= explained


def test_every_table_is_named() -> None:
    names = {each.rpartition(".")[2] for each in metadata_for("adapter").tables}
    assert names <= quoted(page("architecture.md"))


def test_the_verdicts_of_reconciliation_are_those_of_the_example() -> None:
    (example,) = re.findall(r"reconciliation complete: (\{.*\})", page("events.md"))
    assert set(re.findall(r"'(\w+)'", example)) <= {each.value for each in Verdict}


# ---- commands ------------------------------------------------------------------------------------


def leaves(command: Any, path: tuple[str, ...] = ("adapter",)) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, each in command.commands.items():
        if not each.hidden:
            yield from leaves(each, (*path, name))


def test_every_command_is_documented_with_its_options_and_nothing_else() -> None:
    root: Any = typer.main.get_command(app)
    there: dict[str, set[str]] = {}
    for path, command in leaves(root):
        options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
        there[path] = {
            name for each in options for name in (*each.opts, *each.secondary_opts) if name.startswith("--")
        } - {"--help"}
    documented: dict[str, set[str]] = {}
    for row in rows("commands.md"):
        command = re.sub(r"(?: \[?[A-Z]+\]?)+$", "", row[0].strip("`"))
        documented[command] = {name for name in quoted(row[2]) if name.startswith("--")}
    assert documented == there


def test_every_exit_code_is_documented() -> None:
    table = re.findall(r"^\| (\d) \| (.*) \|$", page("commands.md"), re.MULTILINE)
    assert table == [(str(int(code)), meaning) for code, meaning in MEANINGS.items()]


# ---- routes --------------------------------------------------------------------------------------


def test_every_route_is_documented_and_nothing_else() -> None:
    routes = [each for each in create_app(Adapter()).routes if isinstance(each, Route)]
    served = {route.path.replace(":path", "") for route in routes}
    documented: set[str] = set()
    for row in rows("http-api.md"):
        documented |= set(re.findall(r"(/(?:api|livez|readyz|metrics|realtime)[^`\s,]*)", row[0]))
    assert documented == served


# ---- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(kit.ROOT)))
def test_every_link_leads_somewhere(file: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (file.parent / target).exists(), target


def test_every_page_is_in_the_list() -> None:
    text = page("README.md")
    listed = set(re.findall(r"\]\(([^)]+)\)", text))
    there = {str(each.relative_to(DOCS)) for each in DOCS.rglob("*.md")} - {"README.md"}
    assert there == listed


def test_what_the_code_refers_to_exists() -> None:
    for file in code_of("."):
        for target in re.findall(r"docs/[\w/.-]+\.md", file.read_text()):
            assert (kit.ROOT / target).exists(), f"{file.name}: {target}"


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(kit.ROOT)))
def test_spelling_is_american(file: Path) -> None:
    british = (
        r"\b(?:behaviour|cancelled|cancelling|colour|honour|catalogue|organis|recognis|serialis|licence)\w*"
    )
    assert re.findall(british, file.read_text()) == []
