"""S2, S4: what PGBOSS_ENABLED and its like are here; booleans accept true, false, 1, 0 and nothing else."""

import pytest
from pydantic import BaseModel, ValidationError

from adapter.settings import Flag, Settings
from tests import kit


class Switched(BaseModel):
    on: Flag


@pytest.mark.parametrize(
    ("word", "meant"), [("true", True), ("1", True), ("false", False), ("0", False), (" 1 ", True)]
)
def test_a_boolean_is_one_of_four_words(word: str, meant: bool) -> None:
    assert Switched.model_validate({"on": word}).on is meant


@pytest.mark.parametrize(
    "word", ["", "yes", "no", "on", "off", "True", "FALSE", "t", "2", "-1", "1.0", "null", 1, 0, None]
)
def test_a_boolean_is_nothing_else(word: object) -> None:
    with pytest.raises(ValidationError, match="true, false, 1 or 0"):
        Switched.model_validate({"on": word})


def test_no_setting_reads_booleans_by_itself() -> None:
    loose = [
        name
        for name, field in Settings.model_fields.items()
        if field.annotation is bool and not field.metadata
    ]
    assert loose == []


@pytest.mark.parametrize(
    "name",
    [
        "PGBOSS_ENABLED",
        "PGBOSS_FOR_NEW_EVALS",
        "PGBOSS_FOR_ALL_JOBS",
        "USE_CLOUDFLARE_QUEUES",
        "QUEUE_PRODUCER_URL",
    ],
)
def test_each_of_their_settings_is_explained_and_read_by_nobody(name: str) -> None:
    page = (kit.ROOT / "docs" / "cutover.md").read_text()
    assert f"| `{name}" in page
    code = [each.read_text() for each in (kit.ROOT / "adapter").rglob("*.py")]
    assert not any(name in each for each in code)
