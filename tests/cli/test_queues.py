from types import ModuleType

from adapter.cli.invocation import actor
from tests.cli.commands import adapter


def test_a_queue_is_listed_limited_paused_and_resumed(shop: ModuleType) -> None:
    assert adapter("jobs", "schedule", "off", "--queue", "bulk").code != 0
    assert adapter("jobs", "schedule", "endless", "--queue", "bulk").code == 0
    limited = adapter(
        "--json", "queues", "limit", "bulk", "--per-key", "2", "--rate", "100/60", "--reason", "INC-7"
    )
    assert limited.code == 0, limited.err
    assert limited.document["limits"] == {"key_limit": 2, "rate": {"count": 100, "period_us": 60_000_000}}
    assert adapter("queues", "pause", "bulk", "--reason", "INC-8").code == 0
    (queue,) = adapter("--json", "queues", "show", "bulk").document["queues"]
    assert (queue["waiting"], queue["paused_by"], queue["pause_reason"]) == (1, actor(), "INC-8")
    assert "100 per 60 s" in adapter("queues", "list").out
    assert adapter("queues", "resume", "bulk", "--reason", "over").code == 0
    lifted = adapter(
        "--json", "queues", "limit", "bulk", "--rate", "registry", "--per-key", "none", "--reason", "over"
    )
    assert (lifted.document["limits"], lifted.document["overrides"]) == ({}, {"key_limit": None})


def test_what_is_no_queue_and_no_limit_is_said(shop: ModuleType) -> None:
    assert "There is no queue named 'nope'" in adapter("queues", "show", "nope").err
    assert "'many' is no rate" in adapter("queues", "limit", "nope", "--rate", "many", "--reason", "x").err
    assert adapter("queues", "pause", "nope", "--reason", "x").code != 0
