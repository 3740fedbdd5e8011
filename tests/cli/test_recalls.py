"""`adapter cutover rollback`, `migrate-pending` and the recalls they begin."""

from types import ModuleType
from typing import Any

from tests.cli.commands import adapter


def scheduled(*options: str) -> dict[str, Any]:
    return adapter("--json", "jobs", "schedule", "index", "1", *options).document["job"]


def now(job: dict[str, Any]) -> dict[str, Any]:
    return adapter("--json", "jobs", "show", job["id"]).document["job"]


def test_new_jobs_go_back_without_further_questions(shop: ModuleType) -> None:
    done = adapter("cutover", "rollback", "index", "--reason", "INC-7")
    assert done.code == 0, done.err
    assert "new jobs of 'index' go to local; nothing given away is touched" in done.err
    assert scheduled("--executor", "trigger")["executor"] == "local"


def test_a_recall_is_looked_at_then_confirmed_then_listed(shop: ModuleType) -> None:
    job = scheduled("--executor", "trigger")
    command = ("cutover", "rollback", "index", "--mode", "recall-unstarted", "--reason", "INC-7")
    dry = adapter("--json", *command, "--dry-run")
    assert (dry.code, dry.document["dry_run"], dry.document["recall_id"]) == (0, True, None)
    assert [each["executor"] for each in dry.document["promises"]] == ["trigger"]
    refused = adapter(*command)
    assert (refused.code, now(job)["executor"]) == (2, "trigger")
    assert "--yes" in refused.err
    done = adapter("--json", *command, "--yes")
    assert done.code == 0, done.err
    assert (done.document["state"], done.document["outcomes"]) == ("done", {"moved": 1})
    assert (now(job)["executor"], now(job)["epoch"]) == ("local", 2)
    listed = adapter("--json", "cutover", "recalls").document["recalls"]
    assert [each["recall_id"] for each in listed] == [done.document["recall_id"]]
    assert "recall-unstarted" in adapter("cutover", "recalls").out
    again = adapter("--json", "cutover", "resume-recall", done.document["recall_id"])
    assert (again.code, again.document["state"]) == (0, "done")


def test_pending_jobs_go_along(shop: ModuleType) -> None:
    job = scheduled("--delay", "1h")
    command = ("cutover", "migrate-pending", "index", "--to", "trigger", "--reason", "week 3")
    assert "a dry run" in adapter(*command, "--dry-run").err
    done = adapter(*command, "--yes")
    assert done.code == 0, done.err
    assert "never started there, moved" in done.out
    assert (now(job)["executor"], now(job)["status"]) == ("trigger", "DELAYED")


def test_what_cannot_be_is_told_with_its_code(shop: ModuleType) -> None:
    fragile = adapter("cutover", "rollback", "index", "--mode", "recall-all", "--reason", "r", "--yes")
    assert (fragile.code, "idempotent=True" in fragile.err) == (2, True)
    unknown = adapter("cutover", "stop-recall", "00000000-0000-0000-0000-000000000000")
    assert (unknown.code, "There is no recall" in unknown.err) == (6, True)
    assert "Nothing was taken back yet" in adapter("cutover", "recalls").err
