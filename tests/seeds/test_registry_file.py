"""S3: the whole registry as a TOML file, with the guides' keys and ours."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapter import Adapter, Queue, Settings
from adapter.domain.errors import TaskDefinitionError
from tests.seeds.test_guide import JOB_REGISTRY

REGISTRY = """
[removeOldWorkerJobs]
executor = "internal"
workerJobType = "removeOldWorkerJobs"
description = "Clean up old completed jobs"

[watchChain]
executor = "internal"
workerJobType = "watchChain"
description = "Monitor blockchain for events"

[processLargeDataset]
executor = "trigger"
triggerTaskId = "process-large-dataset"
description = "Process large dataset with heavy computation"
retryConfig = { maxAttempts = 3, minTimeoutInMs = 1000, maxTimeoutInMs = 10000, factor = 2 }

[dailyReportGeneration]
executor = "trigger"
triggerTaskId = "daily-report-generation"
description = "Generate daily analytics report"

[reliableEmailSender]
executor = "trigger"
triggerTaskId = "reliable-email-sender"
description = "Send emails with automatic retries"
retryConfig = { maxAttempts = 5, minTimeoutInMs = 2000, maxTimeoutInMs = 60000, factor = 2 }
"""
OURS = """
[meter]
description = "reads meters"
remote_id = { trigger = "meter-there" }
queue = { name = "heavy", concurrency_limit = 5 }
retry = { max_attempts = 7 }
priority = 2
max_duration = "5m"
ttl = "1d12h"
keep_for = 3600
keep_failed_for = "30d"
idempotent = true
on_kill = "keep"
hash_by = "user_id"
"""


async def here(_payload: Any) -> None:
    """Run here."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        file = tmp_path / "tasks.toml"
        file.write_text(text)
        return file

    return written


def test_the_guides_registry_as_a_file_is_the_same_registry(write: Callable[[str], Path]) -> None:
    handlers = {"removeOldWorkerJobs": here, "watchChain": here}
    by_file, by_mapping = Adapter(Settings()), Adapter(Settings())
    tasks = by_file.declare_file(write(REGISTRY), handlers=handlers)
    by_mapping.declare(JOB_REGISTRY, handlers=handlers)
    assert [task.id for task in tasks] == list(JOB_REGISTRY)
    assert [each.policy for each in by_file.registry] == [each.policy for each in by_mapping.registry]
    assert by_file.registry.runnable == by_mapping.registry.runnable


def test_our_own_keys_are_read_in_snake_case(write: Callable[[str], Path]) -> None:
    adapter = Adapter(Settings())
    (task,) = adapter.declare_file(str(write(OURS)), handlers={"meter": here})
    policy = task.definition.policy
    assert (policy.queue, policy.priority, policy.retry.max_attempts) == (Queue("heavy", 5), 2, 7)
    assert (policy.max_duration, policy.ttl) == (timedelta(minutes=5), timedelta(hours=36))
    assert policy.keep_failed_for == timedelta(days=30)
    assert (policy.keep_for, policy.idempotent, policy.on_kill) == (timedelta(hours=1), True, "keep")
    assert (policy.executor, policy.remote_ids, policy.runs_locally) == (
        "local",
        {"trigger": "meter-there"},
        True,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a]\nexecuter = 'trigger'", r"tasks\.toml: a\.executer: Extra inputs"),
        ("[a.retry]\nmax_attempts = 0", r"a\.retry\.max_attempts: .*greater than or equal to 1"),
        ("[a.retryConfig]\nmaxAttempts = 'x'", r"a\.retryConfig\.maxAttempts: .*integer"),
        ("[a]\nmax_duration = 'soon'", r"a\.max_duration: .*'soon' is not a duration"),
        ("[a]\non_kill = 'stay'", r"a\.on_kill: .*'move' or 'keep'"),
        ("[a]\npriority = 'x'\n[b]\nttl = 'y'", r"a\.priority: .*; b\.ttl: "),
        ("a = 1", r"a: a table is expected"),
        ("[a\n", r"tasks\.toml is no TOML: .*line 2"),
        ("[a]\nqueue = { name = '' }", r"tasks\.toml: a: A queue needs a name"),
    ],
)
def test_a_fault_is_told_with_its_place_and_nothing_is_declared(
    write: Callable[[str], Path], text: str, words: str
) -> None:
    adapter = Adapter(Settings())
    with pytest.raises(TaskDefinitionError, match=words):
        adapter.declare_file(write("[fine]\n" + text if text.startswith("[") else text))
    assert len(adapter.registry) == 0


def test_a_file_that_is_missing_and_a_handler_that_is_not_named_are_told(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = Adapter(Settings())
    with pytest.raises(TaskDefinitionError, match=r"nowhere\.toml cannot be read"):
        adapter.declare_file(tmp_path / "nowhere.toml")
    with pytest.raises(TaskDefinitionError, match="does not have: metre"):
        adapter.declare_file(write(OURS), handlers={"metre": here})
